from collections.abc import Callable

import pytest

from shopkeeper.config import TrainConfig
from shopkeeper.train.fit import train
from shopkeeper.train.profile import Stopwatch, profile_text


def test_the_optimiser_s_time_is_without_both_passes() -> None:
    watch = Stopwatch()
    watch.seconds |= {"[_TrainingEpochLoop].train_dataloader_next": 1.0, "fit": 10.0}
    watch.seconds |= {
        "[Strategy]SingleDeviceStrategy.training_step": 2.0,
        "[Strategy]SingleDeviceStrategy.backward": 3.0,
    }
    watch.seconds |= {"[LightningModule]TrainingModule.optimizer_step": 5.5, "run_training_batch": 6.0}

    found = watch.metrics()

    assert {name.removeprefix("profile/"): seconds for name, seconds in found.items()} == {
        "data": 1.0,
        "forward": 2.0,
        "backward": 3.0,
        "optimiser": 0.5,
        "validation and the rest": 3.5,
    }
    assert profile_text(found) == (
        "10.0 s: validation and the rest 35%, backward 30%, forward 20%, data 10%, optimiser 5%"
    )


def test_who_did_not_ask_gets_none() -> None:
    assert profile_text({"val/primary": 0.3}) is None


def test_a_run_keeps_its_profile(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> None:
    run = train(config("trainer.profile=true", "trainer.max_epochs=1"), say=silent)

    seconds = {name: value for name, value in run.metrics.items() if name.startswith("profile/")}
    assert len(seconds) == 5
    assert min(seconds.values()) > 0
    assert run.curve("train/real_positions")[0] == pytest.approx(0.95, abs=0.05)
