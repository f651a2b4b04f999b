"""Baselines that humble neural papers: popularity, repeat purchase and item-kNN; counted, not trained.

Each breaks ties by overall popularity, and answers with popularity where it knows nothing of a visitor. The others are
rules (`rules.py`), EASE (`ease.py`), neighbours among sessions (`session_knn.py`) and among visitors (`tifu_knn.py`).
"""

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.models.contract import DAY, FitData, SessionModel
from shopkeeper.models.cooccurrence import session_items


class CountedModel(SessionModel):
    """A model that is all tables: buffers, made by `fit` or given by a checkpoint."""

    def set_tables(self, tables: Mapping[str, Tensor]) -> None:
        for name, table in tables.items():
            self.register_buffer(name, table)

    def keep_sparse(self, names: str, table: sp.csr_array) -> None:
        """Keep a table as three buffers; `names` says what its parts are called, as in "{}_0"."""
        self.set_tables(
            {
                names.format("indptr"): torch.from_numpy(table.indptr.astype(np.int64)),
                names.format("indices"): torch.from_numpy(table.indices.astype(np.int32)),
                names.format("values"): torch.from_numpy(table.data.astype(np.float32)),
            }
        )

    def sparse(self, names: str, *, columns: int) -> sp.csr_array:
        """The table that was kept under `names`."""
        values, indices, indptr = (self.get_buffer(names.format(p)).numpy() for p in ("values", "indices", "indptr"))
        return sp.csr_array((values, indices, indptr), shape=(len(indptr) - 1, columns))

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.set_tables(state)

    def params(self) -> dict[str, float]:
        """The numbers that scoring needs beside the tables, by the names serving knows them by."""
        return {}

    def fit_prior(self, data: FitData, window_days: float | None) -> None:
        """Popularity per task, scaled to [0, 1) (H, V): recent counts, overall counts between equal ones."""
        since = None if window_days is None else data.last_time() - int(window_days * DAY)
        rows = []
        for task in self.tasks:
            recent, overall = data.target_counts(task, since=since), data.target_counts(task)
            order = recent.astype(np.float64) + overall / (overall.max() + 1.0)
            rows.append(order / (order.max() + 1.0))
        self.set_tables({"prior": torch.from_numpy(np.stack(rows).astype(np.float32))})

    def prior_scores(self) -> Tensor:
        prior: Tensor = self.get_buffer("prior")
        return prior


class Popularity(CountedModel):
    """Items by how often they were targets in the last `window_days` (null: ever), the same for everyone."""

    family = "popularity"
    kind = "prior"

    def __init__(self, *, vocabulary: Vocabulary, tasks: list[str], max_len: int, window_days: float | None) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        self.window_days = window_days

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)

    def score(self, batch: Batch) -> Tensor:
        return self.prior_scores().expand(len(batch.event), -1, -1)


class TableModel(CountedModel):
    """A sparse table T (cues, V) per task, whose rows are summed over the cues of a history, and a share of the prior:

        score(j) = sum over cues c of weight(c) * T[c, j]  +  prior_weight * prior(j)

    The cues are the items of the history, a step's ones weighing decay ** steps_ago. With `pause_minutes`, steps before
    the latest pause of that length weigh nothing: what is left is the current visit.
    """

    kind = "table"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        window_days: float | None,
        prior_weight: float,
        decay: float = 1.0,
        pause_minutes: float | None = None,
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        self.window_days, self.prior_weight = window_days, prior_weight
        self.decay, self.pause_minutes = decay, pause_minutes

    def params(self) -> dict[str, float]:
        pause = {} if self.pause_minutes is None else {"pause_seconds": self.pause_minutes * 60}
        return {"decay": self.decay, "prior_weight": self.prior_weight} | pause

    @abstractmethod
    def table(self, data: FitData, task: str) -> sp.csr_array:
        """T of a task."""

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)
        for h, task in enumerate(self.tasks):
            self.keep_sparse(f"{{}}_{h}", self.table(data, task))

    def score(self, batch: Batch) -> Tensor:
        cues = self.cues(batch)
        near = [torch.from_numpy((cues @ self.table_of(h)).toarray()) for h in range(len(self.tasks))]
        return torch.stack(near, dim=1).float() + self.prior_weight * self.prior_scores()

    def table_of(self, h: int) -> sp.csr_array:
        return self.sparse(f"{{}}_{h}", columns=self.vocabulary.num_items)

    def cues(self, batch: Batch) -> sp.csr_array:
        """Weight of every cue of each history (B, cues)."""
        owner = batch.bag_cell // batch.event.shape[1]
        shape = (len(batch.event), self.vocabulary.num_items)
        weight = self.step_weights(batch).view(-1)[batch.bag_cell]
        return sp.csr_array((weight.numpy(), (owner.numpy(), batch.bag_item.numpy() - 1)), shape=shape)

    def step_weights(self, batch: Batch) -> Tensor:
        """Weight of every step (B, T); without meaning where padded."""
        steps_ago = batch.length[:, None] - 1 - torch.arange(batch.event.shape[1])
        weight = self.decay ** steps_ago.clamp(min=0).float()
        if self.pause_minutes is None:
            return weight
        later, earlier = batch.time[:, 1:], batch.time[:, :-1]
        paused = (earlier >= 0) & (later - earlier >= self.pause_minutes * 60)
        visit = torch.nn.functional.pad(paused.cumsum(dim=1), (1, 0))
        return weight * (visit == visit.gather(1, batch.length[:, None] - 1))


class ContextPopularity(TableModel):
    """Items by how often they were targets in the visitor's context: store, channel, device, country.

    With n(c, i) targets of item i in context c (a value of a column) in the last `window_days`, n(c) of any item,

        score(i) = sum over known c of the latest context of n(c, i) / (n(c) + shrink)  +  prior_weight * prior(i)
    """

    family = "context_popularity"
    kind = "context"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        window_days: float | None,
        prior_weight: float,
        shrink: float,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary, tasks=tasks, max_len=max_len, window_days=window_days, prior_weight=prior_weight
        )
        self.shrink = shrink

    def params(self) -> dict[str, float]:
        return {"prior_weight": self.prior_weight}

    def table(self, data: FitData, task: str) -> sp.csr_array:
        row = data.target_rows(task)
        if self.window_days is not None:
            row = row[np.asarray(data.prepared.rows["time"])[row] >= data.last_time() - int(self.window_days * DAY)]
        item = np.asarray(data.prepared.rows["item"])[row] - 1
        at, value = self.values(data.prepared.context(data.prepared.rows, row))
        shape = (sum(self.vocabulary.context), self.vocabulary.num_items)
        counts = sp.csr_array((np.ones(len(at)), (value, item[at])), shape=shape)
        counts.sum_duplicates()
        return sp.csr_array(sp.diags_array(1.0 / (counts.sum(axis=1) + self.shrink)) @ counts)

    def cues(self, batch: Batch) -> sp.csr_array:
        rows = torch.arange(len(batch.event))
        owner, value = self.values(batch.context[rows, batch.length - 1].numpy())
        return sp.csr_array((np.ones(len(owner)), (owner, value)), shape=(len(rows), sum(self.vocabulary.context)))

    def values(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place in `codes` (n, C) of every known value, and its number among those of all columns."""
        sizes = np.asarray(self.vocabulary.context, np.int64)
        at, column = np.nonzero(codes)
        return at, (np.cumsum(sizes) - sizes)[column] + codes[at, column] - 1


class Repeat(TableModel):
    """Own counts, the latest weighing most if decay < 1, then popularity."""

    family = "repeat"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        window_days: float | None,
        decay: float,
        pause_minutes: float | None = None,
    ) -> None:
        # a count of any weight ranks above popularity, which lies in [0, 1)
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            window_days=window_days,
            prior_weight=1.0,
            decay=decay,
            pause_minutes=pause_minutes,
        )

    def table(self, data: FitData, task: str) -> sp.csr_array:
        return sp.csr_array(sp.eye_array(self.vocabulary.num_items, format="csr"))


class SessionPopularity(Repeat):
    """S-POP (Hidasi et al. 2016, arXiv:1511.06939): how often an item stands in the current visit, then popularity.

    A pause of `pause_minutes` between two steps ends a visit.
    """

    family = "session_popularity"


class ItemKNN(TableModel):
    """Items bought (or looked at) in the same sessions as those of the history; cosine over sessions, shrunk.

    sim(i, j) = |S_i and T_j| / (sqrt(|S_i| |T_j|) + shrink): S_i are the sessions with i, T_j those in which j is a
    target of the task (Sarwar et al. 2001, https://doi.org/10.1145/371920.372071). The `neighbours` most similar
    items of each are kept; an item is its own neighbour, which is how repeats are recommended.
    """

    family = "item_knn"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        neighbours: int,
        shrink: float,
        decay: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            window_days=window_days,
            prior_weight=1e-3,
            decay=decay,
        )
        self.neighbours, self.shrink = neighbours, shrink

    def table(self, data: FitData, task: str) -> sp.csr_array:
        return similarity(data, task, neighbours=self.neighbours, shrink=self.shrink)


def similarity(data: FitData, task: str, *, neighbours: int, shrink: float, block: int = 4096) -> sp.csr_array:
    """The `neighbours` highest similarities of every item (V, V), by blocks of items to bound memory."""
    seen, bought = session_items(data, None), session_items(data, task)
    seen_norm = np.sqrt(seen.sum(axis=0))
    bought_norm = np.sqrt(bought.sum(axis=0))
    by_item = seen.T.tocsr()
    blocks = []
    for begin in range(0, by_item.shape[0], block):
        together = sp.csr_array(by_item[begin : begin + block] @ bought)
        row = np.repeat(np.arange(begin, begin + together.shape[0]), np.diff(together.indptr))
        together.data = (together.data / (seen_norm[row] * bought_norm[together.indices] + shrink)).astype(np.float32)
        blocks.append(top_of_rows(together, neighbours))
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def top_of_rows(table: sp.csr_array, keep: int) -> sp.csr_array:
    """The `keep` values of each row that are furthest from zero (ties: the lower column)."""
    table.sort_indices()
    size, end = np.diff(table.indptr), table.indptr[1:]
    row = np.repeat(np.arange(len(size), dtype=np.uint64), size)
    height = np.abs(table.data.astype(np.float32)).view(np.uint32)  # as bits, which order as the numbers do
    # one sort of plain numbers, many times as fast as an argsort by two keys: rows stay together
    ranked = np.sort(row << np.uint64(32) | height).astype(np.uint32)
    full = np.flatnonzero(size > keep)
    least = np.zeros(len(size), np.uint32)
    least[full] = ranked[end[full] - keep]
    level = np.repeat(least, size)
    above, equal = height > level, height == level
    room = keep - row_sums(above, table.indptr)
    place = np.cumsum(equal) - np.repeat(np.concatenate([[0], np.cumsum(equal)])[table.indptr[:-1]], size)
    kept = above | (equal & (place <= np.repeat(room, size)))
    indptr = np.concatenate([[0], np.cumsum(row_sums(kept, table.indptr))])
    return sp.csr_array((table.data[kept], table.indices[kept], indptr), shape=table.shape)


def row_sums(marks: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """How many entries of each row are marked."""
    return np.diff(np.concatenate([[0], np.cumsum(marks)])[indptr])
