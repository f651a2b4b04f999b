"""Raw log -> prepared dataset: the pipeline, written once as Ibis expressions and run out of core by DuckDB."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis import _
from ibis.backends.duckdb import Backend

from shopkeeper import __version__
from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.log import places
from shopkeeper.data.prepared import FORMAT_VERSION, MANIFEST, Prepared
from shopkeeper.data.sessions import (
    SESSION_KEY,
    SESSION_ROW,
    SESSION_TIME,
    VISITOR_KEY,
    is_order_only,
    microseconds,
    with_sessions,
    with_visitors,
)
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.sources import Source, read_source, relabel_users
from shopkeeper.data.split import HELD_OUT, Cuts, as_time, find_cuts, new_share, split_of, with_holdout
from shopkeeper.data.tables import reading
from shopkeeper.data.writer import content_hash, write_columns, write_offsets

Say = Callable[[str], None]


def prepare(config: PrepareConfig, *, say: Say = print) -> Prepared:
    """Make the prepared dataset at `config.output`, or reuse it when the log and the config are unchanged.

    The folder appears whole or not at all: it is written beside its place and renamed at the end.
    """
    output = Path(config.output)
    partial = output.with_name(f"{output.name}.partial")
    clear_place(output, partial)
    con = connect(config, partial)
    try:
        with reading(*places(config.data)):
            return make(con, config, output, partial, say)
    finally:
        con.disconnect()
        shutil.rmtree(partial, ignore_errors=True)


def make(con: Backend, config: PrepareConfig, output: Path, partial: Path, say: Say) -> Prepared:
    """Reuse what is at `output`, or build in `partial` and move it there."""
    source = read_source(con, config.data)
    if source.users is not None:
        source.users = relabel_users(source.users, config.data.relabel)
    key = source_key(config, source)
    found = reusable(output, key)
    if found is not None:
        say(f"reusing {output}: same log, same config")
        return found
    say(f"preparing {config.data.source}: {source.rows:,} rows")
    manifest = build(con, source, config, partial, say) | {"source_key": key}
    con.disconnect()
    for leftover in partial.glob("work.duckdb*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    replace_folder(partial, output)
    return Prepared.read(output)


def clear_place(output: Path, partial: Path) -> None:
    """Clear what a killed run left behind, and refuse to write over a folder that is not ours."""
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).exists():
        raise UserError(f"output={output} exists and is not a prepared dataset; choose another folder")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def connect(config: PrepareConfig, folder: Path) -> Backend:
    threads = config.threads or os.cpu_count() or 1
    return ibis.duckdb.connect(
        folder / "work.duckdb",
        memory_limit=config.memory_limit,
        threads=threads,
        temp_directory=str(folder / "work.duckdb.tmp"),
    )


def source_key(config: PrepareConfig, source: Source) -> str:
    """Fingerprint of everything the result depends on: config, files (path, size, time of change), version."""
    files = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in source.files]
    parts = [asdict(config.data), files, __version__, FORMAT_VERSION, uuid.uuid4().hex if source.live else ""]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def reusable(output: Path, key: str) -> Prepared | None:
    """What was prepared from the same log with the same config before, if it is whole."""
    try:
        prepared = Prepared.read(output)
    except UserError:
        return None
    return prepared if prepared.manifest.get("source_key") == key else None


def replace_folder(new: Path, place: Path) -> None:
    """Put `new` at `place`; what was there goes only after the new folder is complete."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def build(con: Backend, source: Source, config: PrepareConfig, folder: Path, say: Say) -> dict[str, Any]:
    """Run the pipeline and write every array; return the manifest."""
    events, dropped = clean(con, source, drop_duplicates=config.data.drop_duplicates)
    order_only = is_order_only(events)
    say("cutting sessions" + (" (order-only log: a trip is one step)" if order_only else ""))
    events = con.create_table("sessioned", with_sessions(with_visitors(events), config.data, order_only=order_only))
    cuts = find_cuts(events, config.data.split)
    fresh = new_share(events, cuts)
    holdout = fresh < config.data.split.holdout_when_new_below
    visitors = con.create_table("visitors", number_visitors(events, config, cuts, needed=holdout))
    sessions = con.create_table("sessions", number_sessions(events, visitors, source.context))
    rows = con.create_table("rows", join_rows(events, visitors, sessions, cuts, order_only=order_only))
    items = con.create_table("items", number_items(rows, source.items, listed=source.items_are_listed))
    entries = sessions.mutate(fitted=(_[SESSION_TIME] < as_time(cuts.val_start)) & (_[HELD_OUT] == s.TRAIN))
    vocab = {s.EVENT: vocabulary(s.EVENT, rows)} | {c: vocabulary(c, rows, entries) for c in source.context}
    say("writing arrays")
    counts = write(con, folder, source, rows, sessions, visitors, items, vocab, cuts, order_only)
    counts |= {"rows_in": source.rows, "rows_dropped": sum(dropped.values())}
    check_account(counts)
    return {
        "format_version": FORMAT_VERSION,
        "shopkeeper_version": __version__,
        "source": config.data.source,
        "config": asdict(config.data),
        "order_only": order_only,
        "receipt_gap_minutes": config.data.receipt_gap_minutes,
        "horizon_days": config.data.horizon_days,
        "context": source.context,
        "cuts": {name: str(moment) for name, moment in vars(cuts).items()},
        "new_share": round(fresh, 6),
        "holdout": holdout and config.data.split.holdout_share > 0,
        "vocab": {c: {"values": values, "known": known} for c, (values, known) in vocab.items()},
        "segments": segment_columns(source),
        "counts": counts,
        "dropped": dropped,
        "notes": source.notes + odd_times(events),
        "content_hash": content_hash(folder),
    }


def segment_columns(source: Source) -> list[str]:
    return [c for c in source.users.columns if c != s.USER] if source.users is not None else []


def clean(con: Backend, source: Source, *, drop_duplicates: bool) -> tuple[ir.Table, dict[str, int]]:
    """Keep rows that have a time, an event and a visitor; count the others by reason.

    Rows that say the same as an earlier one in every column are dropped, or kept and counted in a note.

    Raises:
        UserError: when nothing is left.
    """
    reason = ibis.cases(
        (_.timestamp.isnull(), "no timestamp"),
        (_.event.isnull(), "no event"),
        (_.user_id.isnull() & _.session_id.isnull(), "neither user_id nor session_id"),
        else_=ibis.null("string"),
    )
    said = [column for column in source.events.columns if column != s.ROW]
    again = ibis.row_number().over(ibis.window(group_by=said, order_by=s.ROW)) > 0
    repeated = source.events.mutate(reason=reason).mutate(again=again & _.reason.isnull())
    if drop_duplicates:
        repeated = repeated.mutate(reason=ibis.ifelse(_.again, "exact duplicate of an earlier row", _.reason))
    marked = con.create_table("marked", repeated)
    if not drop_duplicates:
        count = int(marked.again.sum().execute() or 0)
        if count:
            source.notes.append(
                f"{count:,} rows repeat an earlier one in every column; data.drop_duplicates=true drops them"
            )
    marked = marked.drop("again")
    found = marked.filter(_.reason.notnull()).group_by("reason").agg(n=_.count()).order_by("reason").execute()
    dropped = source.dropped | dict(zip(found["reason"], found["n"].astype(int), strict=True))
    kept = marked.filter(_.reason.isnull()).drop("reason")
    if not int(kept.count().execute()):
        raise UserError(f"no event is left of {source.rows:,} rows: {dropped or 'the log is empty'}")
    if not int(kept.filter(_.event != s.SESSION_START).count().execute()):
        raise UserError(f"the log holds {s.SESSION_START} rows alone: there is nothing to learn from")
    return kept, {reason: int(n) for reason, n in dropped.items()}


def odd_times(events: ir.Table) -> list[str]:
    """What a wrong clock or unit leaves in a log: events that have not happened yet, or before there were shops."""
    now, shops = datetime.now(UTC).replace(tzinfo=None), datetime(1990, 1, 1)
    time = events[s.TIMESTAMP]
    found = events.aggregate(late=(time > now).sum(), last=time.max(), early=(time < shops).sum(), first=time.min())
    late, last, early, first = found.execute().iloc[0]
    remedy = "check their clock or unit, as the cuts between train, val and test go by time"
    return [
        f"{int(count):,} events lie {where} {most:%Y-%m-%d %H:%M}: {remedy}"
        for count, where, most in ((late, "in the future, until", last), (early, "before 1990, from", first))
        if count
    ]


def number_visitors(events: ir.Table, config: PrepareConfig, cuts: Cuts, *, needed: bool) -> ir.Table:
    """Visitors numbered from 0 in the order of their key, with the hold-out they fall in."""
    keys = events.group_by(VISITOR_KEY).agg(first_session=_[SESSION_TIME].min())
    marked = with_holdout(keys, config.data.split, needed=needed)
    return marked.mutate(visitor=ibis.row_number().over(ibis.window(order_by=VISITOR_KEY)).cast("int32"))


def number_sessions(events: ir.Table, visitors: ir.Table, context: list[str]) -> ir.Table:
    """Sessions numbered from 0 by visitor and time, each with the context it was entered with.

    The entry is the `session_start` row where there is one, else the session's first event.
    """
    entry = [_.event != s.SESSION_START, _.timestamp, _[s.ROW]]
    first = {c: _[c].first(order_by=entry, include_null=True) for c in context}
    joined = events.join(visitors.select(VISITOR_KEY, "visitor", HELD_OUT), VISITOR_KEY)
    grouped = joined.group_by("visitor", HELD_OUT, VISITOR_KEY, SESSION_KEY, SESSION_TIME, SESSION_ROW).agg(
        entry_rows=(_.event == s.SESSION_START).sum(), **first
    )
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


def write(
    con: Backend,
    folder: Path,
    source: Source,
    rows: ir.Table,
    sessions: ir.Table,
    visitors: ir.Table,
    items: ir.Table,
    vocab: dict[str, tuple[list[str], int]],
    cuts: Cuts,
    order_only: bool,
) -> dict[str, int]:
    """Write the arrays and side tables; return the counts of the manifest."""
    codes = {c: con.create_table(f"codes_{c}", code_table(values, c)) for c, (values, _known) in vocab.items()}
    coded = rows.left_join(items.select(s.ITEM, "item"), s.ITEM).drop("item_id_right")
    for column, table in codes.items():
        coded = coded.left_join(table, column).drop(f"{column}_right")
    context = {f"context_{c}": _[f"{c}_code"].fill_null(s.PAD).cast("int32") for c in source.context}
    ordered = coded.order_by(["visitor", s.TIMESTAMP, s.ROW]).select(
        visitor=_.visitor.cast("int32"),
        time=microseconds(_.timestamp),
        event=_.event_code.cast("int16"),
        item=_.item.fill_null(s.PAD).cast("int32"),
        session=_.session,
        order=_.order,
        **{name: _[name].round(6).cast("float64") for name in s.PROPERTIES},
        **context,
    )
    num_rows, num_visitors = int(rows.count().execute()), int(visitors.count().execute())
    write_columns(con, ordered, folder / "rows", count=num_rows)
    write_offsets(folder / "rows" / "visitor.npy", folder / "visitors" / "row_offsets.npy", count=num_visitors)
    num_sessions = write_sessions(con, folder, sessions, codes, source, cuts)
    write_columns(con, visitors.order_by("visitor").select(HELD_OUT), folder / "visitors", count=num_visitors)
    users = source.users
    named = visitors.mutate(user_id=ibis.ifelse(_[VISITOR_KEY].startswith("u:"), _[VISITOR_KEY].substr(2), None))
    if users is not None:
        named = named.left_join(users, s.USER).drop("user_id_right")
    named.order_by("visitor").drop(HELD_OUT, "first_session").to_parquet(folder / "visitors.parquet")
    catalogue = items.order_by("item").select(
        "item", s.ITEM, s.TITLE, s.CATEGORY, s.BRAND, s.PRICE, "train_events", "listed"
    )
    catalogue.to_parquet(folder / "items.parquet")
    facts = items.aggregate(items=_.count(), known=_.known.sum()).execute().iloc[0]
    return {
        "events": num_rows,
        "session_starts": int(sessions.entry_rows.sum().execute() or 0),
        "sessions": num_sessions,
        "visitors": num_visitors,
        "items": int(facts["items"]),
        "items_known": int(facts["known"] or 0),
        "purchases": int(rows.filter(_.event == s.PURCHASE).count().execute()),
    }


def code_table(values: list[str], column: str) -> ir.Table:
    """Rows (value, code): the position from one."""
    return ibis.memtable(
        {column: values, f"{column}_code": list(range(1, len(values) + 1))},
        schema={column: "string", f"{column}_code": "int32"},
    )


def write_sessions(
    con: Backend, folder: Path, sessions: ir.Table, codes: dict[str, ir.Table], source: Source, cuts: Cuts
) -> int:
    """Write a row per session: its visitor, the time and context it was entered with, and its split."""
    coded = sessions
    for column in source.context:
        coded = coded.left_join(codes[column], column).drop(f"{column}_right")
    context = {f"context_{c}": _[f"{c}_code"].fill_null(s.PAD).cast("int32") for c in source.context}
    time = _[SESSION_TIME]
    count = int(sessions.count().execute())
    ordered = coded.order_by("session").select(
        visitor=_.visitor,
        time=microseconds(time),
        split=split_of(time, cuts),
        **context,
    )
    write_columns(con, ordered, folder / "sessions", count=count)
    return count


def check_account(counts: dict[str, int]) -> None:
    """Rows in = events + session starts + dropped, or nothing is written."""
    out = counts["events"] + counts["session_starts"] + counts["rows_dropped"]
    assert counts["rows_in"] == out, f"row account does not close: {counts}"
