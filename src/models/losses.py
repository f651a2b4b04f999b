"""Losses as pure functions of scores: a softmax over the catalogue, in full or on a shared sample; gBCE; BPR-max.

Legend: P positions, M (position, target) pairs, V items, S sampled items, U distinct items of a history, N rivals: what
a target is compared with.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOWEST = -1e9
"""Score of a rival that does not count; finite, so that no gradient is NaN."""


class Sample(NamedTuple):
    """Negatives shared by a batch: item codes from 1 (S,) and the log of how often each is expected (S,)."""

    item: Tensor
    log_expected: Tensor


class Sampler(torch.nn.Module):
    """Draws items with replacement, in proportion to counts ** power.

    Args:
        counts: how often each item is a target (V,); one that never is stays possible, with a tenth of a count.
        power: 0 draws uniformly, 1 by popularity.
        size: S, items in a sample.
    """

    def __init__(self, counts: Tensor, *, power: float, size: int) -> None:
        super().__init__()
        weight = (counts.double() + 0.1) ** power
        self.size = size
        self.register_buffer("cumulated", weight.cumsum(0) / weight.sum(), persistent=False)
        self.register_buffer("log_expected", (weight / weight.sum() * size).log().float(), persistent=False)
        self.cumulated: Tensor
        self.log_expected: Tensor

    def draw(self) -> Sample:
        """`log_expected` is log(S * p_item): subtracting it from the scores makes the sampled sum of exponentials an
        unbiased estimate of the full one (Bengio and Senecal 2008, https://doi.org/10.1109/TNN.2007.912312).

        Costs S log V, whatever the catalogue's size.
        """
        place = torch.rand(self.size, dtype=torch.float64, device=self.cumulated.device)
        item = torch.searchsorted(self.cumulated, place).clamp(max=len(self.cumulated) - 1)
        return Sample(item + 1, self.log_expected[item])


def sampled_log_sum(scores: Tensor, sample: Sample) -> Tensor:
    """Estimate of the log of the sum over the catalogue of exp(score), (P,), from the scores of a sample (P, S)."""
    return torch.logsumexp(scores - sample.log_expected, dim=-1)


def full_log_sum(query: Tensor, table: Tensor, bias: Tensor, *, chunk: int = 512) -> Tensor:
    """log of the sum over items of exp(query . item + bias), (P,).

    Never holds more than `chunk` x V scores: they are computed again on the way back.
    """
    parts = [checkpoint(_log_sum, part, table, bias, use_reentrant=False) for part in query.split(chunk)]
    return torch.cat([p for p in parts if p is not None])


def _log_sum(query: Tensor, table: Tensor, bias: Tensor) -> Tensor:
    return torch.logsumexp(query @ table.T + bias, dim=-1)


def with_bonus(log_sum: Tensor, seen_scores: Tensor, bonus: Tensor, mask: Tensor, *, exact: bool) -> Tensor:
    """Correct a log-sum (P,) for items whose score is raised by `bonus`; scores, bonus and mask are (P, U).

    On a sample, which mostly lacks the masked items, add their exp(score + bonus). Exact: take their exp(score) away
    besides, with which the full sum holds them.
    """
    # masked before exp: an infinity that `where` throws away would still make the gradient NaN
    score = torch.where(mask, seen_scores, -torch.inf)
    raised = torch.where(mask, seen_scores + bonus, -torch.inf)
    top = torch.maximum(log_sum, raised.amax(dim=-1)).detach()
    total = torch.exp(log_sum - top) + torch.exp(raised - top[:, None]).sum(dim=-1)
    if exact:
        total = total - torch.exp(score - top[:, None]).sum(dim=-1)
    return top + torch.log(total.clamp(min=1e-12))


def softmax_loss(target_scores: Tensor, log_sums: Tensor, weight: Tensor, *, positions: int, exact: bool) -> Tensor:
    """Weighted cross-entropy of M targets, averaged over positions.

    loss = sum_j weight_j * (logZ_j - score_j) / positions. On a sample, logZ_j counts the target itself besides the
    sample, which keeps the loss at or above zero.
    """
    if not exact:
        log_sums = torch.logaddexp(log_sums, target_scores)
    return (weight * (log_sums - target_scores)).sum() / max(positions, 1)


def gbce_power(sampling_rate: float, calibration: float) -> float:
    """beta = a * (t * (1 - 1 / a) + 1 / a) for the sampling rate a and the calibration t, both from 0 to 1.

    With t = 0 it is 1, plain binary cross-entropy; with t = 1 it is a, at which sigmoid(score) is a probability
    although only a share a of the negatives was seen (Petrov and Macdonald 2023, arXiv:2308.07192).
    """
    return sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)


def gbce_loss(
    target_scores: Tensor, rivals: Tensor, allowed: Tensor, weight: Tensor, *, power: float, positions: int
) -> Tensor:
    """Binary cross-entropy with the likelihood of a target to the power beta, averaged over positions.

    loss = (-sum_j weight_j * log sigmoid(score_j) ** beta - sum_p sum_n log(1 - sigmoid(rival_pn))) / positions over
    the `allowed` of the rivals (P, N) of each position that has a target.
    """
    positive = power * (weight * F.softplus(-target_scores)).sum()
    negative = torch.where(allowed, F.softplus(rivals), 0.0).sum()
    return (positive + negative) / max(positions, 1)


def bpr_max_loss(target_scores: Tensor, rivals: Tensor, allowed: Tensor, *, regularisation: float) -> Tensor:
    """Surprise (M,) that each target beats its rivals (M, N), the strongest of them above all.

    loss = -log sum_n w_n sigmoid(score - rival_n) + regularisation * sum_n w_n rival_n ** 2, with w the softmax of the
    `allowed` rivals (Hidasi and Karatzoglou 2018, arXiv:1706.03847, BPR-max with score regularisation).
    """
    log_share = F.log_softmax(torch.where(allowed, rivals, LOWEST), dim=-1)
    beaten = torch.logsumexp(log_share + F.logsigmoid(target_scores[:, None] - rivals), dim=-1)
    return regularisation * (log_share.exp() * rivals.square()).sum(dim=-1) - beaten
