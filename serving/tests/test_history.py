import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shopkeeper_serving.bundle import read_bundle
from shopkeeper_serving.history import Inputs, Reader, to_inputs, to_microseconds
from shopkeeper_serving.schemas import Event

# Codes: apple 1 ... eggs 5; session_start 1, page_view 2, add_to_cart 3, purchase 4; mobile 1, desktop 2.
ToInputs = Callable[..., Inputs]


def event(
    name: str,
    *,
    item: str | None = None,
    at: int | None = None,
    session: str | None = None,
    device: str | None = None,
) -> Event:
    """`at` is in seconds since 1970."""
    context = {} if device is None else {"device": device}
    milliseconds = None if at is None else at * 1000
    return Event(event=name, timestamp=milliseconds, item_id=item, session_id=session, context=dict(context))


def bought(item: str, *, at: int | None = None, session: str | None = None) -> Event:
    return event("purchase", item=item, at=at, session=session)


@pytest.fixture
def reader(make_bundle: Callable[..., Path]) -> Reader:
    return Reader(read_bundle(make_bundle()))


@pytest.fixture
def inputs_of(reader: Reader) -> ToInputs:
    """inputs_of(history, ..., order_only=False, max_len=4): gaps of an hour."""

    def make(*histories: Sequence[Event], order_only: bool = False, max_len: int = 4) -> Inputs:
        return to_inputs(reader.read(histories), order_only=order_only, gap_seconds=3600, max_len=max_len)

    return make


def same(array: npt.NDArray[Any], expected: Any) -> None:
    np.testing.assert_array_equal(array, np.array(expected))


# ---- reading ----


def test_names_become_codes_and_unknown_ones_zero(reader: Reader) -> None:
    read = reader.read(
        [
            [event("session_start", device="desktop"), event("page_view", item="eggs", at=1)],
            [],
            [event("no such", item="no such", device="no such", session="s"), Event(event="purchase", item_id="")],
        ]
    )

    same(read.offsets, [0, 2, 2, 4])
    same(read.event, [1, 2, 0, 4])
    same(read.item, [0, 5, 0, 0])
    same(read.names_item, [False, True, True, False])
    same(read.time, [-1, 1_000_000, -1, -1])
    same(read.session, [-1, -1, 0, -1])
    same(read.context, [[2], [0], [0], [0]])


def test_context_that_is_null_or_of_another_column_is_unknown(reader: Reader) -> None:
    read = reader.read([[Event(event="page_view", context={"device": None, "country": "mobile"})]])

    same(read.context, [[0]])


@pytest.mark.parametrize(
    ("timestamp", "microseconds"),
    [
        (None, -1),
        (0, 0),
        (1_500, 1_500_000),
        (dt.datetime(1970, 1, 2), 86_400_000_000),
        (dt.datetime(1970, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1))), 3_600_000_000),
        (dt.datetime(1970, 1, 1, 0, 0, 0, 7, tzinfo=dt.UTC), 7),
    ],
)
def test_times_are_microseconds_utc(timestamp: dt.datetime | int | None, microseconds: int) -> None:
    assert to_microseconds(timestamp) == microseconds


# ---- logs of all kinds of events: a step is an event ----


def test_an_event_is_a_step(inputs_of: ToInputs) -> None:
    inputs = inputs_of(
        [
            event("session_start", at=10, device="mobile"),
            event("page_view", item="bread", at=60, device="desktop"),
            event("add_to_cart", item="apple", at=61, device="desktop"),
            event("purchase", item="bread", at=62),
        ]
    )

    same(inputs.event, [[1, 2, 3, 4]])
    same(inputs.time, [[10, 60, 61, 62]])
    same(inputs.context[..., 0], [[1, 2, 2, 0]])
    same(inputs.length, [4])
    same(inputs.steps, [3])
    same(inputs.bag_item, [2, 1, 2])
    same(inputs.bag_cell, [1, 2, 3])
    same(inputs.seen, [[1, 2]])
    same(inputs.bag_slot, [1, 0, 1])
    same(inputs.last_item, [2])


def test_nobody_has_one_token(inputs_of: ToInputs) -> None:
    inputs = inputs_of([])

    same(inputs.event, [[1]])
    same(inputs.time, [[-1]])
    same(inputs.context, [[[0]]])
    same(inputs.length, [1])
    same(inputs.steps, [0])
    same(inputs.seen, [[0]])
    same(inputs.last_item, [0])
    assert inputs.bag_item.size == 0


def test_no_histories_are_no_rows(inputs_of: ToInputs) -> None:
    assert len(inputs_of().event) == 0


def test_without_a_session_start_the_first_event_tells_the_context(inputs_of: ToInputs) -> None:
    inputs = inputs_of([event("page_view", item="apple", at=5, device="desktop"), event("page_view", at=6)])

    same(inputs.event, [[1, 2, 2]])
    same(inputs.context[..., 0], [[2, 2, 0]])
    same(inputs.time, [[5, 5, 6]])


def entered(inputs: Inputs) -> list[list[int]]:
    """Device and time of each history's context token."""
    return [[int(device), int(time)] for device, time in zip(inputs.context[:, 0, 0], inputs.time[:, 0], strict=True)]


def test_the_entry_is_that_of_the_session_in_which_the_first_event_falls(inputs_of: ToInputs) -> None:
    def start(at: int, device: str, session: str | None = None) -> Event:
        return event("session_start", at=at, device=device, session=session)

    def seen(at: int, session: str | None = None) -> Event:
        return event("page_view", at=at, session=session)

    inputs = inputs_of(
        [start(1, "mobile", "a"), start(9, "desktop", "b"), seen(10, "b")],  # a visit without events went before
        [start(1, "mobile"), start(9, "desktop"), seen(10)],
        [start(1, "mobile", "a"), seen(10, "b"), start(11, "desktop", "b")],  # the log wrote it late
        [start(1, "mobile", "a"), seen(10, "b")],
        [start(1, "mobile", "a"), start(9, "desktop", "b")],
        [seen(10), start(11, "desktop")],
    )

    assert entered(inputs) == [[2, 9], [2, 9], [2, 11], [0, 10], [2, 9], [0, 10]]


def test_later_session_starts_are_no_steps(inputs_of: ToInputs) -> None:
    inputs = inputs_of([event("session_start"), bought("apple"), event("session_start", item="eggs"), bought("bread")])

    same(inputs.event, [[1, 4, 4]])
    same(inputs.seen, [[1, 2]])
    same(inputs.steps, [2])


def test_unknown_items_and_events_stay_steps_without_items(inputs_of: ToInputs) -> None:
    inputs = inputs_of([event("page_view", item="apple"), event("no such", item="no such")])

    same(inputs.event, [[1, 2, 0]])
    same(inputs.bag_item, [1])
    same(inputs.last_item, [0])
    same(inputs.steps, [2])


def test_an_unknown_time_is_that_of_the_row_before(inputs_of: ToInputs) -> None:
    inputs = inputs_of(
        [event("page_view"), event("page_view", at=7), event("page_view"), event("page_view", at=9)],
        [event("page_view")],  # takes none from another history
    )

    same(inputs.time, [[-1, -1, 7, 7, 9], [-1, -1, -1, -1, -1]])


def test_times_before_1970_are_unknown(inputs_of: ToInputs) -> None:
    early = Event(event="page_view", timestamp=dt.datetime(1969, 12, 31, tzinfo=dt.UTC))

    same(inputs_of([early]).time, [[-1, -1]])


def test_of_a_long_history_the_last_steps_are_read(inputs_of: ToInputs) -> None:
    items = ["eggs", "eggs", "dates", "apple", "bread", "apple"]
    history = [
        event("session_start", at=0, device="mobile"),
        *(event("page_view", item=item, at=10 + i, device="desktop") for i, item in enumerate(items)),
    ]

    inputs = inputs_of(history)

    same(inputs.steps, [6])
    same(inputs.length, [5])
    same(inputs.event, [[1, 2, 2, 2, 2]])
    same(inputs.time, [[12, 12, 13, 14, 15]])  # the context token opens with the first step that is left
    same(inputs.context[..., 0], [[2, 2, 2, 2, 2]])
    same(inputs.bag_item, [4, 1, 2, 1])
    same(inputs.bag_cell, [1, 2, 3, 4])
    same(inputs.seen, [[1, 2, 4]])


def test_a_history_of_the_longest_length_keeps_its_opening(inputs_of: ToInputs) -> None:
    history = [event("session_start", at=0, device="mobile"), *(bought("apple", at=10 + i) for i in range(4))]

    inputs = inputs_of(history)

    same(inputs.time, [[0, 10, 11, 12, 13]])
    same(inputs.context[0, 0], [1])


def test_histories_of_a_batch_do_not_touch(inputs_of: ToInputs) -> None:
    inputs = inputs_of([bought("eggs", at=1)], [], [bought("apple", at=2), bought("eggs", at=3)])

    same(inputs.event, [[1, 4, 0], [1, 0, 0], [1, 4, 4]])
    same(inputs.time, [[1, 1, -1], [-1, -1, -1], [2, 2, 3]])
    same(inputs.length, [2, 1, 3])
    same(inputs.steps, [1, 0, 2])
    same(inputs.bag_item, [5, 1, 5])
    same(inputs.bag_cell, [1, 7, 8])
    same(inputs.seen, [[5, 0], [0, 0], [1, 5]])
    same(inputs.bag_slot, [0, 0, 1])
    same(inputs.last_item, [5, 0, 5])


# ---- logs of orders only: a step is a trip ----


def test_purchases_less_than_the_gap_apart_are_one_trip(inputs_of: ToInputs) -> None:
    inputs = inputs_of(
        [
            bought("bread", at=0),
            bought("apple", at=0),
            bought("bread", at=3599),
            bought("dates", at=3599 + 3600),
            bought("eggs", at=3599 + 7200),
        ],
        order_only=True,
    )

    same(inputs.steps, [3])
    same(inputs.event, [[1, 4, 4, 4]])
    same(inputs.time, [[0, 0, 7199, 10799]])
    same(inputs.bag_item, [2, 1, 2, 4, 5])
    same(inputs.bag_cell, [1, 1, 1, 2, 3])


def test_without_times_a_new_session_is_a_new_trip(inputs_of: ToInputs) -> None:
    inputs = inputs_of(
        [
            bought("apple", session="a"),
            bought("bread", session="a"),
            bought("apple", session="b"),
            bought("eggs", session="a"),
        ],
        [bought("apple"), bought("bread")],
        order_only=True,
    )

    same(inputs.steps, [3, 1])
    same(inputs.bag_cell, [1, 1, 2, 3, 5, 5])


def test_a_trip_does_not_run_into_the_next_history(inputs_of: ToInputs) -> None:
    inputs = inputs_of([bought("apple", at=0)], [bought("bread", at=0)], order_only=True)

    same(inputs.steps, [1, 1])
    same(inputs.bag_cell, [1, 3])


def test_of_many_trips_the_last_are_read(inputs_of: ToInputs) -> None:
    history = [bought(item, at=day * 86_400) for day in range(3) for item in ("apple", "bread")]

    inputs = inputs_of(history, order_only=True, max_len=2)

    same(inputs.steps, [3])
    same(inputs.time, [[86_400, 86_400, 172_800]])
    same(inputs.bag_item, [1, 2, 1, 2])
    same(inputs.bag_cell, [1, 1, 2, 2])
