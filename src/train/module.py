"""The training loop's view of a model: losses, optimiser, and what makes a resumed run equal an uninterrupted one."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from shopkeeper.config import OptimizerConfig
from shopkeeper.data.batches import Batch
from shopkeeper.models.criteria import Criterion
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train.distributed import begin_alike, rank_and_world, share_of_positions, sum_gradients
from shopkeeper.train.lazy import LazyAdamW, WeightAverage, clip_gradients


class TrainingModule(pl.LightningModule):
    """Gradient training of one model, and the moving average of its weights, which is what is judged and kept.

    Args:
        weights: loss weight of each of the model's tasks, in their order.
        criteria: loss of each task.
    """

    def __init__(
        self,
        model: NeuralModel,
        *,
        weights: list[float],
        criteria: list[Criterion],
        optimizer: OptimizerConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = WeightAverage(model, optimizer.average)
        self.criteria = nn.ModuleList(criteria)
        self.weights, self.settings, self.seed = weights, optimizer, seed

    def on_fit_start(self) -> None:
        begin_alike(self.model.parameters())

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed each step by its number: what it draws depends on nothing that ran before it, in whichever process."""
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        losses = self.model.losses(batch, list(self.criteria))  # type: ignore[arg-type]
        share = share_of_positions(batch.length.sum())
        loss = share * torch.stack([w * task_loss for w, task_loss in zip(self.weights, losses, strict=True)]).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.global_step}")
        _, world = rank_and_world()
        for task, task_loss in zip(self.model.tasks, losses, strict=True):
            mean = task_loss.detach() * share * world  # over processes of it: the whole batch's loss
            self.log(f"train/loss_{task}", mean, on_step=False, on_epoch=True, batch_size=1, sync_dist=world > 1)
        real = batch.length.sum() / max(batch.event.numel(), 1)
        self.log("train/real_positions", real, on_step=False, on_epoch=True, batch_size=1, sync_dist=world > 1)
        return loss

    def on_after_backward(self) -> None:
        sum_gradients(self.model)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        clip_gradients(self.model.parameters(), self.settings.clip_norm)

    def on_before_optimizer_step(self, _optimizer: torch.optim.Optimizer) -> None:
        self.average.before_step(self.model)

    def on_train_batch_end(self, *_: Any) -> None:
        self.average.after_step(self.model)

    @property
    def judged(self) -> NeuralModel:
        """The model with averaged weights."""
        self.average.settle(self.model)
        model = self.average.module
        assert isinstance(model, NeuralModel)
        return model

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the rate rises over the warm-up steps and stays: no schedule depends on how long training will be."""
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = LazyAdamW(groups, lr=self.settings.lr, fused=True)
        warm_up = max(self.settings.warmup_steps, 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
