"""AdamW and a moving average of weights that touch only the rows of a table a step named.

The state of an untouched row waits, so a step costs the same whatever the catalogue's size.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

FORGOTTEN = 1e-12
"""Least decay of the average: its logarithm must exist, and what is left of the past is below a float's precision."""


class LazyAdamW(torch.optim.AdamW):
    """AdamW whose sparse gradients update the named rows alone, each by how often it was named itself.

    For such a row it is exactly AdamW run on the steps that name it (compare TensorFlow Addons' LazyAdam,
    https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam); dense gradients take torch's own step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = [(group, p) for group in self.param_groups for p in group["params"] if is_sparse(p)]
        gradients = [p.grad.coalesce() for _, p in sparse]
        for (group, p), gradient in zip(sparse, gradients, strict=True):
            self.update_rows(group, p, gradient)
            p.grad = None  # torch's step passes over it
        super().step()
        for (_, p), gradient in zip(sparse, gradients, strict=True):
            p.grad = gradient
        return loss

    def update_rows(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        rows, g = gradient.indices()[0], gradient.values()
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(len(p), dtype=torch.float32, device=p.device)
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        (beta1, beta2), lr = group["betas"], group["lr"]
        count = state["step"][rows] + 1
        mean = torch.lerp(g, state["mean"][rows], beta1)
        square = torch.lerp(g * g, state["square"][rows], beta2)
        state["step"][rows], state["mean"][rows], state["square"][rows] = count, mean, square
        size = (-lr / (1 - beta1**count))[:, None]
        root = (square / (1 - beta2**count)[:, None]).sqrt_().add_(group["eps"])
        p[rows] = p[rows] * (1 - lr * group["weight_decay"]) + size * mean / root


def is_sparse(p: Tensor) -> bool:
    return p.grad is not None and p.grad.is_sparse


@torch.no_grad()
def clip_gradients(parameters: Iterator[nn.Parameter], limit: float) -> None:
    """Scale all gradients, sparse ones among them, so that their common norm is at most `limit`."""
    values = []
    for p in parameters:
        if is_sparse(p):
            p.grad = p.grad.coalesce()  # type: ignore[union-attr]
        if p.grad is not None:
            values.append(p.grad.values() if p.grad.is_sparse else p.grad)
    norm = torch.nn.utils.get_total_norm(values)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(values, scale)


class WeightAverage(nn.Module):
    """Exponential moving average of a model's weights, the model of which `module` is.

    Call `before_step` with the gradients of a step at hand and its weights not yet changed, `after_step` when they
    are, and `settle` before `module` is read. An average that forgets its random start: after n steps the decay is at
    most (1 + n) / (10 + n), and 0 before the first, the ramp of TensorFlow's ExponentialMovingAverage
    (https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage). Between two steps that name a row
    nothing but the decay happens to its average, which is made up for at the second.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_decay", torch.zeros((), dtype=torch.float64))  # sum of log decays so far
        self.steps: Tensor
        self.log_decay: Tensor
        self.sparse = [
            name for name, table in model.named_modules() if isinstance(table, nn.Embedding) and table.sparse
        ]
        for name in self.sparse:  # where each row's average stands
            size = model.get_submodule(name).num_embeddings
            assert isinstance(size, int)
            self.register_buffer(self.clock(name), torch.zeros(size, dtype=torch.float64))

    @staticmethod
    def clock(name: str) -> str:
        return f"until_{name.replace('.', '_')}"

    @torch.no_grad()
    def before_step(self, model: nn.Module) -> None:
        for name in self.sparse:
            gradient = self.weight(model, name).grad
            if gradient is not None:
                self.catch_up(model, name, gradient.coalesce().indices()[0])

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        n = int(self.steps)
        decay = max(min(self.decay, (1 + n) / (10 + n)), FORGOTTEN) if n else FORGOTTEN
        self.steps += 1
        self.log_decay += math.log(decay)
        tables = {f"{name}.weight" for name in self.sparse}
        pairs = zip(self.module.named_parameters(), model.parameters(), strict=True)
        dense = [(average, current) for (name, average), current in pairs if name not in tables]
        torch._foreach_lerp_([a.detach() for a, _ in dense], [c.detach() for _, c in dense], 1 - decay)

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        for name in self.sparse:
            self.catch_up(model, name, None)
        for average, current in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(current)

    def catch_up(self, model: nn.Module, name: str, rows: Tensor | None) -> None:
        """Bring the average of `rows` (of all) up to the present step, over which the weights did not change."""
        average, current, until = (
            self.weight(self.module, name),
            self.weight(model, name),
            self.get_buffer(self.clock(name)),
        )
        index = slice(None) if rows is None else rows
        left = torch.exp(self.log_decay - until[index]).to(current.dtype)[:, None]
        average[index] = torch.lerp(current[index], average[index], left)
        until[index] = self.log_decay

    @staticmethod
    def weight(model: nn.Module, name: str) -> Tensor:
        table = model.get_submodule(name)
        assert isinstance(table, nn.Embedding)
        return table.weight
