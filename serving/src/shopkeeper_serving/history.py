"""Raw histories -> model input, vectorised: the only place where inference does this.

A history is one context token (position 0) and then a token per step. Where the log has orders only, a step is all
purchases of one trip; elsewhere it is one event. B histories, R rows, T tokens, C context columns, U distinct items.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper_serving.bundle import Bundle
from shopkeeper_serving.schemas import Event

SESSION_START = "session_start"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ENTRY_EVENT = 1
"""Event code of `session_start`, the token a history opens with."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Histories(NamedTuple):
    """Rows of many histories one after another; codes are 0 where absent or unknown."""

    offsets: IntArray  # (B + 1,) first row of each history
    event: IntArray  # (R,) event code; ENTRY_EVENT for session_start
    item: IntArray  # (R,) item index from 1
    names_item: BoolArray  # (R,) whether the row names an item, known or not
    time: IntArray  # (R,) microseconds UTC, -1 unknown
    session: IntArray  # (R,) code of the session id, -1 where it has none
    context: IntArray  # (R, C)


class Inputs(NamedTuple):
    """What models read; the twin of training's batch, without targets."""

    event: IntArray  # (B, T)
    context: IntArray  # (B, T, C)
    time: IntArray  # (B, T) seconds UTC, -1 unknown
    length: IntArray  # (B,) tokens, the context token included
    bag_item: IntArray  # (N,) items of the steps
    bag_cell: IntArray  # (N,) b * T + t of the step that holds the item
    bag_slot: IntArray  # (N,) which of the history's distinct items it is
    seen: IntArray  # (B, U) distinct items, ascending, 0-padded
    last_item: IntArray  # (B,) item of the latest row that names one; 0 where none does or it is unknown
    steps: IntArray  # (B,) steps of the whole history, before it is cut to the longest one read
    past_owner: IntArray  # (P,) history of each known item in it, also of those too long ago to be read
    past_item: IntArray  # (P,)


class Reader:
    """Turns events into `Histories` with the vocabularies of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.items = {item: index for index, item in enumerate(bundle.item_ids, start=1)}
        self.events = {name: code for code, name in enumerate(bundle.vocabulary.event, start=1)}
        self.columns = bundle.manifest.context
        self.context = {
            column: {value: code for code, value in enumerate(values, start=1)}
            for column, values in bundle.vocabulary.context.items()
        }

    def read(self, histories: Sequence[Sequence[Event]]) -> Histories:
        """Histories of parsed events, in the order they come."""
        rows = [event for history in histories for event in history]
        sessions: dict[str, int] = {}
        return Histories(
            offsets=np.cumsum([0, *(len(history) for history in histories)], dtype=np.int64),
            event=np.array([self.events.get(e.event, 0) for e in rows], np.int64),
            item=np.array([self.items.get(e.item_id, 0) if e.item_id else 0 for e in rows], np.int64),
            names_item=np.array([bool(e.item_id) for e in rows], bool),
            time=np.array([to_microseconds(e.timestamp) for e in rows], np.int64),
            session=np.array(
                [sessions.setdefault(e.session_id, len(sessions)) if e.session_id else -1 for e in rows], np.int64
            ),
            context=self.context_codes([e.context for e in rows]),
        )

    def context_codes(self, contexts: Sequence[Mapping[str, str | None]]) -> IntArray:
        codes = np.zeros((len(contexts), len(self.columns)), np.int64)
        for column, name in enumerate(self.columns):
            known = self.context[name]
            codes[:, column] = [known.get(context.get(name) or "", 0) for context in contexts]
        return codes


def select(histories: Histories, begin: int, end: int) -> Histories:
    """Histories begin..end-1."""
    first, last = histories.offsets[begin], histories.offsets[end]
    rows = {name: getattr(histories, name)[first:last] for name in Histories._fields if name != "offsets"}
    return Histories(offsets=histories.offsets[begin : end + 1] - first, **rows)


def to_microseconds(timestamp: dt.datetime | int | None) -> int:
    """Microseconds since 1970 of a datetime (naive means UTC), or of epoch milliseconds; -1 for None."""
    if timestamp is None:
        return -1
    if isinstance(timestamp, int):
        return timestamp * 1000
    aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=dt.UTC)
    return (aware - EPOCH) // dt.timedelta(microseconds=1)


def to_inputs(histories: Histories, *, order_only: bool, gap_seconds: float, max_len: int) -> Inputs:
    """Cut histories into steps, keep the last `max_len` of each, and lay them out as tokens."""
    count = len(histories.offsets) - 1
    owner = np.repeat(np.arange(count), np.diff(histories.offsets))
    time = fill_forward(histories.time, owner)
    row = np.flatnonzero(histories.event != ENTRY_EVENT)
    step = step_numbers(histories, owner, time, row, order_only=order_only, gap_seconds=gap_seconds)
    opens = np.flatnonzero(np.diff(step, prepend=-1))  # place in `row` of each step's first row
    step_owner = owner[row[opens]]
    steps = np.bincount(step_owner, minlength=count)
    place = np.arange(len(opens)) - (np.cumsum(steps) - steps)[step_owner]  # of each step in its history
    hidden = np.maximum(steps - max_len, 0)
    token = place - hidden[step_owner] + 1  # below 1: too long ago to be read
    length = np.minimum(steps, max_len) + 1
    width = int(length.max(initial=1))
    event = np.zeros((count, width), np.int64)
    seconds = np.full((count, width), -1, np.int64)
    context = np.zeros((count, width, histories.context.shape[1]), np.int64)
    event[:, 0] = ENTRY_EVENT
    first = entry_rows(histories, owner, row)
    cut = (token == 1) & (hidden[step_owner] > 0)  # of a history cut short, the first step that is left
    first[step_owner[cut]] = row[opens[cut]]
    seconds[first >= 0, 0] = time[first[first >= 0]]
    context[first >= 0, 0] = histories.context[first[first >= 0]]
    read = token >= 1
    at = (step_owner[read], token[read])
    event[at], seconds[at] = histories.event[row[opens[read]]], time[row[opens[read]]]
    context[at] = histories.context[row[opens[read]]]
    entry_step = np.searchsorted(opens, np.arange(len(row)), side="right") - 1
    bag = (histories.item[row] > 0) & read[entry_step] if len(opens) else np.zeros(0, bool)
    bag_item, bag_owner = histories.item[row[bag]], owner[row[bag]]
    bag_cell = bag_owner * width + token[entry_step[bag]]
    seen, bag_slot = distinct(bag_owner, bag_item, count)
    return Inputs(
        event=event,
        context=context,
        time=np.where(seconds >= 0, seconds // 1_000_000, -1),
        length=length,
        bag_item=bag_item,
        bag_cell=bag_cell,
        bag_slot=bag_slot,
        seen=seen,
        last_item=last_items(histories, row[read[entry_step]] if len(opens) else row, owner),
        steps=steps,
        past_owner=owner[row[histories.item[row] > 0]],
        past_item=histories.item[row[histories.item[row] > 0]],
    )


def fill_forward(time: IntArray, owner: IntArray) -> IntArray:
    """A row without a time takes that of the latest row of its history that has one; -1 where none has."""
    source = np.maximum.accumulate(np.where(time >= 0, np.arange(len(time)), -1)) if len(time) else time
    found = (source >= 0) & (owner[source] == owner)
    return np.where(found, time[source], -1)


def step_numbers(
    histories: Histories, owner: IntArray, time: IntArray, row: IntArray, *, order_only: bool, gap_seconds: float
) -> IntArray:
    """Ascending step number of each event row: every row its own, or on order-only logs one per trip.

    A trip ends where the next receipt comes `gap_seconds` or more later, or, where times are unknown, where the
    session id changes.
    """
    if not order_only:
        return np.arange(len(row))
    before = np.maximum(np.arange(len(owner)) - 1, 0)
    timed = (histories.time >= 0) & (time[before] >= 0)
    idle = np.where(timed, time - time[before] >= gap_seconds * 1e6, histories.session != histories.session[before])
    cut = (owner != owner[before]) | idle
    trip = np.cumsum(cut)[row]
    return np.cumsum(np.diff(trip, prepend=trip[:1]) != 0) if len(row) else np.zeros(0, np.int64)


def entry_rows(histories: Histories, owner: IntArray, row: IntArray) -> IntArray:
    """The row each history's context token is taken from (B,); -1 for a history without rows.

    It is the `session_start` of the session that the first event belongs to: of the same session id, or where ids are
    unknown the last one before that event; else that event itself. Without events it is the latest `session_start`.
    """
    first = np.where(np.diff(histories.offsets) > 0, histories.offsets[1:] - 1, -1)
    opening = row[np.unique(owner[row], return_index=True)[1]]  # each history's first event
    first[owner[opening]] = opening
    entry = np.flatnonzero((histories.event == ENTRY_EVENT) & (histories.event[first[owner]] != ENTRY_EVENT))
    event = first[owner[entry]]
    ids = np.stack([histories.session[entry], histories.session[event]])
    before, same = (entry < event) & (ids < 0).any(axis=0), (ids[0] >= 0) & (ids[0] == ids[1])
    first[owner[entry[before]]] = entry[before]  # the last assignment wins
    first[owner[entry[same]][::-1]] = entry[same][::-1]
    return first


def distinct(owner: IntArray, item: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Distinct items of each history (B, U >= 1), ascending and 0-padded, and each entry's place among them."""
    width = int(item.max(initial=0)) + 1
    keys, inverse = np.unique(owner * width + item, return_inverse=True)
    sizes = np.bincount(keys // width, minlength=count)
    place = np.arange(len(keys)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    seen = np.zeros((count, max(int(sizes.max(initial=0)), 1)), np.int64)
    seen[keys // width, place] = keys % width
    return seen, place[inverse.reshape(-1)]


def last_items(histories: Histories, row: IntArray, owner: IntArray) -> IntArray:
    """The item of each history's last row that names one (B,), of the event rows `row` in time order."""
    last = np.zeros(len(histories.offsets) - 1, np.int64)
    named = row[histories.names_item[row]]
    last[owner[named]] = histories.item[named]  # the last assignment wins
    return last
