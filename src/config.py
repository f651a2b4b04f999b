"""Typed schemas of every stage's configuration: YAML holds the values, these classes check them strictly."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

T = TypeVar("T")


class UserError(ValueError):
    """A mistake the user can mend: one line that names the column, key or file and the way out."""


class CheckFailed(Exception):
    """What was to be checked does not hold, as one line; the command ends with exit code 1, its output made."""


def parse(schema: type[T], cfg: DictConfig) -> T:
    """Turn a composed config into `schema`.

    Raises:
        UserError: for a key that is unknown, missing or of the wrong type; the message names it.
    """
    for missing in missing_keys(OmegaConf.to_container(cfg, resolve=False)):  # merging would fill it with a default
        raise UserError(f"{missing} is not set: give it on the command line as {missing}=...")
    try:
        return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), cfg)))
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} is not set: give it on the command line as {key}=...") from error
    except OmegaConfBaseException as error:
        first_line = str(error).splitlines()[0]
        key = error.full_key
        raise UserError(f"config: {first_line}" + (f" (key: {key})" if key else "")) from error


def missing_keys(tree: Any, path: str = "") -> Iterator[str]:
    """Keys, in full, whose value is `???`; OmegaConf's own function fails on an interpolation that leads to one."""
    if tree == MISSING:
        yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from missing_keys(value, f"{path}.{key}" if path else str(key))


FREE_KEYS = (
    *(f"data.{name}" for name in ("columns", "constants", "event_names", "item_columns", "user_columns")),
    *(f"data.{name}" for name in ("identity_columns", "feeds", "extras", "relabel", "segments")),
    "spark.settings",
    "task.outcome_weights",
    "model.runs",
)
"""Mappings whose keys are the user's own."""


def with_free_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides such that Hydra takes any key in a mapping that is the user's own, without being told by a +."""
    return [f"++{o}" if re.match(rf"({'|'.join(map(re.escape, FREE_KEYS))})[.=]", o) else o for o in overrides]


def configure(command: str, schema: type[T], *overrides: str) -> T:
    """The configuration that `shopkeeper <command> <overrides>` would run with, for notebooks and the demo.

    Raises:
        UserError: for a key or value that the command would refuse.
    """
    from contextlib import nullcontext

    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    inside = GlobalHydra.instance().is_initialized()  # of a running command
    with nullcontext() if inside else initialize_config_module("shopkeeper.configs", version_base="1.3"):
        try:
            return parse(schema, compose(config_name=command, overrides=with_free_keys(overrides)))
        except HydraException as error:
            raise UserError(f"config: {' '.join(str(error).split())}") from error


def require(holds: bool, key: str, value: object, wanted: str) -> None:
    """Raise a `UserError` that names the key, its value and what it may be, unless `holds`."""
    if not holds:
        raise UserError(f"config: {key}={value} is out of range: it must be {wanted}")


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are kept: an MLflow tracking URI, an experiment, and a folder for artifacts and checkpoints."""

    uri: str
    experiment: str
    artifacts: str | None
    runs_dir: str


@dataclass(kw_only=True)
class TaskWeights:
    purchase: float
    next: float
    next_any: float
    outcomes: float

    def __post_init__(self) -> None:
        for task, weight in vars(self).items():
            require(weight > 0, f"task.weights.{task}", weight, "above 0")


@dataclass(kw_only=True)
class TaskConfig:
    """Heads and their loss weights; `auto` takes every head that the prepared data supports.

    `outcomes` is `auto`, `none` or a list of names; `outcome_weights` holds the weights of those that are to have
    another one than `weights.outcomes`.
    """

    heads: str
    outcomes: Any
    weights: TaskWeights
    outcome_weights: dict[str, float]
    uncertainty_weighting: bool

    def __post_init__(self) -> None:
        named = isinstance(self.outcomes, list) and all(isinstance(name, str) for name in self.outcomes)
        require(self.outcomes in ("auto", "none") or named, "task.outcomes", self.outcomes, "auto, none or a list")
        for name, weight in self.outcome_weights.items():
            require(weight > 0, f"task.outcome_weights.{name}", weight, "above 0")


LOSSES = ("softmax", "gbce", "bpr_max")


@dataclass(kw_only=True)
class LossConfig:
    """`calibration` is of gbce alone, `regularisation` of bpr_max."""

    kind: str
    num_negatives: int
    power: float
    calibration: float = 0.0
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        require(self.kind in LOSSES, "loss.kind", self.kind, f"one of {', '.join(LOSSES)}")
        require(0 <= self.calibration <= 1, "loss.calibration", self.calibration, "from 0 to 1")
        require(self.regularisation >= 0, "loss.regularisation", self.regularisation, "at least 0")
        require(self.num_negatives >= 1, "loss.num_negatives", self.num_negatives, "at least 1")
        require(0 <= self.power <= 1, "loss.power", self.power, "from 0 to 1")


@dataclass(kw_only=True)
class BatchConfig:
    max_len: int
    tokens: int

    def __post_init__(self) -> None:
        require(self.max_len >= 1, "batches.max_len", self.max_len, "at least 1")
        require(self.tokens >= 1, "batches.tokens", self.tokens, "at least 1")


SCHEDULES = ("constant", "one_cycle")


@dataclass(kw_only=True)
class OptimizerConfig:
    lr: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float
    average: float
    heads_lr: float
    schedule: str = "constant"

    def __post_init__(self) -> None:
        require(self.schedule in SCHEDULES, "optimizer.schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        require(self.heads_lr > 0, "optimizer.heads_lr", self.heads_lr, "above 0")
        require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "at least 0")
        require(self.clip_norm > 0, "optimizer.clip_norm", self.clip_norm, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.average < 1, "optimizer.average", self.average, "at least 0 and below 1")


@dataclass(kw_only=True)
class ProtocolConfig:
    """What is judged: steps seen, the cutoff of every ranking metric, and how intervals are drawn."""

    ks: list[int]
    cutoff: int
    max_examples: int
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        require(bool(self.ks) and min(self.ks) >= 0, "protocol.ks", self.ks, "one or more numbers of steps, from 0")
        for name in ("cutoff", "max_examples", "resamples"):
            require(getattr(self, name) >= 1, f"protocol.{name}", getattr(self, name), "at least 1")


@dataclass(kw_only=True)
class EarlyStoppingConfig:
    patience: int
    min_delta: float

    def __post_init__(self) -> None:
        require(self.patience >= 1, "early_stopping.patience", self.patience, "at least 1")


@dataclass(kw_only=True)
class LastLayerConfig:
    moments: int
    most_steps: int
    tune_share: float
    penalties: list[float]

    def __post_init__(self) -> None:
        require(self.moments >= 1, "last_layer.moments", self.moments, "at least 1")
        require(self.most_steps >= 0, "last_layer.most_steps", self.most_steps, "at least 0")
        require(0 <= self.tune_share < 1, "last_layer.tune_share", self.tune_share, "from 0 to below 1")
        penalties = self.penalties
        require(bool(penalties) and min(penalties) > 0, "last_layer.penalties", penalties, "numbers above 0")


@dataclass(kw_only=True)
class CalibrationConfig:
    coverage: float
    borrowed: float
    doubt: float
    least: int

    def __post_init__(self) -> None:
        require(0 < self.coverage < 1, "calibration.coverage", self.coverage, "between 0 and 1")
        require(self.borrowed > 0, "calibration.borrowed", self.borrowed, "above 0")
        require(self.doubt >= 0, "calibration.doubt", self.doubt, "at least 0")
        require(self.least >= 1, "calibration.least", self.least, "at least 1")


@dataclass(kw_only=True)
class DepthConfig:
    error: float
    miss: float
    confidence: float

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            require(0 < share < 1, f"depth.{name}", share, "between 0 and 1")


@dataclass(kw_only=True)
class TrainConfig:
    prepared: str
    model: dict[str, Any]
    loss: LossConfig
    task: TaskConfig
    batches: BatchConfig
    optimizer: OptimizerConfig
    early_stopping: EarlyStoppingConfig
    last_layer: LastLayerConfig
    calibration: CalibrationConfig
    depth: DepthConfig
    trainer: dict[str, Any]
    tracking: TrackingConfig
    seed: int
    resume: str | None
    refit: str | None

    def __post_init__(self) -> None:
        epochs = self.trainer.get("max_epochs")
        require(isinstance(epochs, int) and epochs >= 1, "trainer.max_epochs", epochs, "a whole number, at least 1")


@dataclass(kw_only=True)
class ClassifierConfig:
    """How the baselines of outcomes are fitted, and the grids that validation chooses from."""

    max_moments: int
    tune_share: float
    columns: int
    inverse_penalties: list[float]
    leaves: list[int]
    rounds: int
    learning_rate: float
    min_samples_leaf: int
    max_features: float
    patience: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("max_moments", "columns", "rounds", "min_samples_leaf", "patience"):
            require(getattr(self, name) >= 1, f"classifiers.{name}", getattr(self, name), "at least 1")
        require(0 <= self.tune_share < 1, "classifiers.tune_share", self.tune_share, "from 0 to below 1")
        penalties, leaves = self.inverse_penalties, self.leaves
        require(bool(penalties) and min(penalties) > 0, "classifiers.inverse_penalties", penalties, "numbers above 0")
        require(bool(leaves) and min(leaves) >= 2, "classifiers.leaves", leaves, "numbers of leaves, from 2")
        require(self.learning_rate > 0, "classifiers.learning_rate", self.learning_rate, "above 0")
        require(0 < self.max_features <= 1, "classifiers.max_features", self.max_features, "above 0, at most 1")


@dataclass(kw_only=True)
class EvaluateConfig:
    prepared: str
    run: str
    output: str
    baselines: list[str]
    classifiers: ClassifierConfig
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
    register: Any
    champion: str
    protocol: ProtocolConfig
    tracking: TrackingConfig

    def __post_init__(self) -> None:
        require(self.golden >= 32, "golden", self.golden, "at least 32")
        require(isinstance(self.register, bool | str | None), "register", self.register, "true, false or a name")
        require(self.champion in ("auto", "force", "keep"), "champion", self.champion, "auto, force or keep")


@dataclass(kw_only=True)
class PredictConfig:
    bundle: str
    histories: str
    output: str
    k: int
    exclude_seen: bool
    rows_per_batch: int

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", self.k, "at least 1")
        require(self.rows_per_batch >= 1, "rows_per_batch", self.rows_per_batch, "at least 1")


@dataclass(kw_only=True)
class DemoConfig:
    """Which data and models the demo goes through; lists hold overrides of the command they are given to."""

    log: str
    output: str
    prepare: list[str]
    models: dict[str, list[str]]
    evaluate: list[str]
    request_steps: int


@dataclass(kw_only=True)
class ForgetConfig:
    user: str
    prepared: list[str]
    bundles: str
    tracking: TrackingConfig


@dataclass(kw_only=True)
class DoctorConfig:
    tracking: TrackingConfig
