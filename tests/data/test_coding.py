from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.coding import VISITOR_KEY, code_events, vocabularies, with_codes, with_keys
from shopkeeper.data.engines import DuckDB

BEGIN = datetime(2026, 1, 1)
TYPES = {"source_row": "int64", "timestamp": "timestamp(6)", "event": "string", "price": "float64"}
TYPES |= dict.fromkeys(s.IDS, "string")
Rows = list[tuple[int, str, str | None, str | None]]


@pytest.fixture
def events() -> Callable[[Rows], ir.Table]:
    """Rows of the event table from (minute, event, user, session)."""

    def build(rows: Rows) -> ir.Table:
        minutes, names, users, sessions = zip(*rows, strict=True)
        frame = pd.DataFrame({"source_row": range(len(rows)), "event": names, "user_id": users, "session_id": sessions})
        frame["timestamp"] = pd.Series([BEGIN + timedelta(minutes=m) for m in minutes], dtype="datetime64[us]")
        return ibis.memtable(frame.assign(item_id=None, order_id=None, price=1.5), schema=TYPES)

    return build


def test_a_visitor_is_the_user_else_the_user_of_the_session_else_the_session(
    events: Callable[[Rows], ir.Table],
) -> None:
    people = [(None, "s1"), ("ann", "s1"), (None, "s2"), ("s2", "s3"), ("bob", None)]

    found = with_keys(events([(0, "search", *who) for who in people])).order_by(s.ROW).execute()

    # the user named s2 and the session s2 stay two visitors
    assert found[VISITOR_KEY].tolist() == ["u:ann", "u:ann", "s:s2", "u:s2", "u:bob"]


def test_no_row_is_lost_or_doubled_where_two_users_share_a_session(events: Callable[[Rows], ir.Table]) -> None:
    rows: Rows = [(0, "search", "ann", "s1"), (1, "search", "bob", "s1"), (2, "search", None, "s1")]

    found = with_keys(events(rows)).order_by(s.ROW).execute()

    assert found[s.ROW].tolist() == [0, 1, 2]
    assert found[VISITOR_KEY].tolist() == ["u:ann", "u:bob", "u:bob"]


def test_rows_are_sorted_by_visitor_time_and_source_row(
    engine: DuckDB, events: Callable[[Rows], ir.Table], tmp_path: Path
) -> None:
    rows: Rows = [(5, "search", "bob", None), (9, "view_item", "ann", "s"), (5, "session_start", "bob", None)]

    coded = code_events(engine, events(rows), [], ("price",), tmp_path / "raw")

    found = {file.stem: np.load(file).tolist() for file in (tmp_path / "raw").glob("*.npy")}
    second = 1_767_225_600_000_000  # 2026-01-01 in microseconds
    assert found == {
        "visitor": [0, 1, 1],
        "time": [second + 540_000_000, second + 300_000_000, second + 300_000_000],
        "event": [3, 2, 1],
        "item": [0, 0, 0],
        "session_id": [1, 0, 0],
        "price": [1.5, 1.5, 1.5],
    }
    assert coded.values == {"event": ["session_start", "search", "view_item"]}
    assert coded.rows == 3


def test_values_have_the_order_of_their_names(events: Callable[[Rows], ir.Table]) -> None:
    table = events([(0, "view_item", "b", None), (0, "Äpfel", "a", None), (0, "view_item", None, "s")])

    assert vocabularies(table, [s.EVENT, s.USER, s.ITEM]) == {
        "event": ["session_start", "view_item", "Äpfel"],
        "user_id": ["a", "b"],
        "item_id": [],
    }


def test_few_values_and_many_get_the_same_codes(engine: DuckDB) -> None:
    names = sorted(f"value {n}" for n in range(40))
    table = ibis.memtable({"row": [0, 1, 2], "word": ["value 7", None, "value 13"]})

    for known in (names, names[:5], []):
        found = with_codes(engine, table, "word", known).order_by("row").execute()["word_code"]
        by_hand = [known.index(word) + 1 if word in known else None for word in ("value 7", None, "value 13")]
        assert found.astype(object).where(found.notna(), None).tolist() == by_hand
