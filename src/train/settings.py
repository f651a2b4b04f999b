"""Typed schemas of `shopkeeper tune`, `compare` and `sync`."""

import re
from dataclasses import dataclass
from typing import Any

from shopkeeper.config import ProtocolConfig, TrackingConfig, UserError, require

SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: str, *, key: str) -> float:
    """`2h`, `30m`, `1h30m`, `90s` or `1.5d` as seconds; a bare number is seconds.

    Raises:
        UserError: for anything else.
    """
    text = duration.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UserError(f"config: {key}={duration} is no duration: write it like 2h, 30m or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


@dataclass(kw_only=True)
class PrunerConfig:
    """The median rule: a trial ends where its best epoch so far is below the median of the others at that epoch."""

    startup_trials: int
    warmup_epochs: int

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            require(number >= 0, f"pruner.{name}", number, "at least 0")


@dataclass(kw_only=True)
class TuneConfig:
    prepared: str
    study: str
    models: list[str]
    trials: int
    timeout: str | None
    train: list[str]
    storage: str
    heartbeat: int
    output: str
    startup_trials: int
    seed: int
    pruner: PrunerConfig
    search: dict[str, Any]
    tracking: TrackingConfig

    def __post_init__(self) -> None:
        for name in ("trials", "heartbeat", "startup_trials"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(bool(re.fullmatch(r"[\w.-]+", self.study)), "study", self.study, "letters, digits, dots, - and _")
        require(bool(self.models), "models", self.models, "one or more models")
        require(self.seconds > 0, "timeout", self.timeout, "above 0")

    @property
    def seconds(self) -> float:
        """The time budget of a family; infinite where there is none."""
        return seconds(self.timeout, key="timeout") if self.timeout is not None else float("inf")


@dataclass(kw_only=True)
class SyncConfig:
    tracking: TrackingConfig


@dataclass(kw_only=True)
class CompareConfig:
    """Two runs, the second the one that the first is measured against."""

    prepared: str
    runs: list[str]
    output: str | None
    protocol: ProtocolConfig
    tracking: TrackingConfig

    def __post_init__(self) -> None:
        require(len(self.runs) == 2, "runs", self.runs, "two runs: run=A run=B")
