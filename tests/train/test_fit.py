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
from shopkeeper.data.prepared import Prepared
from shopkeeper.models.checkpoint import load_model
from shopkeeper.train import tracking as names
from shopkeeper.train.fit import BEST, config_hash, loss_weights, train
from shopkeeper.train.tracking import Store, TrackedRun

SMALL_MODEL = ("model.embed_dim=8", "model.num_layers=1")
SMALL = (
    "batches.max_len=10",
    "batches.tokens=256",
    "trainer.max_epochs=4",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "early_stopping.patience=10",
)

Compose = Callable[..., Any]


def weights(run: TrackedRun) -> dict[str, torch.Tensor]:
    return load_model(run.file(names.MODEL_FILE)).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def config(compose: Compose, shops: dict[str, Prepared], tracking_overrides: list[str]) -> Callable[..., TrainConfig]:
    def make(*overrides: str, shop: str = "clicks") -> TrainConfig:
        counted = any(o.startswith("model=") for o in overrides)
        own = () if counted else SMALL_MODEL
        path = f"prepared={shops[shop].path}"
        made: TrainConfig = compose("train", TrainConfig, path, *own, *SMALL, *tracking_overrides, *overrides)
        return made

    return make


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


def test_the_same_seed_gives_the_same_weights(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    first, again, other = (weights(train(config(f"seed={seed}"), say=silent)) for seed in (1, 1, 2))

    assert same(first, again)
    assert not same(first, other)


class Killed(BaseException):
    """Stands for the power cut: nothing of ours catches it."""


def test_a_run_cut_off_after_an_epoch_ends_with_the_weights_of_an_uninterrupted_one(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, silent: Callable[[str], None]
) -> None:
    whole = train(config(), say=silent)
    cut_off = cut_after_epochs(config(), 2, monkeypatch)

    resumed = train(config(f"resume={cut_off.run_id}"), say=silent)

    assert resumed.run_id == cut_off.run_id
    assert same(weights(whole), weights(resumed))
    assert resumed.metrics["val/primary"] == whole.metrics["val/primary"]
    assert resumed.curve("val_epoch/primary") == whole.curve("val_epoch/primary")


def cut_after_epochs(config: TrainConfig, epochs: int, monkeypatch: pytest.MonkeyPatch) -> TrackedRun:
    """Start a run and stop it as its epoch number `epochs` (from 0) begins."""
    from shopkeeper.train.module import TrainingModule

    begin = TrainingModule.on_train_epoch_start

    def cut(self: TrainingModule) -> None:
        if self.current_epoch == epochs:
            raise Killed
        begin(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainingModule, "on_train_epoch_start", cut)
        train(config, say=lambda text: None)
    (open_run,) = [r for r in store_of(config).client.search_runs(["1"]) if r.info.status != "FINISHED"]
    return TrackedRun(open_run.info.run_id, store_of(config))


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, silent: Callable[[str], None]
) -> None:
    whole = train(config(), say=silent)
    cut_off = cut_after_epochs(config(), 0, monkeypatch)

    assert same(weights(train(config(f"resume={cut_off.run_id}"), say=silent)), weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [6.0, 9.0, 11.0])
def test_kill_minus_nine_at_any_moment_loses_nothing(
    seconds: float, config: Callable[..., TrainConfig], silent: Callable[[str], None], tmp_path: Path
) -> None:
    whole = train(config("trainer.max_epochs=40"), say=silent)
    asked = config("trainer.max_epochs=40")
    arguments = [f"prepared={asked.prepared}", *SMALL_MODEL, *SMALL, "trainer.max_epochs=40"]
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
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, silent: Callable[[str], None]
) -> None:
    cut_off = cut_after_epochs(config(), 1, monkeypatch)

    with pytest.raises(UserError, match="was trained on another prepared dataset"):
        train(config(f"resume={cut_off.run_id}", shop="orders"), say=silent)


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
    store = store_of(config())
    assert store.best(dataset_hash=shops["clicks"].content_hash).run_id == original.run_id
    assert weights(refit)["item.weight"].shape[0] == shops["clicks"].num_items(refit=True) + 1


def test_a_refit_of_a_refit_is_refused(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    train(config("model=popularity"), say=silent)
    refit = train(config("model=popularity", "refit=best"), say=silent)

    with pytest.raises(UserError, match="is itself a refit"):
        train(config("model=popularity", f"refit={refit.run_id}"), say=silent)


def test_the_config_hash_tells_models_apart_and_places_not(config: Callable[..., TrainConfig]) -> None:
    plain = config_hash(config())

    assert config_hash(config("tracking.runs_dir=elsewhere")) == plain
    assert config_hash(config("model.embed_dim=16")) != plain
    assert config_hash(config("seed=2")) != plain


def test_a_loss_that_explodes_is_an_error_with_the_way_out(
    config: Callable[..., TrainConfig], silent: Callable[[str], None]
) -> None:
    with pytest.raises(UserError, match=r"lower optimizer.lr \(now 1e\+30\)"):
        train(config("optimizer.lr=1e30", "optimizer.warmup_steps=0"), say=silent)


@pytest.mark.parametrize("key", ["refit", "resume"])
def test_a_setting_beside_refit_or_resume_is_refused_not_passed_over(
    config: Callable[..., TrainConfig], silent: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    run = train(config(), say=silent) if key == "refit" else cut_after_epochs(config(), 1, monkeypatch)

    with pytest.raises(UserError, match="keeps its own configuration: take away what sets seed, or start a new run"):
        train(config(f"{key}={run.run_id}", "seed=99"), say=silent)
    train(config(f"{key}={run.run_id}", "seed=1"), say=silent)


def test_a_refit_writes_no_metric(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    run = train(config(), say=silent)

    assert train(config(f"refit={run.run_id}"), say=silent).metrics == {}


def test_a_refit_does_not_pass_for_the_run_it_repeats(
    config: Callable[..., TrainConfig], shops: dict[str, Prepared], silent: Callable[[str], None]
) -> None:
    run = train(config(), say=silent)
    train(config(f"refit={run.run_id}"), say=silent)

    done, _ = run.store.same_as(dataset_hash=shops["clicks"].content_hash, config_hash=config_hash(config()))
    assert done is not None
    assert done.run_id == run.run_id
