"""What a run keeps of its configuration, and how a later one finds it again."""

import hashlib
import importlib
import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from shopkeeper.config import TrainConfig, UserError, configure, parse
from shopkeeper.data.prepared import Prepared
from shopkeeper.train import tracking
from shopkeeper.train.tracking import TrackedRun

GIT_COMMIT = "mlflow.source.git.commit"
"""The tag that MLflow's own pages show as a run's version."""


def family_of(config: TrainConfig) -> str:
    """`shopkeeper.models.sasrec.SASRec` -> `sasrec`, by the class's own word."""
    module, _, name = str(config.model.get("_target_")).rpartition(".")
    try:
        return str(getattr(importlib.import_module(module), name).family)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"model._target_={config.model.get('_target_')!r} is not a model: {error}") from error


def tags_of(config: TrainConfig, prepared: Prepared) -> dict[str, str]:
    """What later stages find a run by."""
    return {
        tracking.DATASET_HASH: prepared.content_hash,
        tracking.FAMILY: family_of(config),
        tracking.CONFIG_HASH: config_hash(config),
    } | ({GIT_COMMIT: commit} if (commit := git_commit()) else {})


def git_commit() -> str | None:
    """The commit of the checkout this code lies in; None where it was installed from a package."""
    here = Path(__file__).resolve()
    try:
        for question in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            asked = subprocess.run(["git", *question], cwd=here.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()


def config_hash(config: TrainConfig) -> str:
    """The same for two configurations that train the same model on the same data, wherever that and the store lie."""
    decisive = {k: v for k, v in asdict(config).items() if k not in ("prepared", "tracking", "resume", "refit")}
    content = json.dumps([decisive, tracking.environment()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def record(run: TrackedRun, config: TrainConfig, prepared: Prepared) -> None:
    """Keep the whole configuration and the environment with the run, before anything can go wrong."""
    file = run.checkpoints / tracking.CONFIG_FILE
    file.write_text(json.dumps(asdict(config), indent=1))
    run.log_file(file)
    params = flatten(asdict(config)) | tracking.environment() | {"prepared/content_hash": prepared.content_hash}
    run.log_params(params)


def recorded(run: TrackedRun, config: TrainConfig) -> TrainConfig:
    """The configuration a run was started with, on the dataset and store of `config`.

    Raises:
        UserError: when `config` sets anything else to another value.
    """
    stored = parse(TrainConfig, OmegaConf.create(json.loads(run.file(tracking.CONFIG_FILE).read_text())))
    refuse_changes(config, stored, run)
    return replace(stored, prepared=config.prepared, tracking=config.tracking, resume=None, refit=stored.refit)


def refuse_changes(config: TrainConfig, stored: TrainConfig, run: TrackedRun) -> None:
    """A value that is neither the default nor the run's own was asked for, and would be passed over."""
    free = ("prepared", "tracking", "resume", "refit")
    asked, own, default = (
        {k: v for k, v in flatten(asdict(c)).items() if k.split("/")[0] not in free}
        for c in (config, stored, configure("train", TrainConfig, f"prepared={config.prepared}"))
    )
    changed = [k for k, v in asked.items() if v != default.get(k) and v != own.get(k)]
    if changed:
        raise UserError(
            f"run {run.run_id} keeps its own configuration: take away what sets {changed[0].replace('/', '.')}, "
            "or start a new run"
        )


def check_dataset(run: TrackedRun, prepared: Prepared) -> None:
    if run.tags.get(tracking.DATASET_HASH) != prepared.content_hash:
        raise UserError(f"run {run.run_id} was trained on another prepared dataset than {prepared.path}")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a/b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
