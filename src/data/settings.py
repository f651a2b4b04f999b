"""Typed schemas of `prepare`: what to read, what its columns mean, and where the splits fall."""

import re
from dataclasses import dataclass, field
from zoneinfo import available_timezones

from shopkeeper.config import require
from shopkeeper.data import schema as s


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
    """How CSV files are written; a separator of null is found by looking at the file, columns of null in its header."""

    separator: str | None = None
    columns: list[str] | None = None
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
class IdentityConfig:
    """When ids that name each other are taken for one person; a larger group is reported and left apart."""

    max_aliases: int

    def __post_init__(self) -> None:
        require(self.max_aliases >= 1, "data.identity.max_aliases", self.max_aliases, "at least 1")


@dataclass(kw_only=True)
class BotConfig:
    """Sessions that no person could have made, by their most events in any 60 seconds and in all; null: kept."""

    events_per_minute: int | None
    events_per_session: int | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value is None or value >= 1, f"data.bots.{name}", value, "at least 1")


@dataclass(kw_only=True)
class PrivacyConfig:
    """Whose events may be used, and whether their ids are kept.

    `consent` names a column of the events or the users; where there is one, a row counts only when its value is in
    `granted` (compared in lower case). `key_variable` names an environment variable: with it, ids of persons, sessions
    and orders are replaced by a hash under the secret it holds.
    """

    consent: str
    granted: list[str]
    key_variable: str | None


@dataclass(kw_only=True)
class PhaseRule:
    """Events that belong to a phase of the journey; what is null does not matter."""

    phase: str
    events: list[str] | None = None
    bought_before: bool | None = None  # the visitor bought in an earlier session
    days_away: float | None = None  # at least that long since the visitor's session before
    events_before: int | None = None  # at least that many earlier in the session

    def __post_init__(self) -> None:
        require(self.phase in s.PHASES, "data.phases.phase", self.phase, "one of " + ", ".join(s.PHASES))


@dataclass(kw_only=True)
class SimulationConfig:
    """Size and seed of a simulated shop; `known_share` of its visitors show their persona as a segment."""

    visitors: int
    days: int
    personas: int
    categories: int
    items: int
    known_share: float
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("visitors", 1), ("days", 3), ("personas", 1), ("categories", 2)):
            require(getattr(self, name) >= least, f"data.simulation.{name}", getattr(self, name), f"at least {least}")
        require(self.items >= self.categories, "data.simulation.items", self.items, "one for each category at least")
        require(0 <= self.known_share <= 1, "data.simulation.known_share", self.known_share, "from 0 to 1")


@dataclass(kw_only=True)
class DataConfig:
    """What to read and what its columns mean."""

    source: str
    folder: str | None = None  # of the named formats that are several files; their YAML has the key
    events: str | None
    items: str | None
    users: str | None
    identities: str | None
    extras: dict[str, str | None]
    optional: list[str]
    columns: dict[str, str]
    constants: dict[str, str]
    event_names: dict[str, str]
    time_zone: str
    time_unit: str | None
    time_format: str | None
    csv: CsvConfig
    item_columns: dict[str, str]
    user_columns: dict[str, str]
    identity_columns: dict[str, str]
    category_separator: str | None
    feeds: dict[str, FeedConfig]
    context: list[str] | None
    relabel: dict[str, dict[str, str]]
    bad_values: str
    drop_duplicates: bool
    bots: BotConfig
    identity: IdentityConfig
    privacy: PrivacyConfig
    phases: list[PhaseRule]
    session_gap_minutes: float
    receipt_gap_minutes: float
    horizon_days: float | None
    split: SplitConfig
    simulation: SimulationConfig | None

    def __post_init__(self) -> None:
        for name in ("session_gap_minutes", "receipt_gap_minutes"):
            require(getattr(self, name) > 0, f"data.{name}", getattr(self, name), "above 0")
        require(self.bad_values in ("error", "drop"), "data.bad_values", self.bad_values, "error or drop")
        last = self.phases[-1] if self.phases else None
        whole = last is not None and all(value is None for name, value in vars(last).items() if name != "phase")
        require(whole, "data.phases", "its last rule", "one without conditions, so that every event has a phase")
        require(self.horizon_days is None or self.horizon_days > 0, "data.horizon_days", self.horizon_days, "above 0")


@dataclass(kw_only=True)
class SparkConfig:
    """Where Spark runs, the memory of its driver, and any further settings by name."""

    master: str
    memory: str
    settings: dict[str, str]


@dataclass(kw_only=True)
class PrepareConfig:
    data: DataConfig
    output: str
    engine: str
    spark: SparkConfig
    memory_limit: str
    threads: int | None

    def __post_init__(self) -> None:
        require(self.engine in ("duckdb", "spark"), "engine", self.engine, "duckdb or spark")
        size = re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", self.memory_limit, re.IGNORECASE)
        require(size is not None, "memory_limit", self.memory_limit, "a size such as 3GB")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1")
