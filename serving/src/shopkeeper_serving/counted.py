"""Scorers of the models that are all tables: no graph, NumPy alone."""

import numpy as np
import numpy.typing as npt

from shopkeeper_serving.bundle import PRIOR, Bundle
from shopkeeper_serving.history import Inputs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]

DISTANCES_AT_ONCE = 6_000_000
"""Of histories to visitors, held in memory at a time."""

LAST_PLACE = 2**31 - 1
"""Above any place in a session."""


class PriorScorer:
    """The same scores for everyone."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior = np.asarray(bundle.arrays[PRIOR], np.float32)

    def score(self, inputs: Inputs) -> FloatArray:
        return np.broadcast_to(self.prior, (len(inputs.event), *self.prior.shape))


class TableScorer:
    """Rows of a sparse table summed over the items of the history, and a share of the prior."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior, self.params = np.asarray(bundle.arrays[PRIOR], np.float32), bundle.manifest.params
        self.share = np.float32(self.params["prior_weight"])
        self.tables = [Table(bundle, f"{{}}_{task}") for task in bundle.manifest.tasks]

    def score(self, inputs: Inputs) -> FloatArray:
        owner, cue, weight = self.cues(inputs)
        scores = np.empty((len(inputs.event), *self.prior.shape), np.float32)
        for h, table in enumerate(self.tables):
            scores[:, h] = table.sum_of_rows(owner, cue, weight, shape=scores[:, h].shape) + self.share * self.prior[h]
        return scores

    def cues(self, inputs: Inputs) -> tuple[IntArray, IntArray, Weights]:
        """Owner, row of the table and weight of every item of the histories."""
        weight = step_weights(inputs, decay=self.params["decay"], pause_seconds=self.params.get("pause_seconds"))
        return inputs.bag_cell // inputs.event.shape[1], inputs.bag_item - 1, weight.ravel()[inputs.bag_cell]


class ContextScorer(TableScorer):
    """Popularity in the latest context: the table has a row for each value of each column."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        sizes = np.array([len(values) for values in bundle.vocabulary.context.values()], np.int64)
        self.begins = np.cumsum(sizes) - sizes

    def cues(self, inputs: Inputs) -> tuple[IntArray, IntArray, Weights]:
        codes = inputs.context[np.arange(len(inputs.event)), inputs.length - 1]
        owner, column = np.nonzero(codes)
        return owner, self.begins[column] + codes[owner, column] - 1, np.ones(len(owner))


class SessionScorer:
    """What the sessions hold that share items with the history: VMIS-kNN, VS-kNN, STAN; popularity between equals."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior, self.params = np.asarray(bundle.arrays[PRIOR], np.float32), bundle.manifest.params
        self.index, self.worth = Table(bundle, "sessions_{}"), bundle.arrays["sessions_worth"]
        self.item_weight = np.asarray(bundle.arrays["item_weight"], np.float32)
        self.held = [Table(bundle, f"{{}}_{task}") for task in bundle.manifest.tasks]
        numbers = (int(self.params[name]) for name in ("most_recent", "neighbours", "max_query"))
        self.most_recent, self.neighbours, self.max_query = numbers

    def score(self, inputs: Inputs) -> FloatArray:
        owner, session, value, place = self.near(inputs)
        count, items = len(inputs.event), self.prior.shape[1]
        scores = np.empty((count, len(self.held), items), np.float32)
        for h, held in enumerate(self.held):
            size, entry = held.entries(session)
            gain = np.repeat(value, size)
            if rate := self.params["place_rate"]:
                gain = gain * np.exp(-rate * np.abs(held.values[entry] - np.repeat(place, size)))
            at = np.repeat(owner * items, size) + held.indices[entry]
            added = np.bincount(at, gain, minlength=count * items).reshape(count, items)
            scores[:, h] = added * self.item_weight + 1e-6 * self.prior[h]
        return scores

    def near(self, inputs: Inputs) -> tuple[IntArray, IntArray, Weights, IntArray]:
        """Owner, number (a higher one is a later session) and value of every neighbour, and the match's place in it."""
        owner, item, ago = self.query(inputs)
        size, entry = self.index.entries(item - 1)
        steps = np.minimum(inputs.length - 1, self.max_query)[owner]
        weight = ((steps - ago + 1) / np.maximum(steps, 1)) ** self.params["query_power"]
        weight = weight * np.exp(-self.params["query_rate"] * (ago - 1))
        total = max(len(self.worth), 1)
        keys, at = np.unique(np.repeat(owner, size) * total + self.index.indices[entry], return_inverse=True)
        visitor, session = keys // total, keys % total
        alike = np.bincount(at, np.repeat(weight, size), minlength=len(keys)) * self.worth[session]
        recent = first_of_groups(visitor, -session, self.most_recent)
        best = recent[first_of_groups(visitor[recent], -alike[recent], self.neighbours, -session[recent])]
        latest, place = latest_match(at, np.repeat(ago, size), self.index.values[entry])
        match = (
            np.maximum(1 - self.params["match_slope"] * latest, 0.0)
            * latest.astype(np.float64) ** -self.params["match_power"]
        )
        return visitor[best], session[best], (alike * match)[best] / self.neighbours, place[best]

    def query(self, inputs: Inputs) -> tuple[IntArray, IntArray, IntArray]:
        """Owner, code and steps ago (1 = the latest step) of every distinct item of the last `max_query` steps."""
        slots, width = inputs.seen.shape[1], inputs.event.shape[1]
        ago = inputs.length[inputs.bag_cell // width] - inputs.bag_cell % width
        latest = np.full(inputs.seen.size, np.iinfo(np.int64).max)
        np.minimum.at(latest, inputs.bag_cell // width * slots + inputs.bag_slot, ago)
        chosen = np.flatnonzero((inputs.seen.ravel() > 0) & (latest <= self.max_query))
        return chosen // slots, inputs.seen.ravel()[chosen], latest[chosen]


class VisitorScorer:
    """TIFU-kNN: the history's own vector, which fades, and those of the visitors nearest to it."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior, self.params = np.asarray(bundle.arrays[PRIOR], np.float32), bundle.manifest.params
        self.index, self.norm = Table(bundle, "visitors_{}"), bundle.arrays["visitors_norm"]
        self.held = [Table(bundle, f"{{}}_{task}") for task in bundle.manifest.tasks]
        self.kept = min(int(self.params["neighbours"]), len(self.norm))

    def score(self, inputs: Inputs) -> FloatArray:
        owner, item, weight = self.own(inputs)
        count, items = len(inputs.event), self.prior.shape[1]
        mine = np.bincount(owner * items + item, weight, minlength=count * items).reshape(count, items)
        known = np.unique(owner)  # who has done nothing has no neighbours
        near = self.near(owner, item, weight, count)[known].ravel()
        mean = np.full(len(near), 1 / self.kept)
        share = self.params["own_share"]
        scores = np.empty((count, len(self.held), items), np.float32)
        for h, held in enumerate(self.held):
            lent = held.sum_of_rows(np.repeat(known, self.kept), near, mean, shape=(count, items))
            scores[:, h] = share * mine + (1 - share) * lent + 1e-6 * self.prior[h]
        return scores

    def own(self, inputs: Inputs) -> tuple[IntArray, IntArray, Weights]:
        """Owner, item from 0 and weight: an item counts once in a step; an entry for each of its steps."""
        width, slots = inputs.event.shape[1], inputs.seen.shape[1]
        cell, slot = np.divmod(np.unique(inputs.bag_cell * slots + inputs.bag_slot), slots)
        owner, size = cell // width, int(self.params["group_size"])
        count = inputs.length[owner] - 1
        group, place = np.divmod(count - cell % width, size)
        steps, groups = np.minimum(count - group * size, size), -(-count // size)
        weight = self.params["group_decay"] ** group * self.params["step_decay"] ** place / (steps * groups)
        return owner, inputs.seen[owner, slot] - 1, weight

    def near(self, owner: IntArray, item: IntArray, weight: Weights, count: int) -> IntArray:
        """Numbers of the visitors nearest to each history (B, kept)."""
        visitors, best = len(self.norm), []
        rows = max(1, DISTANCES_AT_ONCE // visitors)
        for begin in range(0, count, rows):
            part = (owner >= begin) & (owner < begin + rows)
            shape = (min(rows, count - begin), visitors)
            product = self.index.sum_of_rows(owner[part] - begin, item[part], weight[part], shape=shape)
            # all but the part of the distance that is the same for every visitor; rounded, so that equals stay equal
            distance = np.round(self.norm - 2 * product, 6)
            best.append(np.argpartition(distance, self.kept - 1, axis=1)[:, : self.kept])
        return np.concatenate(best)


class Table:
    """A sparse table of a bundle: where each row begins, and the columns and values of its entries."""

    def __init__(self, bundle: Bundle, names: str) -> None:
        parts = (bundle.arrays[names.format(part)] for part in ("indptr", "indices", "values"))
        self.indptr, self.indices, self.values = parts

    def entries(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """How many entries each of the rows has, and the place of every one of them."""
        begin = self.indptr[rows]
        size = self.indptr[rows + 1] - begin
        return size, np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(size.sum())

    def sum_of_rows(self, owner: IntArray, rows: IntArray, weight: Weights, *, shape: tuple[int, int]) -> Weights:
        """Weighted sum of each owner's rows (owners, columns)."""
        size, entry = self.entries(rows)
        at = np.repeat(owner * shape[1], size) + self.indices[entry]
        added = np.bincount(at, self.values[entry] * np.repeat(weight, size), minlength=shape[0] * shape[1])
        return np.asarray(added, np.float64).reshape(shape)


def step_weights(inputs: Inputs, *, decay: float, pause_seconds: float | None) -> Weights:
    """Weight decay ** steps_ago of every step (B, T); zero before the latest pause of `pause_seconds`, where given."""
    last = inputs.length[:, None] - 1
    weight: Weights = np.power(decay, np.maximum(last - np.arange(inputs.event.shape[1]), 0).astype(np.float64))
    if pause_seconds is None:
        return weight
    earlier, later = inputs.time[:, :-1], inputs.time[:, 1:]
    paused = (earlier >= 0) & (later - earlier >= pause_seconds)
    visit = np.pad(np.cumsum(paused, axis=1), ((0, 0), (1, 0)))
    return np.where(visit == np.take_along_axis(visit, last, axis=1), weight, 0.0)


def latest_match(group: IntArray, ago: IntArray, place: npt.NDArray[np.float32]) -> tuple[IntArray, IntArray]:
    """Of each group of shared items, how many steps ago the latest was, and where it stands in the neighbour."""
    key = ago << 32 | (LAST_PLACE - place.astype(np.int64))
    least = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, group, key)
    return least >> 32, LAST_PLACE - (least & LAST_PLACE)


def first_of_groups(group: IntArray, key: npt.NDArray[np.generic], keep: int, *ties: IntArray) -> IntArray:
    """Numbers of the `keep` entries of each group with the lowest key (then the lowest of each of `ties`)."""
    order = np.lexsort([*reversed(ties), key, group])
    ordered = group[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < keep]
