"""What else can be said of a moment besides which item comes next: one class out of a few, by the name of an outcome.

- `intent`: a purchase in the rest of the session (`none`, `purchase`);
- `phase`: the journey phase of the next event, given that there is one;
- `segment:<name>`: which of the segment's classes the visitor belongs to.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.targets import Moments

MASKED = -1
"""Label of a moment of which the truth is not known."""


class Outcome(NamedTuple):
    """A name, and the classes of which one is true; class c has label c."""

    name: str
    classes: tuple[str, ...]


class Labels:
    """Looks up the true class of the given outcomes at any moments of one prepared dataset, vectorised."""

    def __init__(self, prepared: Prepared, outcomes: list[Outcome]) -> None:
        self.prepared = prepared
        self.outcomes = {outcome.name: outcome for outcome in outcomes}
        self.order_rows = np.flatnonzero(np.asarray(prepared.rows["order"]) >= 0)
        self.segments = {
            outcome.name: segment_codes(prepared, outcome)
            for outcome in outcomes
            if outcome.name.startswith(s.SEGMENT_PREFIX)
        }

    def of(self, name: str, moments: Moments) -> IntArray:
        """Class of each moment (n,), MASKED where nobody knows it.

        A moment's window must hold a row: `start` is below `limit`.
        """
        if name == s.INTENT:
            return self.intent(moments)
        if name == s.PHASE:
            return self.next_phase(moments)
        visitor = np.asarray(self.prepared.rows["visitor"])[moments.start]
        return np.asarray(self.segments[name][visitor])

    def intent(self, moments: Moments) -> IntArray:
        """1 where an order follows in the session of the latest visible row (before any step: of the first row)."""
        session = np.asarray(self.prepared.rows["session"])
        here = session[np.maximum(moments.end - 1, moments.start)]
        bought = np.append(self.order_rows, len(session))
        following = bought[np.searchsorted(self.order_rows, moments.end)]
        inside = following < moments.limit
        same = session[np.minimum(following, len(session) - 1)] == here
        return np.asarray(inside & same, np.int64)

    def next_phase(self, moments: Moments) -> IntArray:
        phase = np.asarray(self.prepared.rows["phase"], np.int64)
        classes = self.outcomes[s.PHASE].classes
        code = np.array([MASKED, *(classes.index(p) if p in classes else MASKED for p in s.PHASES)], np.int64)
        following = np.minimum(moments.end, len(phase) - 1)
        return np.where(moments.end < moments.limit, code[phase[following]], MASKED)


def segment_codes(prepared: Prepared, outcome: Outcome) -> IntArray:
    """Class of every visitor (V,); MASKED without a value, or with one that no class is named after."""
    column = prepared.visitors_frame()[outcome.name.removeprefix(s.SEGMENT_PREFIX)]
    code = {value: number for number, value in enumerate(outcome.classes)}
    return np.array([code.get(value, MASKED) for value in column], np.int64)


def supported_outcomes(prepared: Prepared, window: Window) -> tuple[list[Outcome], dict[str, str]]:
    """Outcomes of which the rows of a window know at least two classes, and why each other one is left out."""
    outcomes, left_out = [], {}
    found = {s.INTENT: intent_classes(prepared, window), s.PHASE: phase_classes(prepared, window)}
    found |= {s.SEGMENT_PREFIX + name: segment_classes(prepared, window, name) for name in prepared.segments}
    for name, classes in found.items():
        if len(classes) > 1:
            outcomes.append(Outcome(name, classes))
        else:
            left_out[name] = f"train knows no class but {classes[0]!r}" if classes else "train knows no class"
    if prepared.order_only:
        left_out[s.INTENT] = "every session of the log buys"
    return outcomes, left_out


def intent_classes(prepared: Prepared, window: Window) -> tuple[str, ...]:
    rows = ragged_ranges(window.start, window.end)
    bought = bool((np.asarray(prepared.rows["order"])[rows] >= 0).any())
    return ("none", *([s.PURCHASE] if bought and not prepared.order_only else []))


def phase_classes(prepared: Prepared, window: Window) -> tuple[str, ...]:
    """Phases of the window's rows, in the journey's order."""
    present = np.unique(np.asarray(prepared.rows["phase"])[ragged_ranges(window.start, window.end)])
    return tuple(s.PHASES[code - 1] for code in present if code > 0)


def segment_classes(prepared: Prepared, window: Window, name: str) -> tuple[str, ...]:
    """Values of the window's visitors, in alphabetical order."""
    values: npt.NDArray[np.object_] = prepared.visitors_frame()[name].to_numpy(object)[window.visitor]
    return tuple(sorted({value for value in values if isinstance(value, str)}))
