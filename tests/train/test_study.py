from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna import Study, Trial, TrialPruned
from optuna.trial import FrozenTrial, TrialState, create_trial

from shopkeeper.config import TrackingConfig, UserError
from shopkeeper.train.settings import PrunerConfig
from shopkeeper.train.study import (
    ERROR,
    Budget,
    EvenSampler,
    TrialFailed,
    ended,
    open_storage,
    open_study,
    running,
    take_back,
    work,
)
from shopkeeper.train.tracking import Store

Open = Callable[..., Study]


def ignore(*_: object) -> None:
    pass


@pytest.fixture
def study(tmp_path: Path) -> Open:
    """study(**changes): the study `s` in a database of the test."""

    def make(
        url: str = f"sqlite:///{tmp_path / 'studies.db'}",
        heartbeat: int = 60,
        on_stale: Callable[[FrozenTrial], None] = ignore,
        basis: str = "d1",
    ) -> Study:
        return open_study(
            "s",
            storage=open_storage(url, heartbeat=heartbeat, on_stale=on_stale),
            seed=1,
            startup_trials=2,
            pruner=PrunerConfig(startup_trials=1, warmup_epochs=0),
            basis={"dataset": basis},
        )

    return make


def parabola(trial: Trial) -> float:
    return -((trial.suggest_float("x", -10, 10) - 3) ** 2)


def ask(study: Study) -> Trial:
    """A trial that runs: Optuna warns where it is not `optimize` that asks, as nothing would beat."""
    with pytest.warns(UserWarning, match="Heartbeat of storage"):
        return study.ask()


def run(study: Study, objective: Callable[[Trial], float], *, trials: int, seconds: float = 1e9) -> None:
    work(study, objective, Budget(trials, seconds), poll=0.01, after=ignore)


def test_a_study_that_goes_on_draws_what_an_uninterrupted_one_would(study: Open, tmp_path: Path) -> None:
    for trials in (3, 6):
        run(study(), parabola, trials=trials)
    whole = study(url=f"sqlite:///{tmp_path / 'other.db'}")
    run(whole, parabola, trials=6)

    drawn = [[trial.params["x"] for trial in s.trials] for s in (study(), whole)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 6


def test_two_workers_with_one_seed_do_not_draw_alike() -> None:
    sampler = EvenSampler(seed=1, startup_trials=10)
    together = optuna.create_study(sampler=sampler)
    first, second = together.ask(), together.ask()

    assert first.suggest_float("x", 0, 1) != second.suggest_float("x", 0, 1)


def test_pruned_and_failed_trials_count(study: Open) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 1:
            raise TrialPruned
        if trial.number == 2:
            trial.set_user_attr(ERROR, "too high")
            raise TrialFailed
        return parabola(trial)

    run(study(), objective, trials=4)

    states = [trial.state for trial in study().trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]


def test_the_time_of_all_trials_ends_a_study(study: Open) -> None:
    run(study(), parabola, trials=100, seconds=1e-9)  # spent by the first

    assert len(study().trials) == 1


def test_a_study_of_failures_ends_with_their_reason(study: Open) -> None:
    def objective(trial: Trial) -> float:
        trial.set_user_attr(ERROR, "no strangers")
        raise TrialFailed

    with pytest.raises(UserError, match="all 3 trials of s failed; the last one: no strangers"):
        run(study(), objective, trials=50)


def test_what_ctrl_c_stops_does_not_count(study: Open) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 1:
            raise KeyboardInterrupt
        return parabola(trial)

    with pytest.raises(KeyboardInterrupt):
        run(study(), objective, trials=3)
    assert len(ended(study())) == 1
    run(study(), parabola, trials=3)

    assert len(ended(study())) == 3
    assert len(study().trials) == 4


def test_a_trial_whose_worker_died_is_told_and_tried_again(study: Open) -> None:
    told: list[int] = []
    dead = study(heartbeat=1)
    trial = ask(dead)
    x = trial.suggest_float("x", -10, 10)
    beat_long_ago(dead, trial)

    def on_stale(found: FrozenTrial) -> None:
        told.append(found.number)

    alive = study(heartbeat=1, on_stale=on_stale)
    run(alive, parabola, trials=2)

    assert told == [0]
    assert [t.state for t in alive.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert alive.trials[1].params == {"x": x}
    assert len(ended(alive)) == 2
    assert running(alive) == []


def beat_long_ago(study: Study, trial: Trial) -> None:
    """What the worker of the trial would have left, had it died yesterday."""
    from sqlalchemy import create_engine, text

    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    url = str(study._storage._backend.url)  # type: ignore[attr-defined]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00.000000'"))
    engine.dispose()


def test_values_that_kill_their_workers_are_given_up(study: Open) -> None:
    opened = study(heartbeat=1)
    for _ in range(3):
        trial = ask(opened)
        trial.suggest_float("x", -10, 10)
        beat_long_ago(opened, trial)
        take_back(opened)

    assert [t.state for t in opened.trials] == [TrialState.FAIL] * 3
    assert len({t.params["x"] for t in opened.trials}) == 1


def test_a_study_keeps_to_what_it_was_begun_with(study: Open) -> None:
    study()

    with pytest.raises(UserError, match="study s was begun with another dataset"):
        study(basis="d2")


def test_a_database_that_cannot_be_reached_is_named_without_its_password(study: Open) -> None:
    with pytest.raises(UserError, match=r"storage=mysql://me:\*\*\*@h/d: the database of studies cannot be reached"):
        study(url="mysql://me:secret@h/d")


def test_a_database_of_another_program_is_refused(study: Open, tracking: TrackingConfig) -> None:
    Store(tracking)  # of MLflow, say

    with pytest.raises(UserError, match="holds the tables of another program: give studies their own"):
        study(url=tracking.uri)


def test_a_budget_counts_what_runs(study: Open) -> None:
    opened = study()
    opened.add_trial(create_trial(state=TrialState.COMPLETE, value=1.0))
    ask(opened)

    assert Budget(2, 1e9).is_spent(opened)
    assert not Budget(3, 1e9).is_spent(opened)
