"""A learned blend: one score from several models, weighed by task and by how much was seen.

    score_i = sum over parts p of w[task, bucket(k), p] * z_p(i)

z brings the parts onto one scale, log odds. A neural part's scores are the logs of a distribution over the catalogue
but for a constant: z is the score as it is. A counted part's scores s are weights from zero up: z_i = log(1 + s_i /
mean(s)), the log of the distribution they make, half of it spread evenly, again but for a constant. bucket(k) is the
last of `ks` that the k visible steps reach. Weights are learned on validation strangers, in train/weighing.py.
Legend: B histories, H tasks, V items, P parts, K buckets.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from shopkeeper.data.batches import Batch
from shopkeeper.models.contract import FitData, SessionModel, nothing_known

PART_NAME = r"[a-z][a-z0-9_]*"
"""Names of parts become names of files."""

SMALLEST = 1e-12
"""Least mean of a counted part's scores: where it knows nothing, all its z are zero."""


class Blend(SessionModel):
    """See the module's docstring. Outcomes, where the first neural part has them, are its own.

    Args:
        parts: the models to blend, of the same vocabulary, tasks and longest history.
        runs: of parts that were trained before, the runs they are taken from.
        ks: where each bucket of steps seen begins, from 0 up.
        shrinkage: how many examples of its own a bucket needs to weigh as much as the weights of all buckets.
        examples: of each task, how many moments the weights are learned from at most.
    """

    family = "blend"
    kind = "blend"
    trained_by_gradient = True
    scores_are_logits = True

    def __init__(
        self,
        *,
        parts: Mapping[str, SessionModel],
        runs: Mapping[str, str],
        ks: list[int],
        shrinkage: float,
        examples: int,
        **sizes: Any,
    ) -> None:
        if len(parts) < 2:
            raise ValueError(f"a blend needs two parts or more, not {list(parts)}")
        for name in parts:
            if not re.fullmatch(PART_NAME, name):
                raise ValueError(f"the name of a part, {name!r}, must be lower-case letters, digits and _")
        if ks[:1] != [0] or sorted(set(ks)) != list(ks):
            raise ValueError(f"ks={ks} must rise from 0")
        speaker = next((part for part in parts.values() if part.trained_by_gradient), None)
        super().__init__(**sizes, outcomes=speaker.outcomes if speaker else ())
        self.parts, self.runs = nn.ModuleDict(parts), dict(runs)
        self.shrinkage, self.examples = shrinkage, examples
        self.register_buffer("ks", torch.tensor(ks))
        self.register_buffer("weights", torch.ones(len(self.tasks), len(ks), len(parts)))  # (H, K, P)
        self.ks: Tensor
        self.weights: Tensor

    def named_parts(self) -> dict[str, SessionModel]:
        return {name: part for name, part in self.parts.items() if isinstance(part, SessionModel)}

    def fit(self, data: FitData) -> None:
        for name, part in self.named_parts().items():
            if name not in self.runs:
                part.fit(data)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.weights.copy_(state["weights"])
        for name, part in self.named_parts().items():
            start = f"parts.{name}."
            part.restore({key.removeprefix(start): value for key, value in state.items() if key.startswith(start)})

    def take_weights(self, other: SessionModel) -> None:
        """The weights of a blend of the same parts, whatever its catalogue."""
        assert isinstance(other, Blend)
        self.weights.copy_(other.weights)

    def prior_scores(self) -> Tensor:
        views = [standard(part, part.prior_scores()) for part in self.named_parts().values()]
        return sum_of(weight[:, None] * view for weight, view in zip(self.weights[:, 0].unbind(-1), views, strict=True))

    def score(self, batch: Batch) -> Tensor:
        weights = self.weights[:, self.bucket(batch)].transpose(0, 1)[:, :, None]  # (B, H, 1, P)
        views = self.views(batch)
        return sum_of(weight * view for weight, view in zip(weights.unbind(-1), views, strict=True))

    def views(self, batch: Batch) -> Iterator[Tensor]:
        """z of each part (B, H, V), of its prior where nothing is known."""
        nothing = nothing_known(batch)[:, None, None]
        for part in self.named_parts().values():
            yield standard(part, torch.where(nothing, part.prior_scores(), part.score(batch)))

    def bucket(self, batch: Batch) -> Tensor:
        """Which weights hold for each history (B,); who is unknown is at the door, however many steps ago."""
        seen = torch.where(nothing_known(batch), 0, batch.length - 1)
        return torch.bucketize(seen, self.ks, right=True) - 1

    def raw_outcomes(self, batch: Batch) -> list[Tensor]:
        speaker = self.speaker()
        return speaker.raw_outcomes(batch) if speaker else []

    def outcome_priors(self) -> list[Tensor]:
        speaker = self.speaker()
        return speaker.outcome_priors() if speaker else []

    def speaker(self) -> SessionModel | None:
        """The part that tells the outcomes."""
        return next((part for part in self.named_parts().values() if part.outcomes), None)


def standard(part: SessionModel, scores: Tensor) -> Tensor:
    """z from the part's scores (..., V)."""
    if part.trained_by_gradient:
        return scores
    weight = scores.clamp(min=0.0)
    return torch.log1p(weight / weight.mean(dim=-1, keepdim=True).clamp(min=SMALLEST))


def sum_of(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)
