"""Visitors, sessions, orders and items get their numbers, in an order that every engine agrees on."""

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.sessions import SESSION_KEY, SESSION_ROW, SESSION_TIME, VISITOR_KEY
from shopkeeper.data.settings import SplitConfig
from shopkeeper.data.split import HELD_OUT, Cuts, as_time, with_holdout


def number_visitors(events: ir.Table, split: SplitConfig, *, needed: bool) -> ir.Table:
    """Visitors numbered from 0 in the order of their key, with the hold-out they fall in."""
    keys = events.group_by(VISITOR_KEY).agg(first_session=_[SESSION_TIME].min())
    marked = with_holdout(keys, split, needed=needed)
    return marked.mutate(visitor=ibis.row_number().over(ibis.window(order_by=VISITOR_KEY)).cast("int32"))


def number_sessions(events: ir.Table, visitors: ir.Table, context: list[str]) -> ir.Table:
    """Sessions numbered from 0 by visitor and time, each with the context it was entered with.

    The entry is the `session_start` row where there is one, else the session's first event.
    """
    starts = (_.event == s.SESSION_START).cast("int64")
    whole = ibis.window(group_by=[VISITOR_KEY, SESSION_KEY])
    entry = ibis.window(group_by=[VISITOR_KEY, SESSION_KEY], order_by=[1 - starts, s.TIMESTAMP, s.ROW])
    first = events.mutate(entry_rows=starts.sum().over(whole), again=ibis.row_number().over(entry))
    first = first.filter(_.again == 0)
    first = first.select(VISITOR_KEY, SESSION_KEY, SESSION_TIME, SESSION_ROW, "entry_rows", *context)
    grouped = first.join(visitors.select(VISITOR_KEY, "visitor", HELD_OUT), VISITOR_KEY)
    order = ibis.window(order_by=["visitor", SESSION_TIME, SESSION_ROW])
    return grouped.mutate(session=ibis.row_number().over(order).cast("int32"))


def join_rows(events: ir.Table, visitors: ir.Table, sessions: ir.Table, cuts: Cuts, *, order_only: bool) -> ir.Table:
    """Rows that are events (not `session_start`), with their visitor, session and order numbers.

    An order is the purchases of one order_id, without one those of the session; on order-only logs it is the trip.
    `fitted` marks the rows of train: before the first cut, and of a visitor who is not held out.
    """
    rows = events.filter(_.event != s.SESSION_START)
    rows = rows.join(visitors.select(VISITOR_KEY, "visitor", HELD_OUT), VISITOR_KEY)
    keys = sessions.select("visitor", SESSION_KEY, "session")
    rows = rows.join(keys, ["visitor", SESSION_KEY]).drop(SESSION_KEY, VISITOR_KEY)
    rows = rows.mutate(fitted=(_.timestamp < as_time(cuts.val_start)) & (_[HELD_OUT] == s.TRAIN))
    session_key = "s:" + _.session.cast("string")
    order_key = session_key if order_only else ibis.coalesce("o:" + _.order_id, session_key)
    rows = rows.mutate(order_key=ibis.ifelse(_.event == s.PURCHASE, order_key, ibis.null("string")))
    first = ibis.window(group_by=["visitor", "order_key"], order_by=[s.TIMESTAMP, s.ROW])
    rows = rows.mutate(order_time=_.timestamp.first().over(first), order_row=_[s.ROW].first().over(first))
    rank = ibis.dense_rank().over(ibis.window(order_by=["visitor", "order_time", "order_row"]))
    purchases = rows.filter(_.order_key.notnull()).mutate(order=rank.cast("int32"))
    others = rows.filter(_.order_key.isnull()).mutate(order=ibis.literal(-1).cast("int32"))
    return purchases.union(others).drop("order_key", "order_time", "order_row")


def number_items(rows: ir.Table, items: ir.Table | None, *, listed: bool) -> ir.Table:
    """The catalogue, numbered from 1: first every item known at the train cut, then those that came later.

    Known is every item of a fitted row, and every row of `items` where these are `listed`: sold or not. That the
    known items are a prefix lets one numbering serve the evaluated model (the prefix) and the refitted one (all).
    """
    seen = (
        rows.filter(_.item_id.notnull())
        .group_by(s.ITEM)
        .agg(train_events=_.fitted.cast("int64").sum(), events=_.count())
    )
    if items is None:
        joined = seen.mutate(
            listed=ibis.literal(False),
            **{c: ibis.null("string") for c in (s.TITLE, s.CATEGORY, s.BRAND)},
            price=ibis.null("float64"),
        )
    else:
        side = items.mutate(listed=ibis.literal(listed))
        side = side.mutate(**{c: ibis.null("string") for c in (s.TITLE, s.CATEGORY, s.BRAND) if c not in side.columns})
        side = side if s.PRICE in side.columns else side.mutate(price=ibis.null("float64"))
        joined = seen.outer_join(side.select(s.ITEM, s.TITLE, s.CATEGORY, s.BRAND, s.PRICE, "listed"), s.ITEM)
        joined = joined.mutate(item_id=ibis.coalesce(joined.item_id, joined.item_id_right)).drop("item_id_right")
        joined = joined.mutate(
            train_events=_.train_events.fill_null(0), events=_.events.fill_null(0), listed=_.listed.fill_null(False)
        )
    known = joined.mutate(known=_.listed | (_.train_events > 0))
    order = ibis.window(order_by=[ibis.desc("known"), s.ITEM])
    return known.mutate(item=(ibis.row_number().over(order) + 1).cast("int32"))


def vocabulary(column: str, *tables: ir.Table) -> tuple[list[str], int]:
    """Values of a column in any of the tables, those of train first and each group by name, and how many are of train.

    A value's code is its position plus one. The event vocabulary opens with `session_start`.
    """
    found = ibis.union(*(table.select(column, "fitted") for table in tables)) if len(tables) > 1 else tables[0]
    values = found.filter(_[column].notnull()).group_by(column).agg(known=_.fitted.max()).execute()
    values = values.sort_values(["known", column], ascending=[False, True])
    names, known = values[column].tolist(), int(values["known"].sum())
    return ([s.SESSION_START, *names], known + 1) if column == s.EVENT else (names, known)
