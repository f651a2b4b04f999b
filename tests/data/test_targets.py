from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Moments, Ragged, Targets, supported_tasks, unique_lists
from shopkeeper.data.windows import train_window

PrepareLog = Callable[..., Prepared]
BREAD, MILK, TEA, HONEY, JAM = 1, 2, 3, 4, 5
# rows of ann in the shop with clicks: bread bread milk | order of bread and milk | tea, order of tea | jam
ANN, ANN_END = 4, 12


def moments(start: int, ends: list[int], limit: int) -> Moments:
    return Moments(np.full(len(ends), start), np.array(ends), np.full(len(ends), limit))


def lists(found: Ragged) -> list[list[int]]:
    return [found.items[begin:end].tolist() for begin, end in pairwise(found.offsets)]


def test_purchase_is_the_next_order_whole(clicks: Prepared) -> None:
    found = Targets(clicks).of(s.TASK_PURCHASE, moments(ANN, [4, 7, 9, 10, 11, 12], ANN_END))

    assert lists(found) == [[BREAD, MILK], [BREAD, MILK], [TEA], [TEA], [], []]


def test_a_baskets_items_are_never_predicted_from_each_other(clicks: Prepared) -> None:
    # after its first line the order of bread and milk is under way: the next one is tea
    assert lists(Targets(clicks).next_purchase(moments(ANN, [8], ANN_END))) == [[TEA]]


def test_a_trip_is_predicted_whole_from_the_trips_before(trips: Prepared) -> None:
    # bread milk jam | tea | bread tea | milk: the items are numbered bread jam milk tea
    offsets = trips.step_offsets[:5].tolist()

    found = Targets(trips).of(s.TASK_PURCHASE, moments(0, offsets, offsets[-1]))

    assert lists(found) == [[1, 2, 3], [4], [1, 4], [3], []]


def test_next_is_the_item_that_differs_from_the_last_one_seen(clicks: Prepared) -> None:
    found = Targets(clicks).of(s.TASK_NEXT, moments(ANN, list(range(4, 13)), ANN_END))

    assert lists(found) == [[BREAD], [MILK], [MILK], [BREAD], [MILK], [TEA], [JAM], [JAM], []]


def test_next_looks_over_events_without_an_item(clicks: Prepared) -> None:
    # the session w2: tea, then a search
    assert lists(Targets(clicks).next_item(moments(2, [2, 3, 4], 4))) == [[TEA], [], []]


def test_what_came_before_the_window_was_not_seen(clicks: Prepared) -> None:
    # ann's row 9 is tea; a history that starts at row 10 has seen nothing, so tea is new to it
    assert lists(Targets(clicks).next_item(moments(10, [10], ANN_END))) == [[TEA]]


def test_targets_end_with_the_window(clicks: Prepared) -> None:
    targets = Targets(clicks)

    assert lists(targets.next_purchase(moments(ANN, [4, 9], 9))) == [[BREAD, MILK], []]
    assert lists(targets.next_purchase(moments(ANN, [4], 8))) == [[BREAD]]
    assert lists(targets.next_item(moments(ANN, [8, 9], 9))) == [[MILK], []]


@pytest.mark.parametrize(("days", "expected"), [(10, []), (11, [TEA])])
def test_an_order_beyond_the_horizon_is_no_target(clicks: Prepared, days: float, expected: list[int]) -> None:
    # the order of tea comes 10.9 days after the last event seen; with nothing seen there is no clock to start
    prepared = Prepared(clicks.path, clicks.manifest | {"horizon_days": days})

    assert lists(Targets(prepared).next_purchase(moments(ANN, [4, 9], ANN_END))) == [[BREAD, MILK], expected]


def next_by_hand(prepared: Prepared, start: int, end: int, limit: int) -> list[int]:
    seen = [int(i) for i in prepared.rows["item"][start:end] if i]
    later = [int(i) for i in prepared.rows["item"][end:limit] if i and (not seen or i != seen[-1])]
    return later[:1]


def purchase_by_hand(prepared: Prepared, end: int, limit: int) -> list[int]:
    order = prepared.rows["order"]
    begun = set(order[:end].tolist())
    later = [o for o in order[end:limit].tolist() if o >= 0 and o not in begun]
    return sorted({int(prepared.rows["item"][row]) for row in range(end, limit) if later and order[row] == later[0]})


@pytest.mark.parametrize("shop", ["clicks", "trips"])
def test_targets_of_every_moment_are_those_of_a_plain_loop(shop: str, request: pytest.FixtureRequest) -> None:
    prepared: Prepared = request.getfixturevalue(shop)
    offsets = prepared.visitors["row_offsets"].tolist()
    cells = [
        (start, end, limit)
        for first, last in pairwise(offsets)
        for start in range(first, last)
        for end in range(start, last + 1)
        for limit in range(end, last + 1)
    ]
    columns = Moments(*np.array(cells).T)

    assert lists(Targets(prepared).next_item(columns)) == [next_by_hand(prepared, *cell) for cell in cells]
    assert lists(Targets(prepared).next_purchase(columns)) == [
        purchase_by_hand(prepared, e, lim) for _, e, lim in cells
    ]


def test_unique_lists_sorts_and_keeps_each_item_once() -> None:
    found = unique_lists([1, 0, 1, 1], [5, 3, 5, 2], 3)

    assert lists(found) == [[3], [2, 5], []]
    assert found.sizes.tolist() == [1, 2, 0]


def test_a_log_with_clicks_and_orders_supports_every_task(clicks: Prepared) -> None:
    assert supported_tasks(clicks, train_window(clicks)) == (["purchase", "next"], {})


def test_an_order_only_log_supports_purchase_and_says_why_not_next(trips: Prepared) -> None:
    tasks, left_out = supported_tasks(trips, train_window(trips))

    assert (tasks, left_out) == (["purchase"], {"next": "the log has no events besides purchases"})


def test_one_item_is_never_followed_by_another(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 view_item i1 -
        02T10:05 ann a1 purchase  i1 o1
        12T10:00 bob b1 view_item i1 -
        31T00:00 bob b1 view_item i1 -
    """)

    assert supported_tasks(prepared, train_window(prepared)) == (
        ["purchase"],
        {"next": "the log knows one item only, so none ever follows another"},
    )


def test_purchases_that_name_no_item_cannot_be_learned_from(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 view_item i1 -
        02T10:02 ann a1 view_item i2 -
        02T10:05 ann a1 purchase  -  o1
        12T10:00 bob b1 view_item i1 -
        31T00:00 bob b1 view_item i1 -
    """)

    assert supported_tasks(prepared, train_window(prepared)) == (
        ["next"],
        {"purchase": "no purchase in train names an item (column 'item_id')"},
    )


def test_a_log_without_orders_or_items_supports_nothing_and_has_no_targets(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 page_view - -
        12T10:00 ann a1 page_view - -
        31T00:00 ann a1 page_view - -
    """)

    assert supported_tasks(prepared, train_window(prepared)) == (
        [],
        {"purchase": "the log has no purchases in train", "next": "no event in train names an item (column 'item_id')"},
    )
    targets = Targets(prepared)
    assert lists(targets.next_purchase(moments(0, [0, 1], 3))) == [[], []]
    assert lists(targets.next_item(moments(0, [0, 1], 3))) == [[], []]


def test_orders_that_begin_with_the_same_row_time_keep_the_order_of_their_rows(prepare_log: PrepareLog) -> None:
    # the log lists order oA's later line first; ann buys milk (oB), then tea and bread (oA)
    prepared = prepare_log("""
        03T10:05 ann a1 purchase  bread oA
        02T10:00 zed z1 view_item bread -
        03T10:00 ann a1 purchase  milk  oB
        03T10:00 ann a1 purchase  tea   oA
        12T10:00 bob b1 view_item milk  -
        31T00:00 cid c1 view_item milk  -
    """)
    names = ["", *prepared.item_ids()]
    found = lists(Targets(prepared).of(s.TASK_PURCHASE, moments(0, [0, 1], 3)))

    assert [sorted(names[item] for item in row) for row in found] == [["milk"], ["bread", "tea"]]
