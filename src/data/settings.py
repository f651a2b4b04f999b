"""Typed schemas of `prepare`: what to read, what its columns mean, and where the splits fall."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from zoneinfo import available_timezones

from shopkeeper.config import require
from shopkeeper.data import schema as s

SEGMENT_KINDS = ("column", "top", "measure", "cross", "personas")
MOST_CLASSES = 100
"""Of one segment."""


@dataclass(kw_only=True)
class SplitConfig:
    """Where the global time cuts fall and who is held out.

    Give either `val_days` and `test_days` (calendar windows at the end of the log) or `val_share` and
    `test_share` (shares of the events, in time order). `fold` picks the slice of the users that is held out; those
    beyond the last slice are the same slices again, with validation and test changed over.
    """

    val_days: float | None
    test_days: float | None
    val_share: float | None
    test_share: float | None
    holdout_share: float
    holdout_when_new_below: float
    holdout_key: str
    fold: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.holdout_share < 1, "data.split.holdout_share", self.holdout_share, "at least 0 and below 1")
        folds = 2 * slices(self.holdout_share)
        wanted = f"a whole number from 0 to {folds - 1}: every slice of holdout_share, and every slice again"
        require(0 <= self.fold < folds, "data.split.fold", self.fold, wanted)
        for name in ("val_days", "test_days"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.split.{name}", value, "above 0")


def slices(share: float) -> int:
    """How many slices of this share make a whole, at most; at least one."""
    return max(int(1 / share + 1e-9), 1) if share else 1


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
class PersonasConfig:
    """How the profiles of known customers are clustered, and what decides the number of clusters."""

    clusters: list[int] = field(default_factory=lambda: [3, 8])  # the least and the most that are tried
    shares: list[str] = field(default_factory=lambda: [s.CATEGORY, s.BRAND, "channel", "device"])  # those there are
    most: int = 20  # values of each of these, the commonest in train
    customers: int = 20_000  # a seeded sample of more
    resamples: int = 10  # of four in five customers, each clustered anew
    stable: float = 0.75  # least mean adjusted Rand index of these with the clustering of all
    apart: float = 0.7  # least silhouette, as a share of the best stable one's
    smallest: float = 0.03  # least share of the customers in a cluster
    seed: int = 1

    def __post_init__(self) -> None:
        key = "data.segments.<name>.personas"
        pair = len(self.clusters) == 2 and 2 <= self.clusters[0] <= self.clusters[-1] <= MOST_CLASSES
        require(pair, f"{key}.clusters", self.clusters, f"the least and the most, from 2 to {MOST_CLASSES}")
        for name in ("most", "customers", "resamples"):
            require(getattr(self, name) >= 1, f"{key}.{name}", getattr(self, name), "at least 1")
        for name in ("stable", "apart", "smallest"):
            require(0 <= getattr(self, name) <= 1, f"{key}.{name}", getattr(self, name), "from 0 to 1")


@dataclass(kw_only=True)
class SegmentConfig:
    """A segment by one of five keys: `column` of users, or a rule by history: `top`, `measure`, `cross`, `personas`.

    `at_least` holds the measures that a history must reach to be labelled by a rule.
    """

    column: str | None = None
    top: str | None = None  # category, brand or a context column: the value with most of `by`
    by: str = "spend"  # or orders, events
    level: int | None = None  # of a category, from 1; of prices: within which they are compared
    exclude: list[str] = field(default_factory=list)  # values that do not compete
    among: list[str] | None = None  # values that are classes; null: the commonest
    other: str | None = None  # class of any other value; null: masked
    measure: str | None = None
    edges: list[float] | None = None  # a value at an edge is above it
    quantiles: list[float] | None = None  # edges such that these shares of the train customers are below
    names: list[str] | None = None  # of the bins, one more than edges
    cross: list[str] | None = None  # rules, each combination a class
    personas: PersonasConfig | None = None
    at_least: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return next(name for name in SEGMENT_KINDS if getattr(self, name) is not None)

    def check(self, name: str) -> None:
        """Raise a UserError, naming the segment, unless exactly one kind is given, and whole."""
        key = f"data.segments.{name}"
        kinds = [kind for kind in SEGMENT_KINDS if getattr(self, kind) is not None]
        require(len(kinds) == 1, key, kinds or "{}", "defined by one of " + ", ".join(SEGMENT_KINDS))
        require(name not in s.RESERVED | {s.USER, s.INTENT}, key, name, "a name that shopkeeper does not use itself")
        require(self.by in s.TOP_BY, f"{key}.by", self.by, "one of " + ", ".join(s.TOP_BY))
        require(self.level is None or self.level >= 1, f"{key}.level", self.level, "at least 1")
        for measure in [*self.at_least, *([] if self.measure is None else [self.measure])]:
            require(measure in s.MEASURES, f"{key}: measure", measure, "one of " + ", ".join(s.MEASURES))
        if self.measure is not None:
            self.check_bins(key)

    def check_bins(self, key: str) -> None:
        cuts = self.edges if self.edges is not None else self.quantiles
        one = (self.edges is None) != (self.quantiles is None)
        require(one and bool(cuts), key, self.measure, "a measure with either edges or quantiles")
        assert cuts is not None
        rising = all(low < high for low, high in pairwise(cuts))
        require(rising and len(cuts) < MOST_CLASSES, f"{key}: its edges or quantiles", cuts, "rising")
        shares = self.quantiles is None or all(0 < share < 1 for share in self.quantiles)
        require(shares, f"{key}.quantiles", self.quantiles, "between 0 and 1")
        whole = self.names is None or len({*self.names}) == len(self.names) == len(cuts) + 1
        require(whole, f"{key}.names", self.names, f"{len(cuts) + 1} different names")


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
    segments: dict[str, SegmentConfig | None] | None = None  # null: every column of users; a name of null: none
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
        for name, segment in self.defined_segments.items():
            segment.check(name)

    @property
    def defined_segments(self) -> dict[str, SegmentConfig]:
        """Segments by name, without those that are null."""
        return {name: segment for name, segment in (self.segments or {}).items() if segment is not None}


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
