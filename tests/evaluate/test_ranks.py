import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.ranks import MISS, rank_among_unseen, rank_targets


def ranks(scores: list[list[float]], targets: list[list[int]]) -> list[int]:
    offsets = np.cumsum([0, *map(len, targets)])
    items = np.array([item for row in targets for item in row], np.int64)
    return [int(rank) for rank in rank_targets(np.array(scores, np.float32), offsets, items)]


def test_rank_is_one_plus_the_number_of_items_above() -> None:
    assert ranks([[0.1, 0.9, 0.5]], [[2, 3, 1]]) == [1, 2, 3]


def test_ties_count_against_the_model() -> None:
    # items 1 and 2 share the top: either is second; all-equal scores put everything last
    assert ranks([[0.7, 0.7, 0.1], [0.0, 0.0, 0.0]], [[1, 3], [2]]) == [2, 3, 3]


def test_an_item_outside_the_catalogue_is_a_miss() -> None:
    assert ranks([[0.1, 0.9]], [[3, 2]]) == [MISS, 1]


def test_excluded_items_rank_last_and_lower_nobody() -> None:
    assert ranks([[-np.inf, 0.9, 0.5]], [[3, 1]]) == [2, 3]


def test_rows_without_targets_are_passed_over() -> None:
    assert ranks([[0.1, 0.9], [0.3, 0.2]], [[], [1]]) == [1]


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranks([[np.nan, 0.9]], [[2]])


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=8), st.data())
def test_rank_equals_the_worst_place_in_a_sorted_list(row: list[float], data: st.DataObject) -> None:
    target = data.draw(st.integers(1, len(row)))
    worst_first_sorted = sorted(row, reverse=True)
    last_place = len(row) - worst_first_sorted[::-1].index(row[target - 1])

    assert ranks([row], [[target]]) == [last_place]


def test_what_was_seen_is_taken_off_the_list() -> None:
    scores = np.array([[0.9, 0.5, 0.7, 0.5], [0.1, 0.2, 0.3, 0.4]], np.float32)
    offsets, items = np.array([0, 3, 4]), np.array([2, 1, 9, 1])
    seen = Ragged(np.array([0, 3, 3]), np.array([1, 3, 9]))  # item 9 is outside the catalogue
    ranks = rank_targets(scores, offsets, items)

    # row 0: item 2 is level with item 4 behind items 1 and 3, which are seen: from 4 to 2; item 1 is seen itself
    assert ranks.tolist() == [4, 1, MISS, 4]
    assert rank_among_unseen(scores, offsets, items, ranks, seen).tolist() == [2, MISS, MISS, 4]
