"""What else can be said of a moment besides which item comes next: one class out of a few, by the name of an outcome.

- `intent`: a purchase in the rest of the session (`none`, `purchase`);
- `phase`: the journey phase of the next event, given that there is one;
- `segment:<name>`: which of the segment's classes the visitor belongs to: by a column of users, the same at every
  moment; by a rule, as what the visitor does after the moment says, masked where that is too little.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.segments import Fitted, RuleLabels, read_segments
from shopkeeper.data.targets import Moments

MASKED = s.MASKED


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
            if outcome.name.removeprefix(s.SEGMENT_PREFIX) in prepared.segments
        }
        ruled = [o.name.removeprefix(s.SEGMENT_PREFIX) for o in outcomes if o.name not in self.segments]
        rules = read_segments(prepared.path).rules
        self.rules = RuleLabels(prepared, {name: rules[name] for name in ruled if name in rules})

    def of(self, name: str, moments: Moments) -> IntArray:
        """Class of each moment (n,), MASKED where nobody knows it.

        A moment's window must hold a row: `start` is below `limit`.
        """
        if name == s.INTENT:
            return self.intent(moments)
        if name == s.PHASE:
            return self.next_phase(moments)
        if name not in self.segments:
            return self.ruled(name, moments)
        visitor = np.asarray(self.prepared.rows["visitor"])[moments.start]
        return np.asarray(self.segments[name][visitor])

    def ruled(self, name: str, moments: Moments) -> IntArray:
        """By what lies ahead; a class that the outcome does not have is masked."""
        classes, segment = self.outcomes[name].classes, name.removeprefix(s.SEGMENT_PREFIX)
        named = self.rules.rules[segment].classes
        code = np.array([*(classes.index(c) if c in classes else MASKED for c in named), MASKED], np.int64)
        return np.asarray(code[self.rules.of(segment, moments)])  # MASKED is the last place

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
    ruled = read_segments(prepared.path)
    found |= {s.SEGMENT_PREFIX + name: rule_classes(ruled, name) for name in ruled.rules}
    for name, classes in found.items():
        if len(classes) > 1:
            outcomes.append(Outcome(name, classes))
        else:
            left_out[name] = f"train knows no class but {classes[0]!r}" if classes else "train knows no class"
    left_out |= {s.SEGMENT_PREFIX + name: why for name, why in ruled.left_out.items()}
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


def rule_classes(fitted: Fitted, name: str) -> tuple[str, ...]:
    """Classes of a rule that any train customer belongs to, whatever the window: rules are fitted once."""
    return tuple(c for c, n in zip(fitted.rules[name].classes, fitted.customers[name], strict=True) if n)
