"""Diginetica (CIKM Cup 2016): times put together from dates and milliseconds, and the items from two tables."""

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data.columns import microseconds
from shopkeeper.data.log import RawFeed, RawLog
from shopkeeper.data.settings import DataConfig

DAY = 86_400_000
"""Milliseconds."""
NAMES = {"sessionId": "session_id", "userId": "user_id", "itemId": "item_id", "ordernumber": "order_id"}
"""The copies of the data that go round spell the columns in two ways."""


def diginetica(log: RawLog, config: DataConfig) -> None:
    """Every event gets a time on its own date, at its distance from the others of its session.

    A purchase may come weeks after its session began: from a day on, it is a visit of its own of the same visitor.
    """
    feeds = [log.feed("views"), log.feed("purchases")]
    for feed in feeds:
        feed.table = one_spelling(feed)
    begun = sessions(ibis.union(*(feed.table.select("session_id", "user_id", "day", "since") for feed in feeds)))
    for feed in feeds:
        rows = feed.table.left_join(begun, feed.table.session_id == begun.id)
        late = rows.since.fill_null(0) >= DAY
        as_written = rows.eventdate + " + " + rows.timeframe  # is reported where it makes no time
        feed.table = rows.mutate(
            timestamp=ibis.coalesce((rows.start + rows.since).cast("string"), as_written),
            user_id=ibis.coalesce(rows.user_id, rows.owner, "session " + rows.session_id),
            session_id=ibis.ifelse(late, rows.session_id + "/" + rows.eventdate, rows.session_id),
        ).drop("day", "since", "timeframe", "eventdate", "id", "start", "owner")
    log.items = catalogue(log)


def one_spelling(feed: RawFeed) -> ir.Table:
    """An event table with `day` (its date) and `since` (from the session's begin) in milliseconds, null if unreadable.

    Raises:
        UserError: when it lacks a column.
    """
    feed.table = feed.table.rename({ours: c for c, ours in NAMES.items() if c in feed.table.columns})
    feed.require("session_id", "user_id", "item_id", "timeframe", "eventdate")
    day = _.eventdate.try_cast("date").cast("timestamp(6)")
    return feed.table.mutate(
        user_id=_.user_id.nullif("NA").nullif(""),
        session_id=_.session_id.nullif(""),
        day=(microseconds(day) / 1000).cast("int64"),
        since=_.timeframe.try_cast("int64"),
    )


def sessions(events: ir.Table) -> ir.Table:
    """Each session (`id`) with a user seen in it (`owner`) and when it began (`start`, milliseconds since 1970).

    All that is known: an event lies on its date, so its session began in the day from (date - since) on. Of the times
    that all its events allow, the begin is the last midnight, without one the first.
    """
    spans = events.group_by(id=_.session_id).agg(
        owner=_.user_id.max(), first=(_.day - _.since).max(), end=(_.day - _.since).min() + DAY
    )
    midnight = ((_.end - 1) / DAY).floor().cast("int64") * DAY
    return spans.select("id", "owner", start=ibis.ifelse(midnight >= _.first, midnight, _.first))


def catalogue(log: RawLog) -> ir.Table:
    """Items with their category; with name tokens and price where `products` is there."""
    categories = log.extra("categories", "itemId", "categoryId").select(item_id="itemId", category="categoryId")
    if "products" not in log.extras:
        return categories
    products = log.extra("products", "itemId", "pricelog2", "product.name.tokens")
    price = ibis.literal(2.0) ** products.pricelog2.try_cast("float64")
    told = products.select(
        item_id="itemId", title=products["product.name.tokens"].replace(",", " "), price=price.round(2)
    )
    both = categories.outer_join(told, "item_id")
    return both.select("category", "title", "price", item_id=ibis.coalesce(both["item_id"], both["item_id_right"]))
