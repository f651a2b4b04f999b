"""Google Analytics 4's BigQuery export: nested events -> a row per item, who did it, and how they came."""

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.log import RawFeed, RawLog, exploded
from shopkeeper.data.settings import DataConfig

NEEDED = ("event_timestamp", "event_name", "event_params", "user_pseudo_id")
NOTHING = ("", "(not set)", "(data deleted)")
"""What the export writes where there is no value, the last where Google masked it."""
CATEGORIES = ("item_category", *(f"item_category{level}" for level in range(2, 6)))
KEPT = "\u241f"
"""Stands in for a slash between spaces, which is of a name: "Men's / Unisex"."""
PSEUDO = "user_pseudo_id"


def ga4(log: RawLog, config: DataConfig) -> None:
    """Explode the items of each event, and tie the ids of browsers to the users that logged in on them.

    Raises:
        UserError: when a table is not the nested export.
    """
    for feed in log.feeds.values():
        feed.require(*NEEDED)
    if log.identities is None:
        pairs = [logins(feed.table) for feed in log.feeds.values()]
        log.identities = ibis.union(*pairs, distinct=True) if len(pairs) > 1 else pairs[0]
    for feed in log.feeds.values():
        nested = feed.table
        feed.table = rows_of(nested)
        log.notes.append(account(feed, nested))


def logins(events: ir.Table) -> ir.Table:
    """Pairs (alias, user_id) of a browser's id and a user's, from events that tell both."""
    pairs = events.select(**{s.ALIAS: events[PSEUDO].cast("string"), s.USER: text(events, s.USER)})
    return pairs.filter(_[s.ALIAS].notnull() & _[s.USER].notnull()).distinct()


def account(feed: RawFeed, nested: ir.Table) -> str:
    events, rows = (int(table.count().execute()) for table in (nested, feed.table))
    return f"{feed.config.events}: {events:,} events hold {rows:,} rows, one for each item"


def rows_of(events: ir.Table) -> ir.Table:
    """A row per item of an event, or one without an item where it has none, under our names."""
    listed = "items" in events.columns and isinstance(events["items"], ir.ArrayValue)
    rows = exploded(events, "items", keep_empty=True) if listed else events
    session = parameter(rows, "ga_session_id")
    return rows.select(
        **{
            s.ROW: rows[s.ROW],
            s.TIMESTAMP: rows.event_timestamp,
            s.EVENT: rows.event_name,
            s.USER: ibis.coalesce(text(rows, s.USER), rows[PSEUDO].cast("string").nullif("")),
            s.SESSION: rows[PSEUDO].cast("string") + "." + session,
            s.ORDER: text(rows, "ecommerce", "transaction_id"),
            s.ITEM: text(rows, "items", "item_id"),
            s.TITLE: text(rows, "items", "item_name"),
            s.BRAND: text(rows, "items", "item_brand"),
            s.CATEGORY: category(rows),
            s.PRICE: part(rows, "items", "price").cast("float64"),
            s.QUANTITY: part(rows, "items", "quantity").cast("float64"),
            "device": text(rows, "device", "category"),
            "country": text(rows, "geo", "country"),
            "channel": text(rows, "traffic_source", "medium"),
            "source": text(rows, "traffic_source", "source"),
            "consent": text(rows, "privacy_info", "analytics_storage").lower().nullif("unset"),
        }
    )


def part(rows: ir.Table, column: str, *names: str) -> ir.Value:
    """A value inside a column; null where the export has no such field."""
    if column not in rows.columns:
        return ibis.null("string")
    value: ir.Value = rows[column]
    for name in names:
        if not isinstance(value, ir.StructValue) or name not in value.names:
            return ibis.null("string")
        value = value[name]
    return value


def text(rows: ir.Table, column: str, *names: str) -> ir.StringValue:
    """A value as text, null where it says that there is none."""
    value = part(rows, column, *names).cast("string")
    return ibis.ifelse(value.isin(NOTHING), ibis.null("string"), value)


def parameter(rows: ir.Table, key: str) -> ir.Value:
    """A whole number among the parameters of an event, as text; null where it has none."""
    found = rows.event_params.filter(lambda entry: entry["key"] == key)
    return found.map(lambda entry: entry["value"]["int_value"]).maxs().cast("int64").cast("string")


def category(rows: ir.Table) -> ir.Value:
    """The path of an item's categories; some shops write all of it into the first: "Home/Apparel/Hats/"."""
    first, *finer = (text(rows, "items", name) for name in CATEGORIES)
    whole = first.replace(" / ", KEPT).re_replace("/+$", "").replace("/", s.PATH).replace(KEPT, " / ")
    levels = [ibis.ifelse(first.endswith("/"), whole, first), *finer]
    path = ibis.array(levels).filter(lambda level: level.notnull()).join(s.PATH)
    return path.nullif("")
