"""Where in the journey an event lies: discovery, engagement, purchase, fulfilment or re-engagement."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from shopkeeper.data import schema as s
from shopkeeper.data.settings import PhaseRule

DAY = 86_400_000_000
"""Microseconds."""
ROWS_AT_ONCE = 2_000_000

IntArray = npt.NDArray[np.integer]


def write_phases(folder: Path, rules: list[PhaseRule], events: list[str]) -> None:
    """Write `rows/phase.npy` (int8, position in `schema.PHASES` plus one) of a prepared dataset.

    `events` is its event vocabulary. Rows are taken in parts that end where a visitor does.
    """
    rows = {name: np.load(folder / "rows" / f"{name}.npy", mmap_mode="r") for name in ("event", "session", "visitor")}
    offsets = np.load(folder / "visitors" / "row_offsets.npy", mmap_mode="r")
    session_visitor = np.load(folder / "sessions" / "visitor.npy", mmap_mode="r")
    session_time = np.load(folder / "sessions" / "time.npy", mmap_mode="r")
    away = days_away(session_visitor, session_time)
    phase = open_memmap(folder / "rows" / "phase.npy", mode="w+", dtype=np.int8, shape=(int(offsets[-1]),))
    begin = 0
    while begin < offsets[-1]:
        last = int(np.searchsorted(offsets, begin + ROWS_AT_ONCE, side="right")) - 1
        end = int(offsets[last]) if offsets[last] > begin else int(offsets[last + 1])
        event, session, visitor = (np.asarray(rows[name][begin:end]) for name in ("event", "session", "visitor"))
        phase[begin:end] = phases_of(event, session, visitor, away[session], rules, events)
        begin = end
    phase.flush()


def phases_of(
    event: IntArray,
    session: IntArray,
    visitor: IntArray,
    away: npt.NDArray[np.float64],
    rules: list[PhaseRule],
    events: list[str],
) -> npt.NDArray[np.int8]:
    """The phase of each row (n,), by the first rule that holds; rows of a visitor are together and in time order."""
    earlier = events_before(session)
    bought = bought_before(event == position(events, s.PURCHASE), session, visitor)
    holds, codes = [], []
    for rule in rules:
        here = np.ones(len(event), bool)
        if rule.events is not None:
            here &= np.isin(event, [position(events, name) for name in rule.events if name in events])
        if rule.bought_before is not None:
            here &= bought == rule.bought_before
        if rule.days_away is not None:
            here &= away >= rule.days_away
        if rule.events_before is not None:
            here &= earlier >= rule.events_before
        holds.append(here)
        codes.append(s.PHASES.index(rule.phase) + 1)
    return np.select(holds, codes).astype(np.int8)


def position(events: list[str], name: str) -> int:
    """Code of an event; -1 where the log has none."""
    return events.index(name) + 1 if name in events else -1


def events_before(session: IntArray) -> npt.NDArray[np.int64]:
    """How many rows of the same session come before each row (n,); sessions may be interleaved."""
    order = np.argsort(session, kind="stable")
    ordered = session[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(first, len(ordered)))
    before = np.empty(len(session), np.int64)
    before[order] = np.arange(len(session)) - np.repeat(first, sizes)
    return before


def bought_before(purchase: npt.NDArray[np.bool_], session: IntArray, visitor: IntArray) -> npt.NDArray[np.bool_]:
    """Whether the visitor bought in an earlier session (n,); sessions are numbered by visitor and time."""
    never = np.int64(np.iinfo(np.int64).max)
    first = np.flatnonzero(np.concatenate([[True], visitor[1:] != visitor[:-1]]))
    bought = np.minimum.reduceat(np.where(purchase, session, never), first)
    return np.asarray(session > np.repeat(bought, np.diff(np.append(first, len(visitor)))))


def days_away(visitor: IntArray, time: IntArray) -> npt.NDArray[np.float64]:
    """Days from the start of the visitor's session before to that of each session (S,); -1 for the first."""
    away = np.full(len(time), -1.0)
    same = np.asarray(visitor[1:] == visitor[:-1])
    away[1:][same] = (np.diff(time) / DAY)[same]
    return away
