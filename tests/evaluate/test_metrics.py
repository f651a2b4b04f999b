import math

import numpy as np
import pytest

from shopkeeper.evaluate.metrics import per_example
from shopkeeper.evaluate.ranks import MISS


def metrics(targets: list[list[int]], cutoff: int) -> dict[str, list[float]]:
    offsets = np.cumsum([0, *map(len, targets)])
    found = per_example(np.array([rank for row in targets for rank in row], np.int64), offsets, cutoff)
    return {name: values.tolist() for name, values in found.items()}


def test_two_of_three_targets_within_the_cutoff() -> None:
    found = metrics([[1, 3, 9]], 5)

    # gains at ranks 1 and 3: 1/log2(2) + 1/log2(4) = 1.5; ideal: ranks 1, 2, 3
    ideal = 1 + 1 / math.log2(3) + 0.5
    assert found["recall@5"] == pytest.approx([2 / 3])
    assert found["ndcg@5"] == pytest.approx([1.5 / ideal])
    assert found["mrr@5"] == [1.0]
    assert found["hit@5"] == [1.0]


def test_a_target_at_rank_four_alone() -> None:
    found = metrics([[4]], 5)

    assert found["ndcg@5"] == pytest.approx([1 / math.log2(5)])
    assert found["mrr@5"] == [0.25]
    assert found["recall@5"] == [1.0]


def test_more_targets_than_the_cutoff_can_still_reach_an_ndcg_of_one() -> None:
    found = metrics([[1, 2, 3]], 2)

    assert found["ndcg@2"] == pytest.approx([1.0])
    assert found["recall@2"] == pytest.approx([2 / 3])


def test_misses_are_zero_and_examples_without_targets_are_nan() -> None:
    found = metrics([[MISS, 21], [], [20]], 20)

    assert found["hit@20"][0] == found["recall@20"][0] == found["ndcg@20"][0] == found["mrr@20"][0] == 0.0
    assert all(math.isnan(values[1]) for values in found.values())
    assert found["mrr@20"][2] == 0.05
