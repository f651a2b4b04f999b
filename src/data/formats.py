"""Named formats of public logs: each reshapes the raw tables of its log; the names are mapped in its YAML.

A reshape is made of Ibis expressions that every engine runs, and leaves `source_row` in each event table.
"""

from collections.abc import Callable

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.diginetica import diginetica
from shopkeeper.data.ga4 import ga4
from shopkeeper.data.log import RawLog, exploded
from shopkeeper.data.settings import DataConfig

Reshape = Callable[[RawLog, DataConfig], None]

LEVELS = 16
"""Of a category tree; what is deeper goes in circles."""
RECBOLE_ITEMS = {
    s.CATEGORY: ("category", "categories", "category_id", "genre", "class"),
    s.TITLE: ("title", "item_name", "name", "movie_title"),
}
"""What the public data sets in this format call what we know of items."""


def as_it_is(log: RawLog, config: DataConfig) -> None:
    """A log whose tables hold a row per event already."""


def otto(log: RawLog, config: DataConfig) -> None:
    """A line per session with the list of its events -> a row per event."""
    for feed in log.feeds.values():
        feed.require("session", "events")
        rows = exploded(feed.table, "events")
        event = rows.events
        feed.table = rows.select(
            **{
                s.ROW: rows[s.ROW],
                s.USER: rows.session,
                s.ITEM: event["aid"],
                s.TIMESTAMP: event["ts"],
                s.EVENT: event["type"],
            }
        )


def yoochoose(log: RawLog, config: DataConfig) -> None:
    """Zeros that stand for nothing become null: a click's category, and price and quantity of a buy of none."""
    clicks = log.feed("clicks", s.CATEGORY)
    clicks.table = clicks.table.mutate(category=_.category.nullif("0"))
    buys = log.feed("buys", s.PRICE, s.QUANTITY)
    nothing = (buys.table.quantity.try_cast("float64") == 0).fill_null(False)
    buys.table = buys.table.mutate(
        **{c: ibis.ifelse(nothing, ibis.null("string"), buys.table[c]) for c in (s.PRICE, s.QUANTITY)}
    )


def retailrocket(log: RawLog, config: DataConfig) -> None:
    """The catalogue: every item with a property, in the category it was recorded in first."""
    properties = log.extra("properties", "timestamp", "itemid", "property", "value")
    categories = properties.filter(_.property == "categoryid")
    since = ibis.window(group_by="itemid", order_by=[_.timestamp.try_cast("int64"), s.ROW])
    first = categories.mutate(again=ibis.row_number().over(since)).filter(_.again == 0).select("itemid", "value")
    known = paths(log.extra("category_tree", "categoryid", "parentid"))
    placed = first.left_join(known, first.value == known.category)
    placed = placed.select("itemid", category=ibis.coalesce(placed.path, placed.value))
    items = properties.select("itemid").distinct().left_join(placed, "itemid")
    log.items = items.select(**{s.ITEM: items.itemid, s.CATEGORY: items.category})


def paths(tree: ir.Table) -> ir.Table:
    """Each category of a tree (categoryid, parentid) with the path from its root; itself alone if that is a circle."""
    parents = tree.group_by("categoryid").agg(parent=_.parentid.nullif("").min())
    found = parents.select(category="categoryid", path="categoryid", above="parent")
    up = parents.select(at="categoryid", next="parent")
    for _level in range(LEVELS):
        joined = found.left_join(up.view(), [("above", "at")])
        longer = (joined.above + s.PATH).fill_null("") + joined.path  # named once: what is repeated doubles by level
        found = joined.select(category="category", path=longer, above="next")
    return found.select(category="category", path=ibis.ifelse(found.above.isnull(), found.path, found.category))


def dressipi(log: RawLog, config: DataConfig) -> None:
    """Items from their features: all of them as the title, and the one that most items have as the category."""
    features = log.extra("item_features", "item_id", "feature_category_id", "feature_value_id")
    labels = features.select(
        "item_id", kind="feature_category_id", label=_.feature_category_id + "=" + _.feature_value_id
    )
    spread = labels.group_by("kind").agg(n=_.item_id.nunique()).order_by(ibis.desc("n"), "kind").limit(1).execute()
    kind = str(spread["kind"].iloc[0])
    log.notes.append(f"data.extras.item_features: the category of an item is its feature {kind}, which most items have")
    log.items = labels.group_by("item_id").agg(
        title=_.label.collect().sort().join(" "), category=_.label.min(where=_.kind == kind)
    )


def recbole(log: RawLog, config: DataConfig) -> None:
    """Headers without their types, and the items' columns under our names where they are not mapped already."""
    for feed in log.feeds.values():
        feed.table = without_types(feed.table)
    log.users = without_types(log.users) if log.users is not None else None
    if log.items is None:
        return
    log.items = without_types(log.items)
    for ours, names in RECBOLE_ITEMS.items():
        mapped = config.item_columns.values()
        found = [name for name in names if name in log.items.columns and name not in mapped]
        if found and ours not in (*log.items.columns, *config.item_columns):
            log.items = log.items.rename({ours: found[0]})


def without_types(table: ir.Table) -> ir.Table:
    """Columns by the name before the colon: `item_id:token` -> `item_id`."""
    return table.rename({column.partition(":")[0]: column for column in table.columns if ":" in column})


FORMATS: dict[str, Reshape] = {
    "events": as_it_is,
    "otto": otto,
    "yoochoose": yoochoose,
    "retailrocket": retailrocket,
    "diginetica": diginetica,
    "dressipi": dressipi,
    "recbole": recbole,
    "ga4": ga4,
}
"""By `data.source`."""
