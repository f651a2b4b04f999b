"""The training loop's view of a model: losses, optimiser, and what makes a resumed run equal an uninterrupted one."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from shopkeeper.config import OptimizerConfig, UserError
from shopkeeper.data.batches import Batch
from shopkeeper.models.criteria import Criterion
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train.lazy import LazyAdamW, WeightAverage, clip_gradients


class TrainingModule(pl.LightningModule):
    """Gradient training of one model, and the moving average of its weights, which is what is judged and kept.

    Args:
        weights: loss weight of each of the model's tasks and outcomes, in their order.
        criteria: loss of each task.
        uncertainty: learn what each loss weighs besides, exp(-v) with v added to the loss: the log variance of
            Kendall et al. 2018 (arXiv:1705.07115), without its factors of a half.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.average = WeightAverage(model, optimizer.average)
        self.criteria = nn.ModuleList(criteria)
        self.names = [*model.tasks, *(outcome.name for outcome in model.outcomes)]
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)), requires_grad=uncertainty)
        self.weights, self.settings, self.seed = weights, optimizer, seed

    def on_train_epoch_start(self) -> None:
        """Seed each epoch by its number: what it draws does not depend on what ran before it in this process."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        losses = self.model.losses(batch, list(self.criteria))  # type: ignore[arg-type]
        loss = self.weighed(losses)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: lower optimizer.lr "
                f"(now {self.settings.lr}) or optimizer.clip_norm; the last good checkpoint is kept"
            )
        for name, own in zip(self.names, losses, strict=True):
            name = f"train/loss_{name.replace(':', '.')}"
            self.log(name, own.detach(), on_step=False, on_epoch=True, batch_size=1)
        return loss

    def weighed(self, losses: list[Tensor]) -> Tensor:
        by_weight = torch.stack([weight * own for weight, own in zip(self.weights, losses, strict=True)])
        return (by_weight * torch.exp(-self.log_variance) + self.log_variance).sum()

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
        warm_up = max(self.settings.warmup_steps, 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
