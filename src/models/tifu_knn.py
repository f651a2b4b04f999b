"""TIFU-kNN (Hu et al. 2020, https://doi.org/10.1145/3397271.3401066): own baskets that fade, and like customers' ones.

A visitor of n steps is a vector over items: the mean over groups of `group_size` steps, counted from the latest one, of
the means over their steps; both fade,

    u_i = 1/G sum over groups g of group_decay ** g * 1/|g| sum over steps s of g of step_decay ** place(s) * [i in s]

where g and place count from the latest one, from 0.

The `neighbours` visitors of train with the nearest vectors (Euclidean) lend theirs, of what were targets of the task:

    score = own_share * u + (1 - own_share) * mean of the neighbours' vectors

A stranger has no place among them, so its vector is made when it is scored. A step is a trip where the log has orders
only, else one event. Who has done nothing yet has no neighbours: there popularity answers.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.examples import window_steps
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.contract import FitData

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

DISTANCES_AT_ONCE = 6_000_000
"""Of histories to visitors, held in memory at a time."""


class TIFUKNN(CountedModel):
    """See the module's docstring."""

    family = "tifu_knn"
    kind = "visitors"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        neighbours: int,
        group_size: int,
        step_decay: float,
        group_decay: float,
        own_share: float,
        window_days: float | None,
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        for name, value in (("neighbours", neighbours), ("group_size", group_size)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.neighbours, self.group_size, self.window_days = neighbours, group_size, window_days
        self.step_decay, self.group_decay, self.own_share = step_decay, group_decay, own_share

    def params(self) -> dict[str, float]:
        names = ("neighbours", "group_size", "step_decay", "group_decay", "own_share")
        return {name: float(getattr(self, name)) for name in names}

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)
        seen = self.vectors(data, None)
        self.keep_sparse("visitors_{}", sp.csr_array(seen.T))
        norm = np.asarray(seen.power(2).sum(axis=1)).ravel()
        self.set_tables({"visitors_norm": torch.from_numpy(norm.astype(np.float32))})
        for h, task in enumerate(self.tasks):
            self.keep_sparse(f"{{}}_{h}", self.vectors(data, task))

    def vectors(self, data: FitData, task: str | None) -> sp.csr_array:
        """Vector of every visitor of the window, of its targets of the task (visitors, V)."""
        prepared, window, items = data.prepared, data.window, self.vocabulary.num_items
        first, count = window_steps(prepared, window)
        row = data.target_rows(task)
        owner = np.searchsorted(window.start, row, side="right") - 1
        step = np.searchsorted(prepared.step_offsets, row, side="right") - 1
        # an item that a step names twice counts once
        keys = np.unique(step * items + np.asarray(prepared.rows["item"])[row] - 1, return_index=True)[1]
        owner, step, item = owner[keys], step[keys], np.asarray(prepared.rows["item"])[row[keys]] - 1
        weight = self.step_weights(first[owner] + count[owner] - 1 - step, count[owner])
        return sp.csr_array((weight, (owner, item)), shape=(len(window), items))

    def step_weights(self, ago: IntArray, count: IntArray) -> FloatArray:
        """Weight of the step that lies `ago` steps before the latest of `count`."""
        group, place = np.divmod(ago, self.group_size)
        groups = -(-count // self.group_size)
        size = np.minimum(count - group * self.group_size, self.group_size)
        weight: FloatArray = self.group_decay**group * self.step_decay**place / (size * groups)
        return weight

    def score(self, batch: Batch) -> Tensor:
        own = self.own(batch)
        near = self.near(own)
        scores = []
        for h in range(len(self.tasks)):
            lent = near @ self.sparse(f"{{}}_{h}", columns=self.vocabulary.num_items)
            scores.append(torch.from_numpy((self.own_share * own + (1 - self.own_share) * lent).toarray()))
        return (torch.stack(scores, dim=1) + 1e-6 * self.prior_scores()).float()

    def own(self, batch: Batch) -> sp.csr_array:
        """Vector of each history (B, V)."""
        width, slots = batch.event.shape[1], batch.seen.shape[1]
        entry = np.unique(batch.bag_cell.numpy() * slots + batch.bag_slot.numpy())
        cell, slot = np.divmod(entry, slots)
        owner, count = cell // width, batch.length.numpy() - 1
        weight = self.step_weights(count[owner] - cell % width, count[owner])
        shape = (len(batch.event), self.vocabulary.num_items)
        return sp.csr_array((weight, (owner, batch.seen.numpy()[owner, slot] - 1)), shape=shape)

    def near(self, own: sp.csr_array) -> sp.csr_array:
        """Share of every neighbour in each history's mean (B, visitors); no one's where the history is empty."""
        norm = self.get_buffer("visitors_norm").numpy()
        index, count, kept = (
            self.sparse("visitors_{}", columns=len(norm)),
            own.shape[0],
            min(self.neighbours, len(norm)),
        )
        rows, best = max(1, DISTANCES_AT_ONCE // len(norm)), []
        for begin in range(0, count, rows):
            # all but the part of the distance that is the same for every visitor; rounded, so that equals stay equal
            distance = np.round(norm - 2 * (own[begin : begin + rows] @ index).toarray(), 6)
            best.append(np.argpartition(distance, kept - 1, axis=1)[:, :kept])
        owner = np.repeat(np.flatnonzero(np.diff(own.indptr)), kept)
        visitor = np.concatenate(best)[np.diff(own.indptr) > 0].ravel()
        return sp.csr_array((np.full(len(owner), 1 / kept), (owner, visitor)), shape=(count, len(norm)))
