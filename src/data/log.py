"""A log's raw tables as they lie there: opened and named, not yet in the design's terms."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

import ibis.expr.types as ir

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import Engine
from shopkeeper.data.settings import CsvConfig, DataConfig, FeedConfig
from shopkeeper.data.tables import broken_lines, files_of, is_database, is_there, open_table, shown

FIELDS = "too few or too many fields"
SIDES = ("items", "users", "identities")
ELEMENTS = 2**14
"""More than any list in a row has."""


@dataclass
class RawFeed:
    """One event table and how to read it; `key` is where the config names it, for messages."""

    table: ir.Table
    config: FeedConfig
    key: str

    def require(self, *columns: str) -> None:
        """Raise a UserError for the first of the columns that the table lacks."""
        require_columns(self.table, columns, f"{self.key}: {self.config.events}")


@dataclass
class RawLog:
    """Every table of a log; `extras` are those that only its named format knows. A format reshapes them in place.

    `dropped` counts, by reason, the events that a format leaves out; they are none of the feeds' rows.
    """

    feeds: dict[str, RawFeed]
    items: ir.Table | None
    users: ir.Table | None
    identities: ir.Table | None
    extras: dict[str, ir.Table]
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def feed(self, name: str, *columns: str) -> RawFeed:
        """An event table that a format reads, with these columns.

        Raises:
            UserError: when the config does not name it, or it lacks a column.
        """
        if name not in self.feeds:
            raise UserError(f"data.feeds.{name} is not set: this format reads it")
        self.feeds[name].require(*columns)
        return self.feeds[name]

    def extra(self, name: str, *columns: str) -> ir.Table:
        """A table that a format reads besides, with these columns.

        Raises:
            UserError: when the config does not name it, or it lacks a column.
        """
        if name not in self.extras:
            raise UserError(f"data.extras.{name} is not set: this format reads it")
        require_columns(self.extras[name], columns, f"data.extras.{name}")
        return self.extras[name]


def require_columns(table: ir.Table, columns: Collection[str], where: str) -> None:
    for column in columns:
        if column not in table.columns:
            there = ", ".join(c for c in table.columns if c != s.ROW)
            raise UserError(f"{where} has no column {column!r}, which this format reads; it has: {there}")


def exploded(table: ir.Table, column: str, *, keep_empty: bool = False) -> ir.Table:
    """A row per element of a list, in its order; `keep_empty` keeps a row without one as it is, its element null."""
    rows = table.unnest(column, offset="position", keep_empty=keep_empty)
    row = rows[s.ROW] * ELEMENTS + rows.position.fill_null(0)
    return rows.mutate(**{s.ROW: row.cast("int64")}).drop("position")


def open_log(engine: Engine, config: DataConfig) -> RawLog:
    """Open all tables that the config names, lazily.

    Raises:
        UserError: when one is missing or cannot be read.
    """
    feeds = {name: open_feed(engine, name, feed, config) for name, feed in feeds_of(config).items()}
    named, found = sides_of(config), sides_there(config)
    skip = config.bad_values == "drop"
    tables = {
        name: open_table(engine, path, key_of(name), config.csv, skip_broken=skip) for name, path in found.items()
    }
    notes = [f"{key_of(name)}: no {path}, read without it" for name, path in named.items() if name not in found]
    broken = {
        name: count for name, path in found.items() if skip and (count := lines_skipped(engine, path, config.csv))
    }
    return RawLog(
        feeds=feeds,
        **{name: tables.pop(name, None) for name in SIDES},
        extras=tables,
        dropped=dropped_lines(engine, [feed.config for feed in feeds.values()]) if skip else {},
        notes=notes + [f"{key_of(name)}: left out {count:,} lines with {FIELDS}" for name, count in broken.items()],
    )


def dropped_lines(engine: Engine, feeds: list[FeedConfig]) -> dict[str, int]:
    """How many lines of event tables are read over, by reason."""
    counts = {
        f"{shown(feed.events)}: a line with {FIELDS}": lines_skipped(engine, feed.events, feed.csv) for feed in feeds
    }
    return {why: count for why, count in counts.items() if count}


def lines_skipped(engine: Engine, path: str, csv: CsvConfig | None) -> int:
    assert csv is not None
    return broken_lines(engine, path, csv).number


def sides_of(config: DataConfig) -> dict[str, str]:
    """Path of every table beside the events, by name."""
    named = {name: getattr(config, name) for name in SIDES} | config.extras
    return {name: path for name, path in named.items() if path}


def sides_there(config: DataConfig) -> dict[str, str]:
    """Those of `sides_of` to be read: all but the optional ones that are not there."""
    return {name: path for name, path in sides_of(config).items() if name not in config.optional or is_there(path)}


def key_of(name: str) -> str:
    """Where the config names a table beside the events."""
    return f"data.{name}" if name in SIDES else f"data.extras.{name}"


def feeds_of(config: DataConfig) -> dict[str, FeedConfig]:
    """The event tables to read, each with what it leaves to the log as a whole filled in.

    Raises:
        UserError: when there is none, or both `data.events` and `data.feeds` name some.
    """
    if config.events and config.feeds:
        raise UserError("data.events and data.feeds exclude each other: name every event table in data.feeds")
    feeds = config.feeds or ({"": FeedConfig(events=config.events)} if config.events else {})
    if not feeds:
        raise UserError("data.events is not set: give the file, folder or database table of your events")
    return {
        name: FeedConfig(
            **{
                field.name: own if (own := getattr(feed, field.name)) is not None else getattr(config, field.name)
                for field in fields(FeedConfig)
            }
        )
        for name, feed in feeds.items()
    }


def open_feed(engine: Engine, name: str, feed: FeedConfig, config: DataConfig) -> RawFeed:
    key = f"data.feeds.{name}" if name else "data.events"
    assert feed.csv is not None
    wanted = columns_read(config, feed) if config.source == "events" else None  # a format reads columns of its own
    skip = config.bad_values == "drop"
    return RawFeed(open_table(engine, feed.events, key, feed.csv, wanted=wanted, skip_broken=skip), feed, key)


def columns_read(config: DataConfig, feed: FeedConfig) -> set[str]:
    """Names, in the log, of the columns of an event table that are read."""
    ours = {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *s.ITEM_TEXTS, config.privacy.consent}
    named = {*(feed.columns or {}).values(), *config.item_columns.values()}
    return ours | named | {*(s.DEFAULT_CONTEXT if config.context is None else config.context)}


def places(config: DataConfig) -> list[str]:
    """Every path or URL that the config names."""
    feeds = [config.events, *(feed.events for feed in config.feeds.values())]
    return [path for path in (*feeds, *sides_there(config).values()) if path]


def log_files(config: DataConfig) -> list[Path]:
    return [file for path in places(config) for file in files_of(path)]


def is_live(config: DataConfig) -> bool:
    """Whether any table lies in a database: nothing tells then whether it has changed."""
    return any(is_database(path) for path in places(config))
