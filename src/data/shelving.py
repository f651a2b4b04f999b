"""Sorted rows -> the arrays of a prepared dataset, part by part: visits are cut, repeats and bots dropped."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.sessions import (
    IntArray,
    by_first_row,
    changes,
    cut_sessions,
    first_rows,
    number_orders,
    repeats,
    too_fast,
    too_many,
)
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.writer import GrowingArray, read_part

ROWS_AT_ONCE = 2_000_000

Arrays = dict[str, npt.NDArray[Any]]

REPEATED = "exact duplicate of an earlier row"


@dataclass
class Shelved:
    """What went onto the shelves: rows that are events, visits, and the visitors (codes) in their new order."""

    rows: int = 0
    sessions: int = 0
    session_starts: int = 0
    orders: int = 0
    purchases: int = 0
    repeated: int = 0
    visitors: list[IntArray] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def shelve(
    raw: Path, folder: Path, config: DataConfig, events: list[str], context: list[str], *, order_only: bool
) -> Shelved:
    """Read the arrays in `raw` (see `code_events`), write `rows/` and `sessions/` of `folder`.

    `events` are the names of the event codes. Visitors of whom nothing is kept get no number.
    """
    done = Shelved()
    names = [path.stem for path in sorted(raw.glob("*.npy"))]
    purchase = events.index(s.PURCHASE) + 1 if s.PURCHASE in events else -1
    with ExitStack() as files:
        writers: dict[str, GrowingArray] = {}

        def put(kind: str, arrays: Arrays) -> None:
            for name, array in arrays.items():
                key = f"{kind}/{name}"
                if key not in writers:
                    writers[key] = files.enter_context(GrowingArray(folder / kind / f"{name}.npy", array.dtype))
                writers[key].append(array)

        for begin, end in visitor_parts(raw / "visitor.npy"):
            part = {name: read_part(raw / f"{name}.npy", begin, end) for name in names}
            for name in (s.SESSION, s.ORDER):
                part.setdefault(name, np.zeros(end - begin, np.int32))
            part, session = visits(part, config, done, order_only=order_only)
            rows, sessions = shelve_part(part, session, purchase, context, done, order_only=order_only)
            put("rows", rows)
            put("sessions", sessions)
    return done


def visitor_parts(file: Path) -> Iterator[tuple[int, int]]:
    """Ranges of about `ROWS_AT_ONCE` rows that end where a visitor does; one empty range where there are no rows."""
    visitor = np.load(file, mmap_mode="r")
    begin, total = 0, len(visitor)
    while begin < total:
        end = min(begin + ROWS_AT_ONCE, total)
        if end < total:
            inside = begin + int(np.searchsorted(visitor[begin:end], visitor[end]))  # where the cut visitor begins
            end = inside if inside > begin else end + int(np.searchsorted(visitor[end:], visitor[end], side="right"))
        yield begin, end
        begin = end
    if not total:
        yield 0, 0


def visits(part: Arrays, config: DataConfig, done: Shelved, *, order_only: bool) -> tuple[Arrays, IntArray]:
    """The rows that stay and their visits; repeats go before visits are cut, bots after."""
    again = repeats(list(part.values()), part["visitor"], part["time"])
    done.repeated += int(again.sum())
    if config.drop_duplicates:
        part = without(part, again, REPEATED, done)
    gap = config.receipt_gap_minutes if order_only else config.session_gap_minutes
    ids = np.zeros_like(part["session_id"]) if order_only else part["session_id"]
    session = cut_sessions(part["visitor"], part["time"], ids, gap)
    most = config.bots.events_per_session
    if most is not None:
        made = too_many(session, most)
        part = without(part, made, f"session of more than {most} events", done)
        session = by_first_row(session[~made])
    most = config.bots.events_per_minute
    if most is not None:
        made = too_fast(session, part["time"], most)
        part = without(part, made, f"session of more than {most} events in a minute", done)
        session = by_first_row(session[~made])
    return part, session


def without(part: Arrays, rows: npt.NDArray[np.bool_], reason: str, done: Shelved) -> Arrays:
    """The other rows; these are counted."""
    done.dropped[reason] += int(rows.sum())
    return {name: array[~rows] for name, array in part.items()}


def shelve_part(
    part: Arrays,
    session: IntArray,
    purchase: int,
    context: list[str],
    done: Shelved,
    *,
    order_only: bool,
) -> tuple[Arrays, Arrays]:
    """Rows and visits of one part, numbered after those of the parts before; `done` counts on.

    A visit is entered with the context of its `session_start` row, or without one of its first row.
    """
    new = changes(part["visitor"])
    codes = part["visitor"][new]
    visitor = np.cumsum(new) - 1 + sum(map(len, done.visitors))
    starts = part["event"] == s.ENTRY_EVENT
    first = first_rows(session)
    entry = first.copy()
    entry[session[starts][::-1]] = np.flatnonzero(starts)[::-1]
    held = [f"context_{c}" for c in context]
    sessions = {
        "visitor": visitor[first].astype(np.int32),
        "time": part["time"][first],
        **{name: part[name][entry] for name in held},
    }
    order_id = np.zeros_like(part["order_id"]) if order_only else part["order_id"]
    order = number_orders(visitor, session, order_id, part["event"] == purchase)
    rows = {
        "visitor": visitor.astype(np.int32),
        "time": part["time"],
        "event": part["event"],
        "item": part["item"],
        "session": (session + done.sessions).astype(np.int32),
        "order": np.where(order >= 0, order + done.orders, -1).astype(np.int32),
        **{name: part[name] for name in held},
        **{name: part[name] if name in part else np.full(len(session), np.nan) for name in s.PROPERTIES},
    }
    done.visitors.append(codes)
    done.rows += int((~starts).sum())
    done.sessions += len(first)
    done.session_starts += int(starts.sum())
    done.purchases += int((order >= 0).sum())
    done.orders += int(order.max(initial=-1)) + 1
    return {name: array[~starts] for name, array in rows.items()}, sessions
