import math

import pytest
import torch

from shopkeeper.models.criteria import GBCE, BPRMax, Contest, Criterion, make_criterion
from shopkeeper.models.losses import Sample

LOG2, LOG3 = math.log(2.0), math.log(3.0)


def contest(*, mask: bool) -> Contest:
    """One position, whose query gives the items 1, 2, 3 the exponentials 1, 2 and 3; the history may hold item 2,
    which is then worth four times as much; the target is item 3, and item 2 besides."""
    return Contest(
        query=torch.ones(1, 1),
        vector=torch.tensor([[0.0], [0.0], [LOG2], [LOG3]]),
        bias=torch.zeros(4),
        seen=torch.tensor([[LOG2]]),
        bonus=torch.tensor([[math.log(4.0)]]),
        mask=torch.tensor([[mask]]),
        held=torch.tensor([[2]]),
        target=torch.tensor([3, 2]),
        slot=torch.tensor([-1, 0]),
        owner=torch.tensor([0, 0]),
        raised=torch.tensor([0.0, math.log(4.0) if mask else 0.0]),
        weight=torch.tensor([0.75, 0.25]),
        positions=2,
    )


def test_all_items_are_compared_with_their_bonus() -> None:
    # 1 + 2 * 4 + 3 = 12; targets 3 and 8
    expected = (0.75 * math.log(12 / 3) + 0.25 * math.log(12 / 8)) / 2

    assert Criterion(None).loss(contest(mask=True), None).item() == pytest.approx(expected, rel=1e-5)


def test_without_a_history_no_bonus_counts() -> None:
    expected = (0.75 * math.log(6 / 3) + 0.25 * math.log(6 / 2)) / 2

    assert Criterion(None).loss(contest(mask=False), None).item() == pytest.approx(expected, rel=1e-5)


def test_on_a_sample_the_history_and_the_target_are_compared_besides() -> None:
    sample = Sample(torch.tensor([1, 1]), torch.log(torch.tensor([0.5, 0.5])))
    # the sample stands for 1 / 0.5 twice; the history adds 8; each target itself
    expected = (0.75 * math.log((4 + 8 + 3) / 3) + 0.25 * math.log((4 + 8 + 8) / 8)) / 2

    assert Criterion(None).loss(contest(mask=True), sample).item() == pytest.approx(expected, rel=1e-5)


def softplus(score: float) -> float:
    return math.log(1 + math.exp(score))


def one_target(*, slot: int) -> Contest:
    """The same position with item 3 as its only target; the history holds item 2."""
    both = contest(mask=True)
    return both._replace(
        target=both.target[:1],
        slot=torch.tensor([slot]),
        owner=both.owner[:1],
        raised=both.raised[:1],
        weight=torch.ones(1),
    )


def test_rivals_are_the_other_items_each_with_its_bonus() -> None:
    # items 1 and 2, the latter raised to log 2 + log 4 = log 8
    scores, allowed = one_target(slot=-1).rivals(None)

    torch.testing.assert_close(scores, torch.tensor([[0.0, math.log(8.0), LOG3]]))
    assert allowed.tolist() == [[True, True, False]]


def test_rivals_on_a_sample_are_the_sample_and_the_history_without_targets() -> None:
    sample = Sample(torch.tensor([1, 3]), torch.zeros(2))
    scores, allowed = one_target(slot=-1).rivals(sample)

    torch.testing.assert_close(scores, torch.tensor([[0.0, LOG3, math.log(8.0)]]))
    assert allowed.tolist() == [[True, False, True]]
    assert contest(mask=True).rivals(sample)[1].tolist() == [[True, False, False]]  # item 2 is a target as well
    assert contest(mask=False).rivals(sample)[1].tolist() == [[True, False, False]]


def test_gbce_weighs_the_target_by_its_power() -> None:
    # all rivals at hand: the power is 1
    expected = (softplus(-LOG3) + softplus(0.0) + softplus(math.log(8.0))) / 2

    loss = GBCE(None, num_items=3, calibration=0.75).loss(one_target(slot=-1), None)

    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_gbce_on_a_sample_takes_its_power_from_the_share_drawn() -> None:
    # one of two possible negatives: a = 1/2, t = 1: the power is 1/2
    criterion = make_criterion(torch.ones(3), num_negatives=1, power=0.0, kind="gbce", calibration=1.0)
    expected = (0.5 * softplus(-LOG3) + softplus(0.0) + softplus(math.log(8.0))) / 2

    loss = criterion.loss(one_target(slot=-1), Sample(torch.tensor([1]), torch.zeros(1)))

    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bpr_max_compares_with_the_strongest_rivals() -> None:
    # rivals of exponential 1 and 8 weigh 1/9 and 8/9; exp(log 3) beats them with 3/4 and 3/11
    surprise = -math.log(1 / 9 * 3 / 4 + 8 / 9 * 3 / 11)
    expected = (surprise + 0.1 * 8 / 9 * math.log(8.0) ** 2) / 2

    loss = BPRMax(None, regularisation=0.1).loss(one_target(slot=-1), None)

    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_bpr_max_has_finite_gradients_where_nothing_competes() -> None:
    query = torch.ones(1, 1, requires_grad=True)
    alone = one_target(slot=-1)._replace(query=query, mask=torch.tensor([[False]]))

    BPRMax(None, regularisation=0.1).loss(alone, Sample(torch.tensor([3]), torch.zeros(1))).backward()

    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


@pytest.mark.parametrize("kind", ["softmax", "gbce", "bpr_max"])
def test_a_position_without_targets_costs_nothing(kind: str) -> None:
    empty = contest(mask=True)
    none = torch.empty(0, dtype=torch.int64)
    empty = empty._replace(target=none, slot=none, owner=none, raised=torch.empty(0), weight=torch.empty(0))
    empty = empty._replace(query=torch.empty(0, 1), seen=torch.empty(0, 1), bonus=torch.empty(0, 1))
    empty = empty._replace(mask=torch.empty(0, 1, dtype=torch.bool), held=none.view(0, 1))

    assert make_criterion(torch.ones(3), num_negatives=3, power=0.0, kind=kind).loss(empty, None).item() == 0.0


@pytest.mark.parametrize(("negatives", "drawn"), [(3, False), (4, False), (2, True)])
def test_a_catalogue_no_larger_than_the_sample_is_compared_whole(negatives: int, drawn: bool) -> None:
    criterion = make_criterion(torch.ones(3), num_negatives=negatives, power=0.5)

    assert (criterion.draw() is not None) == drawn
