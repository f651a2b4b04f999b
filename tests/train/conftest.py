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
    "last_layer.penalties=[100,10000]",
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


def trial(number: int, state: str, value: float | None, seconds: float, **changes: Any) -> dict[str, Any]:
    made = {"number": number, "state": state, "value": value, "seconds": seconds, "epochs": [], "error": None}
    return made | {"params": {}, "run": f"run{number}"} | changes


@pytest.fixture
def facts() -> dict[str, Any]:
    """What the report of a study is made of: three complete trials, and one of each other end."""
    return {
        "family": "sasrec",
        "study": "s/sasrec",
        "best": 1,
        "space": [
            {"key": "lr", "type": "float", "low": 0.001, "high": 0.1, "log": True, "values": []},
            {"key": "dim", "type": "choice", "low": 0.0, "high": 0.0, "log": False, "values": [32, 64]},
        ],
        "importance": {"lr": 0.7, "dim": 0.3},
        "trials": [
            trial(0, "complete", 0.2, 10.0, params={"lr": 0.001, "dim": 32}),
            trial(1, "complete", 0.3, 12.0, params={"lr": 0.1, "dim": 64}),
            trial(2, "pruned", None, 4.0, epochs=[0.1, 0.15, 0.12]),
            trial(3, "complete", 0.25, 11.0, params={"lr": 0.01, "dim": 32}),
            trial(4, "failed", None, 1.0, error="the loss is nan"),
            trial(5, "stopped", None, 900.0),
        ],
    }
