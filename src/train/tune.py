"""Tune families of models: every trial a tracked run below one parent, every family a study of its own.

A trial is what `shopkeeper train` would make of its values, so `run=best` may choose it; one that is pruned or stopped
has not finished, and is never chosen.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from optuna import Study, Trial, TrialPruned
from optuna.importance import get_param_importances
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from shopkeeper.config import TrainConfig, UserError, configure
from shopkeeper.data.prepared import Prepared
from shopkeeper.train import tracking
from shopkeeper.train.callbacks import PRIMARY_EPOCH
from shopkeeper.train.experiment import write_experiment
from shopkeeper.train.fit import Say, train
from shopkeeper.train.settings import TuneConfig
from shopkeeper.train.space import Parameter, Value, defaults, overrides, parameters
from shopkeeper.train.study import (
    ERROR,
    RUN_ID,
    Budget,
    TrialFailed,
    close_storage,
    ended,
    experimental,
    open_storage,
    open_study,
    work,
)
from shopkeeper.train.tracking import Store, TrackedRun, Unreachable

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDY = "shopkeeper.study"
TRIAL = "shopkeeper.trial"
KIND = "shopkeeper.kind"
LEAST_FOR_IMPORTANCE = 4
"""Complete trials without which nothing is said about what matters."""
PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's own pages nest runs."""


@dataclass(frozen=True)
class Family:
    """One family of a study: what is searched, and what every trial shares."""

    name: str
    config: TuneConfig
    space: list[Parameter]
    store: Store
    parent: str  # id of the run above all trials

    @classmethod
    def of(cls, name: str, config: TuneConfig, store: Store, parent: str) -> "Family":
        if name not in config.search:
            raise UserError(
                f"models: there is no search space for {name!r}; write search/{name}.yaml into a folder and give "
                f"--config-dir, +search@search.{name}={name}"
            )
        fixed = {override.lstrip("+~").partition("=")[0] for override in config.train}
        return cls(name, config, parameters(config.search[name], family=name, fixed=fixed), store, parent)

    def train_config(self, values: dict[str, Value], *asked: str) -> TrainConfig:
        """The configuration of `shopkeeper train` with these values."""
        chosen = [f"prepared={self.config.prepared}", f"model={self.name}", *asked, *self.config.train]
        made = configure("train", TrainConfig, *chosen, *overrides(values))
        return replace(made, tracking=self.config.tracking)

    def objective(self, trial: Trial) -> float:
        """Train with the values of a trial; `val/primary` of the run."""
        values = {parameter.key: parameter.suggest(trial) for parameter in self.space}
        runs: list[TrackedRun] = []

        def started(run: TrackedRun) -> None:
            runs.append(run)
            run.set_tags({PARENT: self.parent, STUDY: self.config.study, TRIAL: f"{self.name}/{trial.number}"})
            trial.set_user_attr(RUN_ID, run.run_id)

        try:
            config = self.train_config(values, "trainer.enable_progress_bar=false")
            run = train(config, say=lambda text: None, started=started, extra=[PruneEachEpoch(trial)])
            return primary_of(run)
        except TrialPruned:
            runs[0].finish("KILLED")
            raise
        except (KeyboardInterrupt, Unreachable):
            trial.study.enqueue_trial(trial.params)
            raise
        except UserError as error:
            trial.set_user_attr(ERROR, str(error))
            raise TrialFailed from error
        finally:
            for run in runs:
                drop_checkpoints(run)


class PruneEachEpoch(pl.Callback):
    """Tell the study how each epoch did, and end the trial where the study has seen enough."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if PRIMARY_EPOCH not in trainer.callback_metrics:
            return
        self.trial.report(float(trainer.callback_metrics[PRIMARY_EPOCH]), step=trainer.current_epoch)
        if self.trial.should_prune():
            raise TrialPruned


@dataclass(frozen=True)
class Tuning:
    """All families of a study with what they have come to so far."""

    config: TuneConfig
    store: Store
    parent: str
    storage: RDBStorage
    families: list[tuple[Family, Study]]

    @classmethod
    def of(cls, config: TuneConfig) -> "Tuning":
        """Begin the study, or take it up where it stands.

        Raises:
            UserError: when the data, the store, the search space or the database of studies does not allow it.
        """
        prepared = Prepared.read(config.prepared)
        store = Store(config.tracking)
        parent = parent_of(store, config.study)
        families = [Family.of(name, config, store, parent) for name in config.models]
        storage = open_storage(
            config.storage, heartbeat=config.heartbeat, on_stale=lambda trial: mark_stopped(store, trial)
        )
        return cls(config, store, parent, storage, [(f, begin(f, storage, prepared)) for f in families])

    def close(self) -> None:
        close_storage(self.storage)

    def work(self, *, say: Say = tqdm.write) -> None:
        """Tune every family until its budget is spent."""
        budget = Budget(self.config.trials, self.config.seconds)
        above = self.store.get(self.parent)
        with above.ending_known():
            for family, study in self.families:
                with tqdm(total=budget.trials, desc=family.name, unit="trial") as bar:
                    tell = teller(bar, say)
                    tell(study, None)
                    work(study, family.objective, budget, poll=min(self.config.heartbeat, 5), after=tell)
                    tell(study, None)
        for family, study in self.families:
            best = best_of(study)
            if best is not None:
                above.log_metrics({f"best/{family.name}": value_of(best)}, step=0)
        above.finish()

    def experiments(self) -> dict[str, str]:
        """Write the best configuration of each family as an experiment; the command that runs each again."""
        commands = {}
        for family, study in self.families:
            best = best_of(study)
            if best is not None:
                _, commands[family.name] = write_experiment(
                    family.train_config(best.params),
                    Path(self.config.output),
                    name=f"{self.config.study}_{family.name}",
                    model=family.name,
                    note=f"val/primary {best.value:.4f}: trial {best.number} of {len(ended(study))}, "
                    f"run {best.user_attrs[RUN_ID]}",
                )
        return commands

    def facts(self) -> list[dict[str, Any]]:
        """What the report shows of each family, as plain data."""
        return [facts_of(family, study) for family, study in self.families]


def begin(family: Family, storage: RDBStorage, prepared: Prepared) -> Study:
    """Open a family's study; in a new one, the values of the YAML are the first that are tried."""
    config = family.config
    study = open_study(
        f"{config.study}/{family.name}",
        storage=storage,
        seed=config.seed,
        startup_trials=config.startup_trials,
        pruner=config.pruner,
        basis={
            "dataset": prepared.content_hash,
            "train": list(config.train),
            "search": [asdict(parameter) | {"values": list(parameter.values)} for parameter in family.space],
        },
    )
    own = defaults(family.space, asdict(family.train_config({})))
    study.enqueue_trial(dict(own), skip_if_exists=True)
    return study


def mark_stopped(store: Store, trial: FrozenTrial) -> None:
    """End the run of a trial whose worker died; it may lie in a store of another machine."""
    if RUN_ID in trial.user_attrs:
        with suppress(UserError):
            store.get(trial.user_attrs[RUN_ID]).finish("KILLED")


def parent_of(store: Store, study: str) -> str:
    """Id of the run above all trials of a study: of two workers that begin at once, both take the older one."""
    query = f"tags.`{STUDY}` = '{study}' AND tags.`{KIND}` = 'study'"

    def found() -> "list[Run]":
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs: list[Run] = store.client.search_runs([store.experiment_id], query, order_by=order)
        return runs

    if not found():
        own = store.client.create_run(
            store.experiment_id, run_name=f"study {study}", tags={STUDY: study, KIND: "study"}
        )
        if found()[0].info.run_id != own.info.run_id:
            store.client.delete_run(own.info.run_id)
    parent = str(found()[0].info.run_id)
    store.client.update_run(parent, status="RUNNING")
    return parent


def primary_of(run: TrackedRun) -> float:
    metrics = run.metrics
    if tracking.PRIMARY not in metrics:
        raise UserError("the run has no val/primary to be chosen by: give it the head of the next purchase (task=auto)")
    return metrics[tracking.PRIMARY]


def drop_checkpoints(run: TrackedRun) -> None:
    """A trial is never resumed, and a study would fill the disk with what that needs."""
    for file in run.checkpoints.glob("*.ckpt"):
        file.unlink()


def teller(bar: "tqdm[Any]", say: Say) -> Callable[[Study, FrozenTrial | None], None]:
    """Moves the bar to where the study stands, and says a line for a trial that has just ended."""

    def tell(study: Study, trial: FrozenTrial | None) -> None:
        best = best_of(study)
        bar.n = min(len(ended(study)), bar.total)
        bar.set_postfix_str(f"best {best.value:.4f}" if best else "")
        if trial is not None:
            what = f"{trial.value:.4f}" if trial.state == TrialState.COMPLETE else state_of(trial)
            lead = f", best {best.value:.4f} (trial {best.number})" if best else ""
            say(f"{bar.desc} trial {trial.number}: {what}{lead}, {seconds_of(trial):.0f} s")

    return tell


def best_of(study: Study) -> FrozenTrial | None:
    """The complete trial with the highest value, of equal ones the first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(complete, key=lambda trial: (value_of(trial), -trial.number), default=None)


def value_of(trial: FrozenTrial) -> float:
    assert trial.value is not None  # of a complete one
    return trial.value


def seconds_of(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0


def state_of(trial: FrozenTrial) -> str:
    """`complete`, `pruned`, `failed` by itself, `stopped` from outside, `running` or `waiting`."""
    if trial.state == TrialState.FAIL:
        return "failed" if ERROR in trial.user_attrs else "stopped"
    return trial.state.name.lower()


def facts_of(family: Family, study: Study) -> dict[str, Any]:
    """A family's study as plain data, for JSON and the page."""
    trials = study.get_trials(deepcopy=False)
    best = best_of(study)
    return {
        "family": family.name,
        "study": study.study_name,
        "best": best.number if best else None,
        "space": [asdict(parameter) for parameter in family.space],
        "importance": importance(study),
        "trials": [
            {
                "number": trial.number,
                "state": state_of(trial),
                "value": trial.value if trial.state == TrialState.COMPLETE else None,
                "params": trial.params,
                "epochs": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
                "seconds": seconds_of(trial),
                "run": trial.user_attrs.get(RUN_ID),
                "error": trial.user_attrs.get(ERROR),
            }
            for trial in trials
        ],
    }


def importance(study: Study) -> dict[str, float]:
    """Each parameter's share in being among the best (PED-ANOVA, Watanabe et al. 2023); empty where too few."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    with experimental():
        shares = get_param_importances(study)
    return {name: share for name, share in shares.items() if isfinite(share)}
