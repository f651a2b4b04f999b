"""A study: the trials of one family under one budget, kept in a database that workers share and that outlives them.

Trials are drawn by TPE (Bergstra et al. 2011; Optuna draws all parameters of a trial together) and ended early by the
median rule (Golovin et al. 2017, section 3.2.2). A worker that dies leaves a trial that no longer beats; whoever comes
next marks it as failed and tries its values again.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shopkeeper.config import UserError
from shopkeeper.train.settings import PrunerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution

ERROR: Final = "error"
"""Attribute of a trial whose values cannot be trained with: why. It failed by itself, and counts."""
RUN_ID: Final = "run_id"
BASIS: Final = "basis"
"""Attribute of a study: what all of its trials share."""
RETRIES: Final = 2
"""How often the values of a worker that died are tried again: they may be what killed it."""
HOPELESS: Final = 3
"""So many failures without one success end a study."""


class TrialFailed(Exception):
    """The values of a trial cannot be trained with; the study goes on."""


class EvenSampler(BaseSampler):
    """TPE that draws by the study's seed, the trial's number and the trials before it alone.

    A study that goes on draws what an uninterrupted one would, and two workers with one seed do not draw alike.
    """

    def __init__(self, *, seed: int, startup_trials: int) -> None:
        self.seed, self.startup_trials = seed, startup_trials
        self.inner: BaseSampler = self.sampler(0)

    def sampler(self, number: int) -> BaseSampler:
        return TPESampler(n_startup_trials=self.startup_trials, seed=(self.seed * 1_000_003 + number) % 2**32)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.inner = self.sampler(trial.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> "dict[str, BaseDistribution]":
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self.inner.after_trial(study, trial, state, values)


@dataclass(frozen=True)
class Budget:
    """Trials that end, and seconds spent in them, over all workers and all times the study was gone on with."""

    trials: int
    seconds: float

    def is_spent(self, study: Study) -> bool:
        """Whether no trial may begin: those that run count as if they had ended."""
        done, alive = ended(study), running(study)
        spent = sum(trial.duration.total_seconds() for trial in done if trial.duration)
        return len(done) + len(alive) >= self.trials or spent >= self.seconds


def open_study(
    name: str, *, storage: RDBStorage, seed: int, startup_trials: int, pruner: PrunerConfig, basis: dict[str, Any]
) -> Study:
    """The study of that name, made if there is none.

    Raises:
        UserError: when it was begun on another basis.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=EvenSampler(seed=seed, startup_trials=startup_trials),
        pruner=MedianPruner(n_startup_trials=pruner.startup_trials, n_warmup_steps=pruner.warmup_epochs),
        direction="maximize",
        load_if_exists=True,
    )
    begun = study.user_attrs.get(BASIS, basis)
    for key, value in basis.items():
        if begun.get(key) != value:
            raise UserError(f"study {name} was begun with another {key}: give it back, or choose another study=")
    study.set_user_attr(BASIS, basis)
    return study


def open_storage(url: str, *, heartbeat: int, on_stale: Callable[[FrozenTrial], None]) -> RDBStorage:
    """The database, its tables made if they are not there; `on_stale` is told each trial whose worker died.

    Raises:
        UserError: when it cannot be reached, or is another program's; the message leaves the password out.
    """
    from sqlalchemy.engine import make_url

    place = make_url(url)
    if place.drivername in ("postgres", "postgresql"):
        place = place.set(drivername="postgresql+psycopg")
    with experimental():
        again = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)

    def give_back(study: Study, trial: FrozenTrial) -> None:
        again(study, trial)
        on_stale(trial)

    for attempt in range(3):
        try:
            with experimental():
                return RDBStorage(
                    place.render_as_string(hide_password=False),
                    heartbeat_interval=heartbeat,
                    grace_period=2 * heartbeat,
                    heartbeat_stale_trial_callback=give_back,
                )
        except RuntimeError as error:  # both programs note their version in a table of one name
            raise UserError(f"storage={place} holds the tables of another program: give studies their own") from error
        except (SQLAlchemyError, ImportError) as error:
            if attempt == 2 or not isinstance(error, DBAPIError):  # else another worker makes the tables just now
                why = str(error).splitlines()[0]
                raise UserError(f"storage={place}: the database of studies cannot be reached: {why}") from error
            time.sleep(1)
    raise AssertionError("unreachable")


def close_storage(storage: RDBStorage) -> None:
    """Let go of the database's connections."""
    storage.remove_session()
    storage.engine.dispose()


def work(
    study: Study,
    objective: Callable[[Trial], float],
    budget: Budget,
    *,
    poll: float,
    after: Callable[[Study, FrozenTrial], None],
) -> None:
    """Try values until the budget is spent, and the last worker has ended: its trial may have to be tried again."""
    while True:
        take_back(study)
        if not budget.is_spent(study):
            study.optimize(objective, n_trials=1, catch=(TrialFailed,), callbacks=[after])
            give_up_where_nothing_works(study)
        elif running(study):
            time.sleep(poll)
        else:
            return


def give_up_where_nothing_works(study: Study) -> None:
    """Stop a study whose every trial fails: the mistake is not in the values that are tried.

    Raises:
        UserError: with what the last one failed for.
    """
    done = ended(study)
    if len(done) >= HOPELESS and all(is_own_failure(trial) for trial in done):
        raise UserError(f"all {len(done)} trials of {study.study_name} failed; the last one: {reason(done[-1])}")


def reason(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(ERROR, "its worker was stopped"))


def take_back(study: Study) -> None:
    """Fail the trials whose workers died, and queue their values."""
    with experimental():
        fail_stale_trials(study)


def ended(study: Study) -> list[FrozenTrial]:
    """Trials that count: complete, pruned, or failed by themselves."""
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) or is_own_failure(t)]


def is_own_failure(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and ERROR in trial.user_attrs


def running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


@contextmanager
def experimental() -> "Iterator[None]":
    """Optuna calls its heartbeat experimental at every use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
