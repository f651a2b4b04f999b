import gzip
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from shopkeeper.config import UserError
from shopkeeper.data.settings import DataConfig
from shopkeeper.inspection.log import check_place, inspect_log, name_of, ragged_row, spread
from shopkeeper.inspection.proposal import Proposal
from shopkeeper.inspection.settings import InspectConfig

SHARED = Path(os.environ.get("SHOPKEEPER_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
DAYS = pd.date_range("2025-07-01 12:00", periods=60, freq="6h")
USERS = [f"k{i % 20}" for i in range(60)]

Inspect = Callable[..., Proposal]


@pytest.fixture(scope="module")
def config(compose: Callable[..., Any]) -> InspectConfig:
    found: InspectConfig = compose("inspect", InspectConfig, "log=x")
    return found


@pytest.fixture
def inspect(config: InspectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    monkeypatch.chdir(tmp_path)
    return lambda *log, **changes: inspect_log(replace(config, log=list(log), **changes))


def settings(proposal: Proposal) -> dict[str, Any]:
    """What the YAML sets, checked as prepare would check it but for what is left open."""
    found: dict[str, Any] = yaml.safe_load(proposal.text)
    defaults = OmegaConf.load(Path(__file__).parents[2] / "configs" / "data" / "events.yaml")
    own = OmegaConf.create({key: value for key, value in found.items() if key != "defaults"})
    OmegaConf.merge(OmegaConf.structured(DataConfig), defaults, own)
    assert found["defaults"] == ["events"]
    return found


def write_shop(folder: Path) -> None:
    """Web clicks as a German CSV, app events as JSON lines, till receipts as Parquet, and items and users as CSV."""
    web = {"Zeit": DAYS.strftime("%d.%m.%Y %H:%M"), "Aktion": ["gesehen", "in den Korb", "Kauf"] * 20, "Kunde": USERS}
    web_frame = pd.DataFrame(web | {"Artikel": "Brötchen", "Preis": "2,50"})
    web_frame.to_csv(folder / "web.csv", sep=";", index=False, encoding="latin-1")
    stamps = DAYS.tz_localize("UTC").as_unit("ms").astype("int64") + 3_600_000
    app = pd.DataFrame({"ts": stamps, "was": "klick", "kunde": USERS, "artikel": "Brot"})
    app.to_json(folder / "app.jsonl", orient="records", lines=True)
    till = pd.DataFrame({"am": DAYS, "bon": [f"b{i}" for i in range(60)], "kunde": USERS, "artikel": "Brot"})
    till.to_parquet(folder / "till.parquet")
    items = pd.DataFrame({"Artikelnummer": ["Brot", "Brötchen"], "Bezeichnung": ["Laib", "Semmel"], "Preis": "2,50"})
    items.to_csv(folder / "artikel.csv", sep=";", index=False)
    pd.DataFrame({"Kunde": USERS[:20], "Alter": "30-39"}).to_csv(folder / "kunden.csv", sep=";", index=False)


def test_several_tables_become_feeds_items_and_users(inspect: Inspect, tmp_path: Path) -> None:
    write_shop(tmp_path)

    found = settings(inspect("web.csv", "app.jsonl", "till.parquet", "artikel.csv", "kunden.csv"))

    assert list(found["feeds"]) == ["web", "app", "till"]
    assert found["feeds"]["web"]["csv"] == {"separator": ";", "encoding": "latin-1", "decimal": ","}
    assert found["feeds"]["app"]["time_unit"] == "ms"
    assert found["feeds"]["till"]["constants"] == {"event": "purchase"}
    assert (found["items"], found["users"]) == ("artikel.csv", "kunden.csv")
    assert found["csv"] == {"separator": ";", "decimal": ","}
    assert found["time_zone"] == "UTC"


def test_what_all_feeds_share_stands_on_top(inspect: Inspect, tmp_path: Path) -> None:
    frame = pd.DataFrame({"Zeit": DAYS, "Aktion": "gesehen", "Kunde": USERS, "Artikel": "Brot"})
    for name in ("a", "b"):
        frame.to_csv(tmp_path / f"{name}.csv", sep=";", index=False)

    found = settings(inspect("a.csv", "b.csv"))

    assert found["columns"] == {"timestamp": "Zeit", "event": "Aktion", "user_id": "Kunde", "item_id": "Artikel"}
    assert found["event_names"] == {"gesehen": "view_item"}
    assert found["csv"] == {"separator": ";"}
    assert found["feeds"] == {name: {"events": f"{name}.csv"} for name in ("a", "b")}


def test_one_table_stands_on_top_and_is_said_to_be_local(inspect: Inspect, tmp_path: Path) -> None:
    hours = np.array([h for h in range(24) if h not in (1, 2, 3, 4)])  # nobody shops from one to five
    times = [f"2025-07-{1 + n // 100:02d} {hours[n % 20]:02d}:{n % 60:02d}:00" for n in range(2000)]
    frame = pd.DataFrame({"Zeit": times, "Aktion": "gesehen", "Kunde": [f"k{n % 97}" for n in range(2000)]})
    frame.to_csv(tmp_path / "web.csv", index=False)

    proposal = inspect("web.csv")

    assert settings(proposal)["events"] == "web.csv"
    assert "time_zone: UTC  # times carry no offset: set the zone of the clock that wrote them" in proposal.text
    assert "least activity at 01:00-05:00 of the clock as written" in proposal.text
    assert "rows looked at). Check it, keep it as conf/data/shop.yaml, then:\n" in proposal.text


def test_the_session_gap_is_the_valley(inspect: Inspect, tmp_path: Path) -> None:
    # each of 200 users: six visits of four events; 32 s between the events, 2^17 s (36 h) between the visits
    rng = np.random.default_rng(1)
    gaps = np.tile([2.0**17, 32, 32, 32], (200, 6)) * 2 ** rng.normal(0, 0.7, (200, 24))
    seconds = np.cumsum(gaps, axis=1).astype(np.int64) + 1_700_000_000
    frame = pd.DataFrame({"ts": seconds.ravel(), "user": np.repeat(np.arange(200), 24), "event": "view_item"})
    frame.to_parquet(tmp_path / "log.parquet")

    proposal = inspect("log.parquet")

    # the hills lie at 2^5 and 2^17 seconds: the valley between them, where nothing is, around 2^11 (34 minutes)
    assert settings(proposal)["session_gap_minutes"] in (20, 30, 45)
    assert "have a valley near" in proposal.text
    assert "21.7% are longer" in proposal.text  # 5 of the 23 gaps of each user


def test_a_log_of_orders_has_trips(inspect: Inspect, tmp_path: Path) -> None:
    frame = pd.DataFrame({"am": DAYS, "bon": range(60), "kunde": USERS, "artikel": "Brot"})
    frame.to_parquet(tmp_path / "till.parquet")

    found = settings(inspect("till.parquet"))

    assert found["receipt_gap_minutes"] == 60
    assert "session_gap_minutes" not in found


def test_times_with_offsets_in_json_are_read_as_utc(inspect: Inspect, tmp_path: Path) -> None:
    frame = pd.DataFrame({"event": "view_item", "user_id": USERS, "item_id": "a"})
    frame.assign(time=DAYS.strftime("%Y-%m-%dT%H:%M:%S+02:00")).to_json("a.jsonl", orient="records", lines=True)
    frame.assign(time=DAYS.strftime("%Y-%m-%dT%H:%M:%S")).to_csv("b.csv", index=False)

    found = settings(inspect("a.jsonl", "b.csv"))
    alone = inspect("a.jsonl").text

    assert found["feeds"]["a"]["time_zone"] == "UTC"
    assert "time_zone" not in found["feeds"]["b"]
    assert alone.count("time_zone") == 1
    assert "time_zone: UTC  # the times say themselves how far from UTC they are" in alone


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_encodings_are_found(inspect: Inspect, tmp_path: Path, encoding: str) -> None:
    frame = pd.DataFrame({"Zeit": DAYS, "Ereignis": "gesehen", "Käufer": USERS, "Artikel": "Öl"})
    frame.to_csv(tmp_path / "log.csv", index=False, encoding=encoding)

    found = settings(inspect("log.csv"))

    assert found.get("csv", {}).get("encoding", "utf-8") == encoding.removesuffix("-sig")
    assert found["columns"]["timestamp"] == "Zeit"


def test_what_cannot_be_read_is_one_line(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "cp.csv").write_bytes("Zeit;Preis\n2025-01-01;3 \x80\n".encode("latin-1"))
    (tmp_path / "cut.csv").write_text("a,b,c\n1,2,3\n4,5,6\n7,8")
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "notes.txt").write_text("hello")

    for file, message in {
        "cp.csv": r"cp\.csv is neither UTF-8 nor Latin-1, perhaps Windows-1252; convert it",
        "cut.csv": r"cut\.csv cannot be read: row 4 has 2 fields, the header 3; mend or remove the row",
        "empty.csv": r"empty\.csv holds no rows",
        "notes.txt": r"notes\.txt is neither \.parquet nor \.csv nor \.jsonl",
        "gone.csv": r"log: gone\.csv does not exist",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            inspect(file)
        assert "\n" not in str(caught.value)


def test_rows_are_looked_at_all_over_the_table() -> None:
    table = ibis.memtable({"n": range(10)})

    assert spread(table, 10, 4).n.execute().tolist() == [0, 3, 6, 9]
    assert spread(table, 10, 10) is table


def test_databases_are_looked_into(inspect: Inspect, tmp_path: Path) -> None:
    frame = pd.DataFrame({"ts": DAYS.astype(str), "action": "view", "customer": USERS, "sku": "a"})
    with sqlite3.connect(tmp_path / "shop.db") as lite:
        frame.to_sql("clicks", lite, index=False)
    lite.close()

    found = settings(inspect(f"sqlite:///{tmp_path}/shop.db::clicks"))

    assert found["events"] == f"sqlite:///{tmp_path}/shop.db::clicks"
    assert found["columns"] == {"timestamp": "ts", "event": "action", "user_id": "customer", "item_id": "sku"}


def test_items_alone_leave_the_events_open(inspect: Inspect, tmp_path: Path) -> None:
    write_shop(tmp_path)

    proposal = inspect("artikel.csv")

    assert settings(proposal)["events"] == "???"
    assert proposal.warnings == ["events is not set: no event table is among the tables given"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("logs/train-item-views.csv.gz", "train_item_views"),
        ("app/*.jsonl", "app"),
        ("duckdb:///shop.duckdb::Orders", "orders"),
        ("2019-Oct.csv", "log"),
    ],
)
def test_a_feed_is_named_after_its_place(path: str, name: str) -> None:
    assert name_of(path) == name


def test_the_row_that_is_too_short_is_found_in_a_packed_file(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b'a;b\n"1;x";2\n3\n')

    assert ragged_row(tmp_path / "a.csv.gz") == "row 3 has 1 fields, the header 2"


def test_no_file_is_written_over_or_hidden(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").touch()

    for name, message in {
        "old.yaml": "exists; choose another file",
        "events.yaml": "data=events comes with shopkeeper",
        "shop.txt": "give a name such as conf/data/shop.yaml",
        "my shop.yaml": "give a name such as conf/data/shop.yaml",
    }.items():
        with pytest.raises(UserError, match=message):
            check_place(tmp_path / name)


VALUES = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(
        ["view", "Kauf", "2025-01-01 10:00", "01/02/2025", "1,5", "1.234,50", "NA", "a@b.de", "${x}", "???"]
    ),
    st.integers(-(2**40), 2**40).map(str),
    st.floats().map(str),
)
COLUMNS = st.one_of(
    st.sampled_from(
        ["timestamp", "Event", "user_id", "USER", "price", "item_id", "ts", "Menge", "device", "order", "no"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6),
)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), kind=st.sampled_from(["csv", "parquet", "jsonl"]))
def test_no_table_ends_in_a_trace(config: InspectConfig, tmp_path: Path, data: st.DataObject, kind: str) -> None:
    names = data.draw(st.lists(COLUMNS, min_size=1, max_size=5, unique_by=str.lower))
    rows = data.draw(st.lists(st.tuples(*[VALUES] * len(names)), min_size=1, max_size=8))
    frame = pd.DataFrame(rows, columns=names)
    file = tmp_path / f"table.{kind}"
    try:
        match kind:
            case "csv":
                frame.to_csv(file, index=False, sep=data.draw(st.sampled_from(",;")))
            case "parquet":
                frame.to_parquet(file)
            case _:
                frame.to_json(file, orient="records", lines=True)
    except (UnicodeEncodeError, ValueError):
        return  # no such table can be written

    try:
        settings(inspect_log(replace(config, log=[str(file)])))
    except UserError as error:
        assert "\n" not in str(error)


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not here")
    return SHARED / name


def test_the_electronics_shop_is_known(inspect: Inspect) -> None:
    found = settings(inspect(str(real("rees46_electronics/events.parquet"))))

    wanted = {"timestamp": "event_time", "event": "event_type", "session_id": "user_session", "item_id": "product_id"}
    assert found["columns"] == wanted
    assert found["event_names"] == {"view": "view_item", "cart": "add_to_cart"}


def test_the_multicategory_shop_is_known_once_its_cut_row_is_gone(inspect: Inspect, tmp_path: Path) -> None:
    file = real("rees46_multicategory/2019-Oct.csv.gz")
    with pytest.raises(UserError, match="row 17,436 has 8 fields, the header 9"):
        inspect(str(file))

    (tmp_path / "whole.csv").write_bytes(gzip.decompress(file.read_bytes()).rpartition(b"\n")[0] + b"\n")
    found = settings(inspect("whole.csv"))

    assert found["columns"]["session_id"] == "user_session"


def test_views_and_purchases_of_diginetica_are_two_feeds(inspect: Inspect) -> None:
    names = ("train-item-views", "train-purchases", "product-categories")

    found = settings(inspect(*(str(real(f"diginetica_raw/{name}.csv.gz")) for name in names)))

    views, purchases = found["feeds"]["train_item_views"], found["feeds"]["train_purchases"]
    assert views["columns"] == {"timestamp": "eventdate"}
    assert views["csv"] == purchases["csv"] == {"separator": ";", "nulls": ["NA"]}
    assert (views["constants"], purchases["constants"]) == ({"event": "view_item"}, {"event": "purchase"})
    assert purchases["columns"]["order_id"] == "ordernumber"
    assert found["item_columns"] == {"item_id": "itemId", "category": "categoryId"}
