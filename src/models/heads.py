"""Outcomes beside the ranking: one categorical head each on the shared encoder, raw logits after every token.

    z = prior + W x + U mlp(x)
    x = [h, log(1 + k) * mean vector of the k steps so far, log counts of events, the latest event, k, time so far]

What has been seen so far stands beside the encoder's state, so that a head knows at least what counting knows; before
training z is the prior, the log of how frequent each class is.
Legend: B histories, T tokens, D length of an item vector, E events, O outcomes, C classes of all outcomes together.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.data.examples import window_examples
from shopkeeper.data.outcomes import MASKED, Labels, Outcome
from shopkeeper.models.contract import FitData

FIRST_STEPS = 10
"""Up to so many steps, each number of them is an input of its own: the second is no average of the first and third."""
NUMBERS = FIRST_STEPS + 3
"""Inputs about steps and time: one for each number of the first steps, and the logs of both."""


class OutcomeHeads(nn.Module):
    """Heads of all outcomes in one.

    Args:
        outcomes: what is predicted, at least one.
        dim: D.
        num_events: E.
        max_len: longest history the model reads.
        hidden: width of the layer between; 0 leaves it out.
        dropout: share of the inputs, and of that layer, blanked in training.
        encoder_gradient: share of the heads' gradient that the encoder and the item vectors learn from.
        penalty: strength of a normal prior on the weights, in visitors: the loss of an outcome that n visitors of
            train have a class of grows by penalty / n * (sum of its squared weights). Moments of one visitor
            resemble each other, so it is visitors that have to outweigh it.
        early: a moment after k steps weighs (1 + k) ** -early in the loss: a long history is many moments of one
            visitor. At 1 each doubling of the history weighs the same.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        dim: int,
        num_events: int,
        max_len: int,
        hidden: int,
        dropout: float,
        encoder_gradient: float,
        penalty: float,
        early: float,
    ) -> None:
        super().__init__()
        self.outcomes, self.max_len = list(outcomes), max_len
        self.encoder_gradient, self.penalty, self.early = encoder_gradient, penalty, early
        self.sizes = [len(outcome.classes) for outcome in outcomes]
        self.dim, self.num_events = dim, num_events
        width, classes = 2 * dim + 2 * (num_events + 1) + NUMBERS, sum(self.sizes)
        self.direct = nn.Linear(width, classes)
        self.into = nn.Linear(width, hidden) if hidden else None
        self.out = nn.Linear(hidden, classes, bias=False) if hidden else None
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.direct.weight)
        nn.init.zeros_(self.direct.bias)
        if self.out is not None:
            nn.init.zeros_(self.out.weight)
        self.register_buffer("prior", torch.zeros(classes))
        self.register_buffer("visitors", torch.ones(len(self.outcomes)))  # of train, of whom a class is known
        self.prior: Tensor
        self.visitors: Tensor

    def fit(self, data: FitData) -> None:
        """Count how frequent each class is among the visitors of the window after 0, 1, 2, 4, 8, ... steps.

        One more of each class: none is impossible.
        """
        ks = [0, *(2**i for i in range(max(self.max_len, 1).bit_length()))]
        examples = window_examples(data.prepared, data.window, ks)
        moments = examples.moments(data.prepared)
        labels = Labels(data.prepared, self.outcomes)
        parts = []
        for number, outcome in enumerate(self.outcomes):
            found = labels.of(outcome.name, moments)
            counts = np.bincount(found[found != MASKED], minlength=len(outcome.classes)) + 1.0
            parts.append(np.log(counts / counts.sum()))
            self.visitors[number] = max(len(np.unique(examples.visitor[found != MASKED])), 1)
        self.prior.copy_(torch.from_numpy(np.concatenate(parts)))

    def forward(self, hidden: Tensor, vectors: Tensor, event: Tensor, time: Tensor) -> Tensor:
        """Raw logits (B, T, C) from states (B, T, D), pooled vectors (B, T, D), event codes and times (B, T)."""
        x = self.drop(self.inputs(self.share(hidden), self.share(vectors), event, time))
        logits: Tensor = self.prior + self.direct(x)
        if self.into is not None and self.out is not None:
            logits = logits + self.out(self.drop(F.gelu(self.into(x))))
        return logits

    def share(self, x: Tensor) -> Tensor:
        """The same values, of which only a share of the gradient flows on."""
        if not self.training:
            return x
        return torch.lerp(x.detach(), x, self.encoder_gradient)

    def inputs(self, hidden: Tensor, vectors: Tensor, event: Tensor, time: Tensor) -> Tensor:
        """What a head reads after each token (B, T, 2 D + 2 (E + 1) + NUMBERS); causal."""
        dim, width = vectors.shape[2], vectors.shape[1]
        steps = torch.arange(width, device=vectors.device, dtype=vectors.dtype)[None, :, None]
        mean = vectors.cumsum(dim=1) / steps.clamp(min=1.0) * torch.log1p(steps) * math.sqrt(dim)
        latest = F.one_hot(event, self.num_events + 1).to(vectors.dtype)
        counts = torch.log1p(latest.cumsum(dim=1))
        number = torch.arange(width, device=vectors.device).clamp(max=FIRST_STEPS)
        first = F.one_hot(number, FIRST_STEPS + 1).to(vectors.dtype).expand(vectors.shape[0], -1, -1)
        before = torch.cat([time[:, :1], time[:, :-1]], dim=1)
        elapsed = torch.where((time >= 0) & (before >= 0), time - before, 0).clamp(min=0).cumsum(dim=1)
        days = torch.log1p(elapsed.to(vectors.dtype) / 86400.0)[:, :, None]
        return torch.cat([hidden, mean, counts, latest, first, torch.log1p(steps).expand_as(days), days], dim=-1)

    def features(self, hidden: Tensor, vectors: Tensor, event: Tensor, time: Tensor) -> Tensor:
        """What the last layer reads after each token (B, T, F): the logits are the prior plus what is linear in it."""
        x = self.inputs(hidden, vectors, event, time)
        return x if self.into is None else torch.cat([x, F.gelu(self.into(x))], dim=-1)

    def of_state(self) -> Tensor:
        """Which features owe something to the encoder's state (F,)."""
        width, hidden = self.direct.in_features, 0 if self.into is None else self.into.out_features
        place = torch.arange(width + hidden)
        return (place < self.dim) | (place >= width)

    @torch.no_grad()
    def last_layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight (classes, F) and bias (classes,) by which the logits of outcome `number` differ from its prior."""
        begin = sum(self.sizes[:number])
        own = slice(begin, begin + self.sizes[number])
        weights = [self.direct.weight[own], *([] if self.out is None else [self.out.weight[own]])]
        return torch.cat(weights, dim=1), self.direct.bias[own].clone()

    @torch.no_grad()
    def write(self, number: int, weight: Tensor, bias: Tensor) -> None:
        """Make the logits of outcome `number` its prior + features @ weight.T + bias; weight (classes, F)."""
        begin, width = sum(self.sizes[:number]), self.direct.in_features
        own = slice(begin, begin + self.sizes[number])
        self.direct.weight[own] = weight[:, :width].to(self.direct.weight)
        self.direct.bias[own] = bias.to(self.direct.bias)
        if self.out is not None:
            self.out.weight[own] = weight[:, width:].to(self.out.weight)

    def losses(self, logits: Tensor, labels: Sequence[Tensor], length: Tensor) -> list[Tensor]:
        """Cross-entropy of each outcome from logits (B, T, C) and classes (B, T), and its penalty, averaged over all
        positions: as with rankings, what is rarely known does not shout."""
        early = (1.0 + torch.arange(logits.shape[1], device=logits.device)) ** -self.early
        squares = self.squares()
        losses = []
        for number, (part, label) in enumerate(zip(self.split(logits), labels, strict=True)):
            weight = early * (label != MASKED)
            each = F.cross_entropy(part.flatten(0, 1), label.flatten(), ignore_index=MASKED, reduction="none")
            penalty = self.penalty / self.visitors[number] * squares[number]
            losses.append(((each.view_as(label) + penalty) * weight).sum() / length.sum().clamp(min=1))
        return losses

    def squares(self) -> list[Tensor]:
        """Sum of the squared weights of each outcome, those of the layer that all share divided among them."""
        found = [part.square().sum() for part in self.direct.weight.split(self.sizes)]
        if self.into is not None and self.out is not None:
            shared = self.into.weight.square().sum() / len(self.sizes)
            found = [
                own + part.square().sum() + shared
                for own, part in zip(found, self.out.weight.split(self.sizes), strict=True)
            ]
        return found

    def split(self, values: Tensor) -> list[Tensor]:
        """Values (..., C) as one (..., classes) per outcome."""
        return list(values.split(self.sizes, dim=-1))
