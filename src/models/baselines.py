"""Baselines that humble neural papers: popularity, repeat purchase and item-kNN; counted, not trained.

Each breaks ties by overall popularity, and answers with popularity where it knows nothing of a visitor.
"""

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

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.set_tables(state)

    def params(self) -> dict[str, float]:
        """The numbers, by their names in the YAML, that scoring needs beside the tables."""
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

    def history_weights(self, batch: Batch, decay: float) -> Tensor:
        """Weight decay ** steps_ago of every bag entry (N,); the latest step weighs 1."""
        width = batch.event.shape[1]
        owner = batch.bag_cell // width
        steps_ago = batch.length[owner] - 1 - batch.bag_cell % width
        return decay ** steps_ago.float()


class Popularity(CountedModel):
    """Items by how often they were targets in the last `window_days` (null: ever), the same for everyone."""

    family = "popularity"

    def __init__(self, *, vocabulary: Vocabulary, tasks: list[str], max_len: int, window_days: float | None) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        self.window_days = window_days

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)

    def score(self, batch: Batch) -> Tensor:
        return self.prior_scores().expand(len(batch.event), -1, -1)


class Repeat(CountedModel):
    """Own counts, the latest weighing most if decay < 1, then popularity."""

    family = "repeat"

    def __init__(
        self, *, vocabulary: Vocabulary, tasks: list[str], max_len: int, window_days: float | None, decay: float
    ) -> None:
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        self.window_days, self.decay = window_days, decay

    def params(self) -> dict[str, float]:
        return {"decay": self.decay}

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)

    def score(self, batch: Batch) -> Tensor:
        scores = self.prior_scores().expand(len(batch.event), -1, -1).clone()
        owner = batch.bag_cell // batch.event.shape[1]
        own = self.history_weights(batch, self.decay)
        for h in range(len(self.tasks)):
            # a count of any weight ranks above popularity, which lies in [0, 1)
            scores[:, h].index_put_((owner, batch.bag_item - 1), own, accumulate=True)
        return scores


class ItemKNN(CountedModel):
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
        super().__init__(vocabulary=vocabulary, tasks=tasks, max_len=max_len)
        self.neighbours, self.shrink, self.decay, self.window_days = neighbours, shrink, decay, window_days

    def params(self) -> dict[str, float]:
        return {"decay": self.decay}

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)
        for h, task in enumerate(self.tasks):
            table = similarity(data, task, neighbours=self.neighbours, shrink=self.shrink)
            self.set_tables(
                {
                    f"indptr_{h}": torch.from_numpy(table.indptr.astype(np.int64)),
                    f"indices_{h}": torch.from_numpy(table.indices.astype(np.int32)),
                    f"values_{h}": torch.from_numpy(table.data.astype(np.float32)),
                }
            )

    def score(self, batch: Batch) -> Tensor:
        owner = (batch.bag_cell // batch.event.shape[1]).numpy()
        weight = self.history_weights(batch, self.decay).numpy()
        shape = (len(batch.event), self.vocabulary.num_items)
        history = sp.csr_array((weight, (owner, batch.bag_item.numpy() - 1)), shape=shape)
        near = [torch.from_numpy((history @ self.similarity_of(h)).toarray()) for h in range(len(self.tasks))]
        return torch.stack(near, dim=1) + 1e-3 * self.prior_scores()

    def similarity_of(self, h: int) -> sp.csr_array:
        parts = (self.get_buffer(f"{name}_{h}").numpy() for name in ("values", "indices", "indptr"))
        size = self.vocabulary.num_items
        return sp.csr_array(tuple(parts), shape=(size, size))


def similarity(data: FitData, task: str, *, neighbours: int, shrink: float, block: int = 4096) -> sp.csr_array:
    """The `neighbours` highest similarities of every item (V, V), by blocks of items to bound memory."""
    seen, bought = session_items(data, None), session_items(data, task)
    seen_norm = np.sqrt(seen.sum(axis=0))
    bought_norm = np.sqrt(bought.sum(axis=0))
    by_item = seen.T.tocsr()
    blocks = []
    for begin in range(0, by_item.shape[0], block):
        together = (by_item[begin : begin + block] @ bought).tocoo()
        row, column = together.coords
        norm = seen_norm[row + begin] * bought_norm[column] + shrink
        values = (together.data / norm).astype(np.float32)
        blocks.append(top_of_rows(row, column, values, shape=together.shape, keep=neighbours))
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def top_of_rows(
    row: np.ndarray, column: np.ndarray, values: np.ndarray, *, shape: tuple[int, int], keep: int
) -> sp.csr_array:
    """Keep the `keep` largest values of each row (ties: the lower column)."""
    order = np.lexsort([column, -values, row])
    row, column, values = row[order], column[order], values[order]
    begins = np.searchsorted(row, row)  # first entry of each entry's row
    best = np.arange(len(row)) - begins < keep
    return sp.csr_array((values[best], (row[best], column[best])), shape=shape)
