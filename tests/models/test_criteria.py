import math

import pytest
import torch

from shopkeeper.models.criteria import Contest, Criterion, make_criterion
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
        target=torch.tensor([3, 2]),
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


@pytest.mark.parametrize(("negatives", "drawn"), [(3, False), (4, False), (2, True)])
def test_a_catalogue_no_larger_than_the_sample_is_compared_whole(negatives: int, drawn: bool) -> None:
    criterion = make_criterion(torch.ones(3), num_negatives=negatives, power=0.5)

    assert (criterion.draw() is not None) == drawn
