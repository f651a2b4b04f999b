from collections.abc import Callable
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopkeeper.data import schema as s
from shopkeeper.data.sessions import (
    SESSION_KEY,
    SESSION_ROW,
    SESSION_TIME,
    VISITOR_KEY,
    is_order_only,
    microseconds,
    with_sessions,
    with_visitors,
)
from shopkeeper.data.settings import DataConfig

BEGIN = datetime(2026, 1, 1)
TYPES = {"source_row": "int64", "timestamp": "timestamp(6)", "event": "string"} | dict.fromkeys(s.IDS, "string")


@pytest.fixture
def events() -> Callable[..., ir.Table]:
    """Rows of the event table from (minute, user, session) and an event for all or one each."""

    def build(rows: list[tuple[float, str | None, str | None]], *kinds: str) -> ir.Table:
        names = kinds * len(rows) if len(kinds) == 1 else kinds
        frame = pd.DataFrame(
            {
                "source_row": range(len(rows)),
                "timestamp": pd.Series([BEGIN + timedelta(minutes=m) for m, _, _ in rows], dtype="datetime64[us]"),
                "event": names,
                "item_id": None,
                "user_id": [user for _, user, _ in rows],
                "session_id": [session for _, _, session in rows],
                "order_id": None,
            }
        )
        return ibis.memtable(frame, schema=TYPES)

    return build


def sessions_of(table: ir.Table, config: DataConfig, *, order_only: bool) -> list[tuple[str, ...]]:
    """(visitor, session) of each row, in the order of the source."""
    found = with_sessions(with_visitors(table), config, order_only=order_only).order_by(s.ROW).execute()
    return list(zip(found[VISITOR_KEY], found[SESSION_KEY], strict=True))


def test_a_log_of_purchases_is_order_only(events: Callable[..., ir.Table]) -> None:
    assert is_order_only(events([(0, "ann", None)] * 2, "purchase"))


def test_a_session_start_is_no_event(events: Callable[..., ir.Table]) -> None:
    assert is_order_only(events([(0, "ann", None)] * 2, "session_start", "purchase"))


@pytest.mark.parametrize("kinds", [("view_item", "purchase"), ("view_item", "view_item"), ("session_start",) * 2])
def test_a_log_with_other_events_or_no_purchase_is_not(events: Callable[..., ir.Table], kinds: tuple[str, str]) -> None:
    assert not is_order_only(events([(0, "ann", None)] * 2, *kinds))


def test_a_visitor_is_the_user_else_the_user_of_the_session_else_the_session(events: Callable[..., ir.Table]) -> None:
    rows = [(0, None, "s1"), (1, "ann", "s1"), (2, None, "s2"), (3, "s2", "s3"), (4, "bob", None)]

    found = with_visitors(events(rows, "view_item")).order_by(s.ROW).execute()

    # the user named s2 and the session s2 stay two visitors
    assert found[VISITOR_KEY].tolist() == ["u:ann", "u:ann", "s:s2", "u:s2", "u:bob"]


def test_no_row_is_lost_or_doubled_where_two_users_share_a_session(events: Callable[..., ir.Table]) -> None:
    rows = [(0, "ann", "s1"), (1, "bob", "s1"), (2, None, "s1")]

    found = with_visitors(events(rows, "view_item")).order_by(s.ROW).execute()

    assert found[s.ROW].tolist() == [0, 1, 2]
    assert found[VISITOR_KEY].tolist()[:2] == ["u:ann", "u:bob"]


def test_a_pause_of_thirty_minutes_ends_a_session(
    events: Callable[..., ir.Table], data_config: Callable[..., DataConfig]
) -> None:
    rows: list[tuple[float, str, None]] = [(0, "ann", None), (29.99, "ann", None), (59.99, "ann", None)]

    found = sessions_of(events(rows, "view_item"), data_config(), order_only=False)

    assert found == [("u:ann", "g:1"), ("u:ann", "g:1"), ("u:ann", "g:2")]


def test_a_session_id_that_comes_in_is_kept_whatever_the_pause(
    events: Callable[..., ir.Table], data_config: Callable[..., DataConfig]
) -> None:
    rows = [(0, "ann", "s1"), (10, "ann", None), (500, "ann", "s1"), (501, "ann", "s2")]

    found = sessions_of(events(rows, "view_item"), data_config(), order_only=False)

    assert [session for _, session in found] == ["i:s1", "g:1", "i:s1", "i:s2"]


def test_receipts_less_than_an_hour_apart_are_one_session_whatever_their_ids(
    events: Callable[..., ir.Table], data_config: Callable[..., DataConfig]
) -> None:
    rows = [(0, "ann", "r1"), (59.99, "ann", "r2"), (119.99, "ann", "r3"), (120, "bob", "r4")]

    found = sessions_of(events(rows, "purchase"), data_config(), order_only=True)

    assert found == [("u:ann", "g:1"), ("u:ann", "g:1"), ("u:ann", "g:2"), ("u:bob", "g:1")]


def test_a_session_begins_at_its_first_event_wherever_that_stands_in_the_log(
    events: Callable[..., ir.Table], data_config: Callable[..., DataConfig]
) -> None:
    rows = [(5, "ann", "s1"), (3, "ann", "s1"), (4, "ann", "s1")]

    found = with_sessions(with_visitors(events(rows, "view_item")), data_config(), order_only=False).execute()

    assert set(found[SESSION_TIME]) == {pd.Timestamp(BEGIN) + pd.Timedelta(minutes=3)}
    assert set(found[SESSION_ROW]) == {0}


def test_microseconds_are_exact() -> None:
    moment = ibis.literal(datetime(2026, 1, 31, 9, 30, 0, 123457)).cast("timestamp(6)")

    assert microseconds(moment).execute() == 1_769_851_800_123_457


def cut_by_hand(rows: list[tuple[int, str]], gap: int) -> list[tuple[str, ...]]:
    """The same sessions by a plain loop over each visitor's rows in time order."""
    found: list[tuple[str, ...]] = [("", "")] * len(rows)
    last: dict[str, int] = {}
    number: dict[str, int] = {}
    for place in sorted(range(len(rows)), key=lambda row: (rows[row][0], row)):
        minute, user = rows[place]
        if user not in last or minute - last[user] >= gap:
            number[user] = number.get(user, 0) + 1
        last[user] = minute
        found[place] = (f"u:{user}", f"g:{number[user]}")
    return found


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["ann", "bob"])), min_size=1, max_size=20),
    order_only=st.booleans(),
)
def test_sessions_are_those_of_a_plain_loop(
    events: Callable[..., ir.Table],
    data_config: Callable[..., DataConfig],
    rows: list[tuple[int, str]],
    order_only: bool,
) -> None:
    table = events([(minute, user, None) for minute, user in rows], "purchase" if order_only else "view_item")

    found = sessions_of(table, data_config(), order_only=order_only)

    assert found == cut_by_hand(rows, 60 if order_only else 30)
