"""A model as one file: its YAML values, the sizes it was built for, and its weights or tables; no code, no pickle."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shopkeeper.config import UserError
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.models.baselines import CountedModel
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.contract import SessionModel


def build_model(
    config: Mapping[str, Any],
    *,
    vocabulary: Vocabulary,
    tasks: list[str],
    max_len: int,
    facts: Mapping[str, Any],
    outcomes: Sequence[Outcome] = (),
) -> SessionModel:
    """Build the class that `_target_` names from the other values of its YAML.

    `facts` are learned from the data (no YAML may set them); each class takes those its constructor names. Outcomes
    are for a class that is trained by gradient; the others only rank.

    Raises:
        UserError: when the class is unknown or refuses a value; the message names it.
    """
    kind = model_class(config)
    values = {key: value for key, value in config.items() if key != "_target_"}
    if outcomes:
        values["outcomes"] = list(outcomes)
    try:
        wanted = {key: value for key, value in facts.items() if key in kind.__init__.__annotations__}
        return kind(vocabulary=vocabulary, tasks=tasks, max_len=max_len, **values, **wanted)
    except KeyError as error:
        raise UserError(f"model: a value is missing: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"model: {error}") from error


def model_class(config: Mapping[str, Any]) -> type[SessionModel]:
    """The class that `_target_` names.

    Raises:
        UserError: when there is none, or it is no model.
    """
    module, _, name = str(config.get("_target_")).rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"model: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, SessionModel)):
        raise UserError(f"model: {config.get('_target_')} is not a model")
    return kind


def save_model(path: Path, model: SessionModel, *, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint atomically."""
    content = {
        "config": dict(config),
        "vocabulary": [*model.vocabulary[:2], list(model.vocabulary.context)],
        "tasks": model.tasks,
        "max_len": model.max_len,
        "facts": dict(facts),
        "outcomes": [[outcome.name, list(outcome.classes)] for outcome in model.outcomes],
        "calibration": model.calibration.as_dict() if model.calibration else None,
        "state": model.state_dict(),
    }
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def load_model(path: Path) -> SessionModel:
    """Rebuild a model from its checkpoint, in evaluation mode.

    Raises:
        UserError: when the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist; was the run finished?")
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file; each means the same to the user
        raise UserError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    num_items, num_events, context = content["vocabulary"]
    model = build_model(
        content["config"],
        vocabulary=Vocabulary(num_items, num_events, tuple(context)),
        tasks=content["tasks"],
        max_len=content["max_len"],
        facts=content["facts"],
        outcomes=[Outcome(name, tuple(classes)) for name, classes in content.get("outcomes", [])],
    )
    if isinstance(model, CountedModel):
        model.set_tables(content["state"])
    else:
        model.load_state_dict(content["state"])
    if content.get("calibration"):
        model.calibration = Calibration.from_dict(content["calibration"])
    return model.eval()
