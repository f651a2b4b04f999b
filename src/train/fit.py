"""Fit one model: a config in, a finished run with a checkpoint out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.data import schema as s
from shopkeeper.data.batches import TokenBatches, TrainingPieces, Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.models.checkpoint import build_model, save_model
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.criteria import make_criterion
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train import tracking
from shopkeeper.train.callbacks import BEST, LAST, callbacks, interrupts_raised, quiet_lightning
from shopkeeper.train.module import TrainingModule
from shopkeeper.train.record import check_dataset, family_of, record, recorded, tags_of
from shopkeeper.train.tracking import Store, TrackedRun
from shopkeeper.train.validation import Validation, standard_protocol

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """Everything a fit works on."""

    config: TrainConfig
    prepared: Prepared
    data: FitData
    tasks: list[str]
    facts: dict[str, Any]
    run: TrackedRun
    validation: Validation | None  # None for a refit, which judges nothing
    extra: Sequence[pl.Callback] = ()  # callbacks of whoever asked for the fit


def train(
    config: TrainConfig,
    *,
    say: Say = print,
    started: Callable[[TrackedRun], None] | None = None,
    extra: Sequence[pl.Callback] = (),
) -> TrackedRun:
    """Train, resume or refit as the config says; return the finished run.

    Args:
        started: told the new run before anything is trained.
        extra: callbacks beside our own, after them.

    Raises:
        UserError: when the data cannot support the task, the split is empty, or a run cannot be found or resumed.
    """
    prepared = Prepared.read(config.prepared)
    store = Store(config.tracking)
    if config.resume and config.refit:
        raise UserError("resume and refit exclude each other: resume goes on with a run, refit repeats a finished one")
    if config.refit:
        return refit(config, prepared, store, say)
    if config.resume:
        run = store.reopen(config.resume)
        check_dataset(run, prepared)
        config = recorded(run, config)
        say(f"resuming run {run.run_id}")
    else:
        run = store.start(name=family_of(config), tags=tags_of(config, prepared))
        record(run, config, prepared)
        say(f"run {run.run_id}: {family_of(config)}")
        if started is not None:
            started(run)
    with run.ending_known():
        if run.tags.get(tracking.REFIT_OF):
            return finish_refit(setting_of(config, prepared, run, say, refit=True), steps_of(store, run), say)
        return fit_and_judge(replace(setting_of(config, prepared, run, say, refit=False), extra=extra), say)


def fit_and_judge(setting: Setting, say: Say) -> TrackedRun:
    model = fit_model(setting, steps=None)
    metrics = setting.validation.metrics(model) if setting.validation else {}
    if tracking.PRIMARY not in metrics:
        say("this model lacks the head of val/primary, so run=best will never choose it")
    setting.run.log_metrics(metrics, step=0)
    finish(setting, model)
    say(" ".join(f"{name}={value:.4f}" for name, value in metrics.items() if "/k" not in name))
    return setting.run


def refit(config: TrainConfig, prepared: Prepared, store: Store, say: Say) -> TrackedRun:
    """Train a finished run's configuration once more on all rows and users; nothing is judged or selected.

    A model trained by gradient takes the number of steps its run chose on validation.
    """
    assert config.refit
    original = store.find(config.refit, dataset_hash=prepared.content_hash)
    if original.tags.get(tracking.REFIT_OF):
        raise UserError(f"refit={config.refit}: that run is itself a refit; name the run it repeats")
    again = replace(recorded(original, config), refit=original.run_id)
    run = store.start(
        name=f"{family_of(again)} refit", tags=tags_of(again, prepared) | {tracking.REFIT_OF: original.run_id}
    )
    record(run, again, prepared)
    say(f"run {run.run_id}: refit of {original.run_id} on all rows and users")
    with run.ending_known():
        return finish_refit(setting_of(again, prepared, run, say, refit=True), steps_of(store, run), say)


def finish_refit(setting: Setting, steps: int, say: Say) -> TrackedRun:
    model = fit_model(setting, steps=steps)
    finish(setting, model)
    say(f"refitted on {len(setting.data.rows()):,} events; no metric is written for a refit")
    return setting.run


def steps_of(store: Store, run: TrackedRun) -> int:
    """Gradient steps the original of a refit chose on validation."""
    original = store.get(run.tags[tracking.REFIT_OF])
    return int(json.loads(original.file(tracking.SUMMARY_FILE).read_text())["best_step"])


def setting_of(config: TrainConfig, prepared: Prepared, run: TrackedRun, say: Say, *, refit: bool) -> Setting:
    window = train_window(prepared, refit=refit)
    available, left_out = supported_tasks(prepared, train_window(prepared))
    tasks = chosen_tasks(config, available, left_out, say)
    return Setting(
        config=config,
        prepared=prepared,
        data=FitData(prepared, window, Vocabulary.of(prepared, refit=refit)),
        tasks=tasks,
        facts={"purchase_code": prepared.purchase_code},
        run=run,
        validation=None if refit else Validation.of(prepared, tasks, standard_protocol(), primary=available[0]),
    )


def chosen_tasks(config: TrainConfig, available: list[str], left_out: dict[str, str], say: Say) -> list[str]:
    """The heads to train: with `auto` every available one, saying which are left out and why.

    Raises:
        UserError: when a head is asked for that the data cannot support, or is unknown.
    """
    if config.task.heads == "auto":
        for task, reason in left_out.items():
            say(f"leaving out the head {task!r}: {reason}")
        if not available:
            raise UserError("there is nothing to predict: " + "; ".join(left_out.values()))
        return available
    asked = s.TASK_NEXT if config.task.heads == s.TASK_NEXT_ANY else config.task.heads
    if asked not in available:
        reason = left_out.get(asked, f"heads are: auto, {', '.join([*s.TASKS, s.TASK_NEXT_ANY])}")
        raise UserError(f"task.heads={config.task.heads}: {reason}")
    return [config.task.heads]


def fit_model(setting: Setting, *, steps: int | None) -> SessionModel:
    """Build and fit; where gradients are needed, train for `steps`, or until validation stops improving."""
    config = setting.config
    pl.seed_everything(config.seed, verbose=False)
    model = build_model(
        config.model,
        vocabulary=setting.data.vocabulary,
        tasks=setting.tasks,
        max_len=config.batches.max_len,
        facts=setting.facts,
    )
    model.fit(setting.data)
    summary = {"best_step": 0}
    if isinstance(model, NeuralModel):
        summary = descend(setting, model, steps=steps)
    file = setting.run.checkpoints / tracking.SUMMARY_FILE
    file.write_text(json.dumps(summary))
    return model.eval()


def descend(setting: Setting, model: NeuralModel, *, steps: int | None) -> dict[str, int]:
    """Train by gradient, going on from the last checkpoint where there is one; leaves the best weights in `model`."""
    config, folder = setting.config, setting.run.checkpoints
    quiet_lightning()
    pieces = TrainingPieces(
        setting.prepared,
        setting.data.window,
        setting.data.vocabulary,
        setting.tasks,
        max_len=config.batches.max_len,
        seed=config.seed,
    )
    batches = TokenBatches(pieces, tokens=config.batches.tokens, seed=config.seed)
    # a generator of its own: the seed each iterator draws would shift dropout's where a run is resumed
    loader: DataLoader[Any] = DataLoader(pieces, sampler=batches, batch_size=None, generator=torch.Generator())
    module = TrainingModule(
        model,
        weights=loss_weights(asdict(config.task.weights), setting.tasks),
        criteria=[
            make_criterion(
                torch.from_numpy(setting.data.target_counts(task)),
                num_negatives=config.loss.num_negatives,
                power=config.loss.power,
            )
            for task in setting.tasks
        ],
        optimizer=config.optimizer,
        seed=config.seed,
    )
    trainer = make_trainer(setting, steps)
    last = folder / LAST
    if last.exists():  # Lightning draws the first epoch's batches before it tells which epoch it is
        batches.set_epoch(int(torch.load(last, weights_only=False)["epoch"]) + 1)
    with interrupts_raised():
        trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    if steps is None:
        best = torch.load(folder / BEST, weights_only=False)
        module.load_state_dict(best["state_dict"])
    model.load_state_dict(module.judged.state_dict())
    return {"best_step": int(best["global_step"]) if steps is None else trainer.global_step}


def loss_weights(weights: Mapping[str, float], tasks: list[str]) -> list[float]:
    """Weights of the heads that are trained, the largest 1: a head on its own weighs the same whatever its share."""
    largest = max(weights[task] for task in tasks)
    return [weights[task] / largest for task in tasks]


def make_trainer(setting: Setting, steps: int | None) -> pl.Trainer:
    """Lightning's Trainer from the YAML's block.

    Raises:
        UserError: when Lightning refuses a value.
    """
    config = setting.config
    try:
        return pl.Trainer(
            **trainer_options(config, steps),
            callbacks=[*callbacks(setting.run, setting.validation, config.early_stopping), *setting.extra],
            logger=False,
            gradient_clip_val=config.optimizer.clip_norm,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


def trainer_options(config: TrainConfig, steps: int | None) -> dict[str, Any]:
    """The YAML's trainer block; a refit runs for its steps instead of epochs."""
    options = dict(config.trainer)
    if steps is not None:
        options |= {"max_epochs": -1, "max_steps": steps}
    return options


def finish(setting: Setting, model: SessionModel) -> None:
    """Write the checkpoint and hand every file to the store."""
    folder, run = setting.run.checkpoints, setting.run
    config = {key: value for key, value in setting.config.model.items()}
    save_model(folder / tracking.MODEL_FILE, model, config=config, facts=setting.facts)
    for name in (tracking.MODEL_FILE, tracking.SUMMARY_FILE):
        run.log_file(folder / name)
    run.finish()
