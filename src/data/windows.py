"""Which rows each use of the data may see: train, the strangers and the known users of a split, or all for a refit."""

import numpy as np
import numpy.typing as npt

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window

BoolArray = npt.NDArray[np.bool_]


def train_window(prepared: Prepared, *, refit: bool = False) -> Window:
    """Rows before the train cut of everyone who is not held out; for a refit, every row of everyone.

    Raises:
        UserError: when no row is left to train on.
    """
    offsets = prepared.visitors["row_offsets"]
    if refit:
        window = Window(np.arange(len(offsets) - 1), offsets[:-1], offsets[1:])
    else:
        regular = prepared.visitors["held_out"] == s.TRAIN
        end = rows_before(prepared, prepared.cut("val_start"))
        window = Window(np.arange(len(offsets) - 1), offsets[:-1], end).only(regular)
    window = window.only(window.end > window.start)
    if not len(window):
        raise UserError("the train split is empty: choose smaller val and test windows in data.split")
    return window


def stranger_window(prepared: Prepared, split: int) -> Window:
    """Strangers of VAL or TEST: visitors first seen in the split, and those held out for it.

    A held-out user's history starts with the first session of the split; what came before is not visible. Who is
    held out for test is no stranger of validation, even when first seen there: nobody is a stranger twice.

    Raises:
        UserError: when the split has no strangers.
    """
    window = strangers(prepared, split)
    if not len(window):
        raise UserError(
            f"the {s.SPLITS[split]} split has no strangers with events: choose a larger window or hold out users "
            "(data.split.holdout_share) and prepare again"
        )
    return window


def strangers(prepared: Prepared, split: int) -> Window:
    """`stranger_window`, possibly of nobody."""
    offsets, hold_out = prepared.visitors["row_offsets"], np.asarray(prepared.visitors["held_out"])
    end = rows_before(prepared, split_end(prepared, split))
    new = (hold_out < split) & (first_split(prepared) == split)
    held_out = hold_out == split
    start = np.where(held_out, first_row_of(prepared, split), offsets[:-1])
    return Window(np.arange(len(offsets) - 1), start, end).only((new | held_out) & (end > start))


def known_window(prepared: Prepared, split: int) -> Window:
    """Known users with sessions in the split; their rows from the first, so that the past is visible."""
    offsets = prepared.visitors["row_offsets"]
    end = rows_before(prepared, split_end(prepared, split))
    known = (prepared.visitors["held_out"] == s.TRAIN) & (first_split(prepared) < split)
    active = first_row_of(prepared, split) < end
    return Window(np.arange(len(offsets) - 1), np.asarray(offsets[:-1]), end).only(known & active)


def split_end(prepared: Prepared, split: int) -> int:
    return prepared.cut("test_start") if split == s.VAL else np.iinfo(np.int64).max


def rows_before(prepared: Prepared, cut: int) -> IntArray:
    """For each visitor, the row after the last one earlier than `cut` (V,)."""
    offsets = prepared.visitors["row_offsets"]
    before = np.concatenate([[0], np.cumsum(prepared.rows["time"] < cut)])
    return np.asarray(offsets[:-1] + before[offsets[1:]] - before[offsets[:-1]])


def first_row_of(prepared: Prepared, split: int) -> IntArray:
    """For each visitor, its first row in a session of the split; the end of its rows where it has none (V,)."""
    offsets = prepared.visitors["row_offsets"]
    rows = np.append(np.flatnonzero(prepared.row_split == split), len(prepared.row_split))
    return np.asarray(np.minimum(rows[np.searchsorted(rows, offsets[:-1])], offsets[1:]))


def first_split(prepared: Prepared) -> npt.NDArray[np.int8]:
    """Split of each visitor's first session (V,); sessions are sorted by visitor and time."""
    visitor = np.asarray(prepared.sessions["visitor"])
    first = np.searchsorted(visitor, np.arange(len(prepared.visitors["held_out"])))
    return np.asarray(prepared.sessions["split"])[first]


def set_aside(prepared: Prepared) -> dict[str, int]:
    """Events that evaluation leaves out, by reason (a refit uses them): nobody is dropped silently."""
    offsets, hold_out = prepared.visitors["row_offsets"], np.asarray(prepared.visitors["held_out"])
    time, split = np.asarray(prepared.rows["time"]), prepared.row_split
    by_time = np.where(
        time < prepared.cut("val_start"), s.TRAIN, np.where(time < prepared.cut("test_start"), s.VAL, s.TEST)
    )
    start, end = np.array(offsets[1:]), np.array(offsets[1:])  # a held-out user without a window: all is before it
    for window in (strangers(prepared, s.VAL), strangers(prepared, s.TEST)):
        start[window.visitor], end[window.visitor] = window.start, window.end
    held = hold_out != s.TRAIN
    return {
        "event of a held-out user before its split": int((start - offsets[:-1])[held].sum()),
        "event of a held-out user after its split": int((offsets[1:] - end)[held].sum()),
        "event after the cut its session straddles": int(
            ((hold_out[prepared.rows["visitor"]] == s.TRAIN) & (by_time > split)).sum()
        ),
    }
