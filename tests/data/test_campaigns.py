from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shopkeeper.data import campaigns, complete_journey
from shopkeeper.data.campaigns import read_with_campaigns
from shopkeeper.data.complete_journey import SEGMENTS
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sources import Source

MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")


@pytest.fixture
def source(
    engine: DuckDB, data_config: Callable[..., DataConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Source:
    """Two baskets, the second with a coupon line; a campaign of each kind, and one without a description."""
    tables: dict[str, dict[str, Any]] = {
        "transactions": {
            "household_id": [1, 2],
            "store_id": [330, 440],
            "basket_id": [901, 902],
            "product_id": [11, 12],
            "quantity": [1, 1],
            "transaction_timestamp": pd.to_datetime(["2017-01-02 10:00", "2017-07-02 10:00"]),
            **{name: [1.0, 1.0] for name in MONEY},
        },
        "products": {
            "product_id": [11, 12],
            "department": ["GROCERY", "MISCELLANEOUS"],
            "brand": ["National", "National"],
            "product_category": ["SOUP", "COUPON/MISC ITEMS"],
            "product_type": ["TOMATO", "GIFT CARDS"],
        },
        "demographics": {"household_id": [1], **{name: ["x"] for name in SEGMENTS}},
        "campaigns": {"campaign_id": [8, 9, 77], "household_id": [1, 2, 2]},
        "campaign_descriptions": {
            "campaign_id": [8, 9],
            "campaign_type": ["Type A", "Type B"],
            "start_date": pd.to_datetime(["2017-01-15", "2017-07-01"]),
            "end_date": pd.to_datetime(["2017-02-15", "2017-08-01"]),
        },
        "coupon_redemptions": {
            "household_id": [1],
            "coupon_upc": [5],
            "campaign_id": [8],
            "redemption_date": pd.to_datetime(["2017-01-20"]),
        },
    }
    for name, columns in tables.items():
        pd.DataFrame(columns).to_parquet(tmp_path / f"{name}.parquet")
    for module in (campaigns, complete_journey):
        monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    return read_with_campaigns(engine, data_config(context=["store", "channel"]))


def test_campaigns_and_coupons_are_events_without_an_item(source: Source) -> None:
    found = source.events.order_by("source_row").execute().astype(object)
    columns = ["event", "user_id", "item_id", "session_id", "store", "channel"]
    told = found.where(found.notna(), None)[columns]

    assert list(told.itertuples(index=False, name=None)) == [
        ("purchase", "1", "11", "901", "330", "store"),
        ("message_shown", "1", None, None, None, "mail"),
        ("message_shown", "2", None, None, None, "leaflet"),
        ("message_shown", "2", None, None, None, "leaflet"),
        ("redeem_coupon", "1", None, None, None, "mail"),
    ]
    assert source.context == ["store", "channel"]
    assert (source.rows, source.dropped) == (6, {"coupon or miscellaneous line": 1})


def test_dates_are_the_shop_s_and_a_coupon_counts_when_its_day_is_over(source: Source) -> None:
    times = source.events.order_by("source_row").execute()["timestamp"][1:].dt.strftime("%m-%d %H:%M:%S")

    # New York is five hours behind UTC in January, four in July; the campaign without a description has no date
    assert times.fillna("").tolist() == ["01-15 05:00:00", "07-01 04:00:00", "", "01-21 04:59:59"]


def test_the_files_are_part_of_the_source(source: Source) -> None:
    assert [file.stem for file in source.files][3:] == ["campaigns", "coupon_redemptions", "campaign_descriptions"]


@pytest.mark.slow
def test_the_account_of_the_real_log_closes(prepare_as: Callable[..., Prepared]) -> None:
    days = ["data.split.val_share=null", "data.split.test_share=null"]
    prepared = prepare_as("complete_journey_campaigns", *days)

    counts = prepared.manifest["counts"]
    assert counts["rows_in"] == 1_469_307 + 6_589 + 2_102
    assert counts["rows_in"] == counts["events"] + counts["rows_dropped"]
    frame = prepared.events_frame()
    assert frame["event"].value_counts()[["message_shown", "redeem_coupon"]].to_dict() == {
        "message_shown": 6_589,
        "redeem_coupon": 2_102,
    }
    assert set(frame.loc[frame["event"] != "purchase", "channel"]) == {"mail", "leaflet"}
    assert not prepared.order_only
