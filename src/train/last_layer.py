"""The last layer of the outcomes' heads, fitted to the end: gradient steps leave it some way from where it is best.

With the encoder, the items and the heads' layer between as they are, logits are linear in the features f that the last
layer reads. Of each outcome alone the loss is convex, that of a multinomial regression (Hastie et al. 2009, 4.4.4):

    sum_i w_i cross-entropy(start(f_i) + W f_i) / sum_i w_i  +  penalty / n * |W|^2 / 2

over moments i of train visitors cut as strangers, with w = (1 + k) ** -early, f standardised and beside a 1, and n the
visitors of whom a class is known. The fit starts from the prior or from what gradients have learned: few visitors may
have taught the encoder's state, or these weights, more than holds for others. The penalty is chosen by the loss of
visitors whom the fit leaves out, validation strangers and a share of train's; the start by strangers alone.
Legend: N moments, F features, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shopkeeper.config import LastLayerConfig
from shopkeeper.data.examples import Examples
from shopkeeper.data.outcomes import MASKED, Labels
from shopkeeper.evaluate.judge import AT_ONCE, batches_of
from shopkeeper.models.classifiers import chance_of, training_moments
from shopkeeper.models.contract import FitData
from shopkeeper.models.heads import OutcomeHeads
from shopkeeper.models.neural import NeuralModel

CONSTANT = 1e-6
"""A feature whose standard deviation is no larger tells nothing."""
ROUNDS = 200
"""Of a descent at most."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for an outcome: a penalty, in visitors, and the name of a `Start`."""

    penalty: float
    start: str


class Layer(NamedTuple):
    """Logits (N, C) are the prior plus x @ weight.T + bias."""

    weight: Tensor  # (C, F)
    bias: Tensor  # (C,)

    def logits(self, x: Tensor, prior: Tensor) -> Tensor:
        return prior + x @ self.weight.T + self.bias


class Start(NamedTuple):
    """Where a fit begins, which its penalty holds it to, and which features (F,) it may read otherwise."""

    layer: Layer
    reads: Tensor


class Known(NamedTuple):
    """Moments at which a class is known."""

    x: Tensor  # (N, F)
    label: Tensor  # (N,)
    weight: Tensor  # (N,)
    visitor: Tensor  # (N,)

    def only(self, chosen: Tensor) -> "Known":
        return Known(*(column[chosen] for column in self))


def refine(
    model: NeuralModel,
    data: FitData,
    config: LastLayerConfig,
    *,
    validation: Examples | None,
    seed: int,
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the fitted layer into the model's heads; return the choice of each outcome.

    Args:
        validation: moments of strangers to choose by; None where `chosen` is given.
        chosen: what this returned for an earlier model; its choices hold, and an outcome without one stays as it is.
    """
    heads = model.outcome_heads
    if heads is None:
        return {}
    at_most = min(config.moments, len(data.rows()))
    train = training_moments(data.prepared, data.window, most_steps=config.most_steps, at_most=at_most, seed=seed)
    moments = Examples.joined(train, validation) if validation is not None else train
    groups = groups_of(moments, len(train), tune_share=config.tune_share, seed=seed)
    labels, at = Labels(data.prepared, model.outcomes), moments.moments(data.prepared)
    x, visitor = features_of(model, data, moments), torch.from_numpy(moments.visitor)
    weight = (1.0 + torch.from_numpy(moments.k).double()) ** -heads.early
    choices: dict[str, Any] = {}
    for number, outcome in enumerate(model.outcomes):
        label = torch.from_numpy(labels.of(outcome.name, at))
        whole, prior = Known(x, label, weight, visitor), heads.split(heads.prior)[number].double().cpu()
        fitted, left_out, strangers = (whole.only((groups == group) & (label != MASKED)) for group in range(3))
        starts = starts_of(heads, number)
        if chosen is None:
            choice = choose(fitted, left_out, strangers, prior, starts, config.penalties)
        else:
            choice = Choice(**chosen[outcome.name]) if outcome.name in chosen else None
        own = whole.only((groups < 2) & (label != MASKED))
        if choice is not None and len(own.label):
            heads.write(number, *fit(own, prior, starts[choice.start], [choice.penalty])[0])
            choices[outcome.name] = asdict(choice)
    return choices


def groups_of(moments: Examples, train: int, *, tune_share: float, seed: int) -> Tensor:
    """0 where a moment (n,) is fitted on, 1 of train visitors left out, 2 behind the first `train` moments."""
    left_out = chance_of(moments.visitor, seed=seed) < tune_share
    return torch.from_numpy(np.where(np.arange(len(moments)) < train, left_out.astype(np.int64), 2))


def starts_of(heads: OutcomeHeads, number: int) -> dict[str, Start]:
    """The prior, from which what was seen is read, or all features; and what gradients have learned."""
    learned = Layer(*(part.double().cpu() for part in heads.last_layer(number)))
    nothing = Layer(torch.zeros_like(learned.weight), torch.zeros_like(learned.bias))
    state = heads.of_state()
    everything = torch.ones_like(state)
    return {"seen": Start(nothing, ~state), "all": Start(nothing, everything), "learned": Start(learned, everything)}


@torch.no_grad()
def features_of(model: NeuralModel, data: FitData, moments: Examples) -> Tensor:
    """What the last layer reads at each moment (N, F), in doubles."""
    order, rows = [], []
    for chunk, batch in batches_of(model, data.prepared, moments, AT_ONCE, desc="last layer", progress=False):
        order.append(torch.from_numpy(chunk))
        rows.append(model.outcome_features(batch).double().cpu())
    x = torch.cat(rows)
    return torch.empty_like(x).index_copy_(0, torch.cat(order), x)


def choose(
    fitted: Known,
    left_out: Known,
    strangers: Known,
    prior: Tensor,
    starts: Mapping[str, Start],
    penalties: Sequence[float],
) -> Choice | None:
    """For each start the penalty, the strongest of equals, of the lowest loss summed over both groups; of the starts
    the one of the lowest loss on strangers, where they are known. None where nothing is."""
    groups = [group for group in (left_out, strangers) if len(group.label)]
    if not groups or not len(fitted.label):
        return None
    strongest_first, found = sorted(penalties, reverse=True), {}
    for name, start in starts.items():
        layers = fit(fitted, prior, start, strongest_first)
        losses = [[loss_of(layer, group, prior) for group in groups] for layer in layers]
        best = min(range(len(losses)), key=lambda place: sum(losses[place]))
        found[Choice(strongest_first[best], name)] = losses[best][-1]
    return min(found, key=lambda choice: found[choice])


def loss_of(layer: Layer, moments: Known, prior: Tensor) -> float:
    each = F.cross_entropy(layer.logits(moments.x, prior), moments.label, reduction="none")
    return float((each * moments.weight).sum() / moments.weight.sum())


def fit(moments: Known, prior: Tensor, start: Start, penalties: Sequence[float]) -> list[Layer]:
    """The layer of least loss at each penalty; each descent begins where the one before it ended."""
    share = moments.weight / moments.weight.sum()
    mean = share @ moments.x
    deviation = (share @ (moments.x - mean).square()).sqrt()
    used = start.reads & (deviation > CONSTANT)
    x = F.pad((moments.x[:, used] - mean[used]) / deviation[used], (0, 1), value=1.0)
    offset, visitors = start.layer.logits(moments.x, prior), len(moments.visitor.unique())
    found, layers = x.new_zeros(len(prior), x.shape[1]), []
    for penalty in penalties:
        found = descend(x, moments.label, share, offset, found, penalty / visitors)
        weight = torch.zeros_like(start.layer.weight)
        weight[:, used] = found[:, :-1] / deviation[used]
        layers.append(Layer(start.layer.weight + weight, start.layer.bias + found[:, -1] - weight @ mean))
    return layers


def descend(x: Tensor, label: Tensor, share: Tensor, offset: Tensor, begin: Tensor, penalty: float) -> Tensor:
    """The weights (C, F) of least loss beside an offset (N, C), by L-BFGS from `begin` on."""
    weight = begin.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=ROUNDS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = F.cross_entropy(offset + x @ weight.T, label, reduction="none")
        total = (share * each).sum() + penalty / 2 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weight.detach()
