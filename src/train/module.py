"""The training loop's view of a model: losses, optimiser, and what makes a resumed run equal an uninterrupted one."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shopkeeper.config import OptimizerConfig, UserError
from shopkeeper.data.batches import Batch
from shopkeeper.models.sasrec import SASRec


class TrainingModule(pl.LightningModule):
    """Gradient training of one model, and the moving average of its weights, which is what is judged and kept.

    Args:
        weights: loss weight of each of the model's tasks, in their order.
        num_negatives: size of the shared sample; a catalogue that is not larger is summed in full.
    """

    def __init__(
        self, model: SASRec, *, weights: list[float], num_negatives: int, optimizer: OptimizerConfig, seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=moving_average(optimizer.average))
        self.weights, self.num_negatives = weights, num_negatives
        self.settings, self.seed = optimizer, seed

    def on_train_epoch_start(self) -> None:
        """Seed each epoch by its number: what it draws does not depend on what ran before it in this process."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        losses = self.model.losses(batch, num_negatives=self.num_negatives)
        loss = torch.stack([w * task_loss for w, task_loss in zip(self.weights, losses, strict=True)]).sum()
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: lower optimizer.lr "
                f"(now {self.settings.lr}) or optimizer.clip_norm; the last good checkpoint is kept"
            )
        for task, task_loss in zip(self.model.tasks, losses, strict=True):
            self.log(f"train/loss_{task}", task_loss.detach(), on_step=False, on_epoch=True, batch_size=1)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.average.update_parameters(self.model)

    @property
    def judged(self) -> SASRec:
        """The model with averaged weights."""
        model = self.average.module
        assert isinstance(model, SASRec)
        return model

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the rate rises over the warm-up steps and stays: no schedule depends on how long training will be."""
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.lr)
        warm_up = max(self.settings.warmup_steps, 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average that forgets the random start: after n steps the decay is at most (1 + n) / (10 + n).

    Ramp of TensorFlow's ExponentialMovingAverage, https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage
    """

    def update(average: Any, current: Any, steps: Tensor | int) -> None:
        ramp = (1 + int(steps)) / (10 + int(steps))
        get_ema_multi_avg_fn(min(decay, ramp))(average, current, steps)

    return update
