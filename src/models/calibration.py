"""From what a model says to what is answered: probabilities that hold, sets that cover, and how personal to get.

Everything here is a pure function of numbers fitted on validation strangers (`train/calibrate.py`). They are kept by
bucket: the last of `ks` steps that a history has reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from shopkeeper.data import schema as s


@dataclass(frozen=True)
class DepthThresholds:
    """From which probability on an answer gets personal; None: never."""

    segments: dict[str, float | None] = field(default_factory=dict)
    """Per segment, the least probability of its likeliest class at which a visitor may be addressed as that."""
    one_to_one: float | None = None
    """Least probability that the next target of the model's first task is among the best `s.SHORTLIST` items."""


@dataclass(frozen=True)
class Calibration:
    """Numbers per bucket: bucket i holds the histories of at least ks[i] steps and fewer than ks[i + 1]."""

    ks: list[int]
    scales: dict[str, list[float]]
    """Per outcome: how much of what its head says beyond the prior is true; 0 answers the prior."""
    temperature: dict[str, list[float]]
    """Per task: what scores are multiplied with to be logits."""
    sets: dict[str, list[float]]
    """Per task: the probability that a list of best items must reach to hold a target nine times out of ten."""
    depth: DepthThresholds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and the checkpoint keep them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        return cls(**{**values, "depth": DepthThresholds(**values["depth"])})

    def at(self, numbers: Sequence[float], k: Tensor) -> Tensor:
        """The number of each history's bucket (B,), from one number per bucket and steps seen (B,)."""
        return torch.tensor(numbers, dtype=torch.float32, device=k.device)[bucket(k, self.ks)]


def bucket(k: Tensor, ks: Sequence[int]) -> Tensor:
    """The last i with ks[i] <= k, the first bucket below all of them (B,)."""
    borders = torch.tensor(list(ks), dtype=k.dtype, device=k.device)
    return (torch.searchsorted(borders, k, right=True) - 1).clamp(min=0)


def scaled(log_probabilities: Tensor, prior: Tensor, scale: Tensor) -> Tensor:
    """Calibrated log probabilities (B, C), from uncalibrated ones (B, C), the prior's (C,) and a scale each (B,):

        log q = log_softmax(log prior + scale * (log p - log prior))

    A scale of 0 answers the prior, 1 what the head says; the log-loss of it is convex in the scale.
    """
    return torch.log_softmax(prior + scale[:, None] * (log_probabilities - prior), dim=-1)


def item_probabilities(scores: Tensor, temperature: Tensor) -> Tensor:
    """Probability of each item of the catalogue (B, V) from scores (B, V) and a temperature each (B,).

    An item that cannot be the target has a score of -inf.
    """
    return torch.softmax(scores * temperature[:, None], dim=-1)


def set_size(probabilities: Tensor, threshold: Tensor) -> Tensor:
    """How many of the best items it takes until their probabilities (B, V) sum to the threshold (B,); at most V.

    The sets of Romano et al. 2020 (arXiv:2006.02544) without their random part.
    """
    before = probabilities.sort(dim=-1, descending=True).values.double().cumsum(dim=-1)
    short = (before < threshold[:, None]).sum(dim=-1) + 1
    return short.clamp(max=probabilities.shape[1])


def better_mass(probabilities: Tensor, target: Tensor) -> Tensor:
    """Probability of all items that rank before each target (B,), ties among them: what sets are fitted on.

    Args:
        probabilities: (B, V).
        target: place of the item in the catalogue, from 0 (B,).
    """
    own = probabilities.gather(1, target[:, None])
    return torch.where(probabilities >= own, probabilities, 0.0).double().sum(dim=-1) - own[:, 0].double()


def shortlist_mass(probabilities: Tensor) -> Tensor:
    """Probability that the next target is among the best `s.SHORTLIST` items (B,)."""
    best = min(s.SHORTLIST, probabilities.shape[1])
    return probabilities.topk(best, dim=-1).values.sum(dim=-1)


def depth_of(
    k: Tensor, shortlist: Tensor, segments: Mapping[str, Tensor], thresholds: DepthThresholds, *, nothing: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """How personal each answer may be, as its place in `s.DEPTHS` (B,), and who may be addressed as what (B,) each.

    Args:
        k: steps seen (B,).
        shortlist: `shortlist_mass` by the model's first task (B,).
        segments: probability of the likeliest class of each segment (B,).
        nothing: of whom nothing is known (B,). They are welcomed: the prior knows the shop, not the visitor.
    """
    never = torch.zeros_like(k, dtype=torch.bool)
    addressed = {
        name: (top >= limit) & ~nothing if (limit := thresholds.segments.get(name)) is not None else never
        for name, top in segments.items()
    }
    any_segment = torch.stack([never, *addressed.values()]).any(dim=0)
    limit = thresholds.one_to_one
    personal = (shortlist >= limit) & (k >= 1) & ~nothing if limit is not None else never
    welcome, segment, one_to_one = range(len(s.DEPTHS))
    depth = torch.where(personal, one_to_one, torch.where(any_segment, segment, welcome))
    return depth, addressed
