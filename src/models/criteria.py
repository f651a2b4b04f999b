"""How the targets of a position are compared with other items: a loss of losses.py on what a model says of both."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shopkeeper.models.losses import (
    Sample,
    Sampler,
    bpr_max_loss,
    full_log_sum,
    gbce_loss,
    gbce_power,
    sampled_log_sum,
    softmax_loss,
    with_bonus,
)

PAIRS_AT_ONCE = 512
"""(position, target) pairs whose rivals are held in memory at a time; they are computed again on the way back."""


class Contest(NamedTuple):
    """Targets of one task, and what they are compared with; P positions, M targets, R items, U distinct ones seen."""

    query: Tensor  # (P, D)
    vector: Tensor  # (R, D) of the items at hand; row 0 is nobody
    bias: Tensor  # (R,)
    seen: Tensor  # (P, U), scores of the history's items without their bonus
    bonus: Tensor  # (P, U)
    mask: Tensor  # (P, U), whether the history holds the item by then
    held: Tensor  # (P, U), row of `vector`
    target: Tensor  # (M,), row of `vector`
    slot: Tensor  # (M,), place among the U items, -1 where it is not there
    owner: Tensor  # (M,), position
    raised: Tensor  # (M,), the bonus of a target that the history holds, else 0
    weight: Tensor  # (M,), those of a position sum to 1
    positions: int  # how many the loss is averaged over

    def target_scores(self) -> Tensor:
        """(M,)"""
        return (self.query[self.owner] * self.vector[self.target]).sum(-1) + self.bias[self.target] + self.raised

    def sample_scores(self, sample: Sample) -> Tensor:
        """(P, S), without the bonus of an item that the history happens to hold."""
        return self.query @ self.vector[sample.item].T + self.bias[sample.item]

    def rivals(self, sample: Sample | None) -> tuple[Tensor, Tensor]:
        """Scores of what is no target (P, N), and which of them count (P, N): the sample and the history, or all.

        A sampled item that the history happens to hold stands there twice, once without its bonus.
        """
        if sample is None:
            scores = self.query @ self.vector.T + self.bias
            scores = scores.scatter_add(1, self.held, torch.where(self.mask, self.bonus, 0.0))
            allowed = torch.ones_like(scores, dtype=torch.bool)
            allowed[self.owner, self.target] = False
            return scores[:, 1:], allowed[:, 1:]
        drawn = (self.target[:, None] == sample.item).float()
        hit = drawn.new_zeros(len(self.query), drawn.shape[1]).index_add_(0, self.owner, drawn) > 0
        among, held = self.slot >= 0, self.mask.clone()
        held[self.owner[among], self.slot[among]] = False
        return torch.cat([self.sample_scores(sample), self.seen + self.bonus], dim=1), torch.cat([~hit, held], dim=1)


class Criterion(nn.Module):
    """Softmax over the catalogue: cross-entropy in full, or on a shared sample corrected for how it was drawn.

    Args:
        sampler: None compares with the whole catalogue.
    """

    def __init__(self, sampler: Sampler | None) -> None:
        super().__init__()
        self.sampler = sampler

    def draw(self) -> Sample | None:
        return self.sampler.draw() if isinstance(self.sampler, Sampler) else None

    def loss(self, contest: Contest, sample: Sample | None) -> Tensor:
        """`sample.item` are rows of `contest.vector`."""
        exact = sample is None
        if sample is None:
            log_sum = full_log_sum(contest.query, contest.vector[1:], contest.bias[1:])
        else:
            log_sum = sampled_log_sum(contest.sample_scores(sample), sample)
        log_sum = with_bonus(log_sum, contest.seen, contest.bonus, contest.mask, exact=exact)
        return softmax_loss(
            contest.target_scores(),
            log_sum[contest.owner],
            contest.weight,
            positions=contest.positions,
            exact=exact,
        )


class GBCE(Criterion):
    """Binary cross-entropy of targets against rivals, corrected for how few of these are sampled.

    Args:
        calibration: t of `losses.gbce_power`.
    """

    def __init__(self, sampler: Sampler | None, *, num_items: int, calibration: float) -> None:
        super().__init__(sampler)
        rate = sampler.size / (num_items - 1) if sampler else 1.0
        self.power = gbce_power(min(rate, 1.0), calibration)

    def loss(self, contest: Contest, sample: Sample | None) -> Tensor:
        scores, allowed = contest.rivals(sample)
        return gbce_loss(
            contest.target_scores(), scores, allowed, contest.weight, power=self.power, positions=contest.positions
        )


class BPRMax(Criterion):
    """Each target against the strongest of its rivals.

    Args:
        regularisation: how much the squared score of a rival costs.
    """

    def __init__(self, sampler: Sampler | None, *, regularisation: float) -> None:
        super().__init__(sampler)
        self.regularisation = regularisation

    def loss(self, contest: Contest, sample: Sample | None) -> Tensor:
        rivals = contest.rivals(sample)
        parts = zip(contest.target_scores().split(PAIRS_AT_ONCE), contest.owner.split(PAIRS_AT_ONCE), strict=True)
        each = [checkpoint(self.pairs, score, owner, *rivals, use_reentrant=False) for score, owner in parts]
        return (contest.weight * torch.cat([e for e in each if e is not None])).sum() / max(contest.positions, 1)

    def pairs(self, score: Tensor, owner: Tensor, rivals: Tensor, allowed: Tensor) -> Tensor:
        return bpr_max_loss(score, rivals[owner], allowed[owner], regularisation=self.regularisation)


def make_criterion(
    counts: Tensor,
    *,
    num_negatives: int,
    power: float,
    kind: str = "softmax",
    calibration: float = 0.0,
    regularisation: float = 0.0,
) -> Criterion:
    """Criterion of a task whose targets occur `counts` (V,) times; a catalogue up to num_negatives is taken whole."""
    sampler = None if len(counts) <= num_negatives else Sampler(counts, power=power, size=num_negatives)
    if kind == "gbce":
        return GBCE(sampler, num_items=len(counts), calibration=calibration)
    if kind == "bpr_max":
        return BPRMax(sampler, regularisation=regularisation)
    return Criterion(sampler)
