"""Neighbours among the sessions of train: what sessions like this one hold; VMIS-kNN, VS-kNN and STAN.

A query is the visible history, its last `max_query` steps; a step's distinct items count at their latest place. With n
steps and an item a steps ago (1 = the latest), the item weighs

    w(a) = ((n - a + 1) / n) ** query_power * exp(-query_rate * (a - 1))

Of the sessions that share an item, the `most_recent` latest are compared, and the `neighbours` with the highest
likeness r = worth * sum of w over the shared items are kept. An item i of a neighbour gains

    r * max(0, 1 - match_slope * a) * a ** -match_power * exp(-place_rate * |p_i - p|) * item_weight_i / neighbours

where a is how many steps ago the latest shared item was, p its place in the neighbour (the steps before it; the latest
of them where it stands there more than once) and p_i that of i. Each model below says what it takes for these numbers.
"""

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.contract import DAY, FitData

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

LAST_PLACE = 2**31 - 1
"""Above any place in a session."""


class SessionNeighbours(CountedModel):
    """What the three have in common.

    Args:
        most_recent: m, sessions compared; an item's index holds no more of them.
        neighbours: k.
        max_query: steps of the history that are read.
        window_days: of the popularity that breaks ties and answers where no session is alike.
    """

    kind = "sessions"

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

    @abstractmethod
    def numbers(self) -> dict[str, float]:
        """The numbers of the module's docstring that are not zero."""

    def params(self) -> dict[str, float]:
        names = ("query_power", "query_rate", "match_slope", "match_power", "place_rate")
        sizes = {name: float(getattr(self, name)) for name in ("most_recent", "neighbours", "max_query")}
        return sizes | dict.fromkeys(names, 0.0) | self.numbers()

    def weigh_items(self, idf: FloatArray) -> FloatArray:
        """Of each item, from its idf = log(sessions / sessions with it) (V,)."""
        return np.ones_like(idf)

    def weigh_sessions(self, size: FloatArray, age_days: FloatArray) -> FloatArray:
        """Of each session, from how many distinct items it has and how long before the last row it ended (S,)."""
        return np.ones_like(size)

    def fit(self, data: FitData) -> None:
        self.fit_prior(data, self.window_days)
        order, ended = sessions_by_time(data)
        held = session_places(data, None)[order]
        self.keep_sparse("sessions_{}", latest_of_rows(sp.csr_array(held.T), self.most_recent))
        for h, task in enumerate(self.tasks):
            self.keep_sparse(f"{{}}_{h}", session_places(data, task)[order])
        size = np.diff(held.indptr).astype(np.float64)
        count = np.bincount(held.indices, minlength=self.vocabulary.num_items)
        idf = np.log(max(len(order), 1) / np.maximum(count, 1))
        worth = self.weigh_sessions(size, (data.last_time() - ended) / DAY)
        self.set_tables(
            {
                "sessions_worth": torch.from_numpy(worth.astype(np.float32)),
                "item_weight": torch.from_numpy(self.weigh_items(idf).astype(np.float32)),
            }
        )

    def score(self, batch: Batch) -> Tensor:
        owner, session, value, place = self.near(batch)
        shape, weight = (len(batch.event), self.vocabulary.num_items), self.get_buffer("item_weight").numpy()
        scores = []
        for h in range(len(self.tasks)):
            indptr, item, places = (self.get_buffer(f"{name}_{h}").numpy() for name in ("indptr", "indices", "values"))
            size, entry = row_entries(indptr, session)
            gain = np.repeat(value, size)
            if rate := self.params()["place_rate"]:
                gain = gain * np.exp(-rate * np.abs(places[entry] - np.repeat(place, size)))
            found = sp.coo_array((gain, (np.repeat(owner, size), item[entry])), shape=shape)
            scores.append(torch.from_numpy(found.toarray() * weight))
        return (torch.stack(scores, dim=1) + 1e-6 * self.prior_scores()).float()

    def near(self, batch: Batch) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
        """Owner, number (a higher one is a later session) and value of every neighbour, and the place p in it."""
        numbers = self.params()
        owner, item, ago = query_items(batch, self.max_query)
        size, entry = row_entries(self.get_buffer("sessions_indptr").numpy(), item - 1)
        steps = np.minimum(batch.length.numpy() - 1, self.max_query)[owner]
        weight = ((steps - ago + 1) / np.maximum(steps, 1)) ** numbers["query_power"]
        weight = weight * np.exp(-numbers["query_rate"] * (ago - 1))
        total = max(len(self.get_buffer("sessions_worth")), 1)
        matches = np.repeat(owner, size) * total + self.get_buffer("sessions_indices").numpy()[entry]
        keys, at = np.unique(matches, return_inverse=True)
        visitor, session = keys // total, keys % total
        alike = np.bincount(at, np.repeat(weight, size), minlength=len(keys))
        alike = alike * self.get_buffer("sessions_worth").numpy()[session]
        recent = first_of_groups(visitor, -session, self.most_recent)
        best = recent[first_of_groups(visitor[recent], -alike[recent], self.neighbours, -session[recent])]
        latest, place = latest_match(at, np.repeat(ago, size), self.get_buffer("sessions_values").numpy()[entry])
        match = (
            np.maximum(1 - numbers["match_slope"] * latest, 0.0) * latest.astype(np.float64) ** -numbers["match_power"]
        )
        return visitor[best], session[best], (alike * match)[best] / self.neighbours, place[best]


class VMISKNN(SessionNeighbours):
    """VMIS-kNN (Kersbergen et al. 2022, https://doi.org/10.1145/3514221.3517901), as Serenade has it.

    w(a) = (n - a + 1) / n, a match is worth 1 - 0.1 a, an item its idf log(sessions / sessions with it). Unlike in
    https://github.com/bolcom/serenade, scores are divided by `neighbours`, and the worth of a match has a floor at
    zero, below which it would fall after ten steps.
    """

    family = "vmis_knn"

    def numbers(self) -> dict[str, float]:
        return {"query_power": 1.0, "match_slope": 0.1}

    def weigh_items(self, idf: FloatArray) -> FloatArray:
        return idf


class VSKNN(SessionNeighbours):
    """VS-kNN (Ludewig and Jannach 2018, https://doi.org/10.1007/s11257-018-9209-6).

    w(a) = ((n - a + 1) / n) ** query_power, a match is worth a ** -match_power, an item 1 + idf_weight * idf.
    """

    family = "vs_knn"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        most_recent: int,
        neighbours: int,
        max_query: int,
        query_power: float,
        match_power: float,
        idf_weight: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            most_recent=most_recent,
            neighbours=neighbours,
            max_query=max_query,
            window_days=window_days,
        )
        self.query_power, self.match_power, self.idf_weight = query_power, match_power, idf_weight

    def numbers(self) -> dict[str, float]:
        return {"query_power": self.query_power, "match_power": self.match_power}

    def weigh_items(self, idf: FloatArray) -> FloatArray:
        return 1.0 + self.idf_weight * idf


class STAN(SessionNeighbours):
    """STAN (Garg et al. 2019, https://doi.org/10.1145/3331184.3331322): where, and how long ago, things were met.

    w(a) = exp(-(a - 1) / query_steps); of a session of l items that ended d days before the last row of train the worth
    is exp(-d / session_days) / sqrt(l) (that it ended longer before the query says the same of every session); an item
    s steps from the latest shared one is worth exp(-s / place_steps). These are the paper's 1 / lambda 1, 2 and 3.
    """

    family = "stan"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        most_recent: int,
        neighbours: int,
        max_query: int,
        query_steps: float,
        session_days: float,
        place_steps: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            most_recent=most_recent,
            neighbours=neighbours,
            max_query=max_query,
            window_days=window_days,
        )
        scales = {"query_steps": query_steps, "session_days": session_days, "place_steps": place_steps}
        for name, value in scales.items():
            if value <= 0:
                raise ValueError(f"{name}={value} must be above 0")
        self.query_steps, self.session_days, self.place_steps = query_steps, session_days, place_steps

    def numbers(self) -> dict[str, float]:
        return {"query_rate": 1 / self.query_steps, "place_rate": 1 / self.place_steps}

    def weigh_sessions(self, size: FloatArray, age_days: FloatArray) -> FloatArray:
        worth: FloatArray = np.exp(-age_days / self.session_days) / np.sqrt(size)
        return worth


def sessions_by_time(data: FitData) -> tuple[IntArray, IntArray]:
    """Sessions of the window that name an item, the one that ended first at the front, and when each ended."""
    rows = data.target_rows(None)
    session, time = (np.asarray(data.prepared.rows[name])[rows] for name in ("session", "time"))
    number, owner = np.unique(session, return_inverse=True)
    ended = np.full(len(number), np.iinfo(np.int64).min)
    np.maximum.at(ended, owner, time)
    order = np.lexsort([number, ended])
    return np.asarray(number[order], np.int64), ended[order]


def session_places(data: FitData, task: str | None) -> sp.csr_array:
    """Where in a session an item is (a target of the task): steps of the session before its latest one there (S, V).

    A zero is an entry too: the session's first step.
    """
    prepared, rows, items = data.prepared, data.target_rows(task), data.vocabulary.num_items
    session, item = (np.asarray(prepared.rows[name])[rows].astype(np.int64) for name in ("session", "item"))
    every = data.rows()
    opening = np.full(len(prepared.sessions["time"]), len(prepared.rows["time"]))
    np.minimum.at(opening, np.asarray(prepared.rows["session"])[every], steps_of(data, every))
    keys, at = np.unique(session * items + item - 1, return_inverse=True)
    place = np.zeros(len(keys))
    np.maximum.at(place, at, steps_of(data, rows) - opening[session])
    indptr = np.searchsorted(keys, np.arange(len(opening) + 1) * items)
    return sp.csr_array((place, keys % items, indptr), shape=(len(opening), items))


def steps_of(data: FitData, rows: IntArray) -> IntArray:
    """Number of the step that each row belongs to."""
    steps: IntArray = np.searchsorted(data.prepared.step_offsets, rows, side="right") - 1
    return steps


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


def row_entries(indptr: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """How many entries each of the rows of a sparse table has, and the place of every one of them."""
    begin = indptr[rows]
    size = indptr[rows + 1] - begin
    return size, np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(size.sum())


def latest_match(group: IntArray, ago: IntArray, place: npt.NDArray[np.float32]) -> tuple[IntArray, IntArray]:
    """Of each group of shared items, how many steps ago the latest was, and where it stands in the neighbour.

    Items of one step have no order: the furthest of them in the neighbour counts.
    """
    key = ago << 32 | (LAST_PLACE - place.astype(np.int64))
    least = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, group, key)
    return least >> 32, LAST_PLACE - (least & LAST_PLACE)


def first_of_groups(group: IntArray, key: npt.NDArray[np.generic], keep: int, *ties: IntArray) -> IntArray:
    """Numbers of the `keep` entries of each group with the lowest key (then the lowest of each of `ties`)."""
    order = np.lexsort([*reversed(ties), key, group])
    ordered = group[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < keep]
