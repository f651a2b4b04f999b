"""Typed schemas of `shopkeeper audit`."""

from dataclasses import dataclass

from shopkeeper.config import require


@dataclass(kw_only=True)
class AuditWarnings:
    """Shares above which a figure of the audit warns: of all events, of those of a split that name an item, and of the
    visitors whose segment one cannot guess without context."""

    duplicate_events: float
    tied_times: float
    unseen_items: float
    told_segments: float

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            require(0 <= share <= 1, f"warn_above.{name}", share, "from 0 to 1")


@dataclass(kw_only=True)
class ShuffleConfig:
    """The shuffle test: hit rate at `cutoff` on at most `moments` predictions, by a Markov chain of `neighbours`."""

    cutoff: int
    moments: int
    transitions: int
    neighbours: int
    resamples: int

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            require(number >= 1, f"shuffle.{name}", number, "at least 1")


@dataclass(kw_only=True)
class AuditConfig:
    prepared: str
    output: str
    seed: int
    values: int
    shuffle: ShuffleConfig
    warn_above: AuditWarnings

    def __post_init__(self) -> None:
        require(self.values >= 1, "values", self.values, "at least 1")
