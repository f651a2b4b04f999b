"""A configuration of `shopkeeper train` as an experiment: a YAML of what differs from the defaults, to be run again."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from shopkeeper.config import TrainConfig, configure

NOT_ITS_OWN = ("prepared", "tracking", "resume", "refit")


def write_experiment(config: TrainConfig, folder: Path, *, name: str, model: str, note: str) -> tuple[Path, str]:
    """Write `experiment/<name>.yaml` into a folder; return it with the command that runs it, which is its first line.

    The command names the package `_global_` because a first line that does would have to be the first itself.
    """
    arguments = ["--config-dir", str(folder), f"+experiment@_global_={name}", f"prepared={config.prepared}"]
    command = shlex.join(["shopkeeper", "train", *arguments])
    usual = configure("train", TrainConfig, f"prepared={config.prepared}", f"model={model}")
    content = {"defaults": [{"override /model": model}], **difference(own(config), own(usual))}
    file = folder / "experiment" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"# {command}\n# {note}\n" + yaml.safe_dump(content, sort_keys=False)
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(file), command


def own(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration is not about where data and runs lie."""
    return {key: value for key, value in asdict(config).items() if key not in NOT_ITS_OWN}


def difference(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The values that are not as usual, nested as they are."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        other = usual.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            value = difference(value, other)
            if not value:
                continue
        elif value == other:
            continue
        found[key] = value
    return found
