import shutil
from collections.abc import Callable
from pathlib import Path

import ibis
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.diginetica import DAY, sessions
from shopkeeper.data.prepared import Prepared

PrepareAs = Callable[..., Prepared]
HOUR = DAY // 24

VIEWS = """\
sessionId;userId;itemId;timeframe;eventdate
1;NA;10;60000;2016-05-09
1;NA;11;1000;2016-05-09
2;7;10;600000;2016-03-20
2;NA;11;700000;2016-03-21
3;NA;12;5000;2016-02-02
"""
PURCHASES = f"""\
sessionId;userId;timeframe;eventdate;ordernumber;itemId
3;NA;{3 * DAY + 2 * HOUR};2016-02-05;900;12
1;NA;120000;2016-05-09;901;11
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "train-item-views.csv").write_text(VIEWS)
    (tmp_path / "train-purchases.csv").write_text(PURCHASES)
    (tmp_path / "product-categories.csv").write_text("itemId;categoryId\n10;1096\n11;7\n")
    return tmp_path


def days(*dates: str) -> list[int]:
    return [int(pd.Timestamp(date).timestamp() * 1000) for date in dates]


@pytest.mark.parametrize(
    ("dates", "since", "start"),
    [
        # one date: the session begins at its midnight
        (["2016-05-09", "2016-05-09"], [1000, 60_000], "2016-05-09"),
        # 600 s still on the 20th, 700 s on the 21st: it began 700 s before midnight at the earliest
        (["2016-03-20", "2016-03-21"], [600_000, 700_000], "2016-03-20 23:48:20"),
        # three days and two hours later and on the third day after: it may have begun at a midnight
        (["2016-02-02", "2016-02-05"], [5000, 3 * DAY + 2 * HOUR], "2016-02-02"),
        # alone, three days and two hours after a begin that is not in the data
        (["2016-02-05"], [3 * DAY + 2 * HOUR], "2016-02-02"),
    ],
)
def test_a_session_begins_where_every_event_falls_on_its_date(dates: list[str], since: list[int], start: str) -> None:
    events = pd.DataFrame({"session_id": "1", "user_id": None, "day": days(*dates), "since": since})

    begun = sessions(ibis.memtable(events.astype({"user_id": "string"}))).execute()

    assert begun["start"].tolist() == days(start)


def test_diginetica_s_events_lie_on_their_dates(prepare_as: PrepareAs, shop: Path) -> None:
    prepared = prepare_as("diginetica", f"data.folder={shop}")

    frame = prepared.events_frame().sort_values("timestamp")
    times = frame["timestamp"].dt.strftime("%m-%d %H:%M:%S")
    assert list(zip(times, frame["event"], frame["item_id"], strict=True)) == [
        ("02-02 00:00:05", "view_item", "12"),
        ("02-05 02:00:00", "purchase", "12"),
        ("03-20 23:58:20", "view_item", "10"),
        ("03-21 00:00:00", "view_item", "11"),
        ("05-09 00:00:01", "view_item", "11"),
        ("05-09 00:01:00", "view_item", "10"),
        ("05-09 00:02:00", "purchase", "11"),
    ]
    counts = prepared.manifest["counts"]
    assert [counts[name] for name in ("rows_in", "events", "rows_dropped")] == [7, 7, 0]


def test_a_late_purchase_is_a_visit_of_its_own_of_the_same_visitor(prepare_as: PrepareAs, shop: Path) -> None:
    prepared = prepare_as("diginetica", f"data.folder={shop}")

    assert sorted(prepared.visitors_frame()["user_id"]) == ["7", "session 1", "session 3"]
    assert prepared.manifest["counts"]["sessions"] == 4  # 1, 2, 3 and 3/2016-02-05


def test_items_have_a_price_and_a_title_where_products_are_there(prepare_as: PrepareAs, shop: Path) -> None:
    without = prepare_as("diginetica", f"data.folder={shop}")
    (shop / "products.csv").write_text("itemId;pricelog2;product.name.tokens\n10;3.5;4875,776,56689\n12;0;12\n")
    prepared = prepare_as("diginetica", f"data.folder={shop}")

    assert without.manifest["notes"][0] == f"data.extras.products: no {shop}/products.csv*, read without it"
    assert without.items_frame()["price"].isna().all()
    items = prepared.items_frame().set_index("item_id")
    assert tuple(items.loc["10", ["category", "title", "price"]]) == ("1096", "4875 776 56689", 11.31)  # 2 ** 3.5
    assert tuple(items.loc["12", ["title", "price"]]) == ("12", 1.0)
    assert items.loc["11", "category"] == "7"


def test_a_time_that_cannot_be_read_is_told(prepare_as: PrepareAs, shop: Path) -> None:
    with (shop / "train-item-views.csv").open("a") as file:
        file.write("4;NA;10;5;soon\n")

    with pytest.raises(UserError, match=r"'timestamp' is not a number of ms .* for example 'soon \+ 5'"):
        prepare_as("diginetica", f"data.folder={shop}")
    dropped = prepare_as("diginetica", f"data.folder={shop}", "data.bad_values=drop").manifest["counts"]
    assert (dropped["rows_in"], dropped["events"], dropped["rows_dropped"]) == (8, 7, 1)


def test_a_column_that_is_not_there_is_named(prepare_as: PrepareAs, shop: Path) -> None:
    (shop / "train-purchases.csv").write_text("sessionId;itemId\n1;2\n")

    with pytest.raises(UserError, match=r"data\.feeds\.purchases: .* has no column 'user_id'"):
        prepare_as("diginetica", f"data.folder={shop}")


def test_the_real_files_are_read_whole(prepare_as: PrepareAs, shared: Callable[[str], Path]) -> None:
    prepared = prepare_as("diginetica", f"data.folder={shared('diginetica_raw')}")

    counts, frame = prepared.manifest["counts"], prepared.events_frame()
    assert [counts[name] for name in ("rows_in", "events", "rows_dropped")] == [30_416, 30_416, 0]
    assert frame["event"].value_counts().to_dict() == {"purchase": 18_025, "view_item": 12_391}
    assert (counts["items"], counts["items_known"]) == (184_047, 184_047)
    # 20 minutes of views, and a purchase 82 days later: session 447, on 2016-02-02 and 2016-04-24
    visitors = prepared.visitors_frame()
    who = visitors.index[visitors["user_id"] == "160768"][0]
    own = prepared.events_frame([who])
    dates = own["timestamp"].dt.strftime("%Y-%m-%d")
    assert set(dates[own["item_id"] == "55275"]) == {"2016-04-24"}
    assert "2016-02-02" in set(dates[own["event"] == "view_item"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")  # pyspark 4.3 on pandas 3
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java on the path")
def test_every_engine_reads_diginetica_alike(prepare_as: PrepareAs, shop: Path) -> None:
    pytest.importorskip("pyspark", reason='pyspark is not installed: pip install "shopkeeper[spark]"')
    (shop / "products.csv").write_text("itemId;pricelog2;product.name.tokens\n10;3.5;4875,776,56689\n12;0;12\n")
    spark = ["engine=spark", "spark.memory=1g", "spark.settings={spark.sql.shuffle.partitions: '2'}"]

    found = [prepare_as("diginetica", f"data.folder={shop}", *engine).manifest for engine in ([], spark)]

    assert found[0]["content_hash"] == found[1]["content_hash"]
    assert (found[0]["counts"], found[0]["notes"]) == (found[1]["counts"], found[1]["notes"])
