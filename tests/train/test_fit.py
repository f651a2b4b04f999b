import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.models.checkpoint import load_model
from shopkeeper.train import tracking as names
from shopkeeper.train.callbacks import BEST
from shopkeeper.train.fit import loss_weights, outcome_weights, train, vocabulary_of
from shopkeeper.train.tracking import Store, TrackedRun

Compose = Callable[..., Any]


def weights(run: TrackedRun) -> dict[str, torch.Tensor]:
    return load_model(run.file(names.MODEL_FILE)).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def store_of(config: TrainConfig) -> Store:
    return Store(config.tracking)


def test_a_run_keeps_what_it_was_and_what_came_of_it(
    config: Callable[..., TrainConfig], shops: dict[str, Prepared], silent: Callable[[str], None]
) -> None:
    run = train(config(), say=silent)

    params = run.store.client.get_run(run.run_id).data.params
    assert params["model/embed_dim"] == "8"
    assert params["prepared/content_hash"] == run.tags[names.DATASET_HASH] == shops["clicks"].content_hash
    assert params["env/torch"] == torch.__version__
    assert run.metrics["val/primary"] == run.metrics["val/purchase/ndcg_at_20"]
    assert len(run.curve("val_epoch/primary")) == len(run.curve("train/loss_next")) == 4
    best = int(np.argmax(run.curve("val_epoch/mean")))
    assert run.metrics["val/primary"] == pytest.approx(run.curve("val_epoch/primary")[best], abs=1e-6)
    assert run.store.best(dataset_hash=shops["clicks"].content_hash).run_id == run.run_id


def test_training_learns_something(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    losses = train(config(), say=silent).curve("train/loss_purchase")

    assert losses[-1] < losses[0]


def test_a_head_on_its_own_weighs_one() -> None:
    shares = {"purchase": 0.1, "next": 0.5}

    assert loss_weights(shares, ["purchase", "next"]) == pytest.approx([0.2, 1.0])
    assert loss_weights(shares, ["purchase"]) == [1.0]


def test_heads_the_data_cannot_support_are_left_out_aloud(config: Callable[..., TrainConfig]) -> None:
    said: list[str] = []
    run = train(config("model=popularity", shop="orders"), say=said.append)

    assert "leaving out the head 'next': the log has no events besides purchases" in said
    assert load_model(run.file(names.MODEL_FILE)).tasks == ["purchase"]


def test_asking_for_such_a_head_is_an_error(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    with pytest.raises(UserError, match=r"task.heads=next: the log has no events besides purchases"):
        train(config("task=next", "model=popularity", shop="orders"), say=silent)


def test_outcomes_the_data_cannot_support_are_left_out_aloud(config: Callable[..., TrainConfig]) -> None:
    said: list[str] = []
    run = train(config("trainer.max_epochs=1", shop="orders"), say=said.append)

    assert "leaving out the outcome 'intent': every session of the log buys" in said
    assert [outcome.name for outcome in load_model(run.file(names.MODEL_FILE)).outcomes] == ["segment:card"]
    assert "val/segment.card/skill" in run.metrics
    assert len(run.curve("train/loss_segment.card")) == 1


def test_outcomes_are_trained_as_asked(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    for asked, wanted in (("none", []), ("[intent]", ["intent"])):
        run = train(config("trainer.max_epochs=1", f"task.outcomes={asked}"), say=silent)
        assert [outcome.name for outcome in load_model(run.file(names.MODEL_FILE)).outcomes] == wanted


def test_asking_for_an_outcome_that_is_not_there_is_an_error(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    with pytest.raises(UserError, match=r"task.outcomes=intent: every session of the log buys"):
        train(config("task.outcomes=[intent]", shop="orders"), say=silent)
    with pytest.raises(UserError, match=r"task.outcomes=mood: outcomes are: intent, phase, segment:card"):
        train(config("task.outcomes=[mood]"), say=silent)
    with pytest.raises(UserError, match=r"task.outcome_weights.mood: outcomes are: intent, phase, segment:card"):
        train(config("task.outcome_weights.mood=2"), say=silent)
    with pytest.raises(UserError, match=r"task.outcomes=3 is out of range"):
        config("task.outcomes=3")


def test_an_outcome_weighs_what_is_said_of_it_or_of_all(config: Callable[..., TrainConfig]) -> None:
    task = config("task.weights.outcomes=0.5", "task.outcome_weights.intent=2").task

    assert outcome_weights(task, [Outcome("phase", ("a", "b")), Outcome("intent", ("a", "b"))]) == [0.5, 2.0]


def test_the_same_seed_gives_the_same_weights(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    first, again, other = (weights(train(config(f"seed={seed}"), say=silent)) for seed in (1, 1, 2))

    assert same(first, again)
    assert not same(first, other)


def test_a_run_cut_off_after_an_epoch_ends_with_the_weights_of_an_uninterrupted_one(
    config: Callable[..., TrainConfig], cut_off: Callable[..., TrackedRun], silent: Callable[[str], None]
) -> None:
    whole = train(config(), say=silent)
    cut = cut_off(config(), 2)

    resumed = train(config(f"resume={cut.run_id}"), say=silent)

    assert resumed.run_id == cut.run_id
    assert same(weights(whole), weights(resumed))
    assert resumed.metrics["val/primary"] == whole.metrics["val/primary"]
    assert resumed.curve("val_epoch/primary") == whole.curve("val_epoch/primary")


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    config: Callable[..., TrainConfig], cut_off: Callable[..., TrackedRun], silent: Callable[[str], None]
) -> None:
    whole = train(config(), say=silent)
    cut = cut_off(config(), 0)

    assert same(weights(train(config(f"resume={cut.run_id}"), say=silent)), weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [6.0, 9.0, 11.0])
def test_kill_minus_nine_at_any_moment_loses_nothing(
    seconds: float, config: Callable[..., TrainConfig], small: list[str], silent: Callable[[str], None], tmp_path: Path
) -> None:
    whole = train(config("trainer.max_epochs=40"), say=silent)
    asked = config("trainer.max_epochs=40")
    arguments = [f"prepared={asked.prepared}", *small, "trainer.max_epochs=40"]
    store = {"uri": asked.tracking.uri, "artifacts": asked.tracking.artifacts, "runs_dir": asked.tracking.runs_dir}
    arguments += [f"tracking.{name}={value}" for name, value in store.items()] + ["tracking.experiment=test"]
    program = "from shopkeeper.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, "train", *arguments], stdout=subprocess.DEVNULL)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    runs = store_of(asked).client.search_runs(["1"])
    cut_off = [r.info.run_id for r in runs if r.info.status != "FINISHED"]

    for run_id in cut_off:  # none where the kill came before the run began, or after it ended
        resumed = train(config("trainer.max_epochs=40", f"resume={run_id}"), say=silent)
        assert same(weights(resumed), weights(whole))


def test_resuming_what_has_finished_or_never_was_is_an_error(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    run = train(config("model=popularity"), say=silent)

    with pytest.raises(UserError, match="that run has finished"):
        train(config(f"resume={run.run_id}"), say=silent)
    with pytest.raises(UserError, match="there is no run 'abc'"):
        train(config("resume=abc"), say=silent)


def test_a_run_resumes_on_its_own_dataset_only(
    config: Callable[..., TrainConfig], cut_off: Callable[..., TrackedRun], silent: Callable[[str], None]
) -> None:
    cut = cut_off(config(), 1)

    with pytest.raises(UserError, match="was trained on another prepared dataset"):
        train(config(f"resume={cut.run_id}", shop="orders"), say=silent)


def test_a_refit_takes_the_chosen_steps_sees_every_row_and_writes_no_metric(
    config: Callable[..., TrainConfig], shops: dict[str, Prepared]
) -> None:
    said: list[str] = []
    original = train(config(), say=said.append)
    refit = train(config("refit=best"), say=said.append)

    best = torch.load(original.checkpoints / BEST, weights_only=False)
    last = torch.load(refit.checkpoints / "last.ckpt", weights_only=False)
    assert last["global_step"] == best["global_step"]
    assert refit.tags[names.REFIT_OF] == original.run_id
    assert not [name for name in refit.metrics if name.startswith("val")]
    assert f"refitted on {shops['clicks'].manifest['counts']['events']:,} events" in said[-1]
    choices = [json.loads(run.file(names.SUMMARY_FILE).read_text())["last_layer"] for run in (original, refit)]
    assert choices[0] == choices[1]
    assert set(choices[0]) == {outcome.name for outcome in load_model(original.file(names.MODEL_FILE)).outcomes}
    store = store_of(config())
    assert store.best(dataset_hash=shops["clicks"].content_hash).run_id == original.run_id
    assert weights(refit)["items.vector.weight"].shape[0] == shops["clicks"].num_items(refit=True) + 1


def test_a_refit_of_a_refit_is_refused(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    train(config("model=popularity"), say=silent)
    refit = train(config("model=popularity", "refit=best"), say=silent)

    with pytest.raises(UserError, match="is itself a refit"):
        train(config("model=popularity", f"refit={refit.run_id}"), say=silent)


def test_a_loss_that_explodes_is_an_error_with_the_way_out(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    with pytest.raises(UserError, match=r"lower optimizer.lr \(now 1e\+30\)"):
        train(config("optimizer.lr=1e30", "optimizer.warmup_steps=0"), say=silent)


def test_a_refit_writes_no_metric(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    run = train(config(), say=silent)

    assert train(config(f"refit={run.run_id}"), say=silent).metrics == {}


@pytest.mark.parametrize(("override", "count"), [("model.content.cold_items=true", 24), ("model.content=null", 20)])
def test_items_that_train_never_saw_are_known_by_their_content_alone(
    config: Callable[..., TrainConfig], shops: dict[str, Prepared], override: str, count: int
) -> None:
    shop = shops["clicks"]
    fewer = Prepared(shop.path, shop.manifest | {"counts": shop.manifest["counts"] | {"items_known": 20}})

    assert shop.num_items(refit=True) == 24
    assert vocabulary_of(fewer, config(override), refit=False).num_items == count
