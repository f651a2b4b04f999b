"""Losses as pure functions of scores: a softmax over the catalogue, in full or on a shared sample.

Legend: P positions, M (position, target) pairs, V items, S sampled items.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Sample(NamedTuple):
    """Negatives shared by a batch: item numbers from 0 (S,) and the log of how often each is expected (S,)."""

    item: Tensor
    log_expected: Tensor


def draw_sample(weights: Tensor, size: int) -> Sample:
    """Draw `size` items with replacement, in proportion to `weights` (V,).

    `log_expected` is log(size * p_item): subtracting it from the scores makes the sampled sum of exponentials an
    unbiased estimate of the full one (Bengio and Senecal 2008, https://doi.org/10.1109/TNN.2007.912312).
    """
    item = torch.multinomial(weights, size, replacement=True)
    return Sample(item, torch.log(weights[item] / weights.sum() * size))


def log_partition(query: Tensor, table: Tensor, bias: Tensor, sample: Sample | None, *, chunk: int = 512) -> Tensor:
    """log of the sum over items of exp(query . item + bias), (P,); on `sample` its estimate.

    The full sum never holds more than `chunk` x V scores: they are computed again on the way back.
    """
    if sample is not None:
        scores = query @ table[sample.item].T + (bias[sample.item] - sample.log_expected)
        return torch.logsumexp(scores, dim=-1)
    parts = [checkpoint(_full_log_sum, part, table, bias, use_reentrant=False) for part in query.split(chunk)]
    return torch.cat([p for p in parts if p is not None])


def _full_log_sum(query: Tensor, table: Tensor, bias: Tensor) -> Tensor:
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
