"""Typed schemas of `prepare`: what to read, what its columns mean, and where the splits fall."""

import re
from dataclasses import dataclass, field
from zoneinfo import available_timezones

from shopkeeper.config import require


@dataclass(kw_only=True)
class SplitConfig:
    """Where the global time cuts fall and who is held out.

    Give either `val_days` and `test_days` (calendar windows at the end of the log) or `val_share` and
    `test_share` (shares of the events, in time order).
    """

    val_days: float | None
    test_days: float | None
    val_share: float | None
    test_share: float | None
    holdout_share: float
    holdout_when_new_below: float
    holdout_key: str

    def __post_init__(self) -> None:
        require(0 <= self.holdout_share < 1, "data.split.holdout_share", self.holdout_share, "at least 0 and below 1")
        for name in ("val_days", "test_days"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.split.{name}", value, "above 0")


@dataclass(kw_only=True)
class CsvConfig:
    """How CSV files are written; a separator of null is found by looking at the file."""

    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    nulls: list[str] = field(default_factory=list)  # words for no value, besides an empty field


@dataclass(kw_only=True)
class FeedConfig:
    """One of several event tables of a log; what is null is as `data` says."""

    events: str
    columns: dict[str, str] | None = None
    constants: dict[str, str] | None = None
    event_names: dict[str, str] | None = None
    time_zone: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    csv: CsvConfig | None = None

    def __post_init__(self) -> None:
        units = ("s", "ms", "us", "ns")
        wanted = "one of " + ", ".join(units)
        require(self.time_unit is None or self.time_unit in units, "data.time_unit", self.time_unit, wanted)
        known = self.time_zone is None or self.time_zone in available_timezones()
        require(known, "data.time_zone", self.time_zone, "a name such as Europe/Berlin or UTC")


@dataclass(kw_only=True)
class DataConfig:
    """What to read and what its columns mean."""

    source: str
    events: str | None
    items: str | None
    users: str | None
    columns: dict[str, str]
    constants: dict[str, str]
    event_names: dict[str, str]
    time_zone: str
    time_unit: str | None
    time_format: str | None
    csv: CsvConfig
    item_columns: dict[str, str]
    user_columns: dict[str, str]
    feeds: dict[str, FeedConfig]
    context: list[str] | None
    relabel: dict[str, dict[str, str]]
    drop_duplicates: bool
    session_gap_minutes: float
    receipt_gap_minutes: float
    horizon_days: float | None
    split: SplitConfig

    def __post_init__(self) -> None:
        for name in ("session_gap_minutes", "receipt_gap_minutes"):
            require(getattr(self, name) > 0, f"data.{name}", getattr(self, name), "above 0")
        require(self.horizon_days is None or self.horizon_days > 0, "data.horizon_days", self.horizon_days, "above 0")


@dataclass(kw_only=True)
class PrepareConfig:
    data: DataConfig
    output: str
    memory_limit: str
    threads: int | None

    def __post_init__(self) -> None:
        size = re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", self.memory_limit, re.IGNORECASE)
        require(size is not None, "memory_limit", self.memory_limit, "a size such as 3GB")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1")
