"""Typed schemas of every stage's configuration: YAML holds the values, these classes check them strictly."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

T = TypeVar("T")


class UserError(ValueError):
    """A mistake the user can mend: one line that names the column, key or file and the way out."""


def parse(schema: type[T], cfg: DictConfig) -> T:
    """Turn a composed config into `schema`.

    Raises:
        UserError: for a key that is unknown, missing or of the wrong type; the message names it.
    """
    try:
        return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg)))
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} is not set: give it on the command line as {key}=...") from error
    except OmegaConfBaseException as error:
        first_line = str(error).splitlines()[0]
        key = error.full_key
        raise UserError(f"config: {first_line}" + (f" (key: {key})" if key else "")) from error


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


@dataclass(kw_only=True)
class DataConfig:
    """What to read and what its columns mean."""

    source: str
    events: str | None
    items: str | None
    users: str | None
    context: list[str] | None
    relabel: dict[str, dict[str, str]]
    session_gap_minutes: float
    receipt_gap_minutes: float
    horizon_days: float | None
    split: SplitConfig


@dataclass(kw_only=True)
class PrepareConfig:
    data: DataConfig
    output: str
    memory_limit: str
    threads: int | None


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are kept: an MLflow tracking URI, an experiment, and a folder for artifacts and checkpoints."""

    uri: str
    experiment: str
    artifacts: str | None
    runs_dir: str


@dataclass(kw_only=True)
class TaskConfig:
    """Heads and their loss weights; `auto` takes every head that the prepared data supports."""

    heads: str
    weights: dict[str, float]


@dataclass(kw_only=True)
class BatchConfig:
    max_len: int
    tokens: int


@dataclass(kw_only=True)
class OptimizerConfig:
    lr: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float


@dataclass(kw_only=True)
class ProtocolConfig:
    """What is judged: steps seen, the cutoff of every ranking metric, and how intervals are drawn."""

    ks: list[int]
    cutoff: int
    max_examples: int
    resamples: int
    seed: int


@dataclass(kw_only=True)
class EarlyStoppingConfig:
    patience: int
    min_delta: float


@dataclass(kw_only=True)
class TrainConfig:
    prepared: str
    model: dict[str, Any]
    loss: dict[str, Any]
    task: TaskConfig
    batches: BatchConfig
    optimizer: OptimizerConfig
    early_stopping: EarlyStoppingConfig
    trainer: dict[str, Any]
    protocol: ProtocolConfig
    tracking: TrackingConfig
    seed: int
    resume: str | None
    refit: str | None


@dataclass(kw_only=True)
class EvaluateConfig:
    prepared: str
    run: str
    output: str
    baselines: list[str]
    protocol: ProtocolConfig
    tracking: TrackingConfig


@dataclass(kw_only=True)
class ExportConfig:
    prepared: str
    run: str
    output: str
    refit: bool
    golden: int
    seed: int
    tracking: TrackingConfig


@dataclass(kw_only=True)
class PredictConfig:
    bundle: str
    histories: str
    output: str
    k: int
    exclude_seen: bool
    rows_per_batch: int


@dataclass(kw_only=True)
class DemoConfig:
    """Which data and models the demo goes through; lists hold overrides of the command they are given to."""

    data: str
    output: str
    models: dict[str, list[str]]
    evaluate: list[str]
    request_steps: int


@dataclass(kw_only=True)
class DoctorConfig:
    tracking: TrackingConfig
