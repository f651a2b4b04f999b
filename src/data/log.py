"""A log's raw tables as they lie there: opened and named, not yet in the design's terms."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from shopkeeper.config import UserError
from shopkeeper.data.settings import DataConfig, FeedConfig
from shopkeeper.data.tables import files_of, is_database, open_table


@dataclass
class RawFeed:
    """One event table and how to read it; `key` is where the config names it, for messages."""

    table: ir.Table
    config: FeedConfig
    key: str


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


def open_log(con: Backend, config: DataConfig) -> RawLog:
    """Open all tables that the config names, lazily.

    Raises:
        UserError: when one is missing, cannot be read or, being an event table, is empty.
    """

    def side(path: str | None, key: str) -> ir.Table | None:
        return open_table(con, path, key, config.csv) if path else None

    feeds = {name: open_feed(con, name, feed) for name, feed in feeds_of(config).items()}
    return RawLog(
        feeds=feeds,
        items=side(config.items, "data.items"),
        users=side(config.users, "data.users"),
        identities=side(config.identities, "data.identities"),
        extras={
            name: open_table(con, path, f"data.extras.{name}", config.csv)
            for name, path in config.extras.items()
            if path
        },
    )


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


def open_feed(con: Backend, name: str, config: FeedConfig) -> RawFeed:
    key = f"data.feeds.{name}" if name else "data.events"
    assert config.csv is not None
    table = open_table(con, config.events, key, config.csv)
    if not int(table.count().execute()):
        raise UserError(f"{key}: {config.events} holds no rows")
    return RawFeed(table, config, key)


def places(config: DataConfig) -> list[str]:
    """Every path or URL that the config names."""
    feeds = [config.events, *(feed.events for feed in config.feeds.values())]
    sides = [config.items, config.users, config.identities, *config.extras.values()]
    return [path for path in (*feeds, *sides) if path]


def log_files(config: DataConfig) -> list[Path]:
    return [file for path in places(config) for file in files_of(path)]


def is_live(config: DataConfig) -> bool:
    """Whether any table lies in a database: nothing tells then whether it has changed."""
    return any(is_database(path) for path in places(config))
