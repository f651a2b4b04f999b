"""Clean events -> sorted rows of numbers: ids and names get codes, and a row says nothing that is not a number."""

from pathlib import Path
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.columns import microseconds
from shopkeeper.data.engines import Engine
from shopkeeper.data.writer import write_columns

VISITOR_KEY = "visitor_key"
FEW = 32
"""Values."""


class Coded(NamedTuple):
    """What the codes of the sorted rows stand for; codes are given in the order of the names, and 0 is none.

    `visitors` (visitor_key, visitor from 0) and `items` (item_id, code) are tables of the engine; `values` are those of
    `event` and of each context column, by code from 1. `rows` is the number of rows.
    """

    visitors: ir.Table
    items: ir.Table
    values: dict[str, list[str]]
    rows: int


def code_events(
    engine: Engine, events: ir.Table, context: list[str], properties: tuple[str, ...], folder: Path
) -> Coded:
    """Write the events into `folder` as arrays sorted by visitor, time and source row.

    Arrays: visitor, time (microseconds UTC), event, item, context_<column>, the given properties, and session_id and
    order_id where the log has any.
    """
    events, visitors = with_visitors(engine, events)
    ids = {c: dictionary(engine, events, c) for c in (s.ITEM, s.SESSION, s.ORDER)}
    there = [c for c, table in ids.items() if c == s.ITEM or int(table.count().execute())]
    values = vocabularies(events, [s.EVENT, *context])
    coded = events
    for column in there:
        coded = coded.left_join(ids[column], column).drop(f"{column}_right")
    for column, names in values.items():
        coded = with_codes(engine, coded, column, names)
    ordered = coded.order_by([code(VISITOR_KEY), s.TIMESTAMP, s.ROW]).select(
        visitor=_[code(VISITOR_KEY)] - 1,
        time=microseconds(_[s.TIMESTAMP]),
        event=_[code(s.EVENT)].cast("int16"),
        **{"item" if c == s.ITEM else c: _[code(c)].fill_null(s.PAD) for c in there},
        **{name: _[name] for name in properties},
        **{f"context_{c}": _[code(c)].fill_null(s.PAD) for c in context},
    )
    count = int(events.count().execute())
    write_columns(engine, ordered, folder, count=count)
    numbered = visitors.select(VISITOR_KEY, visitor=(_[code(VISITOR_KEY)] - 1).cast("int32"))
    return Coded(numbered, ids[s.ITEM].select(s.ITEM, code=_[code(s.ITEM)]), values, count)


def code(column: str) -> str:
    """Name of the column with the codes of another one."""
    return f"{column}_code"


def with_visitors(engine: Engine, events: ir.Table) -> tuple[ir.Table, ir.Table]:
    """Code each row's visitor: its user, else the user seen in its session, else the session itself.

    Returns the events with the code, and the visitors by key; keys are prefixed (`u:`, `s:`) so that a user and a
    session of the same id stay two visitors.
    """
    if not int(events.filter(_[s.USER].isnull()).count().execute()):
        users = dictionary(engine, events, s.USER)
        visitors = users.mutate(**{VISITOR_KEY: "u:" + _[s.USER], code(VISITOR_KEY): _[code(s.USER)]})
        coded = events.join(users, s.USER)
        return coded.rename({code(VISITOR_KEY): code(s.USER)}), visitors.drop(s.USER, code(s.USER))
    keyed = with_keys(events)
    visitors = dictionary(engine, keyed, VISITOR_KEY)
    return keyed.join(visitors, VISITOR_KEY), visitors


def with_keys(events: ir.Table) -> ir.Table:
    """Name each row's visitor."""
    named = events.filter(_[s.USER].notnull() & _[s.SESSION].notnull())
    owners = named.group_by(s.SESSION).agg(owner=_[s.USER].max())
    joined = events.left_join(owners, s.SESSION).drop(f"{s.SESSION}_right")
    user = ibis.coalesce(_[s.USER], _.owner)
    return joined.mutate(**{VISITOR_KEY: ibis.ifelse(user.notnull(), "u:" + user, "s:" + _[s.SESSION])}).drop("owner")


def with_codes(engine: Engine, table: ir.Table, column: str, names: list[str]) -> ir.Table:
    """The table with the code of a column; few values are told apart one by one, which is faster than a join."""
    if len(names) <= FEW:
        places = [(name, ibis.literal(place, "int32")) for place, name in enumerate(names, start=1)]
        found = table[column].cases(*places, else_=ibis.null("int32")) if places else ibis.null("int32")
        return table.mutate(**{code(column): found})
    codes = pa.array(range(1, len(names) + 1), pa.int32())
    values = engine.put(f"codes_{column}", pa.table({column: pa.array(names, pa.string()), code(column): codes}))
    return table.left_join(values, column).drop(f"{column}_right")


def dictionary(engine: Engine, events: ir.Table, column: str) -> ir.Table:
    """The distinct values of a column and their codes (int32), from 1 in their order."""
    values = events.filter(_[column].notnull()).select(column).distinct()
    place = ibis.row_number().over(ibis.window(order_by=column)) + 1
    return engine.store(f"dictionary_{column}", values.mutate(**{code(column): place.cast("int32")}))


def vocabularies(events: ir.Table, columns: list[str]) -> dict[str, list[str]]:
    """The values of some columns in the order of their codes; `session_start` opens that of the events."""
    found = events.aggregate(**{c: _[c].collect(distinct=True) for c in columns}).execute().iloc[0]
    values = {c: sorted(str(value) for value in found[c]) if found[c] is not None else [] for c in columns}
    values[s.EVENT] = [s.SESSION_START, *(name for name in values[s.EVENT] if name != s.SESSION_START)]
    return values
