"""What happens around Lightning's epochs: validate, log, keep checkpoints, stop in time."""

import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from shopkeeper.config import EarlyStoppingConfig
from shopkeeper.train.distributed import rank_and_world
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

    def on_train_epoch_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        measured = {"train/seconds": time.perf_counter() - self.began}
        measured |= {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
        model = pl_module.judged
        metrics = self.validation.told(summed(self.validation.share(model, *rank_and_world())))
        metrics |= self.validation.skills(model)
        mean = self.validation.mean(metrics)
        several = rank_and_world()[1] > 1  # Lightning wants to be told; they are the same everywhere
        pl_module.log(MONITOR, mean, prog_bar=True, sync_dist=several)
        if PRIMARY in metrics:
            pl_module.log(PRIMARY_EPOCH, metrics[PRIMARY], sync_dist=several)
        measured |= {MONITOR: mean}
        measured |= {name.replace("val/", "val_epoch/"): v for name, v in metrics.items() if "/k" not in name}
        pl_module.train()
        if trainer.is_global_zero:
            self.run.log_metrics(measured, step=trainer.current_epoch)


def summed(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sums of all processes; each judged its share of the examples."""
    if rank_and_world()[1] == 1:
        return sums
    totals = {name: torch.from_numpy(values) for name, values in sums.items()}
    for total in totals.values():
        dist.all_reduce(total)
    return {name: total.numpy() for name, total in totals.items()}


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
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for advice in (
        ".*does not have many workers.*",
        ".*checkpoint directory.*exists and is not empty.*",
        ".*treespec, LeafSpec.*",  # Lightning with a torch that renamed it
    ):
        warnings.filterwarnings("ignore", advice)
