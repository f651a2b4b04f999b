"""VMIS-kNN (Kersbergen et al. 2022, https://doi.org/10.1145/3514221.3517901): what sessions like this one hold.

A query is the visible history, its last `max_query` steps; a step's distinct items count at their latest place. With n
steps and an item a steps ago (1 = the latest), the item weighs (n - a + 1) / n. Of the sessions that share an item,
the `most_recent` latest are compared, and the `neighbours` with the highest sum r of weights of shared items are kept.
An item i of a neighbour gains

    r * max(0, 1 - 0.1 a) * log(sessions / sessions with i) / k

where k is `neighbours` and a is how many steps ago the latest shared item was: as Serenade has it
(https://github.com/bolcom/serenade), but for the constant k, and for the floor at zero, below which its weight falls
after ten steps.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.contract import FitData
from shopkeeper.models.cooccurrence import session_items

IntArray = npt.NDArray[np.int64]


class VMISKNN(CountedModel):
    """See the module's docstring.

    Args:
        most_recent: m, sessions compared; an item's index holds no more of them.
        neighbours: k.
        max_query: steps of the history that are read.
        window_days: of the popularity that breaks ties and answers where no session is alike.
    """

    family = "vmis_knn"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        most_recent: int,
        neighbours: int,
        max_query: int,
        window_days: float | None,
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        for name, value in (("most_recent", most_recent), ("neighbours", neighbours), ("max_query", max_query)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.most_recent, self.neighbours, self.max_query = most_recent, neighbours, max_query
        self.window_days = window_days

    def params(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("most_recent", "neighbours", "max_query")}

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)
        order = sessions_by_time(data)
        held = session_items(data, None)[order]
        index = latest_of_rows(sp.csr_array(held.T), self.most_recent)
        count = np.asarray(held.sum(axis=0)).ravel()
        self.set_tables(
            {
                "sessions_indptr": torch.from_numpy(index.indptr.astype(np.int64)),
                "sessions_indices": torch.from_numpy(index.indices.astype(np.int32)),
                "idf": torch.from_numpy(np.log(max(len(order), 1) / np.maximum(count, 1)).astype(np.float32)),
            }
        )
        for h, task in enumerate(self.tasks):
            items = session_items(data, task)[order]
            self.set_tables(
                {
                    f"indptr_{h}": torch.from_numpy(items.indptr.astype(np.int64)),
                    f"indices_{h}": torch.from_numpy(items.indices.astype(np.int32)),
                }
            )

    def score(self, batch: Batch) -> Tensor:
        near = self.near(batch)
        idf, items = self.get_buffer("idf").numpy(), self.vocabulary.num_items
        scores = []
        for h in range(len(self.tasks)):
            indptr, indices = (self.get_buffer(f"{name}_{h}").numpy() for name in ("indptr", "indices"))
            held = sp.csr_array((np.ones(len(indices)), indices, indptr), shape=(near.shape[1], items))
            scores.append(torch.from_numpy((near @ held).toarray() * idf))
        return (torch.stack(scores, dim=1) + 1e-6 * self.prior_scores()).float()

    def near(self, batch: Batch) -> sp.csr_array:
        """What each session, the earliest first, adds to each of its items before their idf (B, S)."""
        owner, item, ago = query_items(batch, self.max_query)
        indptr, indices = self.get_buffer("sessions_indptr").numpy(), self.get_buffer("sessions_indices").numpy()
        total, size = len(self.get_buffer("indptr_0")) - 1, indptr[item] - indptr[item - 1]
        entry = np.repeat(indptr[item - 1] - (np.cumsum(size) - size), size) + np.arange(size.sum())
        steps = np.minimum(batch.length.numpy() - 1, self.max_query)[owner]
        weight = np.repeat((steps - ago + 1) / np.maximum(steps, 1), size)
        keys, at = np.unique(np.repeat(owner, size) * total + indices[entry], return_inverse=True)
        alike = np.bincount(at, weight, minlength=len(keys))
        latest = np.full(len(keys), np.iinfo(np.int64).max)
        np.minimum.at(latest, at, np.repeat(ago, size))
        visitor, session = keys // max(total, 1), keys % max(total, 1)
        recent = first_of_groups(visitor, -session, self.most_recent)
        best = recent[first_of_groups(visitor[recent], -alike[recent], self.neighbours, -session[recent])]
        value = (alike * np.maximum(1 - 0.1 * latest, 0.0))[best] / self.neighbours
        return sp.csr_array((value, (visitor[best], session[best])), shape=(len(batch.event), total))


def sessions_by_time(data: FitData) -> IntArray:
    """Sessions of the window that name an item, the one that ended first at the front."""
    rows = data.rows()
    rows = rows[np.asarray(data.prepared.rows["item"])[rows] > 0]
    session, time = (np.asarray(data.prepared.rows[name])[rows] for name in ("session", "time"))
    number, owner = np.unique(session, return_inverse=True)
    ended = np.full(len(number), np.iinfo(np.int64).min)
    np.maximum.at(ended, owner, time)
    return np.asarray(number[np.lexsort([number, ended])], np.int64)


def latest_of_rows(table: sp.csr_array, keep: int) -> sp.csr_array:
    """The `keep` highest columns of each row."""
    table.sort_indices()
    size = np.diff(table.indptr)
    left = np.repeat(table.indptr[1:], size) - np.arange(table.nnz)  # entries of the row from this one on
    kept = left <= keep
    indptr = np.concatenate([[0], np.cumsum(np.minimum(size, keep))])
    return sp.csr_array((table.data[kept], table.indices[kept], indptr), shape=table.shape)


def query_items(batch: Batch, max_query: int) -> tuple[IntArray, IntArray, IntArray]:
    """Owner, code and steps ago (1 = the latest step) of every distinct item of the last `max_query` steps."""
    slots, width = batch.seen.shape[1], batch.event.shape[1]
    cell = batch.bag_cell.numpy()
    ago = batch.length.numpy()[cell // width] - cell % width
    latest = np.full(batch.seen.numel(), np.iinfo(np.int64).max)
    np.minimum.at(latest, cell // width * slots + batch.bag_slot.numpy(), ago)
    chosen = np.flatnonzero((batch.seen.numpy().ravel() > 0) & (latest <= max_query))
    return chosen // slots, batch.seen.numpy().ravel()[chosen], latest[chosen]


def first_of_groups(group: IntArray, key: npt.NDArray[np.generic], keep: int, *ties: IntArray) -> IntArray:
    """Numbers of the `keep` entries of each group with the lowest key (then the lowest of each of `ties`)."""
    order = np.lexsort([*reversed(ties), key, group])
    ordered = group[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < keep]
