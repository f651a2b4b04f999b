"""The moments at which models are judged: k steps into a stranger's history, or into a known user's session."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.targets import Moments, Ragged, Targets
from shopkeeper.data.windows import known_window, stranger_window


@dataclass(frozen=True)
class Examples:
    """Judged moments: steps [first, last) of a visitor are visible; each (n,). `limit` is the window's last row."""

    visitor: IntArray
    k: IntArray
    first: IntArray
    last: IntArray
    limit: IntArray

    def __len__(self) -> int:
        return len(self.visitor)

    def only(self, chosen: npt.ArrayLike) -> "Examples":
        index = np.asarray(chosen)
        return Examples(*(getattr(self, name)[index] for name in FIELDS))

    @classmethod
    def joined(cls, *parts: "Examples") -> "Examples":
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS))

    def moments(self, prepared: Prepared) -> Moments:
        offsets = prepared.step_offsets
        start, end = offsets[self.first], np.minimum(offsets[self.last], self.limit)
        return Moments(start, end, self.limit)

    @classmethod
    def at_entry(cls, prepared: Prepared, window: Window) -> "Examples":
        """Every visitor of a window before any step."""
        first, _ = window_steps(prepared, window)
        return cls(window.visitor, np.zeros(len(window), np.int64), first, first, window.end)


FIELDS = ("visitor", "k", "first", "last", "limit")


def stranger_examples(prepared: Prepared, split: int, ks: list[int]) -> Examples:
    """Every stranger of the split after k = each of `ks` steps, as far as its history goes."""
    return window_examples(prepared, stranger_window(prepared, split), ks)


def window_examples(prepared: Prepared, window: Window, ks: list[int]) -> Examples:
    """Every visitor of a window after k = each of `ks` of its steps, as far as the window goes."""
    first, count = window_steps(prepared, window)
    k = np.asarray(sorted(ks))
    owner, chosen = np.nonzero(count[:, None] >= k[None, :])
    return Examples(
        visitor=window.visitor[owner],
        k=k[chosen],
        first=first[owner],
        last=first[owner] + k[chosen],
        limit=window.end[owner],
    )


def known_examples(prepared: Prepared, split: int, ks: list[int]) -> Examples:
    """Known users of the split: k steps into each of its sessions, their past visible besides."""
    window = known_window(prepared, split)
    first, count = window_steps(prepared, window)
    step = ragged_ranges(first, first + count)
    owner = np.repeat(np.arange(len(window)), count)
    row = prepared.step_offsets[step]
    session = np.asarray(prepared.rows["session"])[row]
    k = rank_within(session)
    judged = (prepared.row_split[row] == split) & np.isin(k, ks)
    return Examples(
        visitor=window.visitor[owner],
        k=k,
        first=first[owner],
        last=step,
        limit=window.end[owner],
    ).only(judged)


def rank_within(group: npt.ArrayLike) -> IntArray:
    """Number of earlier elements of the same group: rank_within([7, 7, 3, 7]) -> [0, 1, 0, 2]."""
    values = np.asarray(group)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(begins, len(values)))
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.repeat(begins, sizes)
    return ranks


def window_steps(prepared: Prepared, window: Window) -> tuple[IntArray, IntArray]:
    """First step of each window and how many begin in it."""
    first = np.searchsorted(prepared.step_offsets, window.start)
    return first, np.searchsorted(prepared.step_offsets, window.end) - first


def with_targets(examples: Examples, ragged: Ragged) -> tuple[Examples, Ragged]:
    """Only the examples that have something to predict."""
    kept = np.flatnonzero(ragged.sizes > 0)
    sizes = ragged.sizes[kept]
    return examples.only(kept), Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), ragged.items)


class JudgedExamples(NamedTuple):
    """What models are judged on, and how many prediction moments are not among it, by reason."""

    examples: Examples
    targets: Ragged
    left_out: dict[str, int]


def judged_examples(
    prepared: Prepared, targets: Targets, task: str, population: str, split: int, *, ks: list[int], at_most: int
) -> JudgedExamples:
    """The examples of a task and population with their targets; a seeded sample where there are more than `at_most`.

    The sample depends on the data alone, so every model is judged on the same examples.
    """
    build = stranger_examples if population == s.STRANGERS else known_examples
    moments = build(prepared, split, ks)
    examples, found = with_targets(moments, targets.of(task, moments.moments(prepared)))
    left_out = {"without a target": len(moments) - len(examples), "not sampled": max(len(examples) - at_most, 0)}
    if len(examples) > at_most:
        chosen = sampled(len(examples), at_most)
        examples, found = examples.only(chosen), found.only(chosen)
    return JudgedExamples(examples, found, left_out)


class OutcomeExamples(NamedTuple):
    """The moments at which outcomes are judged, whatever comes after them, and how many were not sampled."""

    examples: Examples
    not_sampled: int


def outcome_examples(
    prepared: Prepared, population: str, split: int, *, ks: list[int], at_most: int
) -> OutcomeExamples:
    """Every moment of a population with a row in its window; a seeded sample where there are more than `at_most`."""
    build = stranger_examples if population == s.STRANGERS else known_examples
    moments = build(prepared, split, ks)
    return OutcomeExamples(moments.only(sampled(len(moments), at_most)), max(len(moments) - at_most, 0))


def sampled(count: int, at_most: int) -> IntArray:
    """Which of `count` examples are judged: all of them, or a seeded sample that depends on nothing else."""
    return np.sort(np.random.default_rng(0).permutation(count)[:at_most])


def visible_items(prepared: Prepared, examples: Examples) -> Ragged:
    """Distinct items of the visible history of each example, ascending."""
    moments = examples.moments(prepared)
    rows = ragged_ranges(moments.start, moments.end)
    owner = np.repeat(np.arange(len(examples)), moments.end - moments.start)
    item = np.asarray(prepared.rows["item"])[rows].astype(np.int64)
    width = int(prepared.manifest["counts"]["items"]) + 1
    pairs = np.unique((owner * width + item)[item > 0])
    sizes = np.bincount(pairs // width, minlength=len(examples))
    return Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), pairs % width)


def is_repeat(prepared: Prepared, visible: Ragged, targets: Ragged) -> npt.NDArray[np.bool_]:
    """Whether each target item stands in the visible history of its example (M,)."""
    width = int(prepared.manifest["counts"]["items"]) + 1
    seen, wanted = (np.repeat(np.arange(len(r.sizes)), r.sizes) * width + r.items for r in (visible, targets))
    found = np.searchsorted(seen, wanted)
    return np.asarray(seen[np.minimum(found, len(seen) - 1)] == wanted) if len(seen) else np.zeros(len(wanted), bool)
