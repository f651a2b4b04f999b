"""Where the global time cuts fall, and which users are held out as strangers."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.coding import VISITOR_KEY
from shopkeeper.data.settings import SplitConfig, slices

Times = npt.NDArray[np.int64]
"""Microseconds since 1970 (UTC)."""

HELD_OUT = "held_out"
"""0 regular; else the split (VAL or TEST) whose strangers the user belongs to."""


@dataclass(frozen=True)
class Cuts:
    """Train is before `val_start`, validation before `test_start`, test up to and including `end`; in microseconds."""

    start: int
    val_start: int
    test_start: int
    end: int


def as_datetime(microseconds: int) -> datetime:
    """UTC, without saying so."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).replace(tzinfo=None)


def find_cuts(time: Times, session_time: Times, config: SplitConfig) -> Cuts:
    """Place the cuts by days from the end of the log, or by shares of its events in time order.

    Raises:
        UserError: when both or neither way is configured, or a window is left empty.
    """
    start = int(min(time.min(), session_time.min()))
    end = int(max(time.max(), session_time.max()))
    days, shares = (config.val_days, config.test_days), (config.val_share, config.test_share)
    if None not in days and shares == (None, None):
        test_start = end - int(timedelta(days=float(days[1] or 0)) / timedelta(microseconds=1))
        val_start = test_start - int(timedelta(days=float(days[0] or 0)) / timedelta(microseconds=1))
    elif None not in shares and days == (None, None):
        val_start, test_start = share_cuts(time, float(shares[0] or 0), float(shares[1] or 0))
    else:
        raise UserError("data.split: set val_days and test_days, or val_share and test_share, and null the other pair")
    if not start < val_start < test_start <= end:
        first, val, test, last = map(as_datetime, (start, val_start, test_start, end))
        raise UserError(
            f"data.split: the log runs from {first} to {last}; cuts at {val} and {test} leave a split "
            "empty: choose smaller validation and test windows"
        )
    return Cuts(start, val_start, test_start, end)


def share_cuts(time: Times, val: float, test: float) -> tuple[int, int]:
    """Times of the events at ranks (1 - val - test) n and (1 - test) n."""
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(f"data.split: val_share={val} and test_share={test} must be above 0 and sum to less than 1")
    ranks = [int(len(time) * (1 - val - test)), int(len(time) * (1 - test))]
    if ranks[0] == ranks[1]:
        raise UserError(f"data.split: {len(time)} events are too few to cut into train, val and test")
    ordered = np.partition(time, ranks)
    return int(ordered[ranks[0]]), int(ordered[ranks[1]])


def new_share(visitor: npt.NDArray[np.integer], session_time: Times, cuts: Cuts) -> float:
    """Share of the visitors of validation and test who were never seen in train; 1 where there are none.

    Both arrays are over the sessions, sorted by visitor and time.
    """
    opens = np.flatnonzero(np.diff(visitor, prepend=-1))
    last = session_time[np.append(opens[1:], len(visitor)) - 1]
    late = last >= cuts.val_start
    return float((session_time[opens] >= cuts.val_start)[late].mean()) if late.any() else 1.0


def with_holdout(visitors: ir.Table, config: SplitConfig, *, needed: bool) -> ir.Table:
    """Mark held-out users by a keyed hash of their id: the same user, the same side, on every engine and run.

    The first eight hex digits of md5(key:user) are a uniform number u in [0, 1); held out are the users of slice
    [f share, (f + 1) share) for fold f, so that the slices part the users. The last digit halves them between
    validation and test; folds beyond the last slice begin again with the halves changed over, so that over all folds
    everyone is once a stranger of each. Visitors without a user id are never held out: each of their sessions is new.
    """
    if not needed or not config.holdout_share:
        return visitors.mutate(**{HELD_OUT: ibis.literal(s.TRAIN).cast("int8")})
    digest = (config.holdout_key + ":" + _[VISITOR_KEY]).hexdigest("md5")
    again, part = divmod(config.fold, slices(config.holdout_share))
    low, high = (f"{round(n * config.holdout_share * 16**8):08x}" for n in (part, part + 1))
    number = digest.substr(0, 8)
    chosen = _[VISITOR_KEY].startswith("u:") & (number >= low)
    if len(high) == 8:  # else it is 1, above every number
        chosen &= number < high
    first, second = (s.TEST, s.VAL) if again else (s.VAL, s.TEST)
    half = ibis.ifelse(digest.substr(31, 1) < "8", first, second)
    return visitors.mutate(**{HELD_OUT: ibis.ifelse(chosen, half, s.TRAIN).cast("int8")})


def split_of(time: Times, cuts: Cuts) -> npt.NDArray[np.int8]:
    """The split a session belongs to, by the time of its first event (n,)."""
    return np.select([time < cuts.val_start, time < cuts.test_start], [s.TRAIN, s.VAL], s.TEST).astype(np.int8)
