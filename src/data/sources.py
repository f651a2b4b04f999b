"""Read raw logs into tables with the names and types of the event table; every dropped row is counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _
from ibis.backends.duckdb import Backend

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.columns import Times, as_id, as_number, as_text, as_timestamp
from shopkeeper.data.formats import FORMATS
from shopkeeper.data.log import RawFeed, RawLog, is_live, log_files, open_log
from shopkeeper.data.settings import CsvConfig, DataConfig
from shopkeeper.data.tables import present_columns


@dataclass
class Source:
    """A log as Ibis tables in the design's names, and what reading it left out.

    `events` has every column of the event table (null where the log lacks it), context as strings and
    `source_row`; `items` and `users` may be None. `dropped` counts rows by reason; `rows` is what was read.
    """

    events: ir.Table
    items: ir.Table | None
    users: ir.Table | None
    context: list[str]
    rows: int
    items_are_listed: bool = True  # a catalogue, of which every item is known before it is ever sold
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    live: bool = False  # of a database: nothing tells whether it has changed


def read_source(con: Backend, config: DataConfig) -> Source:
    """Open the log that `config` names.

    Raises:
        UserError: when the source is unknown, or a file or column is missing or has the wrong type.
    """
    if config.source == "complete_journey":
        from shopkeeper.data.complete_journey import read_complete_journey

        return read_complete_journey(con, config)
    if config.source in FORMATS:
        return read_events(con, config)
    known = ", ".join(sorted([*FORMATS, "complete_journey"]))
    raise UserError(f"data.source={config.source!r} is unknown: use one of {known}")


def read_events(con: Backend, config: DataConfig) -> Source:
    """Read a log of one event table or of several, whose columns carry the design's names or are mapped to them."""
    log = open_log(con, config)
    FORMATS[config.source](log, config)
    notes = log.notes
    feeds = [name_columns(feed, item_columns_in(feed, log, config)) for feed in log.feeds.values()]
    present = set[str]().union(*(feed.present for feed in feeds))
    context = context_columns(config.context, present, ", ".join(feed.path for feed in feeds))
    read = partial(read_side, csv=config.csv, notes=notes)
    own_items = [] if log.items is not None else item_columns_of(feeds)
    known = {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *context, *own_items}
    for feed in feeds:
        note(notes, feed.path, "not used", [c for c in feed.table.columns if c in feed.present - known])
        note(notes, feed.path, "without any value count as absent", feed.absent)
    first_rows = [sum(feed.rows for feed in feeds[:i]) for i in range(len(feeds))]
    events = [
        canonical_events(feed, [*context, *own_items], first) for feed, first in zip(feeds, first_rows, strict=True)
    ]
    rows = ibis.union(*events) if len(events) > 1 else events[0]
    return Source(
        events=rows.drop(*own_items),
        items=items_of_events(rows, own_items)
        if own_items
        else read(log.items, config.items, "data.items", s.ITEM, config.item_columns, used=s.ITEM_COLUMNS),
        items_are_listed=not own_items,
        users=read(log.users, config.users, "data.users", s.USER, config.user_columns),
        context=context,
        rows=sum(feed.rows for feed in feeds) + sum(log.dropped.values()),
        dropped=log.dropped,
        notes=notes,
        files=log_files(config),
        live=is_live(config),
    )


@dataclass(frozen=True)
class Feed:
    """One event table, its columns renamed, and how its values are written."""

    table: ir.Table
    path: str
    rows: int
    present: set[str]
    absent: list[str]
    event_names: dict[str, str]
    times: Times
    decimal: str


def name_columns(raw: RawFeed, item_columns: Mapping[str, str]) -> Feed:
    """An event table under our names.

    Raises:
        UserError: when it lacks a column that is required or mapped.
    """
    config = raw.config
    assert config.csv is not None
    table = renamed(raw.table, {**(config.columns or {}), **item_columns}, raw.key, config.events)
    table = table.mutate(**{column: ibis.literal(value) for column, value in (config.constants or {}).items()})
    present = present_columns(table)
    require_columns(present, config.events)
    return Feed(
        table=table,
        path=config.events,
        rows=int(table.count().execute()),
        present=present,
        absent=[c for c in table.columns if c not in present],
        event_names=config.event_names or {},
        times=Times(zone=config.time_zone or "UTC", unit=config.time_unit, format=config.time_format),
        decimal=config.csv.decimal,
    )


def renamed(table: ir.Table, columns: Mapping[str, str], key: str, path: str) -> ir.Table:
    """The table with the columns that `columns` maps (ours -> theirs) under our names; theirs go.

    Raises:
        UserError: when the table lacks one of theirs.
    """
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise UserError(
                f"{key}: {path} has no column {theirs!r}, which is to be {ours!r}; it has: {', '.join(table.columns)}"
            )
    kept = {c: table[c] for c in table.columns if c not in columns and c not in columns.values()}
    return table.select(**kept, **{ours: table[theirs] for ours, theirs in columns.items()})


def require_columns(present: set[str], path: str) -> None:
    missing = [c for c in (s.TIMESTAMP, s.EVENT) if c not in present]
    if missing:
        raise UserError(f"{path}: column {missing[0]!r} is missing or empty; it is required")
    if not present & {s.USER, s.SESSION}:
        raise UserError(f"{path}: neither 'user_id' nor 'session_id' holds a value; one of them is required")


def context_columns(wanted: list[str] | None, present: set[str], path: str) -> list[str]:
    """The declared context columns, by default those of channel, device and country that are present."""
    if wanted is None:
        return [c for c in s.DEFAULT_CONTEXT if c in present]
    for column in wanted:
        if column not in present:
            raise UserError(f"data.context: column {column!r} is missing or empty in {path}")
        if column in {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES}:
            raise UserError(f"data.context: {column!r} is not known before the first click; choose another column")
        if column in s.RESERVED:
            raise UserError(f"data.context: {column!r} is a name shopkeeper uses itself; rename the column in {path}")
    return list(dict.fromkeys(wanted))


def canonical_events(feed: Feed, context: list[str], first_row: int) -> ir.Table:
    """Every column of the event table with its type; null where the log has no such column."""
    raw, present, path = feed.table, feed.present, feed.path
    name = raw[s.EVENT].cast("string").nullif("")
    columns: dict[str, ir.Value] = {s.ROW: ibis.row_number().cast("int64") + first_row}
    columns[s.TIMESTAMP] = as_timestamp(raw[s.TIMESTAMP], path, feed.times)
    columns[s.EVENT] = name.cases(*feed.event_names.items(), else_=name) if feed.event_names else name
    for column in s.IDS:
        columns[column] = as_id(raw[column], path) if column in present else ibis.null("string")
    for column in s.PROPERTIES:
        given = column in present
        columns[column] = as_number(raw[column], path, feed.decimal) if given else ibis.null("float64")
    for column in context:
        columns[column] = as_text(raw[column]) if column in present else ibis.null("string")
    return raw.select(**columns)


def item_columns_in(feed: RawFeed, log: RawLog, config: DataConfig) -> dict[str, str]:
    """Those of `data.item_columns` that an event table has to tell, as no catalogue is given.

    Raises:
        UserError: when no event table has one of them.
    """
    if log.items is not None:
        return {}
    for ours, theirs in config.item_columns.items():
        if not any(theirs in other.table.columns for other in log.feeds.values()):
            raise UserError(f"data.item_columns: no event table has a column {theirs!r}, which is to be {ours!r}")
    return {ours: theirs for ours, theirs in config.item_columns.items() if theirs in feed.table.columns}


def item_columns_of(feeds: list[Feed]) -> list[str]:
    """Columns of the items that the events carry, where no catalogue is given."""
    return [c for c in s.ITEM_TEXTS if any(c in feed.present for feed in feeds)]


def items_of_events(events: ir.Table, columns: list[str]) -> ir.Table:
    """Each item as the first event that describes it does: nothing of the future changes what an item was."""
    described = events.filter(_[s.ITEM].notnull() & ibis.or_(*(_[c].notnull() for c in columns)))
    first = ibis.row_number().over(ibis.window(group_by=s.ITEM, order_by=[s.TIMESTAMP, s.ROW]))
    return described.mutate(again=first).filter(_.again == 0).select(s.ITEM, *columns)


def read_side(
    raw: ir.Table | None,
    path: str | None,
    key: str,
    id_column: str,
    columns: Mapping[str, str],
    *,
    csv: CsvConfig,
    notes: list[str],
    used: tuple[str, ...] | None = None,
) -> ir.Table | None:
    """An `items` or `users` table with text ids; None when it is not given or has no rows.

    Of the columns besides the id those in `used` are read (None: all) where they hold a value; `notes` gets the rest.

    Raises:
        UserError: when the id column is missing, null or not unique, or a column has a name that preparation uses.
    """
    if raw is None:
        return None
    path = path or key
    raw = renamed(raw, columns, key, path)
    if id_column not in raw.columns:
        raise UserError(f"{key}: {path} has no column {id_column!r}")
    if not int(raw.count().execute()):
        return None
    present = present_columns(raw) - {id_column}
    read = [name for name in raw.columns if name in present and (used is None or name in used)]
    note(notes, path, "not used", [name for name in raw.columns if name in present and name not in read])
    note(notes, path, "without any value count as absent", [n for n in raw.columns if n not in present | {id_column}])
    reserved = [name for name in read if name in s.RESERVED]
    if reserved:
        raise UserError(f"{key}: column {reserved[0]!r} is a name shopkeeper uses itself; rename it in {path}")
    values = {n: as_number(raw[n], path, csv.decimal) if n == s.PRICE else as_text(raw[n]) for n in read}
    table = raw.select(**{id_column: as_id(raw[id_column], path)}, **values)
    check_unique(table, path, id_column)
    return table


def note(notes: list[str], path: str, what: str, columns: list[str]) -> None:
    """Name columns once, where there are any."""
    if columns:
        notes.append(f"{path}: columns {what}: {', '.join(columns)}")


def check_unique(table: ir.Table, path: str, id_column: str) -> None:
    total = table.aggregate(rows=table.count(), ids=table[id_column].count(), distinct=table[id_column].nunique())
    rows, ids, distinct = (int(v) for v in total.execute().iloc[0])
    if ids < rows:
        raise UserError(f"{path}: {rows - ids} rows have no {id_column!r}")
    if distinct < ids:
        raise UserError(f"{path}: {ids - distinct} rows repeat an {id_column!r}; keep one row each")


def relabel_users(users: ir.Table, relabel: Mapping[str, Mapping[str, str]]) -> ir.Table:
    """Replace the values of segment columns by coarser labels; a value without a label becomes null (masked).

    Raises:
        UserError: when `relabel` names a column that `users` lacks.
    """
    for column in relabel:
        if column not in users.columns:
            raise UserError(f"data.relabel: users have no column {column!r}")
    changed = {
        c: users[c].cases(*labels.items(), else_=ibis.null("string")) if labels else ibis.null("string")
        for c, labels in relabel.items()
    }
    return users.mutate(**changed) if changed else users
