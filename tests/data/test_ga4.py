import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.prepared import Prepared

PrepareAs = Callable[..., Prepared]
MINUTE = 60_000_000
START = 1_609_459_200_000_000  # 2021-01-01, microseconds

BREAD: dict[str, Any] = {
    "item_id": "b1",
    "item_name": "Bread",
    "item_brand": "Own",
    "item_category": "Home/Men's / Unisex/Hats/",
}
MILK: dict[str, Any] = {"item_id": "m1", "item_name": "Milk", "item_brand": "(not set)", "item_category": "Dairy"}
MILK |= {"item_category2": "Milk/Cream", "item_category3": "(not set)", "price": 1.5, "quantity": 2}


def event(minute: float, name: str, who: str, *items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event of the export, of a visit on a phone that came by organic search."""
    session = fields.pop("session", 77)
    parameters = [{"key": "page_title", "value": {"string_value": "Shop", "int_value": None}}]
    parameters += [{"key": "ga_session_id", "value": {"string_value": None, "int_value": session}}] if session else []
    return {
        "event_timestamp": START + int(minute * MINUTE),
        "event_name": name,
        "user_pseudo_id": who,
        "user_id": None,
        "event_params": parameters,
        "device": {"category": "mobile"},
        "geo": {"country": "Chile"},
        "traffic_source": {"medium": "organic", "source": "google"},
        "ecommerce": {"transaction_id": "(not set)"},
        "items": list(items),
        **fields,
    }


EVENTS = [
    event(0, "session_start", "p1"),
    event(1, "view_item_list", "p1", MILK, BREAD, {"item_id": "(not set)"}),
    event(2, "add_to_cart", "p1", MILK, user_id="ann"),
    event(3, "purchase", "p1", MILK, BREAD, user_id="ann", ecommerce={"transaction_id": "t9"}),
    event(9, "page_view", "p2", user_id="ann", session=None),
    event(900, "page_view", "p3", geo={"country": "(not set)"}),
    event(1900, "view_item", "p3", BREAD),
    event(2900, "scroll", "p4", device={"category": ""}),
]


@pytest.fixture
def export(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    def write(events: list[dict[str, Any]]) -> Path:
        (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
        return tmp_path / "events.jsonl"

    return write


Export = Callable[[list[dict[str, Any]]], Path]


def rows(prepared: Prepared, *columns: str) -> list[tuple[Any, ...]]:
    frame = prepared.events_frame().sort_values("timestamp", kind="stable")[list(columns)].astype(object)
    return list(frame.where(frame.notna(), None).itertuples(index=False, name=None))


def test_an_event_is_a_row_for_each_of_its_items(prepare_as: PrepareAs, export: Export) -> None:
    file = export(EVENTS)

    prepared = prepare_as("ga4", f"data.events={file}")

    assert rows(prepared, "event", "item_id", "price", "quantity") == [
        ("view_item_list", "m1", 1.5, 2.0),
        ("view_item_list", "b1", None, None),
        ("view_item_list", None, None, None),
        ("add_to_cart", "m1", 1.5, 2.0),
        ("purchase", "m1", 1.5, 2.0),
        ("purchase", "b1", None, None),
        ("page_view", None, None, None),
        ("page_view", None, None, None),
        ("view_item", "b1", None, None),
        ("scroll", None, None, None),
    ]
    counts = prepared.manifest["counts"]
    # 8 events, of which three have 3, 2 and 1 items where others have one row
    assert [counts[name] for name in ("rows_in", "events", "session_starts", "rows_dropped")] == [11, 10, 1, 0]
    assert f"{file}: 8 events hold 11 rows, one for each item" in prepared.manifest["notes"]


def test_who_logs_in_is_the_one_who_browsed(prepare_as: PrepareAs, export: Export) -> None:
    prepared = prepare_as("ga4", f"data.events={export(EVENTS)}")

    # p1 and p2 are ann; p2's event without a session is a visit of its own, p3's two lie in one session
    assert sorted(prepared.visitors_frame()["user_id"]) == ["ann", "p3", "p4"]
    assert prepared.manifest["counts"]["sessions"] == 4


def test_context_is_how_the_visitor_came(prepare_as: PrepareAs, export: Export) -> None:
    prepared = prepare_as("ga4", f"data.events={export(EVENTS)}")

    assert prepared.context_columns == ["channel", "device", "country", "source"]
    where = rows(prepared, "channel", "device", "country", "source")
    assert where[0] == ("organic", "mobile", "Chile", "google")
    assert where[7] == ("organic", "mobile", None, "google")
    assert where[9] == ("organic", None, "Chile", "google")


def test_items_have_their_category_from_coarse_to_fine(prepare_as: PrepareAs, export: Export) -> None:
    items = prepare_as("ga4", f"data.events={export(EVENTS)}").items_frame().set_index("item_id")

    assert items.loc["m1", "category"] == "Dairy > Milk/Cream"
    assert items.loc["b1", "category"] == "Home > Men's / Unisex > Hats"
    assert tuple(items.loc["b1", ["title", "brand"]]) == ("Bread", "Own")
    assert items["brand"].isna()["m1"]


def test_only_rows_with_consent_count_where_the_export_tells(prepare_as: PrepareAs, export: Export) -> None:
    answers = ["Yes"] * 5 + ["No", "Yes", "Unset"]
    events = [e | {"privacy_info": {"analytics_storage": a}} for e, a in zip(EVENTS, answers, strict=True)]

    prepared = prepare_as("ga4", f"data.events={export(events)}")

    assert prepared.manifest["dropped"] == {"no consent": 2}
    assert prepared.context_columns == ["channel", "device", "country", "source"]


def test_fields_that_an_export_lacks_are_absent(prepare_as: PrepareAs, export: Export) -> None:
    few = ("event_timestamp", "event_name", "user_pseudo_id", "event_params", "traffic_source")
    events = [{k: v for k, v in e.items() if k in few} for e in EVENTS]

    prepared = prepare_as("ga4", f"data.events={export(events)}", "data.context=[channel]")

    assert prepared.manifest["counts"]["events"] == 7
    assert prepared.manifest["counts"]["items"] == 0
    assert sorted(prepared.visitors_frame()["user_id"]) == ["p1", "p2", "p3", "p4"]


def test_a_table_that_is_no_export_is_refused(prepare_as: PrepareAs, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("event_timestamp,event_name,user_pseudo_id\n1,page_view,p1\n")

    with pytest.raises(UserError, match=r"data\.events: .*events\.csv has no column 'event_params'"):
        prepare_as("ga4", f"data.events={tmp_path / 'events.csv'}")


def test_the_real_export_has_the_counts_of_its_file(prepare_as: PrepareAs, shared: Callable[[str], Path]) -> None:
    file = shared("ga4_export/events.parquet")
    prepared = prepare_as("ga4", f"data.events={file}")

    counts, frame = prepared.manifest["counts"], prepared.events_frame()
    events = pd.read_parquet(file, columns=["event_name", "items"])
    items = events["items"].map(len)
    assert (len(events), items.clip(lower=1).sum(), counts["rows_in"]) == (24_219, 44_180, 44_180)
    assert counts["events"] + counts["session_starts"] == 44_180
    assert counts["visitors"] == 19_210
    assert frame["event"].nunique() + 1 == 17  # and session_start
    bought = events["event_name"] == "purchase"
    assert (bought.sum(), items[bought].clip(lower=1).sum()) == (624, (frame["event"] == "purchase").sum())
    assert "Home > Apparel > Hats" in set(prepared.items_frame()["category"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")  # pyspark 4.3 on pandas 3
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java on the path")
def test_every_engine_reads_an_export_alike(prepare_as: PrepareAs, export: Export) -> None:
    pytest.importorskip("pyspark", reason='pyspark is not installed: pip install "shopkeeper[spark]"')
    events = f"data.events={export(EVENTS)}"
    spark = ["engine=spark", "spark.memory=1g", "spark.settings={spark.sql.shuffle.partitions: '2'}"]

    found = [prepare_as("ga4", events, *engine).manifest for engine in ([], spark)]

    assert found[0]["content_hash"] == found[1]["content_hash"]
    assert (found[0]["counts"], found[0]["notes"]) == (found[1]["counts"], found[1]["notes"])
