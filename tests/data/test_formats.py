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
Shared = Callable[[str], Path]


def account(prepared: Prepared) -> list[int]:
    counts = prepared.manifest["counts"]
    return [counts[name] for name in ("rows_in", "events", "session_starts", "rows_dropped")]


def kinds(prepared: Prepared) -> dict[str, int]:
    return {str(kind): n for kind, n in prepared.events_frame()["event"].value_counts().items()}


def told(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of these columns, sorted by time where there is one; null as None."""
    ordered = frame.sort_values("timestamp", kind="stable") if "timestamp" in frame else frame
    plain = ordered[list(columns)].astype(object)
    return list(plain.where(plain.notna(), None).itertuples(index=False, name=None))


def write(folder: Path, **files: str) -> Path:
    """Text files, lines of a block each: `events__csv` is `events.csv`."""
    for name, text in files.items():
        lines = [line.strip(" ") for line in text.strip().splitlines()]
        (folder / name.replace("__", ".").replace("_DASH_", "-")).write_text("\n".join(lines) + "\n")
    return folder


# ---- REES46 ----


def test_rees46_electronics_has_the_counts_of_its_file(prepare_as: PrepareAs, shared: Shared) -> None:
    prepared = prepare_as("rees46", f"data.events={shared('rees46_electronics/events.parquet')}")

    assert account(prepared) == [103_193, 103_193, 0, 0]
    assert kinds(prepared) == {"view_item": 99_750, "purchase": 2_275, "add_to_cart": 1_168}
    counts = prepared.manifest["counts"]
    assert (counts["sessions"], counts["items"]) == (27_903, 18_700)
    items = prepared.items_frame().set_index("item_id")
    assert tuple(items.loc["1000108", ["category", "brand"]]) == ("construction > tools > welding", "eurolux")
    assert items.loc["1000108", "price"] == 66.3
    assert items["price"].notna().all()


def test_rees46_multicategory_has_users_too_and_a_last_line_that_is_cut_off(
    prepare_as: PrepareAs, shared: Shared
) -> None:
    file = shared("rees46_multicategory/2019-Oct.csv.gz")

    prepared = prepare_as("rees46", f"data.events={file}", "data.bad_values=drop")

    assert account(prepared) == [17_435, 17_434, 0, 1]
    assert kinds(prepared)["purchase"] == 214
    assert prepared.visitors_frame()["user_id"].notna().all()
    first = told(prepared.events_frame(), "timestamp", "item_id", "price")[0]
    assert first == (pd.Timestamp("2019-10-01", tz="UTC"), "44600062", 35.79)


# ---- OTTO ----


def test_otto_has_the_counts_of_its_file(prepare_as: PrepareAs, shared: Shared) -> None:
    prepared = prepare_as("otto", f"data.events={shared('otto/train.jsonl')}")

    assert account(prepared) == [862, 862, 0, 0]
    assert kinds(prepared) == {"view_item": 800, "add_to_cart": 52, "purchase": 10}
    assert prepared.manifest["counts"]["visitors"] == 20
    first = told(prepared.events_frame([0]), "timestamp", "item_id")[0]
    assert first == (pd.Timestamp(1659304800025, unit="ms", tz="UTC"), "1517085")


def test_the_events_of_an_otto_line_keep_their_order(prepare_as: PrepareAs, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"session": 1, "events": [{"aid": a, "ts": 1_000_000, "type": "clicks"} for a in (9, 3, 7, 1)]},
        {"session": 2, "events": [{"aid": a, "ts": 50_000_000, "type": "orders"} for a in (3, 9)]},
        {"session": 3, "events": [{"aid": 3, "ts": t, "type": "carts"} for t in (90_000_000, 99_000_000)]},
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))

    prepared = prepare_as("otto", f"data.events={tmp_path / 'train.jsonl'}")

    assert prepared.events_frame([0])["item_id"].tolist() == ["9", "3", "7", "1"]
    assert account(prepared) == [8, 8, 0, 0]


def test_a_log_in_another_form_is_refused_by_the_column_it_lacks(prepare_as: PrepareAs, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"session": 1, "aid": 3}\n')

    with pytest.raises(
        UserError, match=r"data\.events: .*train\.jsonl has no column 'events', .* it has: session, aid"
    ):
        prepare_as("otto", f"data.events={tmp_path / 'train.jsonl'}")


# ---- YooChoose ----

CLICKS = """
    1,2014-04-07T10:51:09.277Z,214536502,0
    1,2014-04-07T10:54:09.868Z,214536500,S
    2,2014-04-08T13:56:37.614Z,214662742,0
    2,2014-04-08T13:57:19.373Z,214662742,5
    3,2014-04-09T08:00:00.000Z,214536500,7
"""
BUYS = """
    1,2014-04-07T11:00:00.000Z,214536500,12462,1
    3,2014-04-09T08:10:00.000Z,214662742,0,0
"""


@pytest.fixture
def yoochoose(tmp_path: Path) -> Path:
    return write(tmp_path, **{"yoochoose-clicks__dat": CLICKS, "yoochoose-buys__dat": BUYS})


def test_yoochoose_has_no_header(prepare_as: PrepareAs, yoochoose: Path) -> None:
    prepared = prepare_as("yoochoose", f"data.folder={yoochoose}")

    assert account(prepared) == [7, 7, 0, 0]
    frame = prepared.events_frame()
    assert told(frame, "event", "item_id", "price", "quantity")[2] == ("purchase", "214536500", 12462.0, 1.0)
    assert frame["timestamp"].min() == pd.Timestamp("2014-04-07T10:51:09.277Z")
    assert prepared.manifest["counts"]["sessions"] == 3


def test_zeros_of_yoochoose_stand_for_nothing(prepare_as: PrepareAs, yoochoose: Path) -> None:
    prepared = prepare_as("yoochoose", f"data.folder={yoochoose}")

    assert told(prepared.events_frame(), "event", "price", "quantity")[-1] == ("purchase", None, None)
    # of an item, the first category that is one
    categories = dict(told(prepared.items_frame(), "item_id", "category"))
    assert categories == {"214536500": "S", "214536502": None, "214662742": "5"}


# ---- RetailRocket ----


@pytest.fixture
def retailrocket(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        events__csv="""
            timestamp,visitorid,event,itemid,transactionid
            1433221332117,257597,view,10,
            1433222332117,257597,addtocart,10,
            1433223332117,257597,transaction,10,4000
            1433300000000,992329,view,14,
            1433400000000,111016,view,11,
        """,
        item_properties_part1__csv="""
            timestamp,itemid,property,value
            1000,10,categoryid,3
            1000,11,available,1
            1000,12,categoryid,5
        """,
        item_properties_part2__csv="""
            timestamp,itemid,property,value
            999,10,categoryid,4
            1000,13,categoryid,99
            1000,13,790,n15360.000
        """,
        category_tree__csv="""
            categoryid,parentid
            1,
            2,1
            3,2
            4,2
            5,6
            6,5
        """,
    )


def test_retailrocket_has_events_and_orders(prepare_as: PrepareAs, retailrocket: Path) -> None:
    prepared = prepare_as("retailrocket", f"data.folder={retailrocket}")

    assert account(prepared) == [5, 5, 0, 0]
    assert kinds(prepared) == {"view_item": 3, "add_to_cart": 1, "purchase": 1}
    assert prepared.events_frame()["timestamp"].min() == pd.Timestamp(1433221332117, unit="ms", tz="UTC")
    assert sorted(prepared.visitors_frame()["user_id"]) == ["111016", "257597", "992329"]


def test_items_of_retailrocket_lie_where_they_were_first(prepare_as: PrepareAs, retailrocket: Path) -> None:
    items = prepare_as("retailrocket", f"data.folder={retailrocket}").items_frame()

    # 10 was moved from 4 to 3, 12 lies in a circle, 13 in a category without a place, and 14 has no properties
    assert sorted(told(items, "item_id", "category", "listed")) == [
        ("10", "1 > 2 > 4", True),
        ("11", None, True),
        ("12", "5", True),
        ("13", "99", True),
        ("14", None, False),
    ]


def test_a_table_that_a_format_needs_is_asked_for(prepare_as: PrepareAs, retailrocket: Path) -> None:
    with pytest.raises(UserError, match=r"data\.extras\.category_tree is not set: this format reads it"):
        prepare_as("retailrocket", f"data.folder={retailrocket}", "data.extras.category_tree=null")


# ---- Dressipi ----


@pytest.fixture
def dressipi(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        train_sessions__csv="""
            session_id,item_id,date
            3,1,2020-12-18 21:25:00.373
            3,2,2020-12-18 21:19:48.093
            13,3,2021-03-13 19:35:27.136
            18,2,2021-04-26 12:00:00
        """,
        train_purchases__csv="""
            session_id,item_id,date
            3,3,2020-12-18 21:26:47.986
            13,1,2021-03-13 19:36:15.507
            18,4,2021-04-26 12:10:00
        """,
        item_features__csv="""
            item_id,feature_category_id,feature_value_id
            1,5,605
            1,4,618
            2,5,700
            3,5,605
            3,4,1
        """,
    )


def test_dressipi_s_items_are_told_by_their_features(prepare_as: PrepareAs, dressipi: Path) -> None:
    prepared = prepare_as("dressipi", f"data.folder={dressipi}")

    assert account(prepared) == [7, 7, 0, 0]
    assert kinds(prepared) == {"view_item": 4, "purchase": 3}
    first = told(prepared.events_frame(), "timestamp", "event", "item_id")[:3]
    assert [row[1:] for row in first] == [("view_item", "2"), ("view_item", "1"), ("purchase", "3")]
    assert sorted(told(prepared.items_frame(), "item_id", "title", "category")) == [
        ("1", "4=618 5=605", "5=605"),
        ("2", "5=700", "5=700"),
        ("3", "4=1 5=605", "5=605"),
        ("4", None, None),
    ]
    assert any("the category of an item is its feature 5" in note for note in prepared.manifest["notes"])


# ---- Synerise ----


@pytest.fixture
def synerise(tmp_path: Path) -> Path:
    def table(name: str, *rows: tuple[Any, ...], last: str = "sku") -> None:
        frame = pd.DataFrame(rows, columns=["client_id", "timestamp", last])
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)

    table("product_buy", (1, "2022-06-03 10:00:00", 700), (2, "2022-07-01 10:00:00", 701))
    table("add_to_cart", (1, "2022-06-03 09:59:00", 700))
    table("remove_from_cart", (2, "2022-06-20 09:00:00", 702))
    table("page_visit", (1, "2022-06-03 09:50", 5), (3, "2022-08-01 09:50", 6), last="url")
    table("search_query", (3, "2022-08-01 09:51:00", "[1 2 3]"), last="query")
    items = {"sku": [700, 701], "category": [34, 35], "price": [61, 3], "name": ["[7 8]", "[9 1]"]}
    pd.DataFrame(items).to_parquet(tmp_path / "product_properties.parquet", index=False)
    return tmp_path


def test_synerise_has_five_kinds_of_events(prepare_as: PrepareAs, synerise: Path) -> None:
    prepared = prepare_as("synerise", f"data.folder={synerise}")

    assert account(prepared) == [7, 7, 0, 0]
    assert told(prepared.events_frame([0]), "event", "item_id") == [
        ("page_view", None),
        ("add_to_cart", "700"),
        ("purchase", "700"),
    ]
    assert kinds(prepared) == {
        "purchase": 2,
        "add_to_cart": 1,
        "remove_from_cart": 1,
        "page_view": 2,
        "search": 1,
    }
    # the number of a bucket is no price
    assert sorted(told(prepared.items_frame(), "item_id", "category", "price")) == [
        ("700", "34", None),
        ("701", "35", None),
        ("702", None, None),
    ]


def test_a_feed_of_synerise_can_be_left_out(prepare_as: PrepareAs, synerise: Path) -> None:
    (synerise / "page_visit.parquet").unlink()

    prepared = prepare_as("synerise", f"data.folder={synerise}", "~data.feeds.page_visit")

    assert account(prepared) == [5, 5, 0, 0]


# ---- RecBole ----


@pytest.fixture
def recbole(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        shop__inter="""
            user_id:token\titem_id:token\trating:float\ttimestamp:float
            1\t1193\t5\t978300760
            1\t661\t3\t978302109.5
            2\t1193\t4\t978400000
            3\t661\t4\t978500000
        """,
        shop__item="""
            item_id:token\tmovie_title:token_seq\tgenre:token_seq
            1193\tOne Flew Over\tDrama
            661\tJames and the Peach\tAnimation Children's
        """,
        shop__user="""
            user_id:token\tage:token
            1\t25
            2\t50
        """,
    )


def test_recbole_s_headers_lose_their_types(prepare_as: PrepareAs, recbole: Path) -> None:
    prepared = prepare_as("recbole", f"data.folder={recbole}")

    assert account(prepared) == [4, 4, 0, 0]
    assert told(prepared.events_frame([0]), "timestamp", "event", "item_id") == [
        (pd.Timestamp("2000-12-31 22:12:40", tz="UTC"), "view_item", "1193"),
        (pd.Timestamp("2000-12-31 22:35:09.5", tz="UTC"), "view_item", "661"),
    ]
    assert sorted(told(prepared.items_frame(), "item_id", "title", "category")) == [
        ("1193", "One Flew Over", "Drama"),
        ("661", "James and the Peach", "Animation Children's"),
    ]
    assert told(prepared.visitors_frame(), "user_id", "age") == [("1", "25"), ("2", "50"), ("3", None)]


def test_recbole_s_interactions_are_what_you_say_and_only_they_are_needed(prepare_as: PrepareAs, recbole: Path) -> None:
    (recbole / "shop.item").unlink()
    (recbole / "shop.user").unlink()

    prepared = prepare_as("recbole", f"data.folder={recbole}", "data.constants.event=purchase")

    assert kinds(prepared) == {"purchase": 4}
    assert prepared.manifest["notes"][:2] == [
        f"data.items: no {recbole}/*.item, read without it",
        f"data.users: no {recbole}/*.user, read without it",
    ]


def test_what_is_mapped_by_hand_stays_so(prepare_as: PrepareAs, recbole: Path) -> None:
    prepared = prepare_as("recbole", f"data.folder={recbole}", "data.item_columns={category: movie_title}")

    assert "One Flew Over" in prepared.items_frame()["category"].tolist()


# ---- Spark ----


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")  # pyspark 4.3 on pandas 3
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java on the path")
@pytest.mark.parametrize("name", ["yoochoose", "retailrocket", "dressipi", "synerise", "recbole"])
def test_every_engine_reads_a_format_alike(prepare_as: PrepareAs, request: pytest.FixtureRequest, name: str) -> None:
    pytest.importorskip("pyspark", reason='pyspark is not installed: pip install "shopkeeper[spark]"')
    folder = f"data.folder={request.getfixturevalue(name)}"
    spark = ["engine=spark", "spark.memory=1g", "spark.settings={spark.sql.shuffle.partitions: '2'}"]

    found = [prepare_as(name, folder, *engine).manifest for engine in ([], spark)]

    assert found[0]["content_hash"] == found[1]["content_hash"]
    assert (found[0]["counts"], found[0]["notes"]) == (found[1]["counts"], found[1]["notes"])
