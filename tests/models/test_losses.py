import math

import pytest
import torch
from torch import Tensor

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

# With a query of length 1, the items 1, 2, 3 have the exponentials 1, 2 and 3; with length 2 their squares.
TABLE = torch.tensor([[0.0], [math.log(2.0)], [math.log(3.0)]])
QUERY = torch.tensor([[1.0], [2.0]])
NO_BIAS = torch.zeros(3)


def logs(*values: float) -> Tensor:
    return torch.log(torch.tensor(values))


def test_partition_sums_the_exponentials_of_all_items() -> None:
    found = full_log_sum(QUERY, TABLE, NO_BIAS)

    torch.testing.assert_close(found, logs(1 + 2 + 3, 1 + 4 + 9))


def test_partition_adds_each_items_bias() -> None:
    found = full_log_sum(QUERY[:1], TABLE, torch.tensor([0.0, 0.0, math.log(2.0)]))

    torch.testing.assert_close(found, logs(1 + 2 + 2 * 3))


def test_partition_on_a_sample_divides_by_what_each_item_is_expected() -> None:
    # three draws with p = 1/4, 1/4, 1/2: expected 0.75, 0.75 and 1.5 times each
    sample = Sample(torch.tensor([1, 3, 3]), logs(0.75, 1.5, 1.5))

    found = sampled_log_sum(logs(1, 3, 3)[None], sample)

    torch.testing.assert_close(found, logs(1 / 0.75 + 3 / 1.5 + 3 / 1.5))


def test_partition_estimate_converges_to_the_full_sum() -> None:
    torch.manual_seed(3)
    query, table, bias = torch.randn(4, 8), torch.randn(50, 8), torch.randn(50)
    full, scores = full_log_sum(query, table, bias), query @ table.T + bias

    def estimate_from(size: int) -> Tensor:
        sample = Sampler(torch.rand(50), power=1.0, size=size).draw()
        return sampled_log_sum(scores[:, sample.item - 1], sample)

    estimate, rough = estimate_from(200_000), estimate_from(200)

    torch.testing.assert_close(estimate, full, atol=0.05, rtol=0)
    assert (estimate - full).abs().max() < (rough - full).abs().max()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_partition_is_the_same_in_chunks_of_any_size(chunk: int) -> None:
    torch.manual_seed(0)
    query, table = torch.randn(5, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    bias = torch.randn(9, requires_grad=True)
    inputs = (query, table, bias)
    plain = torch.logsumexp(query @ table.T + bias, dim=-1)
    wanted = torch.autograd.grad(plain.sum(), inputs)

    found = full_log_sum(*inputs, chunk=chunk)

    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), inputs), wanted)


def test_sample_is_drawn_in_proportion_to_a_power_of_the_counts() -> None:
    torch.manual_seed(0)

    sample = Sampler(torch.tensor([0.9, 99999.9, 3.9]), power=0.5, size=100_000).draw()  # 1, 316.2 and 2 of 319.2

    shares = torch.bincount(sample.item, minlength=4) / 100_000
    assert shares[0] == 0
    assert shares[1:].tolist() == pytest.approx([1 / 319.2, 316.2 / 319.2, 2 / 319.2], abs=1e-3)


def test_sample_knows_how_often_each_item_is_expected() -> None:
    torch.manual_seed(0)

    sample = Sampler(torch.tensor([0.9, 2.9]), power=1.0, size=8).draw()  # item 1 twice, item 2 six times

    torch.testing.assert_close(sample.log_expected, torch.where(sample.item == 1, math.log(2.0), math.log(6.0)))


def test_an_item_that_was_no_target_can_be_drawn() -> None:
    torch.manual_seed(0)

    assert set(Sampler(torch.zeros(3), power=1.0, size=100).draw().item.tolist()) == {1, 2, 3}


def test_bonus_replaces_an_items_exponential_in_the_full_sum() -> None:
    # of 1 + 2 + 3, the 2 is raised threefold: 1 + 6 + 3
    raised = with_bonus(logs(6), logs(2)[None], logs(3)[None], torch.tensor([[True]]), exact=True)

    torch.testing.assert_close(raised, logs(10))


def test_bonus_is_added_with_its_item_to_a_sampled_sum() -> None:
    raised = with_bonus(logs(6), logs(2)[None], logs(3)[None], torch.tensor([[True]]), exact=False)

    torch.testing.assert_close(raised, logs(12))


def test_bonus_of_a_masked_item_is_left_out() -> None:
    scores, bonus = logs(2, 50)[None], logs(3, 7)[None]

    raised = with_bonus(logs(6), scores, bonus, torch.tensor([[True, False]]), exact=True)
    untouched = with_bonus(logs(6), scores, bonus, torch.tensor([[False, False]]), exact=True)

    torch.testing.assert_close(raised, logs(10))
    torch.testing.assert_close(untouched, logs(6))


@pytest.mark.parametrize("size", [0.01, 1.0, 5.0])
def test_exact_bonus_equals_brute_force(size: float) -> None:
    torch.manual_seed(1)
    scores = torch.randn(6, 20) * size
    slots = torch.stack([torch.randperm(20)[:4] for _ in range(6)])
    mask, bonus = torch.rand(6, 4) < 0.7, torch.randn(6, 4) * size
    brute = scores.scatter_add(1, slots, torch.where(mask, bonus, 0.0)).logsumexp(dim=-1)

    found = with_bonus(scores.logsumexp(dim=-1), scores.gather(1, slots), bonus, mask, exact=True)

    torch.testing.assert_close(found, brute, atol=1e-4, rtol=1e-4)


def test_a_huge_bonus_stays_finite() -> None:
    raised = with_bonus(logs(6), logs(2)[None], torch.tensor([[200.0]]), torch.tensor([[True]]), exact=True)

    torch.testing.assert_close(raised, logs(2) + 200.0)


def test_loss_is_the_weighted_surprise_per_position() -> None:
    # position 0 has two targets of probability 2/6 and 1/6 and weight 1/2, position 1 one of probability 3/12
    scores, log_sums = logs(2, 1, 3), logs(6, 6, 12)
    weight = torch.tensor([0.5, 0.5, 1.0])

    loss = softmax_loss(scores, log_sums, weight, positions=2, exact=True)

    assert loss.item() == pytest.approx((0.5 * math.log(3) + 0.5 * math.log(6) + math.log(4)) / 2)


def test_sampled_loss_counts_the_target_itself() -> None:
    # 3 / (6 + 3)
    loss = softmax_loss(logs(3), logs(6), torch.tensor([1.0]), positions=1, exact=False)

    assert loss.item() == pytest.approx(math.log(3))


def test_loss_without_targets_is_zero() -> None:
    empty = torch.empty(0)

    assert softmax_loss(empty, empty, empty, positions=0, exact=True).item() == 0.0


def test_gradients_of_a_bonus_are_finite_whatever_is_masked() -> None:
    bonus = torch.tensor([[200.0, 200.0]], requires_grad=True)

    with_bonus(logs(6), logs(2, 3)[None], bonus, torch.tensor([[True, False]]), exact=True).sum().backward()

    torch.testing.assert_close(bonus.grad, torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize(("calibration", "power"), [(0.0, 1.0), (0.5, 0.625), (1.0, 0.25)])
def test_the_power_of_gbce_goes_from_one_to_the_share_sampled(calibration: float, power: float) -> None:
    # a = 1/4, t = 1/2: 1/4 * (1/2 * (1 - 4) + 4) = 1/4 * 5/2
    assert gbce_power(0.25, calibration) == pytest.approx(power)


def test_gbce_sums_the_surprise_of_a_target_and_of_its_rivals() -> None:
    # sigmoid(log 3) = 3/4 to the power 1/2, weight 1/2; rivals: 1 - sigmoid(0) = 1/2, the other one does not count
    allowed = torch.tensor([[True, False]])

    loss = gbce_loss(logs(3), logs(1, 5)[None], allowed, torch.tensor([0.5]), power=0.5, positions=2)

    assert loss.item() == pytest.approx((0.25 * math.log(4 / 3) + math.log(2)) / 2)


def test_bpr_max_weighs_rivals_by_their_softmax() -> None:
    # rivals 1 and 3 weigh 1/4 and 3/4; 2 beats them with 2/3 and 2/5; the third does not count
    allowed = torch.tensor([[True, True, False]])

    each = bpr_max_loss(logs(2), logs(1, 3, 99)[None], allowed, regularisation=0.5)

    assert each.tolist() == pytest.approx(
        [-math.log(1 / 4 * 2 / 3 + 3 / 4 * 2 / 5) + 0.5 * 3 / 4 * math.log(3) ** 2], rel=1e-5
    )
