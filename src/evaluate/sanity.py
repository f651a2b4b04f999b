"""What kind of data a prepared dataset holds: the figures of an audit that warn, and never fail it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.evaluate.checks import Check, not_applicable, percent, warn_when
from shopkeeper.evaluate.leaks import buying_sessions, split_by_time, train_rows

DAY = 86_400_000_000
MAX_BARS = 100
"""Bars of the timeline at most; a longer log is shown by several days a bar."""

LENGTHS = (0, 1, 2, 3, 4, 6, 11, 21, 51, 101)
"""Least number of events of each bar of the histogram of sessions."""

QUANTILES = (0.5, 0.9, 0.99)
WILSON_Z = 1.959963984540054
"""97.5% point of the standard normal distribution."""


@dataclass(frozen=True)
class Share:
    """How many of how many, and what share that is; 0 of nothing is 0."""

    count: int
    of: int
    share: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", self.count / self.of if self.of else 0.0)

    def __str__(self) -> str:
        return percent(self.count, self.of)


@dataclass(frozen=True)
class Sizes:
    """What each split holds, in the order of `s.SPLITS`, and the events of each stretch of days, from `start`."""

    events: list[int]
    sessions: list[int]
    visitors: list[int]
    start: str  # first day, UTC
    days: int  # of a stretch
    timeline: list[list[int]]  # (splits, stretches) events by their time


@dataclass(frozen=True)
class Overlap:
    """How many items and visitors two splits share: row and column are splits, the diagonal is a split's own number."""

    items: list[list[int]]
    visitors: list[list[int]]


@dataclass(frozen=True)
class Lengths:
    """Events per session of each split: mean, quantiles, the longest, and sessions by the bars of `LENGTHS`."""

    mean: list[float]
    quantiles: list[list[float]]  # (splits, quantiles)
    longest: list[int]
    bars: list[list[int]]  # (splits, bars)
    bounces: list[Share]  # sessions of one event or none; empty where a session is a trip


@dataclass(frozen=True)
class Conversion:
    """Sessions with one value of a context column, and how many of them buy; with a Wilson 95% interval."""

    column: str  # "" for all sessions
    value: str
    sessions: int
    buyers: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Drift:
    """How far the items of one split are from those of train."""

    split: str
    unseen: Share  # events with an item, on items without a training event
    divergence: float  # Jensen-Shannon, bits
    by_chance: float  # of two samples of these sizes from one popularity


@dataclass(frozen=True)
class PhaseFlow:
    """Events of each phase, and pairs of a visitor's consecutive events by the phases they go from (row) and to."""

    events: list[int]
    flow: list[list[int]]


def sizes(prepared: Prepared) -> Check[Sizes]:
    """Events, sessions and visitors of each split (by session), and the events over time."""
    time, split = prepared.rows["time"], np.asarray(prepared.sessions["split"])
    events, sessions = (np.bincount(values, minlength=3) for values in (prepared.row_split, split))
    visitors = [len(np.unique(prepared.sessions["visitor"][split == one])) for one in range(3)]
    first, last = int(time.min()) // DAY, int(time.max()) // DAY
    days = (last - first) // MAX_BARS + 1
    bars = (last - first) // days + 1
    cell = split_by_time(prepared, time).astype(np.int64) * bars + (time // DAY - first) // days
    timeline = np.bincount(cell, minlength=3 * bars).reshape(3, bars)
    start = str(np.datetime64(first, "D"))
    figures = Sizes(events.tolist(), sessions.tolist(), visitors, start, int(days), timeline.tolist())
    says = "; ".join(
        f"{name} {events[i]:,} events in {sessions[i]:,} sessions of {visitors[i]:,} visitors"
        for i, name in enumerate(s.SPLITS)
    )
    return warn_when("split sizes", not events.all(), says, figures)


def duplicate_events(prepared: Prepared, *, warn_above: float) -> Check[Share]:
    """Rows that repeat another in visitor, time, event, item and order; rows of one visitor and time are neighbours."""
    tied = ties(prepared)
    member = np.flatnonzero(tied | np.append(tied[1:], False))
    group = np.cumsum(~tied)[member]
    keys = [np.asarray(prepared.rows[name])[member] for name in ("order", "item", "event")] + [group]
    order = np.lexsort(keys)
    again = np.ones(max(len(member) - 1, 0), bool)
    for key in keys:
        again &= np.diff(key[order]) == 0
    figures = Share(int(again.sum()), len(tied))
    says = f"{figures.count:,} of {figures.of:,} events ({figures}) repeat another of their visitor"
    return warn_when("duplicate events", figures.share > warn_above, says, figures)


def tied_times(prepared: Prepared, *, warn_above: float) -> Check[Share]:
    """Rows at the very time of the visitor's row before: their order is the file's, and may mean nothing."""
    tied = ties(prepared)
    figures = Share(int(tied.sum()), len(tied))
    says = f"{figures.count:,} of {figures.of:,} events ({figures}) have the time of the one before"
    if prepared.order_only:
        return warn_when("tied times", False, f"{says}; a trip is one step, so their order plays no part", figures)
    return warn_when("tied times", figures.share > warn_above, says, figures)


def ties(prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Whether each row has the visitor and the time of the row before (rows,)."""
    tied = np.zeros(len(prepared.rows["time"]), bool)
    tied[1:] = (np.diff(prepared.rows["time"]) == 0) & (np.diff(prepared.rows["visitor"]) == 0)
    return tied


def overlap(prepared: Prepared) -> Check[Overlap]:
    """Items with an event, and visitors with a session, that two splits have in common."""
    catalogue = int(prepared.manifest["counts"]["items"])
    item, split = prepared.rows["item"], np.asarray(prepared.sessions["split"])
    items = common(prepared.row_split, item, catalogue + 1)
    visitors = common(split, prepared.sessions["visitor"], len(prepared.visitors["held_out"]), first=0)
    parts = [
        f"train has {percent(items[i][0], items[i][i])} of the items and {percent(visitors[i][0], visitors[i][i])} of "
        f"the visitors of {s.SPLITS[i]}"
        for i in (s.VAL, s.TEST)
    ]
    return warn_when("overlap of splits", False, "; ".join(parts), Overlap(items, visitors))


def common(split: npt.ArrayLike, number: npt.ArrayLike, width: int, *, first: int = 1) -> list[list[int]]:
    """How many of the numbers from `first` on occur in both of two splits (splits, splits)."""
    occurs = np.zeros((len(s.SPLITS), width), bool)
    occurs[np.asarray(split), np.asarray(number)] = True
    return [[int((a & b).sum()) for b in occurs[:, first:]] for a in occurs[:, first:]]


def events_per_session(prepared: Prepared) -> Check[Lengths]:
    """How long sessions are, by split; one that holds a `session_start` alone has no event."""
    lengths = np.bincount(prepared.rows["session"], minlength=len(prepared.sessions["time"]))
    split = np.asarray(prepared.sessions["split"])
    parts = [lengths[split == one] for one in range(len(s.SPLITS))]
    figures = Lengths(
        mean=[float(part.mean()) if len(part) else 0.0 for part in parts],
        quantiles=[np.quantile(part, QUANTILES).tolist() if len(part) else [0.0] * len(QUANTILES) for part in parts],
        longest=[int(part.max(initial=0)) for part in parts],
        bars=[
            np.bincount(np.searchsorted(LENGTHS, part, side="right") - 1, minlength=len(LENGTHS)).tolist()
            for part in parts
        ],
        bounces=[] if prepared.order_only else [Share(int((part <= 1).sum()), len(part)) for part in parts],
    )
    median, high, _ = np.quantile(lengths, QUANTILES)
    says = f"median {median:g}, 90% have at most {high:g}, the longest {lengths.max():,}"
    if not prepared.order_only:
        says += f"; {percent(int((lengths <= 1).sum()), len(lengths))} bounce (one event or none)"
    return warn_when("events per session", False, says, figures)


def conversion(prepared: Prepared, *, values: int) -> Check[list[Conversion]]:
    """Share of the sessions of train and validation that buy: of all, and by each context column's `values` commonest.

    The test split stays closed. The interval takes sessions as independent of each other (`wilson`).
    """
    name = "conversion"
    if prepared.order_only:
        return not_applicable(name, "every session of an order-only log buys")
    if prepared.purchase_code < 0:
        return not_applicable(name, "the log has no purchases")
    kept = np.asarray(prepared.sessions["split"]) < s.TEST
    bought = buying_sessions(prepared)[kept]
    figures = [converted("", "all", len(bought), int(bought.sum()))]
    for column in prepared.context_columns:
        codes = np.asarray(prepared.sessions[f"context_{column}"])[kept]
        words = ["(none)", *prepared.manifest["vocab"][column]["values"]]
        sessions, buyers = np.bincount(codes, minlength=len(words)), np.bincount(codes[bought], minlength=len(words))
        common_first = np.argsort(-sessions, kind="stable")
        shown, rest = np.split(common_first[sessions[common_first] > 0], [values])
        figures += [converted(column, words[code], int(sessions[code]), int(buyers[code])) for code in shown]
        if len(rest):
            figures.append(
                converted(column, f"({len(rest):,} others)", int(sessions[rest].sum()), int(buyers[rest].sum()))
            )
    whole = figures[0]
    says = f"{100 * whole.rate:.2f}% [{100 * whole.low:.2f}, {100 * whole.high:.2f}] of {whole.sessions:,} sessions buy"
    by = (
        f"; by {', '.join(prepared.context_columns)} in the table"
        if prepared.context_columns
        else "; no context columns"
    )
    return warn_when(name, False, says + by, figures)


def converted(column: str, value: str, sessions: int, buyers: int) -> Conversion:
    low, high = wilson(buyers, sessions)
    return Conversion(column, value, sessions, buyers, buyers / sessions if sessions else 0.0, low, high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% score interval of a share: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953. Of nothing: from 0 to 1.
    """
    if not trials:
        return 0.0, 1.0
    p, z2n = successes / trials, WILSON_Z**2 / trials
    middle = p + z2n / 2
    half = float(np.sqrt(p * (1 - p) * z2n + z2n**2 / 4))
    return max(0.0, (middle - half) / (1 + z2n)), min(1.0, (middle + half) / (1 + z2n))


def drift(prepared: Prepared, *, warn_above: float, seed: int) -> Check[list[Drift]]:
    """How the catalogue moves: events on items that training has not seen, and the distance of the popularities.

    The divergence of two samples of one distribution is above zero as well, so that of a seeded pair of the same sizes
    stands beside it.
    """
    name = "catalogue drift"
    fitted, item = train_rows(prepared), prepared.rows["item"]
    width = int(prepared.manifest["counts"]["items"]) + 1
    counts = [np.bincount(item[fitted], minlength=width)[1:]]
    counts += [np.bincount(item[prepared.row_split == split], minlength=width)[1:] for split in (s.VAL, s.TEST)]
    if not all(count.any() for count in counts):
        return not_applicable(name, "a split has no event that names an item")
    train, generator = counts[0], np.random.default_rng(seed)
    figures = []
    for split, count in zip((s.VAL, s.TEST), counts[1:], strict=True):
        pooled = (train + count) / (train + count).sum()
        chance = jensen_shannon(*(generator.multinomial(int(c.sum()), pooled) for c in (train, count)))
        unseen = Share(int(count[train == 0].sum()), int(count.sum()))
        figures.append(Drift(s.SPLITS[split], unseen, jensen_shannon(train, count), chance))
    says = "; ".join(
        f"{d.split} {d.unseen} of events on items unseen in train, Jensen-Shannon "
        f"{d.divergence:.3f} bits ({d.by_chance:.3f} by chance)"
        for d in figures
    )
    return warn_when(name, any(d.unseen.share > warn_above for d in figures), says, figures)


def jensen_shannon(a: IntArray, b: IntArray) -> float:
    """Divergence of two lists of counts in bits: H((p + q) / 2) - H(p) / 2 - H(q) / 2; 0 if alike, 1 if disjoint.

    Lin 1991, https://doi.org/10.1109/18.61115.
    """
    p, q = a / a.sum(), b / b.sum()
    return float(max(0.0, entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2))


def entropy(p: npt.NDArray[np.float64]) -> float:
    """-sum p log2 p."""
    positive = p[p > 0]
    return float(-(positive * np.log2(positive)).sum())


def phase_flow(prepared: Prepared) -> Check[PhaseFlow]:
    """The journey's phases: events of each, and where a visitor goes from one event to the next."""
    name = "phase flow"
    if "phase" not in prepared.rows:
        return not_applicable(name, "this dataset has no phases; prepare it again")
    figures = flow_of(np.asarray(prepared.rows["phase"]), np.asarray(prepared.rows["visitor"]))
    total = sum(figures.events)
    says = ", ".join(f"{phase} {percent(n, total)}" for phase, n in zip(s.PHASES, figures.events, strict=True))
    without = len(prepared.rows["phase"]) - total
    return warn_when(name, bool(without), says + (f"; {without:,} events have no phase" if without else ""), figures)


def flow_of(phase: npt.NDArray[np.int8], visitor: npt.ArrayLike) -> PhaseFlow:
    """Count phases (codes from 1; any other is none) and pairs of neighbouring rows of one visitor."""
    number, codes = len(s.PHASES), phase.astype(np.int64) - 1
    named = (codes >= 0) & (codes < number)
    pair = (np.diff(np.asarray(visitor)) == 0) & named[1:] & named[:-1]
    cells = codes[:-1][pair] * number + codes[1:][pair]
    flow = np.bincount(cells, minlength=number**2).reshape(number, number)
    return PhaseFlow(np.bincount(codes[named], minlength=number).tolist(), flow.tolist())
