from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pytest
from optuna import Study, Trial, TrialPruned
from optuna.pruners import ThresholdPruner

from shopkeeper.config import UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.train.settings import TuneConfig
from shopkeeper.train.study import RUN_ID
from shopkeeper.train.tracking import CHECKPOINTS, PRIMARY, Store, Unreachable
from shopkeeper.train.tune import PARENT, TRIAL, PruneEachEpoch, Tuning, importance, mark_stopped, parent_of, state_of

Silent = Callable[[str], None]
Make = Callable[..., TuneConfig]


@pytest.fixture
def tuned(
    compose: Callable[..., Any], shops: dict[str, Prepared], tracking_overrides: list[str], tmp_path: Path
) -> Make:
    def make(*overrides: str) -> TuneConfig:
        where = [f"prepared={shops['clicks'].path}", f"storage=sqlite:///{tmp_path / 'studies.db'}"]
        config: TuneConfig = compose(
            "tune", TuneConfig, *where, f"output={tmp_path / 'out'}", "study=s", *tracking_overrides, *overrides
        )
        return config

    return make


def test_families_are_tuned_alike_and_a_study_goes_on(tuned: Make, shops: dict[str, Prepared], silent: Silent) -> None:
    Tuning.of(tuned("models=[repeat,popularity]", "trials=1")).work(say=silent)
    tuning = Tuning.of(tuned("models=[repeat,popularity]", "trials=2"))
    tuning.work(say=silent)

    for family, facts in zip(["repeat", "popularity"], tuning.facts(), strict=True):
        assert [trial["state"] for trial in facts["trials"]] == ["complete"] * 2
        assert facts["trials"][0]["params"]["model.window_days"] == 28  # its YAML's own value
        runs = [tuning.store.get(trial["run"]) for trial in facts["trials"]]
        assert [run.tags[PARENT] for run in runs] == [tuning.parent] * 2
        assert [run.tags[TRIAL] for run in runs] == [f"{family}/0", f"{family}/1"]
        assert [run.metrics[PRIMARY] for run in runs] == [trial["value"] for trial in facts["trials"]]
    above = tuning.store.client.get_run(tuning.parent)
    assert above.info.status == "FINISHED"
    assert above.data.metrics["best/repeat"] == max(trial["value"] for trial in tuning.facts()[0]["trials"])
    best = max((trial["value"], trial["run"]) for facts in tuning.facts() for trial in facts["trials"])
    chosen = tuning.store.find("best", dataset_hash=shops["clicks"].content_hash)
    assert chosen.metrics[PRIMARY] == best[0]
    assert tuning.experiments().keys() == {"repeat", "popularity"}


@pytest.mark.slow
def test_a_trial_that_is_pruned_is_no_finished_run(
    tuned: Make, shops: dict[str, Prepared], silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["trainer.max_epochs=3", "batches.max_len=10", "model.embed_dim=8", "model.num_layers=1"]
    tuning = Tuning.of(tuned("trials=2", f"train=[{','.join(repr(o) for o in train)}]"))
    monkeypatch.setattr(Trial, "should_prune", lambda self: self.number == 1)
    tuning.work(say=silent)

    complete, pruned = tuning.facts()[0]["trials"]
    assert (complete["state"], len(complete["epochs"])) == ("complete", 3)
    assert (pruned["state"], len(pruned["epochs"])) == ("pruned", 1)
    assert max(complete["epochs"]) == pytest.approx(complete["value"], abs=1e-6)
    assert tuning.store.client.get_run(pruned["run"]).info.status == "KILLED"
    assert tuning.store.best(dataset_hash=shops["clicks"].content_hash).run_id == complete["run"]
    assert not {"model.embed_dim", "model.num_layers", "batches.max_len"} & complete["params"].keys()  # fixed
    for trial in (complete, pruned):
        assert list(Path(tuning.store.get(trial["run"]).tags[CHECKPOINTS]).glob("*.ckpt")) == []


def test_each_epoch_is_reported_and_may_be_the_last() -> None:
    study = optuna.create_study(direction="maximize", pruner=ThresholdPruner(lower=0.4))
    trial = study.ask()
    callback = PruneEachEpoch(trial)

    def after(epoch: int, **metrics: float) -> None:
        """What Lightning's trainer shows of an epoch, and the callback reads."""
        callback.on_train_epoch_end(
            cast(Any, SimpleNamespace(current_epoch=epoch, callback_metrics=metrics)), cast(Any, None)
        )

    after(0)  # a model without the head of val/primary
    after(1, **{"val_epoch/primary": 0.5})
    with pytest.raises(TrialPruned):
        after(2, **{"val_epoch/primary": 0.3})

    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.3}


def test_ctrl_c_loses_the_running_trial_alone(tuned: Make, silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tuned("models=[repeat]", "trials=2")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("shopkeeper.train.fit.fit_model", interrupt)
        Tuning.of(config).work(say=silent)
    tuning = Tuning.of(config)
    tuning.work(say=silent)

    trials = tuning.facts()[0]["trials"]
    assert [trial["state"] for trial in trials] == ["stopped", "complete", "complete"]
    assert trials[1]["params"] == trials[0]["params"]
    assert tuning.store.client.get_run(trials[0]["run"]).info.status == "KILLED"


def ask(study: Study) -> Trial:
    """A trial that runs: Optuna warns where it is not `optimize` that asks, as nothing would beat."""
    with pytest.warns(UserWarning, match="Heartbeat of storage"):
        return study.ask()


def test_a_worker_that_died_leaves_no_open_run(tuned: Make) -> None:
    tuning = Tuning.of(tuned("models=[repeat]"))
    _, study = tuning.families[0]
    run = tuning.store.start(name="repeat", tags={})
    trial = ask(study)
    mark_stopped(tuning.store, study.trials[0])  # died before it had a run
    trial.set_user_attr(RUN_ID, run.run_id)
    mark_stopped(tuning.store, study.trials[0])

    assert tuning.store.client.get_run(run.run_id).info.status == "KILLED"
    assert state_of(study.trials[0]) == "running"


def test_one_parent_for_all_workers(tuned: Make) -> None:
    store = Store(tuned().tracking)

    assert parent_of(store, "s") == parent_of(Store(tuned().tracking), "s")
    assert parent_of(store, "other") != parent_of(store, "s")


def test_a_model_without_a_space_is_told_how_to_get_one(tuned: Make) -> None:
    with pytest.raises(UserError, match=r"there is no search space for 'oracle'; write search/oracle\.yaml"):
        Tuning.of(tuned("models=[oracle]"))


def test_few_trials_say_nothing_of_importance(tuned: Make) -> None:
    _, study = Tuning.of(tuned("models=[repeat]")).families[0]

    assert importance(study) == {}


def test_values_that_cannot_be_trained_with_fail_their_trial_alone(tuned: Make, silent: Silent) -> None:
    asked = tuned("models=[popularity]", "trials=3")
    asked.search["popularity"] = {"batches": {"max_len": {"type": "int", "low": 0, "high": 1}}}
    tuning = Tuning.of(asked)
    _, study = tuning.families[0]
    for length in (1, 0, 1):  # the YAML's own 50 lies outside, so the first trial is empty
        study.enqueue_trial({"batches.max_len": length})
    tuning.work(say=silent)

    trials = tuning.facts()[0]["trials"]
    assert [trial["state"] for trial in trials if trial["params"] == {"batches.max_len": 0}] == ["failed"]
    assert any("batches.max_len=0 is out of range" in (trial["error"] or "") for trial in trials)


def test_a_store_that_goes_away_between_trials_ends_the_command_and_not_the_study(
    tuned: Make, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OSError("nobody answers")

    tuning = Tuning.of(tuned("models=[popularity]", "trials=1"))
    with monkeypatch.context() as patch, pytest.raises(Unreachable):
        patch.setattr("shopkeeper.train.tracking.check_answer", away)
        tuning.work(say=silent)
    tuning.work(say=silent)

    assert [trial["state"] for trial in tuning.facts()[0]["trials"]] == ["stopped", "complete"]
