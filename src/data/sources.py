"""Read raw logs into tables with the names and types of the event table; every row is kept, bad ones are marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.columns import Times, Typed, as_id, as_number, as_text, as_timestamp
from shopkeeper.data.engines import Engine
from shopkeeper.data.formats import FORMATS
from shopkeeper.data.log import RawFeed, RawLog, is_live, log_files, open_log
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sides import note, read_identities, read_side, renamed
from shopkeeper.data.tables import count_values, kinds_of, shown

BAD = "bad"
"""Why a row cannot be used as it came, null for the others; a column of `Source.events` beside those of the design."""


@dataclass
class Source:
    """A log as Ibis tables in the design's names, and what reading it left out.

    `events` has every column of the event table (null where the log lacks it), context as strings, `source_row`, and
    possibly `bad` and `consent`; the side tables may be None. `dropped` counts rows by reason; `rows` is what was
    read. `examples` holds, for every reason that `bad` may name, the values that give it.
    """

    events: ir.Table
    items: ir.Table | None
    users: ir.Table | None
    context: list[str]
    rows: int
    identities: ir.Table | None = None
    items_are_listed: bool = True  # a catalogue, of which every item is known before it is ever sold
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    live: bool = False  # of a database: nothing tells whether it has changed
    is_text: bool = False  # reading it anew takes long
    properties: tuple[str, ...] = s.PROPERTIES  # those that hold values
    examples: dict[str, ir.Table] = field(default_factory=dict)


def read_source(engine: Engine, config: DataConfig) -> Source:
    """Open the log that `config` names.

    Raises:
        UserError: when the source is unknown, or a file or column is missing or has the wrong type.
    """
    if config.source == "complete_journey":
        from shopkeeper.data.complete_journey import read_complete_journey

        return read_complete_journey(engine, config)
    if config.source == "complete_journey_campaigns":
        from shopkeeper.data.campaigns import read_with_campaigns

        return read_with_campaigns(engine, config)
    if config.source == "simulated":
        return read_simulated(engine, config)
    if config.source in FORMATS:
        return read_events(engine, config)
    known = ", ".join(sorted([*FORMATS, "complete_journey", "complete_journey_campaigns", "simulated"]))
    raise UserError(f"data.source={config.source!r} is unknown: use one of {known}")


def read_simulated(engine: Engine, config: DataConfig) -> Source:
    """Make the log of a simulated shop in the engine's folder, and read it as any other.

    Raises:
        UserError: when `data.simulation` is not set.
    """
    from shopkeeper.data.simulator import simulate

    if config.simulation is None:
        raise UserError("data.simulation is not set: start from data=simulated")
    folder = engine.folder / "simulated"
    simulate(config.simulation, folder)
    items, users = (str(folder / f"{name}.parquet") for name in ("items", "users"))
    events = str(folder / "events")
    source = read_events(engine, replace(config, source="events", events=events, items=items, users=users))
    source.files = []  # the config decides them
    return source


def read_events(engine: Engine, config: DataConfig) -> Source:
    """Read a log of one event table or of several, whose columns carry the design's names or are mapped to them."""
    log = open_log(engine, config)
    FORMATS[config.source](log, config)
    notes = log.notes
    feeds = [name_columns(engine, feed, item_columns_in(feed, log, config)) for feed in log.feeds.values()]
    present = set[str]().union(*(feed.present for feed in feeds))
    context = context_columns(config.context, present, ", ".join(feed.path for feed in feeds))
    consent = [config.privacy.consent] if config.privacy.consent in present else []
    own_items = [] if log.items is not None else [c for c in s.ITEM_TEXTS if c in present]
    texts = list(dict.fromkeys([*context, *own_items, *consent]))
    known = {s.ROW, s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *texts}
    for feed in feeds:
        note(notes, feed.path, "not used", [c for c in feed.table.columns if c in feed.present - known])
        note(notes, feed.path, "without any value count as absent", feed.absent)
    tables, examples = zip(*(canonical_events(feed, texts) for feed in feeds), strict=True)
    events = after_each_other(list(tables))
    read = partial(read_side, config=config, notes=notes)
    items = (
        items_of_events(events, own_items, [c for c in (s.PRICE,) if c in present])
        if own_items
        else read(log.items, config.items, "data.items", s.ITEM, config.item_columns, used=s.ITEM_COLUMNS)
    )
    return Source(
        events=events.drop(*(c for c in own_items if c not in context)),
        items=with_paths(items, config.category_separator),
        items_are_listed=not own_items,
        users=read(log.users, config.users, "data.users", s.USER, config.user_columns),
        identities=read_identities(log.identities, config),
        context=context,
        rows=sum(feed.rows for feed in feeds) + sum(log.dropped.values()),
        dropped=log.dropped,
        notes=notes,
        files=log_files(config),
        live=is_live(config),
        is_text=any(feed.is_text for feed in feeds),
        properties=tuple(c for c in s.PROPERTIES if c in present),
        examples={reason: values for found in examples for reason, values in found.items()},
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
    is_text: bool


def name_columns(engine: Engine, raw: RawFeed, item_columns: Mapping[str, str]) -> Feed:
    """An event table under our names.

    Raises:
        UserError: when it has no rows, or lacks a column that is required or mapped.
    """
    config = raw.config
    assert config.csv is not None
    path = shown(config.events)
    table = renamed(raw.table, {**(config.columns or {}), **item_columns}, raw.key, path)
    table = table.mutate(**{column: ibis.literal(value) for column, value in (config.constants or {}).items()})
    rows, present = count_values(table)
    if not rows:
        raise UserError(f"{raw.key}: {path} holds no rows")
    require_columns(present, path)
    return Feed(
        table=table,
        path=path,
        rows=rows,
        present=present,
        absent=[c for c in table.columns if c not in present],
        event_names=config.event_names or {},
        times=Times(
            zone=config.time_zone or "UTC", unit=config.time_unit, format=config.time_format, clock=engine.clock
        ),
        decimal=config.csv.decimal,
        is_text=table[s.TIMESTAMP].type().is_string() or kinds_of(config.events) - {"parquet"} != set(),
    )


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


def canonical_events(feed: Feed, texts: list[str]) -> tuple[ir.Table, dict[str, ir.Table]]:
    """Every column of the event table with its type, null where the log has none, and `bad`; and the bad values.

    A value that is there but cannot be read, or cannot be true (a negative price), makes its row bad.
    """
    raw, present, path = feed.table, feed.present, feed.path
    name = raw[s.EVENT].cast("string").nullif("")
    columns: dict[str, ir.Value] = {s.ROW: raw[s.ROW]}
    typed: dict[str, Typed] = {s.TIMESTAMP: as_timestamp(raw[s.TIMESTAMP], path, feed.times)}
    columns[s.EVENT] = name.cases(*feed.event_names.items(), else_=name) if feed.event_names else name
    for column in s.IDS:
        typed[column] = as_id(raw[column], path) if column in present else Typed(ibis.null("string"))
    for column in s.PROPERTIES:
        least = 0.0 if column == s.PRICE else None
        given = column in present
        typed[column] = (
            as_number(raw[column], path, feed.decimal, least=least) if given else Typed(ibis.null("float64"))
        )
    for column in texts:
        columns[column] = as_text(raw[column]) if column in present else ibis.null("string")
    reasons = {
        f"{path}: {column!r} is not {t.wanted}": (raw[column], t.bad)
        for column, t in typed.items()
        if t.bad is not None
    }
    bad = ibis.cases(*((is_bad, why) for why, (_value, is_bad) in reasons.items()), else_=ibis.null("string"))
    table = raw.select(**columns, **{column: t.value for column, t in typed.items()}, **{BAD: bad})
    order = [s.ROW, s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *texts, BAD]
    examples = {
        why: raw.filter(is_bad).select(example=value.cast("string")) for why, (value, is_bad) in reasons.items()
    }
    return table.select(*order), examples


def after_each_other(tables: list[ir.Table]) -> ir.Table:
    """Event tables as one: the rows of each come after those of the tables before it."""
    first, *others = tables
    for other in others:
        rows = int(first[s.ROW].max().execute()) + 1
        first = first.union(other.mutate(**{s.ROW: other[s.ROW] + rows}).select(*first.columns))
    return first


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


def items_of_events(events: ir.Table, texts: Sequence[str], besides: Sequence[str] = ()) -> ir.Table:
    """Each item as the first event that describes it does: nothing of the future changes what an item was.

    One that no event describes by any of `texts` is what the first event says that has something `besides`.
    """
    described = events.filter(_[s.ITEM].notnull() & ibis.or_(*(_[c].notnull() for c in (*texts, *besides))))
    bare = ibis.and_(*(_[c].isnull() for c in texts))
    first = ibis.row_number().over(ibis.window(group_by=s.ITEM, order_by=[bare, s.TIMESTAMP, s.ROW]))
    return described.mutate(again=first).filter(_.again == 0).select(s.ITEM, *texts, *besides)


def with_paths(items: ir.Table | None, separator: str | None) -> ir.Table | None:
    """Items whose categories, written with a separator of the log's own, read `a > b > c`."""
    if items is None or separator is None or s.CATEGORY not in items.columns:
        return items
    return items.mutate(**{s.CATEGORY: items[s.CATEGORY].replace(separator, s.PATH)})


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
