"""Typed schemas of `inspect`: what to look at, and what to know it by."""

from dataclasses import dataclass
from typing import Any

from shopkeeper.config import require
from shopkeeper.data.settings import CsvConfig


@dataclass(kw_only=True)
class WordsConfig:
    """How logs name what we name otherwise: ours -> theirs, earlier ones first."""

    columns: dict[str, list[str]]
    item_columns: dict[str, list[str]]
    events: dict[str, list[str]]
    empty: list[str]
    personal: list[str]


@dataclass(kw_only=True)
class GapConfig:
    """When the gaps between a user's events have a valley that ends a visit."""

    least: int
    smooth: float
    depth: float
    side: float

    def __post_init__(self) -> None:
        require(self.least >= 1, "gaps.least", self.least, "at least 1")
        require(self.smooth > 0, "gaps.smooth", self.smooth, "above 0")
        require(self.depth > 1, "gaps.depth", self.depth, "above 1")
        require(0 < self.side < 0.5, "gaps.side", self.side, "above 0 and below 0.5")


@dataclass(kw_only=True)
class InspectConfig:
    """Which tables to look at, how much of them, and what to know them by."""

    log: Any  # one path or a list of them
    output: str | None
    sample: int
    csv: CsvConfig
    max_values: int
    time_formats: list[str]
    gaps: GapConfig
    words: WordsConfig

    def __post_init__(self) -> None:
        paths = [self.log] if isinstance(self.log, str) else self.log
        known = isinstance(paths, list) and bool(paths) and all(isinstance(path, str) for path in paths)
        require(known, "log", self.log, "a file, folder, glob or database table, or a list of them")
        self.log = paths
        require(self.sample >= 1, "sample", self.sample, "at least 1")
        require(self.max_values >= 2, "max_values", self.max_values, "at least 2")
