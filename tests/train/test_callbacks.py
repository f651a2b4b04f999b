import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from shopkeeper.config import EarlyStoppingConfig, TrainConfig
from shopkeeper.train.callbacks import MONITOR, StayStopped, callbacks, interrupts_raised
from shopkeeper.train.fit import train
from shopkeeper.train.module import TrainingModule
from shopkeeper.train.tracking import Store


@pytest.mark.parametrize(("epochs_without_a_better_one", "stays"), [(0, False), (2, False), (3, True)])
def test_what_has_stopped_stays_stopped_when_it_is_resumed(epochs_without_a_better_one: int, stays: bool) -> None:
    stop = EarlyStopping(MONITOR, patience=3)
    stop.wait_count = epochs_without_a_better_one  # as the checkpoint brings it back
    trainer: Any = SimpleNamespace(should_stop=False)

    StayStopped(stop).on_train_start(trainer, trainer)

    assert trainer.should_stop is stays


def test_a_refit_is_neither_judged_nor_stopped_early(tracking: Any) -> None:
    run = Store(tracking).start(name="refit", tags={})

    (keep_last,) = callbacks(run, None, EarlyStoppingConfig(patience=3, min_delta=0.0))

    assert keep_last.state_key.startswith("ModelCheckpoint")


def test_ctrl_c_in_training_ends_the_run_and_comes_out(
    config: Callable[..., TrainConfig], silent: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    asked = config()
    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(asked, say=silent)

    (run,) = Store(asked.tracking).client.search_runs(["1"])
    assert run.info.status == "KILLED"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_end_of_the_process_is_let_through() -> None:
    with pytest.raises(SystemExit), interrupts_raised():
        sys.exit(3)
