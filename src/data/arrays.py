"""Numbered tables -> the arrays and side tables of a prepared dataset."""

from pathlib import Path
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.engines import Engine
from shopkeeper.data.sessions import SESSION_TIME, VISITOR_KEY, microseconds
from shopkeeper.data.split import HELD_OUT, Cuts, split_of
from shopkeeper.data.writer import write_columns, write_offsets, write_table


class Numbered(NamedTuple):
    """What is written: tables with their numbers, and for each coded column its values and how many are of train."""

    rows: ir.Table
    sessions: ir.Table
    visitors: ir.Table
    items: ir.Table
    users: ir.Table | None
    context: list[str]
    vocab: dict[str, tuple[list[str], int]]
    cuts: Cuts


def write_dataset(engine: Engine, folder: Path, data: Numbered) -> dict[str, int]:
    """Write all arrays and side tables into `folder`; return the counts of the manifest."""
    codes = {c: code_table(engine, c, values) for c, (values, _known) in data.vocab.items()}
    num_visitors = int(data.visitors.count().execute())
    num_rows = write_rows(engine, folder, data, codes)
    write_offsets(folder / "rows" / "visitor.npy", folder / "visitors" / "row_offsets.npy", count=num_visitors)
    num_sessions = write_sessions(engine, folder, data, codes)
    held_out = data.visitors.order_by("visitor").select(**{HELD_OUT: _[HELD_OUT].cast("int8")})
    write_columns(engine, held_out, folder / "visitors", count=num_visitors)
    write_table(engine, named_visitors(data), folder / "visitors.parquet")
    columns = ["item", s.ITEM, s.TITLE, s.CATEGORY, s.BRAND, s.PRICE, "train_events", "listed"]
    write_table(engine, data.items.order_by("item").select(*columns), folder / "items.parquet")
    facts = data.items.aggregate(items=_.count(), known=_.known.cast("int64").sum()).execute().iloc[0]
    return {
        "events": num_rows,
        "session_starts": int(data.sessions.entry_rows.sum().execute() or 0),
        "sessions": num_sessions,
        "visitors": num_visitors,
        "items": int(facts["items"]),
        "items_known": int(facts["known"] or 0),
        "purchases": int(data.rows.filter(_.event == s.PURCHASE).count().execute()),
    }


def code_table(engine: Engine, column: str, values: list[str]) -> ir.Table:
    """Rows (value, code): the position from one."""
    codes = pa.array(range(1, len(values) + 1), pa.int32())
    return engine.put(f"codes_{column}", pa.table({column: pa.array(values, pa.string()), f"{column}_code": codes}))


def coded(table: ir.Table, codes: dict[str, ir.Table]) -> ir.Table:
    """The table with a column `<column>_code` for each coded column; null where a value has no code."""
    for column, values in codes.items():
        table = table.left_join(values, column).drop(f"{column}_right")
    return table


def context_codes(context: list[str]) -> dict[str, ir.Value]:
    return {f"context_{c}": _[f"{c}_code"].fill_null(s.PAD).cast("int32") for c in context}


def write_rows(engine: Engine, folder: Path, data: Numbered, codes: dict[str, ir.Table]) -> int:
    """Write a row per event, sorted by visitor, time and source row; return how many."""
    rows = data.rows.left_join(data.items.select(s.ITEM, "item"), s.ITEM).drop("item_id_right")
    ordered = (
        coded(rows, codes)
        .order_by(["visitor", s.TIMESTAMP, s.ROW])
        .select(
            visitor=_.visitor.cast("int32"),
            time=microseconds(_.timestamp),
            event=_.event_code.cast("int16"),
            item=_.item.fill_null(s.PAD).cast("int32"),
            session=_.session,
            order=_.order,
            **{name: _[name] for name in s.PROPERTIES},
            **context_codes(data.context),
        )
    )
    count = int(data.rows.count().execute())
    write_columns(engine, ordered, folder / "rows", count=count)
    return count


def write_sessions(engine: Engine, folder: Path, data: Numbered, codes: dict[str, ir.Table]) -> int:
    """Write a row per session: its visitor, the time and context it was entered with, and its split."""
    time = _[SESSION_TIME]
    ordered = (
        coded(data.sessions, {c: codes[c] for c in data.context})
        .order_by("session")
        .select(
            visitor=_.visitor,
            time=microseconds(time),
            split=split_of(time, data.cuts),
            **context_codes(data.context),
        )
    )
    count = int(data.sessions.count().execute())
    write_columns(engine, ordered, folder / "sessions", count=count)
    return count


def named_visitors(data: Numbered) -> ir.Table:
    """A row per visitor: number, key, user id where it is a user, and the segments of the users table."""
    user = ibis.ifelse(_[VISITOR_KEY].startswith("u:"), _[VISITOR_KEY].substr(2), ibis.null("string"))
    named = data.visitors.mutate(**{s.USER: user})
    if data.users is not None:
        named = named.left_join(data.users, s.USER).drop("user_id_right")
    return named.order_by("visitor").drop(HELD_OUT, "first_session")
