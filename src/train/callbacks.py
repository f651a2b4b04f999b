"""What happens around Lightning's epochs: validate, log, keep checkpoints, stop in time."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from shopkeeper.config import EarlyStoppingConfig
from shopkeeper.train.module import TrainingModule
from shopkeeper.train.tracking import PRIMARY, TrackedRun
from shopkeeper.train.validation import Validation

LAST = "last.ckpt"
BEST = "best.ckpt"
MONITOR = "val_epoch/mean"
"""What stops training and picks the checkpoint: the mean ndcg of the model's tasks; run=best compares val/primary."""
PRIMARY_EPOCH = "val_epoch/primary"
"""What `val/primary` is after each epoch."""


def callbacks(run: TrackedRun, validation: Validation | None, stopping: EarlyStoppingConfig) -> list[pl.Callback]:
    """Validate and log each epoch, keep the last and the best checkpoint, stop when validation stops improving.

    A refit validates nothing: it keeps its last checkpoint alone.
    """
    folder = run.checkpoints
    keep_last = ModelCheckpoint(
        dirpath=folder,
        filename=LAST.removesuffix(".ckpt"),
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    if validation is None:
        return [keep_last]
    keep_best = ModelCheckpoint(
        dirpath=folder,
        filename=BEST.removesuffix(".ckpt"),
        monitor=MONITOR,
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    stop = EarlyStopping(
        MONITOR,
        mode="max",
        patience=stopping.patience,
        min_delta=stopping.min_delta,
        check_on_train_epoch_end=True,
        verbose=False,
    )
    return [EpochLog(run, validation), stop, StayStopped(stop), keep_best, keep_last]


class EpochLog(pl.Callback):
    """Judge the model on validation after each epoch, and log what was measured under the epoch's number."""

    def __init__(self, run: TrackedRun, validation: Validation) -> None:
        self.run, self.validation = run, validation

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        measured = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
        metrics = self.validation.metrics(pl_module.judged)
        mean = self.validation.mean(metrics)
        pl_module.log(MONITOR, mean, prog_bar=True)
        if PRIMARY in metrics:
            pl_module.log(PRIMARY_EPOCH, metrics[PRIMARY])
        measured |= {MONITOR: mean}
        measured |= {name.replace("val/", "val_epoch/"): v for name, v in metrics.items() if "/k" not in name}
        pl_module.train()
        if trainer.is_global_zero:
            self.run.log_metrics(measured, step=trainer.current_epoch)


class StayStopped(pl.Callback):
    """A run killed after early stopping, but before it was finished, must not train on when resumed."""

    def __init__(self, stop: EarlyStopping) -> None:
        self.stop = stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.stop.wait_count >= self.stop.patience:
            trainer.should_stop = True


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Ctrl-C inside comes out as what it is: Lightning would end the process, and ignore every further Ctrl-C."""
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from error


def quiet_lightning() -> None:
    """Progress stays, chatter goes: device banners, and advice on workers (a batch takes longer to send)."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for advice in (
        ".*does not have many workers.*",
        ".*checkpoint directory.*exists and is not empty.*",
        ".*treespec, LeafSpec.*",  # Lightning with a torch that renamed it
    ):
        warnings.filterwarnings("ignore", advice)
