from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.config import TrainConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.train.fit import train
from shopkeeper.train.module import TrainingModule
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


@pytest.fixture
def small() -> list[str]:
    """Overrides that make training a matter of seconds."""
    return [*SMALL_MODEL, *SMALL]


@pytest.fixture
def config(compose: Compose, shops: dict[str, Prepared], tracking_overrides: list[str]) -> Callable[..., TrainConfig]:
    def make(*overrides: str, shop: str = "clicks") -> TrainConfig:
        counted = any(o.startswith("model=") for o in overrides)
        own = () if counted else SMALL_MODEL
        path = f"prepared={shops[shop].path}"
        made: TrainConfig = compose("train", TrainConfig, path, *own, *SMALL, *tracking_overrides, *overrides)
        return made

    return make


class Killed(BaseException):
    """Stands for the power cut: nothing of ours catches it."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainConfig, int], TrackedRun]:
    """cut_off(config, epochs) -> a run of it that stopped dead as its epoch number `epochs` (from 0) began."""

    def run(config: TrainConfig, epochs: int) -> TrackedRun:
        begin = TrainingModule.on_train_epoch_start

        def cut(self: TrainingModule) -> None:
            if self.current_epoch == epochs:
                raise Killed
            begin(self)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(TrainingModule, "on_train_epoch_start", cut)
            train(config, say=lambda text: None)
        store = Store(config.tracking)
        (open_run,) = [r for r in store.client.search_runs(["1"]) if r.info.status != "FINISHED"]
        return TrackedRun(open_run.info.run_id, store)

    return run
