"""Fit one model: a config in, a finished run with a checkpoint out."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from shopkeeper.config import TaskConfig, TrainConfig, UserError, parse
from shopkeeper.data import schema as s
from shopkeeper.data.batches import TokenBatches, TrainingPieces, Vocabulary
from shopkeeper.data.outcomes import Outcome, supported_outcomes
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.models.blend import Blend
from shopkeeper.models.checkpoint import build_model, load_model, model_class, save_model
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.criteria import make_criterion
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train import tracking
from shopkeeper.train.blending import part_to_train, take_parts, with_named_runs
from shopkeeper.train.calibrate import calibrate
from shopkeeper.train.callbacks import BEST, LAST, callbacks, interrupts_raised, quiet_lightning
from shopkeeper.train.distributed import SharedBatches, helpers, leads, summed_gradients
from shopkeeper.train.failures import told_what_to_change
from shopkeeper.train.last_layer import refine
from shopkeeper.train.module import TrainingModule
from shopkeeper.train.profile import FIT, Stopwatch
from shopkeeper.train.record import check_dataset, family_of, record, recorded, tags_of
from shopkeeper.train.tracking import Store, TrackedRun
from shopkeeper.train.validation import Validation, standard_protocol
from shopkeeper.train.weighing import weigh

BEST_STEP, LAST_LAYER = "best_step", "last_layer"
"""Keys of a run's summary."""
HELPERS_FILE = "helpers.json"
"""What other processes of a training read of it, among its checkpoints."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """Everything a fit works on."""

    config: TrainConfig
    prepared: Prepared
    data: FitData
    tasks: list[str]
    outcomes: list[Outcome]
    facts: dict[str, Any]
    run: TrackedRun
    validation: Validation | None  # None for a refit, which judges nothing
    extra: Sequence[pl.Callback] = ()  # callbacks of whoever asked for the fit
    chosen: Mapping[str, Any] | None = None  # of a refit: what its run chose for the last layer of each outcome's head


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
        config = with_named_runs(config, store, dataset_hash=prepared.content_hash)
        run = store.start(name=family_of(config), tags=tags_of(config, prepared))
        record(run, config, prepared)
        say(f"run {run.run_id}: {family_of(config)}")
        if started is not None:
            started(run)
    with run.ending_known():
        if run.tags.get(tracking.REFIT_OF):
            return finish_refit(setting_of(config, prepared, run, say, refit=True), original_of(store, run), say)
        return fit_and_judge(replace(setting_of(config, prepared, run, say, refit=False), extra=extra), say)


def fit_and_judge(setting: Setting, say: Say) -> TrackedRun:
    model = fit_model(setting, steps=None)
    assert setting.validation is not None
    metrics = weigh(model, setting.validation) if isinstance(model, Blend) else setting.validation.metrics(model)
    if tracking.PRIMARY not in metrics:
        say("this model lacks the head of val/primary, so run=best will never choose it")
    setting.run.log_metrics(metrics, step=0)
    if model.trained_by_gradient:
        config = setting.config
        model.calibration = calibrate(model, setting.validation, config.calibration, config.depth, say=say)
    finish(setting, model)
    say(" ".join(f"{name}={value:.4f}" for name, value in metrics.items() if "/k" not in name))
    return setting.run


def refit(config: TrainConfig, prepared: Prepared, store: Store, say: Say) -> TrackedRun:
    """Train a finished run's configuration once more on all rows and users; nothing is judged or selected.

    A model trained by gradient takes the number of steps its run chose on validation, and its calibration.
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
        return finish_refit(setting_of(again, prepared, run, say, refit=True), original, say)


def finish_refit(setting: Setting, original: TrackedRun, say: Say) -> TrackedRun:
    summary = summary_of(original)
    model = fit_model(replace(setting, chosen=summary.get(LAST_LAYER, {})), steps=int(summary[BEST_STEP]))
    judged = load_model(original.file(tracking.MODEL_FILE))
    model.calibration = judged.calibration
    if isinstance(model, Blend):  # of what validation taught, the weights stay as the steps do
        model.take_weights(judged)
    finish(setting, model)
    say(f"refitted on {len(setting.data.rows()):,} events; no metric is written for a refit")
    return setting.run


def original_of(store: Store, refit: TrackedRun) -> TrackedRun:
    return store.get(refit.tags[tracking.REFIT_OF])


def summary_of(run: TrackedRun) -> dict[str, Any]:
    """What a run chose on validation: the number of gradient steps, and the last layer of the outcomes' heads."""
    return dict(json.loads(run.file(tracking.SUMMARY_FILE).read_text()))


def setting_of(config: TrainConfig, prepared: Prepared, run: TrackedRun, say: Say, *, refit: bool) -> Setting:
    window = train_window(prepared, refit=refit)
    available, left_out = supported_tasks(prepared, train_window(prepared))
    tasks = chosen_tasks(config, available, left_out, say)
    outcomes = chosen_outcomes(config, prepared, say) if model_class(config.model).trained_by_gradient else []
    return Setting(
        config=config,
        prepared=prepared,
        data=FitData(prepared, window, vocabulary_of(prepared, config, refit=refit)),
        tasks=tasks,
        outcomes=outcomes,
        facts={"purchase_code": prepared.purchase_code},
        run=run,
        validation=None
        if refit
        else Validation.of(prepared, tasks, standard_protocol(), primary=available[0], outcomes=outcomes),
    )


def vocabulary_of(prepared: Prepared, config: TrainConfig, *, refit: bool) -> Vocabulary:
    """What the model may know: by `content.cold_items` also the items of the catalogue that train never saw."""
    cold = bool((config.model.get("content") or {}).get("cold_items"))
    return Vocabulary.of(prepared, refit=refit)._replace(num_items=prepared.num_items(refit=refit or cold))


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


def chosen_outcomes(config: TrainConfig, prepared: Prepared, say: Say) -> list[Outcome]:
    """The outcomes to train: with `auto` every one that train knows, saying which are left out and why.

    Raises:
        UserError: when one is asked for that the data cannot support, or is unknown.
    """
    if config.task.outcomes == "none":
        return []
    available, left_out = supported_outcomes(prepared, train_window(prepared))
    names = [outcome.name for outcome in available]
    for name in config.task.outcome_weights:
        if name not in names:
            raise UserError(f"task.outcome_weights.{name}: outcomes are: {', '.join(names)}")
    if config.task.outcomes == "auto":
        for name, reason in left_out.items():
            say(f"leaving out the outcome {name!r}: {reason}")
        return available
    for name in config.task.outcomes:
        if name not in names:
            reason = left_out.get(name, f"outcomes are: {', '.join(names)}")
            raise UserError(f"task.outcomes={name}: {reason}")
    return [outcome for outcome in available if outcome.name in config.task.outcomes]


def fit_model(setting: Setting, *, steps: int | None) -> SessionModel:
    """Build and fit; where gradients are needed, train for `steps`, or until validation stops improving."""
    with told_what_to_change(setting.config, setting.run.checkpoints):
        return fit_unguarded(setting, steps=steps)


def fit_unguarded(setting: Setting, *, steps: int | None) -> SessionModel:
    config = setting.config
    pl.seed_everything(config.seed, verbose=False)
    model = build_model(
        config.model,
        vocabulary=setting.data.vocabulary,
        tasks=setting.tasks,
        max_len=config.batches.max_len,
        facts=setting.facts,
        outcomes=setting.outcomes,
    )
    model.fit(setting.data)
    if isinstance(model, Blend):
        take_parts(model, setting.run.store, dataset_hash=setting.prepared.content_hash, refit=steps is not None)
    learner = part_to_train(model) if isinstance(model, Blend) else model
    summary: dict[str, Any] = {BEST_STEP: 0}
    if isinstance(learner, NeuralModel):
        with helpers(processes(setting.config) - 1, command_of_helpers(setting, steps)):
            summary[BEST_STEP] = descend(setting, learner, steps=steps)
    if leads():
        if isinstance(learner, NeuralModel):
            summary[LAST_LAYER] = refined(setting, learner)
        (setting.run.checkpoints / tracking.SUMMARY_FILE).write_text(json.dumps(summary))
    return model.eval()


def refined(setting: Setting, model: NeuralModel) -> dict[str, Any]:
    """Fit the last layer of the heads to the end; what was chosen for each outcome."""
    validation = setting.validation.moments if setting.validation else None
    return refine(
        model,
        setting.data,
        setting.config.last_layer,
        validation=validation,
        seed=setting.config.seed,
        chosen=setting.chosen,
    )


def processes(config: TrainConfig) -> int:
    """How many processes train, one per device; which ones a word such as `auto` means is left to Lightning: one."""
    devices = config.trainer.get("devices", 1)
    return max(devices, 1) if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1


def command_of_helpers(setting: Setting, steps: int | None) -> list[str]:
    """What makes Python another process of this training: `help_train` on the same run."""
    file = setting.run.checkpoints / HELPERS_FILE
    file.write_text(json.dumps(asdict(setting.config)))
    code = f"from shopkeeper.train.fit import help_train; help_train({str(file)!r}, {setting.run.run_id!r}, {steps})"
    return ["-c", code]


def help_train(config_file: str, run_id: str, steps: int | None) -> None:
    """Take a share of a training that another process leads: it alone writes and answers."""
    config = parse(TrainConfig, OmegaConf.create(json.loads(Path(config_file).read_text())))
    quiet_lightning()
    run, prepared = Store(config.tracking).get(run_id), Prepared.read(config.prepared)
    fit_model(setting_of(config, prepared, run, lambda text: None, refit=steps is not None), steps=steps)


def descend(setting: Setting, model: NeuralModel, *, steps: int | None) -> int:
    """Train by gradient, going on from the last checkpoint where there is one; leaves the best weights in `model`.

    Returns the number of steps that led to them.
    """
    config, folder = setting.config, setting.run.checkpoints
    quiet_lightning()
    pieces = TrainingPieces(
        setting.prepared,
        setting.data.window,
        setting.data.vocabulary,
        setting.tasks,
        setting.outcomes,
        max_len=config.batches.max_len,
        seed=config.seed,
    )
    batches = TokenBatches(pieces, tokens=config.batches.tokens, seed=config.seed)
    # a generator of its own: the seed each iterator draws would shift dropout's where a run is resumed
    loader: DataLoader[Any] = DataLoader(
        pieces, sampler=SharedBatches(batches), batch_size=None, generator=torch.Generator()
    )
    module = TrainingModule(
        model,
        weights=[
            *loss_weights(asdict(config.task.weights), setting.tasks),
            *outcome_weights(config.task, setting.outcomes),
        ],
        criteria=[
            make_criterion(torch.from_numpy(setting.data.target_counts(task)), **asdict(config.loss))
            for task in setting.tasks
        ],
        optimizer=config.optimizer,
        seed=config.seed,
        uncertainty=config.task.uncertainty_weighting,
        total_steps=steps or config.trainer["max_epochs"] * batches.count(),
    )
    watch = Stopwatch() if config.trainer.get("profile") else None
    trainer = make_trainer(setting, steps, watch)
    last = folder / LAST
    if last.exists():  # Lightning draws the first epoch's batches before it tells which epoch it is
        batches.set_epoch(int(torch.load(last, weights_only=False)["epoch"]) + 1)
    with interrupts_raised(), watch.profile(FIT) if watch else nullcontext():
        trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    if watch and leads():
        setting.run.log_metrics(watch.metrics(), step=0)
    if steps is None:
        best = torch.load(folder / BEST, weights_only=False)
        module.load_state_dict(best["state_dict"])
    model.load_state_dict(module.judged.state_dict())
    return int(best["global_step"]) if steps is None else trainer.global_step


def loss_weights(weights: Mapping[str, float], tasks: list[str]) -> list[float]:
    """Weights of the heads that are trained, the largest 1: a head on its own weighs the same whatever its share."""
    largest = max(weights[task] for task in tasks)
    return [weights[task] / largest for task in tasks]


def outcome_weights(task: TaskConfig, outcomes: list[Outcome]) -> list[float]:
    return [task.outcome_weights.get(outcome.name, task.weights.outcomes) for outcome in outcomes]


def make_trainer(setting: Setting, steps: int | None, watch: Stopwatch | None) -> pl.Trainer:
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
            profiler=watch,
            gradient_clip_val=config.optimizer.clip_norm,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


def trainer_options(config: TrainConfig, steps: int | None) -> dict[str, Any]:
    """The YAML's trainer block; a refit runs for its steps instead of epochs."""
    options = {key: value for key, value in config.trainer.items() if key != "profile"}
    options |= {"use_distributed_sampler": False}  # SharedBatches is
    if processes(config) > 1:
        options |= {"strategy": summed_gradients(str(options.get("strategy", "ddp")))}
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
