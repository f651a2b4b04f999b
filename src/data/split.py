"""Where the global time cuts fall, and which users are held out as strangers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import pandas as pd
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.sessions import SESSION_TIME, VISITOR_KEY
from shopkeeper.data.settings import SplitConfig

HELD_OUT = "held_out"
"""0 regular; else the split (VAL or TEST) whose strangers the user belongs to."""


@dataclass(frozen=True)
class Cuts:
    """Train is before `val_start`, validation before `test_start`, test up to and including `end`."""

    start: datetime
    val_start: datetime
    test_start: datetime
    end: datetime


def find_cuts(events: ir.Table, config: SplitConfig) -> Cuts:
    """Place the cuts by days from the end of the log, or by shares of its events in time order.

    Raises:
        UserError: when both or neither way is configured, or a window is left empty.
    """
    span = events.aggregate(start=_.timestamp.min(), end=_.timestamp.max()).execute().iloc[0]
    start, end = span["start"].to_pydatetime(), span["end"].to_pydatetime()
    days, shares = (config.val_days, config.test_days), (config.val_share, config.test_share)
    if None not in days and shares == (None, None):
        test_start = end - timedelta(days=float(days[1] or 0))
        val_start = test_start - timedelta(days=float(days[0] or 0))
    elif None not in shares and days == (None, None):
        val_start, test_start = share_cuts(events, float(shares[0] or 0), float(shares[1] or 0))
    else:
        raise UserError("data.split: set val_days and test_days, or val_share and test_share, and null the other pair")
    if not start < val_start < test_start <= end:
        raise UserError(
            f"data.split: the log runs from {start} to {end}; cuts at {val_start} and {test_start} leave a split "
            "empty: choose smaller validation and test windows"
        )
    return Cuts(start, val_start, test_start, end)


def share_cuts(events: ir.Table, val: float, test: float) -> tuple[datetime, datetime]:
    """Times of the events at ranks (1 - val - test) n and (1 - test) n, exact on every engine."""
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(f"data.split: val_share={val} and test_share={test} must be above 0 and sum to less than 1")
    total = int(events.count().execute())
    ordered = events.select(s.TIMESTAMP, s.ROW).mutate(
        rank=ibis.row_number().over(ibis.window(order_by=[s.TIMESTAMP, s.ROW]))
    )
    ranks = [int(total * (1 - val - test)), int(total * (1 - test))]
    found = ordered.filter(_.rank.isin(ranks)).order_by("rank").execute()[s.TIMESTAMP]
    if len(found) < 2:
        raise UserError(f"data.split: {total} events are too few to cut into train, val and test")
    return found.iloc[0].to_pydatetime(), found.iloc[1].to_pydatetime()


def new_share(events: ir.Table, cuts: Cuts) -> float:
    """Share of the visitors of validation and test who were never seen in train."""
    first = events.group_by(VISITOR_KEY).agg(first=_[SESSION_TIME].min(), last=_[SESSION_TIME].max())
    late = first.filter(_["last"] >= as_time(cuts.val_start))
    share = late.aggregate(share=(_["first"] >= as_time(cuts.val_start)).mean()).execute()["share"].iloc[0]
    return 1.0 if pd.isna(share) else float(share)


def with_holdout(visitors: ir.Table, config: SplitConfig, *, needed: bool) -> ir.Table:
    """Mark held-out users by a keyed hash of their id: the same user, the same side, on every engine and run.

    The first eight hex digits of md5(key:user) are a uniform number; the last digit halves the held-out users
    between validation and test. Visitors without a user id are never held out: each of their sessions is new.
    """
    if not needed or not config.holdout_share:
        return visitors.mutate(**{HELD_OUT: ibis.literal(s.TRAIN).cast("int8")})
    digest = (config.holdout_key + ":" + _[VISITOR_KEY]).hexdigest("md5")
    threshold = f"{round(config.holdout_share * 16**8):08x}"
    chosen = _[VISITOR_KEY].startswith("u:") & (digest.substr(0, 8) < threshold)
    half = ibis.ifelse(digest.substr(31, 1) < "8", s.VAL, s.TEST)
    return visitors.mutate(**{HELD_OUT: ibis.ifelse(chosen, half, s.TRAIN).cast("int8")})


def split_of(time: ir.Value, cuts: Cuts) -> ir.Value:
    """The split a session belongs to, by the time of its first event."""
    return ibis.cases(
        (time < as_time(cuts.val_start), s.TRAIN),
        (time < as_time(cuts.test_start), s.VAL),
        else_=s.TEST,
    ).cast("int8")


def as_time(moment: datetime) -> ir.Scalar:
    return ibis.literal(moment).cast("timestamp(6)")
