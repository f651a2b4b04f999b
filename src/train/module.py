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
from shopkeeper.train.schedule import rate


class TrainingModule(pl.LightningModule):
    """Gradient training of one model, and the moving average of its weights, which is what is judged and kept.

    Args:
        weights: loss weight of each of the model's tasks and outcomes, in their order.
        criteria: loss of each task.
        uncertainty: learn what each loss weighs besides, exp(-v) with v added to the loss: the log variance of
            Kendall et al. 2018 (arXiv:1705.07115), without its factors of a half.
        total_steps: how many a whole training takes; a schedule may end with them.
    """

    def __init__(
        self,
        model: NeuralModel,
        *,
        weights: list[float],
        criteria: list[Criterion],
        optimizer: OptimizerConfig,
        seed: int,
        uncertainty: bool = False,
        total_steps: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = WeightAverage(model, optimizer.average)
        self.criteria = nn.ModuleList(criteria)
        self.names = [*model.tasks, *(outcome.name for outcome in model.outcomes)]
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)), requires_grad=uncertainty)
        self.weights, self.settings, self.seed, self.total_steps = weights, optimizer, seed, total_steps

    def on_fit_start(self) -> None:
        begin_alike(self.model.parameters())

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed each step by its number: what it draws depends on nothing that ran before it, in whichever process."""
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        losses = self.model.losses(batch, list(self.criteria))  # type: ignore[arg-type]
        share = share_of_positions(batch.length.sum())
        loss = share * self.weighed(losses)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.global_step}")
        _, world = rank_and_world()
        told = {"real_positions": batch.length.sum() / max(batch.event.numel(), 1)}
        for name, own in zip(self.names, losses, strict=True):
            told[f"loss_{name.replace(':', '.')}"] = own.detach() * share * world
        for name, value in told.items():  # their means over processes are those of the whole batch
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=1, sync_dist=world > 1)
        return loss

    def weighed(self, losses: list[Tensor]) -> Tensor:
        by_weight = torch.stack([weight * own for weight, own in zip(self.weights, losses, strict=True)])
        return (by_weight * torch.exp(-self.log_variance) + self.log_variance).sum()

    def on_after_backward(self) -> None:
        sum_gradients(self.model, self.log_variance)

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
        """AdamW, its rate by the schedule of the settings; the heads of outcomes have a rate of their own."""
        heads = [] if self.model.outcome_heads is None else list(self.model.outcome_heads.parameters())
        others = [p for p in self.model.parameters() if not any(p is own for own in heads)]
        decayed = [p for p in others if p.ndim >= 2]
        plain = [p for p in others if p.ndim < 2]
        plain += [self.log_variance] if self.log_variance.requires_grad else []
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        if heads:
            groups.append({"params": heads, "weight_decay": 0.0, "lr": self.settings.heads_lr})
        optimizer = LazyAdamW(groups, lr=self.settings.lr, fused=True)
        share = rate(self.settings.schedule, warm_up=self.settings.warmup_steps, total=self.total_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
