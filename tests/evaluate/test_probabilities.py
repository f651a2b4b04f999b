import math

import numpy as np
import pytest

from shopkeeper.evaluate.probabilities import auroc, hits, log_losses, reliability

P = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]])
"""What was said of three examples and three classes."""


def test_log_loss_is_that_of_the_true_class() -> None:
    assert log_losses(P, np.array([1, 1, 2])) == pytest.approx([math.log(4), -math.log(0.8), math.log(5)])


def test_the_likeliest_class_is_a_hit_or_none_and_the_first_of_equals_counts() -> None:
    assert hits(P, np.array([0, 0, 0])).tolist() == [1.0, 0.0, 1.0]
    assert hits(P, np.array([1, 1, 1])).tolist() == [0.0, 1.0, 0.0]


def said(*positive: float) -> np.ndarray:
    p = np.array(positive)
    return np.asarray(np.log(np.stack([1 - p, p], axis=1)))


def test_reliability_of_two_classes_is_that_of_the_second() -> None:
    found = reliability(said(0.1, 0.3, 0.6, 0.8), np.array([0, 1, 1, 1]), bins=2)

    # two bins of two: said 0.2 and true 1/2, said 0.7 and true 1
    assert found.said == pytest.approx([0.2, 0.7])
    assert found.true.tolist() == [0.5, 1.0]
    assert found.examples.tolist() == [2, 2]
    assert found.ece == pytest.approx((0.3 + 0.3) / 2)


def test_reliability_of_more_classes_is_that_of_the_likeliest_one() -> None:
    found = reliability(P, np.array([0, 1, 2]), bins=3)

    # ascending 0.4 (wrong), 0.5 (right), 0.8 (right)
    assert found.said == pytest.approx([0.4, 0.5, 0.8])
    assert found.true.tolist() == [0.0, 1.0, 1.0]
    assert found.ece == pytest.approx((0.4 + 0.5 + 0.2) / 3)


def test_equal_probabilities_share_a_bin() -> None:
    found = reliability(said(0.25, 0.25, 0.25, 0.25), np.array([1, 0, 0, 0]))

    assert found.examples.tolist() == [4]
    assert found.ece == pytest.approx(0.0)


def test_auroc_counts_pairs_and_half_of_the_ties() -> None:
    score, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    found = auroc(score, positive, np.arange(4), resamples=200, seed=0)

    # pairs: 0.4 over 0.1 and level with 0.4, 0.8 over both: (1 + 1/2 + 1 + 1) / 4
    assert found is not None
    assert found.mean == pytest.approx(3.5 / 4)
    assert 0.0 <= found.low < found.mean < found.high <= 1.0
    assert (found.examples, found.visitors) == (4, 4)


def test_examples_of_one_visitor_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.random(300), rng.random(300) < 0.5
    alone = auroc(score, positive, np.arange(300), resamples=200, seed=0)
    together = auroc(np.tile(score, 4), np.tile(positive, 4), np.tile(np.arange(300), 4), resamples=200, seed=0)

    # four copies of everyone say no more than one
    assert alone is not None
    assert together is not None
    assert (together.mean, together.low, together.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_without_both_classes_there_is_no_curve() -> None:
    assert auroc(np.array([0.1, 0.2]), np.array([True, True]), np.arange(2), resamples=10, seed=0) is None
