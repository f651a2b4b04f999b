import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopkeeper.data.sessions import (
    MINUTE,
    by_first_row,
    changes,
    cut_sessions,
    first_rows,
    number_orders,
    repeats,
    too_fast,
    too_many,
)


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_a_pause_of_thirty_minutes_ends_a_visit() -> None:
    time = (np.array([0, 29.99, 59.99, 0]) * MINUTE).astype(np.int64)

    assert cut_sessions(array(0, 0, 0, 1), time, array(0, 0, 0, 0), 30).tolist() == [0, 0, 1, 2]


def test_a_session_id_that_comes_in_is_kept_whatever_the_pause() -> None:
    # rows with the ids 7, none, 7, 8: the row without one is a visit of its own, between the first two of 7
    time = array(0, 10, 500, 501) * MINUTE

    assert cut_sessions(array(0, 0, 0, 0), time, array(7, 0, 7, 8), 30).tolist() == [0, 1, 0, 2]


def test_the_same_session_id_of_two_visitors_is_two_visits() -> None:
    assert cut_sessions(array(0, 1), array(0, 0), array(7, 7), 30).tolist() == [0, 1]


def test_visits_are_numbered_by_their_first_row() -> None:
    # 9 comes before 3, whatever their codes
    assert cut_sessions(array(0, 0, 0), array(0, 1, 2), array(9, 3, 9), 30).tolist() == [0, 1, 0]


def test_orders_go_by_their_id_else_by_their_visit() -> None:
    visitor, session = array(0, 0, 0, 0, 0, 1), array(0, 0, 0, 0, 1, 2)
    order_id = array(5, 0, 5, 0, 4, 5)
    bought = np.array([True, True, True, False, True, True])

    # order 5 of the first visitor, the purchase without an id, no purchase, order 4, order 5 of the second visitor
    assert number_orders(visitor, session, order_id, bought).tolist() == [0, 1, 0, -1, 2, 3]


def test_a_log_without_purchases_has_no_orders() -> None:
    none = np.zeros(2, bool)

    assert number_orders(array(0, 0), array(0, 0), array(0, 1), none).tolist() == [-1, -1]


def test_groups_are_numbered_by_their_first_row() -> None:
    assert by_first_row(array(4, 2, 4, 0)).tolist() == [0, 1, 0, 2]
    assert by_first_row(array(0, 0, 1)).tolist() == [0, 0, 1]
    assert by_first_row(array(1, 1, 2)).tolist() == [0, 0, 1]
    assert by_first_row(array(0, 2, 2)).tolist() == [0, 1, 1]
    assert first_rows(array(2, 0, 2)).tolist() == [1, -1, 0]
    assert changes(array(3, 3, 1, 3)).tolist() == [True, False, True, True]


def test_a_row_repeats_an_earlier_one_of_the_same_moment() -> None:
    visitor, time = array(0, 0, 0, 0, 1), array(5, 5, 5, 6, 5)
    item, price = array(1, 2, 1, 1, 1), np.array([np.nan, 1.0, np.nan, np.nan, np.nan])

    assert repeats([item, price], visitor, time).tolist() == [False, False, True, False, False]
    assert repeats([item, np.arange(5.0)], visitor, time).tolist() == [False] * 5


def test_visits_that_no_person_makes_are_told_by_their_rows() -> None:
    session = array(0, 0, 0, 1, 1)
    time = array(0, 30, 61, 0, 59) * (MINUTE // 60)

    assert too_many(session, 2).tolist() == [True, True, True, False, False]
    # never three within 60 seconds, but in each of them two
    assert not too_fast(session, time, 2).any()
    assert too_fast(session, time, 1).all()
    assert too_fast(session, array(0, 60, 120, 0, 59) * (MINUTE // 60), 1).tolist() == [False] * 3 + [True] * 2


def cut_by_hand(rows: list[tuple[int, int, int]], gap: int) -> list[int]:
    """The same visits by a plain loop over the rows, which are sorted by visitor and time."""
    found: list[int] = []
    last: dict[int, int] = {}
    current: dict[tuple[int, int], int] = {}
    for visitor, minute, name in rows:
        if name == 0 and (visitor not in last or minute - last[visitor] >= gap):
            current.pop((visitor, 0), None)
        if name == 0:
            last[visitor] = minute
        found.append(current.setdefault((visitor, name), max(found, default=-1) + 1))
    return found


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200), st.integers(0, 2)), min_size=1, max_size=25))
@pytest.mark.parametrize("gap", [30, 60])
def test_visits_are_those_of_a_plain_loop(rows: list[tuple[int, int, int]], gap: int) -> None:
    rows = sorted(rows, key=lambda row: row[:2])
    visitor, minute, name = (np.array(column, np.int64) for column in zip(*rows, strict=True))

    assert cut_sessions(visitor, minute * MINUTE, name, gap).tolist() == cut_by_hand(rows, gap)
