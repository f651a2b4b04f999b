"""How much the order of a history matters: a Markov model with the last item, and with one out of a shuffled history.

After Klenitskiy et al. 2024, "Does It Look Sequential? An Analysis of Datasets for Evaluation of Sequential
Recommendations", https://doi.org/10.1145/3640457.3688195: where a model that reads the order does as well on shuffled
histories, the order says little. Here the model is counted, so that an audit takes seconds.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.windows import known_window, strangers
from shopkeeper.evaluate.checks import Check, not_applicable, warn_when
from shopkeeper.evaluate.intervals import Interval, clustered_intervals, verdict
from shopkeeper.evaluate.leaks import train_rows

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

NAME = "shuffle test"
VERDICTS = {"better": "order matters", "worse": "the last item tells less than an earlier one"}
AT_ONCE = 2000
"""Predictions scored at a time, which bounds the memory."""


@dataclass(frozen=True)
class ShuffleTest:
    """Hit rates on one population, with the history in its order and shuffled; their paired difference."""

    population: str
    in_order: Interval
    shuffled: Interval
    difference: Interval
    verdict: str
    not_sampled: int

    @property
    def says(self) -> str:
        d = self.difference
        return (
            f"{self.population} {self.in_order.mean:.4f} in order, {self.shuffled.mean:.4f} shuffled, "
            f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]: {self.verdict}"
        )


@dataclass(frozen=True)
class ItemSteps:
    """Rows that name an item, in steps: a trip on order-only logs, elsewhere a run of rows on one item."""

    rows: IntArray  # (m,) rows of the prepared dataset
    item: IntArray  # (m,)
    step: IntArray  # (m,)
    first: IntArray  # (steps + 1,) into rows
    visitor: IntArray  # (steps,)


@dataclass(frozen=True)
class Questions:
    """Items to predict, each new to its history; each (n,). Steps are those of `ItemSteps`, `begin` of its rows."""

    visitor: IntArray
    target: IntArray
    owner: IntArray  # position in the window
    oldest: IntArray  # first step of the history
    step: IntArray  # the target's own
    begin: IntArray  # first row of the target's step: the history ends before it

    def __len__(self) -> int:
        return len(self.target)

    def only(self, chosen: npt.ArrayLike) -> "Questions":
        return Questions(*(values[np.asarray(chosen)] for values in vars(self).values()))


@dataclass(frozen=True)
class Histories:
    """Which item each history of a window holds from when on: sorted keys, and the row of the first occurrence."""

    keys: IntArray  # position in the window * width + item
    first: IntArray  # into ItemSteps.rows
    width: int

    def hold(self, owner: IntArray, item: IntArray, before: IntArray) -> BoolArray:
        """Whether an owner's history holds an item before a row (n,)."""
        key = owner * self.width + item
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.asarray((self.keys[at] == key) & (self.first[at] < before))


@dataclass(frozen=True)
class Markov:
    """What is counted on training rows."""

    follows: sp.csr_array  # (V + 1, V + 1) share of each item among those of the next step
    place: IntArray  # (V + 1,) by popularity, 1 is the most popular
    known: BoolArray  # (V + 1,) has a training event


def shuffle_test(
    prepared: Prepared, *, moments: int, transitions: int, neighbours: int, cutoff: int, resamples: int, seed: int
) -> Check[list[ShuffleTest]]:
    """Hit rate at `cutoff` of the next new item on validation: by the last step, and by a random earlier one.

    The model is a first-order Markov chain counted on training rows: each item of a step is followed by those of the
    next, at most `transitions` pairs (a seeded sample of steps) and `neighbours` successors an item; items it does not
    name come after, by popularity. Ranked is the whole catalogue without the history; predicted are items new to the
    history, so that no context can be favoured by a repetition. The difference is paired on `moments` predictions.
    """
    if not np.any(prepared.rows["item"]):
        return not_applicable(NAME, "no event names an item")
    steps, generator = item_steps(prepared), np.random.default_rng(seed)
    model = fit(prepared, steps, transitions=transitions, neighbours=neighbours, generator=generator)
    if not model.follows.nnz:
        return not_applicable(NAME, "no two items follow each other in train")
    windows = {s.STRANGERS: strangers(prepared, s.VAL), s.KNOWN_USERS: known_window(prepared, s.VAL)}
    found = []
    for population, window in windows.items():
        questions, histories = ask(prepared, steps, window)
        if not len(questions):
            continue
        chosen = np.sort(generator.permutation(len(questions))[:moments])
        asked = questions.only(chosen)
        earlier = generator.integers(asked.oldest, asked.step - 1)  # any step of the history but the last
        hits = [answer(model, steps, histories, asked, context, cutoff) for context in (asked.step - 1, earlier)]
        columns = np.stack([*hits, hits[0] - hits[1]], axis=1)
        in_order, shuffled, difference = clustered_intervals(columns, asked.visitor, resamples=resamples, seed=seed)
        judged, left = verdict(difference), len(questions) - len(asked)
        found.append(
            ShuffleTest(population, in_order, shuffled, difference, VERDICTS.get(judged, judged), not_sampled=left)
        )
    if not found:
        return not_applicable(NAME, "no history of validation has two items in a row before a new one")
    says = f"hit rate@{cutoff} of the next new item: " + "; ".join(test.says for test in found)
    return warn_when(NAME, not any(test.verdict == VERDICTS["better"] for test in found), says, found)


def item_steps(prepared: Prepared) -> ItemSteps:
    rows = np.flatnonzero(prepared.rows["item"])
    item, visitor = (np.asarray(prepared.rows[name])[rows].astype(np.int64) for name in ("item", "visitor"))
    unit = np.asarray(prepared.rows["session"])[rows] if prepared.order_only else item
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(unit) != 0) | (np.diff(visitor) != 0)
    first = np.flatnonzero(new)
    return ItemSteps(rows, item, np.cumsum(new) - 1, np.append(first, len(rows)), visitor[first])


def fit(
    prepared: Prepared, steps: ItemSteps, *, transitions: int, neighbours: int, generator: np.random.Generator
) -> Markov:
    """Count which item follows which from one training step of a visitor to its next."""
    width = int(prepared.manifest["counts"]["items"]) + 1
    fitted = train_rows(prepared)[steps.rows]
    counts = np.bincount(steps.item[fitted], minlength=width)
    place = np.empty(width, np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(1, width + 1)
    followed = np.flatnonzero((steps.visitor[1:] == steps.visitor[:-1]) & fitted[steps.first[1:-1]])
    sizes = np.diff(steps.first)
    followed = generator.permutation(followed)
    followed = followed[np.cumsum(sizes[followed] * sizes[followed + 1]) <= transitions]
    together = (step_items(steps, followed, width).T @ step_items(steps, followed + 1, width)).tocoo()
    row, column = together.coords
    other = row != column
    return Markov(strongest(row[other], column[other], together.data[other], place, neighbours), place, counts > 0)


def step_items(steps: ItemSteps, chosen: IntArray, width: int) -> sp.csr_array:
    """How often each item stands in each of the chosen steps (n, V + 1)."""
    sizes = steps.first[chosen + 1] - steps.first[chosen]
    item = steps.item[ragged_ranges(steps.first[chosen], steps.first[chosen + 1])]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return sp.csr_array((np.ones(len(item)), item, offsets), shape=(len(chosen), width))


def strongest(row: IntArray, column: IntArray, count: FloatArray, place: IntArray, keep: int) -> sp.csr_array:
    """The `keep` most frequent successors of each item, ties by popularity, as shares of all its successors."""
    share = count / np.bincount(row, count, minlength=len(place))[row]
    order = np.lexsort([place[column], -share, row])
    row, column, share = row[order], column[order], share[order]
    best = np.arange(len(row)) - np.searchsorted(row, row) < keep
    return sp.csr_array((share[best], (row[best], column[best])), shape=(len(place), len(place)))


def ask(prepared: Prepared, steps: ItemSteps, window: Window) -> tuple[Questions, Histories]:
    """Items of validation that are new to the history of a window, with two steps or more before them."""
    low, high = np.searchsorted(steps.rows, window.start), np.searchsorted(steps.rows, window.end)
    at = ragged_ranges(low, high)
    owner = np.repeat(np.arange(len(window)), high - low)
    width = int(prepared.manifest["counts"]["items"]) + 1
    keys, where = np.unique(owner * width + steps.item[at], return_index=True)
    histories = Histories(keys, at[where], width)
    at, owner = at[np.sort(where)], owner[np.sort(where)]
    oldest = steps.step[low[owner]]
    kept = (prepared.row_split[steps.rows[at]] == s.VAL) & (steps.step[at] >= oldest + 2)
    at, owner, oldest = at[kept], owner[kept], oldest[kept]
    step = steps.step[at]
    return Questions(window.visitor[owner], steps.item[at], owner, oldest, step, steps.first[step]), histories


def answer(
    model: Markov, steps: ItemSteps, histories: Histories, questions: Questions, context: IntArray, cutoff: int
) -> FloatArray:
    """1 where the target is among the first `cutoff` of the catalogue, by the given steps as context, else 0 (n,)."""
    parts = [np.arange(begin, min(begin + AT_ONCE, len(questions))) for begin in range(0, len(questions), AT_ONCE)]
    ranks = [rank(model, steps, histories, questions.only(part), context[part]) for part in parts]
    return np.asarray((np.concatenate(ranks) <= cutoff) & model.known[questions.target], np.float64)


def rank(model: Markov, steps: ItemSteps, histories: Histories, questions: Questions, context: IntArray) -> IntArray:
    """Place of each target (n,), 1 is best: by score, then by popularity; the history's items are not ranked.

    A target that no item of the context leads to comes after all that one leads to, and after the more popular of the
    rest: the places above its own, less those that its history or the scored items hold.
    """
    n, place, target = len(questions), model.place, questions.target
    scores = (step_items(steps, context, histories.width) @ model.follows).tocoo()
    (row, column), score = scores.coords, scores.data
    own = np.bincount(row, np.where(column == target[row], score, 0.0), minlength=n)
    open_ = (column != target[row]) & ~histories.hold(questions.owner[row], column, questions.begin[row])
    row, column, score = row[open_], column[open_], score[open_]
    popular = place[column] < place[target[row]]
    better = np.bincount(row[(score > own[row]) | ((score == own[row]) & popular)], minlength=n)
    seen_owner, seen_item = seen(histories, questions)
    above = np.bincount(seen_owner[place[seen_item] < place[target[seen_owner]]], minlength=n)
    rest = place[target] - 1 - above - np.bincount(row[popular], minlength=n)
    return np.asarray(1 + better + np.where(own > 0, 0, rest))


def seen(histories: Histories, questions: Questions) -> tuple[IntArray, IntArray]:
    """Every item of each question's history once: (question, item) pairs."""
    low, high = (np.searchsorted(histories.keys, (questions.owner + more) * histories.width) for more in (0, 1))
    at = ragged_ranges(low, high)
    question = np.repeat(np.arange(len(questions)), high - low)
    before = histories.first[at] < questions.begin[question]
    return question[before], histories.keys[at[before]] % histories.width
