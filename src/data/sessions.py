"""Events -> visitors and sessions: who a row belongs to, and where one visit ends and the next begins."""

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.settings import DataConfig

VISITOR_KEY = "visitor_key"
SESSION_KEY = "session_key"
SESSION_TIME = "session_time"
SESSION_ROW = "session_row"


def is_order_only(events: ir.Table) -> bool:
    """True when every event is a purchase: then a step is a whole trip (`session_start` is context, no event)."""
    kinds = events.filter(_.event != s.SESSION_START).select(s.EVENT).distinct().limit(2).execute()
    return list(kinds[s.EVENT]) == [s.PURCHASE]


def with_visitors(events: ir.Table) -> ir.Table:
    """Name each row's visitor: its user, else the user seen in its session, else the session itself.

    Keys are prefixed (`u:`, `s:`) so that a user and a session of the same id stay two visitors.
    """
    by_session = (
        events.filter(_.user_id.notnull() & _.session_id.notnull()).group_by(s.SESSION).agg(owner=_.user_id.max())
    )
    joined = events.left_join(by_session, s.SESSION)
    user = ibis.coalesce(joined[s.USER], joined["owner"])
    key = ibis.ifelse(user.notnull(), "u:" + user, "s:" + joined[s.SESSION])
    return joined.mutate(**{VISITOR_KEY: key}).drop("owner", *[c for c in joined.columns if c.endswith("_right")])


def with_sessions(events: ir.Table, config: DataConfig, *, order_only: bool) -> ir.Table:
    """Add each row's session key, the time the session began, and its first source row.

    On order-only logs a visitor's receipts less than `receipt_gap_minutes` apart are one session. Elsewhere a
    session_id that comes in is kept, and rows without one are cut at `session_gap_minutes` of inactivity.
    """
    gap = config.receipt_gap_minutes if order_only else config.session_gap_minutes
    own_id = ibis.literal(False) if order_only else _.session_id.notnull()
    marked = events.mutate(has_id=own_id)
    timeline = ibis.window(group_by=[VISITOR_KEY, "has_id"], order_by=[s.TIMESTAMP, s.ROW])
    idle = microseconds(_.timestamp) - microseconds(_.timestamp).lag().over(timeline) >= int(gap * 60_000_000)
    marked = marked.mutate(opens=idle.fill_null(True).cast("int64"))
    running = ibis.window(group_by=[VISITOR_KEY, "has_id"], order_by=[s.TIMESTAMP, s.ROW], preceding=None, following=0)
    marked = marked.mutate(cut=_.opens.sum().over(running))
    key = ibis.ifelse(_.has_id, "i:" + _.session_id, "g:" + _.cut.cast("string"))
    keyed = marked.mutate(**{SESSION_KEY: key}).drop("has_id", "opens", "cut")
    whole = ibis.window(group_by=[VISITOR_KEY, SESSION_KEY])
    return keyed.mutate(**{SESSION_TIME: _.timestamp.min().over(whole), SESSION_ROW: _[s.ROW].min().over(whole)})


def microseconds(time: ir.Value) -> ir.Value:
    """Microseconds since 1970 (UTC), exact."""
    return time.delta(ibis.timestamp("1970-01-01"), unit="microsecond").cast("int64")
