"""How the targets of a position are compared with other items: a loss of losses.py on what a model says of both."""

from typing import NamedTuple

from torch import Tensor, nn

from shopkeeper.models.losses import Sample, Sampler, full_log_sum, sampled_log_sum, softmax_loss, with_bonus


class Contest(NamedTuple):
    """Targets of one task, and what they are compared with; P positions, M targets, R items, U distinct ones seen."""

    query: Tensor  # (P, D)
    vector: Tensor  # (R, D) of the items at hand; row 0 is nobody
    bias: Tensor  # (R,)
    seen: Tensor  # (P, U), scores of the history's items without their bonus
    bonus: Tensor  # (P, U)
    mask: Tensor  # (P, U), whether the history holds the item by then
    target: Tensor  # (M,), row of `vector`
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


def make_criterion(counts: Tensor, *, num_negatives: int, power: float) -> Criterion:
    """Criterion of a task whose targets occur `counts` (V,) times; a catalogue up to num_negatives is taken whole."""
    if len(counts) <= num_negatives:
        return Criterion(None)
    return Criterion(Sampler(counts, power=power, size=num_negatives))
