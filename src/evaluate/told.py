"""Segments that can be read off one context column: a country segment where the country is context.

Such a segment is no leak: the column is known before the first click. But predicting it is no skill, so it is named.
"""

from dataclasses import dataclass

import numpy as np

from shopkeeper.config import UserError
from shopkeeper.data.histories import Names
from shopkeeper.data.outcomes import MASKED
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.rules import Customers
from shopkeeper.data.segments import read_segments
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.cards import labelled
from shopkeeper.evaluate.checks import Check, not_applicable, warn_when

LEAST_VISITORS = 20
"""With a class and a value: with fewer, being right says little."""


@dataclass(frozen=True)
class Told:
    """How often the largest class is right, and that of the other visitors with the same value of a context column.

    `told` = (right - prior) / (1 - prior): the share of the visitors whom the largest class gets wrong that it mends.
    """

    segment: str
    column: str
    visitors: int
    values: int
    prior: float
    right: float

    @property
    def told(self) -> float:
        return (self.right - self.prior) / (1 - self.prior) if self.prior < 1 else 0.0


def told_segments(prepared: Prepared, *, warn_above: float) -> Check[list[Told]]:
    """Every segment by every context column, on the train customers; each customer's value is its commonest one."""
    name = "segments told by context"
    try:
        customers = Customers(prepared, Names(prepared), train_window(prepared))
    except UserError:
        return not_applicable(name, "train is empty")
    found = []
    for segment, (_, _, label) in labelled(prepared, customers, read_segments(prepared.path)).items():
        for column in prepared.context_columns:
            value = commonest_value(prepared, customers, column)
            known = (label != MASKED) & (value > 0)
            if known.sum() >= LEAST_VISITORS:
                found.append(told(segment, column, label[known], value[known]))
    if not found:
        return not_applicable(name, f"no segment and context column that {LEAST_VISITORS} train customers have")
    giving = [t for t in found if t.told > warn_above]
    best = max(found, key=lambda t: t.told)
    says = "; ".join(in_words(t) for t in giving) or f"none can be read off a column; most, {in_words(best)}"
    return warn_when(name, bool(giving), says, found)


def in_words(found: Told) -> str:
    return f"{found.segment} by {found.column}: {found.right:.1%} right, {found.prior:.1%} without it"


def commonest_value(prepared: Prepared, customers: Customers, column: str) -> IntArray:
    """The code that most train rows of each customer have (customers,), the first of equals; 0 where none has any."""
    width = len(prepared.manifest["vocab"][column]["values"]) + 1
    found = []
    for part in customers.parts():
        code = part.column(f"context_{column}").astype(np.int64)
        pairs, count = np.unique(part.owner * width + code, return_counts=True)
        count = np.where(pairs % width > 0, count, 0)
        order = np.lexsort([-pairs, count, pairs // width])
        last = np.flatnonzero(np.diff(pairs[order] // width, append=-1))
        found.append(pairs[order][last] % width)
    return np.concatenate(found)


def told(segment: str, column: str, label: IntArray, value: IntArray) -> Told:
    """How often each visitor's class is the largest of the others with its value; ties are wrong."""
    _, place = np.unique(value, return_inverse=True)
    counts = np.zeros((place.max() + 1, label.max() + 1), np.int64)
    np.add.at(counts, (place, label), 1)
    highest = np.sort(counts, axis=1)
    largest = highest[:, -1][:, None]
    second = highest[:, -2][:, None] if counts.shape[1] > 1 else np.zeros_like(largest)
    other = np.where(counts == largest, second, largest)  # the largest of the other classes
    right = np.where(counts - 1 > other, counts, 0).sum()
    prior = np.bincount(label).max()
    return Told(segment, column, len(label), len(counts), float(prior / len(label)), float(right / len(label)))
