"""A log's raw tables as they lie there: opened and named, not yet in the design's terms."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

import ibis.expr.types as ir

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import Engine
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


def open_log(engine: Engine, config: DataConfig) -> RawLog:
    """Open all tables that the config names, lazily.

    Raises:
        UserError: when one is missing or cannot be read.
    """

    def side(path: str | None, key: str) -> ir.Table | None:
        return open_table(engine, path, key, config.csv) if path else None

    feeds = {name: open_feed(engine, name, feed, columns_read(config, feed)) for name, feed in feeds_of(config).items()}
    return RawLog(
        feeds=feeds,
        items=side(config.items, "data.items"),
        users=side(config.users, "data.users"),
        identities=side(config.identities, "data.identities"),
        extras={
            name: open_table(engine, path, f"data.extras.{name}", config.csv)
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


def open_feed(engine: Engine, name: str, config: FeedConfig, wanted: Collection[str]) -> RawFeed:
    key = f"data.feeds.{name}" if name else "data.events"
    assert config.csv is not None
    return RawFeed(open_table(engine, config.events, key, config.csv, wanted=wanted), config, key)


def columns_read(config: DataConfig, feed: FeedConfig) -> set[str]:
    """Names, in the log, of the columns of an event table that are read."""
    ours = {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *s.ITEM_TEXTS, config.privacy.consent}
    named = {*(feed.columns or {}).values(), *config.item_columns.values()}
    return ours | named | {*(s.DEFAULT_CONTEXT if config.context is None else config.context)}


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
