"""The parts of a blend: taken from finished runs, or trained on the way."""

import json
from dataclasses import replace

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.models.blend import Blend
from shopkeeper.models.checkpoint import load_model
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train import tracking
from shopkeeper.train.record import family_of
from shopkeeper.train.tracking import Store, TrackedRun


def with_named_runs(config: TrainConfig, store: Store, *, dataset_hash: str) -> TrainConfig:
    """The configuration with every part of `model.runs` as its run has it, and `best` told by its id.

    Raises:
        UserError: when a run is not there, was trained on other data, or does not fit what is asked for.
    """
    asked, parts = config.model.get("runs") or {}, dict(config.model.get("parts") or {})
    runs = {}
    for name, run_id in asked.items():
        if name not in parts:
            raise UserError(f"model.runs.{name}: the blend has no such part; its parts are: {', '.join(parts)}")
        family = family_of(replace(config, model=parts[name]))
        run = (
            store.best(dataset_hash=dataset_hash, family=family)
            if run_id == "best"
            else store.find(run_id, dataset_hash=dataset_hash)
        )
        stored = json.loads(run.file(tracking.CONFIG_FILE).read_text())
        parts[name], runs[name] = stored["model"], run.run_id
    return replace(config, model=config.model | {"parts": parts, "runs": runs}) if runs else config


def take_parts(blend: Blend, store: Store, *, dataset_hash: str, refit: bool) -> None:
    """Give every part of `model.runs` what its run learned; in a refit, what that run's refit did.

    Raises:
        UserError: when the run is of other tasks or another longest history, or was not refitted.
    """
    for name, run_id in blend.runs.items():
        run: TrackedRun | None = store.get(run_id)
        if refit:
            run = store.refit_of(run_id, dataset_hash=dataset_hash)
        if run is None:
            raise UserError(f"the part {name} is of run {run_id}, which has no refit: shopkeeper train refit={run_id}")
        part = load_model(run.file(tracking.MODEL_FILE))
        for what in ("tasks", "max_len"):
            own, wanted = getattr(part, what), getattr(blend, what)
            if own != wanted:
                raise UserError(f"model.runs.{name}={run_id}: that model's {what} is {own}, the blend's {wanted}")
        blend.named_parts()[name].restore(part.state_dict())


def part_to_train(blend: Blend) -> NeuralModel | None:
    """The part that gradients are to train here; None where none is.

    Raises:
        UserError: when there are several.
    """
    parts = {n: p for n, p in blend.named_parts().items() if isinstance(p, NeuralModel) and n not in blend.runs}
    if len(parts) > 1:
        raise UserError(
            f"a blend trains one part by gradient, not {' and '.join(parts)}: train the others first and name their "
            "runs: model.runs={" + f"{list(parts)[-1]}: best" + "}"
        )
    return next(iter(parts.values()), None)
