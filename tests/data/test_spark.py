"""Spark says what DuckDB says; these tests need `pip install "shopkeeper[spark]"` and Java 17."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.segments import read_segments, segments_of
from shopkeeper.data.settings import (
    BotConfig,
    CsvConfig,
    DataConfig,
    FeedConfig,
    PrepareConfig,
    PrivacyConfig,
    SparkConfig,
)

pytest.importorskip("pyspark", reason='pyspark is not installed: pip install "shopkeeper[spark]"')
pytestmark = [
    # pyspark 4.3 asks pandas 3 for copies in the old way: ends with a pyspark made for it
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java on the path"),
]

SMALL = {"spark.sql.shuffle.partitions": "2", "spark.default.parallelism": "2"}
PIECES = {"spark.sql.files.maxPartitionBytes": "2000", "spark.sql.files.openCostInBytes": "0"}


@pytest.fixture
def both(prepare_settings: Callable[..., PrepareConfig], tmp_path: Path) -> Callable[..., tuple[Prepared, Prepared]]:
    """Prepare the same log on DuckDB and on Spark."""

    def run(data: DataConfig, **settings: str) -> tuple[Prepared, Prepared]:
        spark = SparkConfig(master="local[2]", memory="1g", settings={**SMALL, **settings})
        duckdb = prepare_settings(data, tmp_path / "duckdb")
        other = prepare_settings(data, tmp_path / "spark", engine="spark", spark=spark)
        return prepare(duckdb, say=lambda text: None), prepare(other, say=lambda text: None)

    return run


def same(first: Prepared, second: Prepared) -> bool:
    told = [{k: v for k, v in p.manifest.items() if k != "source_key"} for p in (first, second)]
    return told[0] == told[1]


@pytest.mark.parametrize("shop", ["clicks", "trips"])
def test_the_same_log_is_the_same_dataset_hash_for_hash(
    both: Callable[..., tuple[Prepared, Prepared]],
    data_config: Callable[..., DataConfig],
    request: pytest.FixtureRequest,
    shop: str,
) -> None:
    log = request.getfixturevalue(shop).manifest["config"]["events"]
    split = {"holdout_share": 0.5, "holdout_when_new_below": 1.0}

    duckdb, spark = both(data_config(events=log, split=split))

    assert same(duckdb, spark)
    assert duckdb.visitors["held_out"].any()


def test_segments_are_fitted_alike(
    both: Callable[..., tuple[Prepared, Prepared]], data_config: Callable[..., DataConfig], kinds: Prepared
) -> None:
    config = kinds.manifest["config"]
    segments = segments_of(config)

    duckdb, spark = both(data_config(events=config["events"], items=config["items"], segments=segments))

    assert same(duckdb, spark)
    assert len(read_segments(spark.path).rules) == len(segments)


def test_rows_keep_their_order_however_the_files_are_read(
    both: Callable[..., tuple[Prepared, Prepared]], data_config: Callable[..., DataConfig], tmp_path: Path
) -> None:
    # thousands of rows at the same few times: all that tells their order is their place in the files
    (tmp_path / "log").mkdir()
    for part, rows in enumerate((3000, 400, 2000)):
        frame = pd.DataFrame({"item_id": [f"i{n * 7919 % 997}" for n in range(rows)], "user_id": "ann"})
        frame["timestamp"] = [f"2026-01-{1 + n * 30 // rows:02d}" for n in range(rows)]
        frame["event"] = ["view_item", "purchase"][part % 2]
        frame.to_csv(tmp_path / "log" / f"{part}.csv", index=False)

    duckdb, spark = both(data_config(events=str(tmp_path / "log")), **PIECES)

    assert same(duckdb, spark)


def german_shop(folder: Path) -> dict[str, Any]:
    """Three tables in three kinds of files, in local time, with all that can be wrong with them."""
    (folder / "web.csv").write_text(
        "Zeit;Aktion;Kunde;Artikel;Preis\n"
        "02.01.2026 10:00;gesehen;k1;brot;2,50\n"
        "02.07.2025 10:00;gesehen;k1;brot;umsonst\n"
        '13.01.2026 9:05;"in den Korb";k2;"Käse; alt";12,00\n'
        "22.01.2026 23:59;gesehen;;milch;\n"
        "23.01.2026 23:59;gesehen;k3;milch;1\n",
        encoding="utf-8",
    )
    (folder / "app.jsonl").write_text(
        '{"ts": 1767355200123, "was": "purchase", "kunde": "g7", "artikel": 5}\n'
        '{"ts": 1768355200000, "was": "view_item", "kunde": "g7", "artikel": 7}\n'
        '{"ts": 99999999999999999, "was": "view_item", "kunde": "g7", "artikel": 7}\n'
    )
    till = pd.DataFrame({"kunde": ["k1", "k9"], "bon": [1, 2], "menge": [1.1234567, 3.0]})
    till["am"] = pd.to_datetime(["2026-01-05 12:00", "2026-01-31 00:00"])
    till.to_parquet(folder / "till.parquet", index=False)
    pd.DataFrame({"alias": ["g7"], "user_id": ["k1"]}).to_parquet(folder / "ids.parquet", index=False)
    pd.DataFrame({"item_id": ["brot", "5"], "brand": ["Öko", None], "price": [2.5, None]}).to_parquet(
        folder / "items.parquet"
    )
    users = pd.DataFrame({"user_id": ["k1", "g7", "k2", "k3"], "age": ["30", "31", "40", None], "consent": "yes"})
    users.to_parquet(folder / "users.parquet")
    web = FeedConfig(
        events=str(folder / "web.csv"),
        columns={"timestamp": "Zeit", "event": "Aktion", "user_id": "Kunde", "item_id": "Artikel", "price": "Preis"},
        event_names={"gesehen": "view_item", "in den Korb": "add_to_cart"},
        constants={"channel": "web"},
        time_format="%d.%m.%Y %H:%M",
        csv=CsvConfig(separator=";", decimal=","),
    )
    app = FeedConfig(
        events=str(folder / "app.jsonl"),
        columns={"timestamp": "ts", "event": "was", "user_id": "kunde", "item_id": "artikel"},
        constants={"channel": "app"},
        time_unit="ms",
    )
    shop = FeedConfig(
        events=str(folder / "till.parquet"),
        columns={"timestamp": "am", "order_id": "bon", "user_id": "kunde", "quantity": "menge"},
        constants={"event": "purchase"},
    )
    return {
        "feeds": {"web": web, "app": app, "till": shop},
        "time_zone": "Europe/Berlin",
        "identities": str(folder / "ids.parquet"),
        "items": str(folder / "items.parquet"),
        "users": str(folder / "users.parquet"),
        "bad_values": "drop",
    }


def test_a_log_in_a_form_nobody_foresaw_is_read_alike(
    both: Callable[..., tuple[Prepared, Prepared]],
    data_config: Callable[..., DataConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_SECRET", "key")
    privacy = PrivacyConfig(consent="consent", granted=["yes"], key_variable="SHOP_SECRET")
    bots = BotConfig(events_per_minute=3, events_per_session=9)

    duckdb, spark = both(data_config(**german_shop(tmp_path), bots=bots, privacy=privacy, drop_duplicates=True))

    assert same(duckdb, spark)
    dropped = {reason.rpartition(": ")[2]: count for reason, count in duckdb.manifest["dropped"].items()}
    assert dropped == {
        "'price' is not a number of at least 0": 1,
        "'timestamp' is not a number of ms since 1970, before the year 10000": 1,
        "neither user_id nor session_id": 1,
        "no consent": 1,  # k9 is not among the users
    }
    assert duckdb.manifest["counts"]["visitors"] == 3
    assert pd.Timestamp(int(duckdb.rows["time"].min()), unit="us") == pd.Timestamp("2026-01-02 09:00")


@pytest.fixture
def clock_log(tmp_path: Path) -> Iterator[Path]:
    """Times of every kind that text may be, among them the hours that a change of clocks skips or repeats."""
    times = [
        "2026-01-02T10:00:00Z",
        "2026-01-02 10:00:00 UTC",
        "2026-01-02T10:00+05:30",
        "2026-01-02",
        "2026-01-03 1:02:03.5",
    ]
    times += [
        "2025-03-30 01:59:59",
        "2025-03-30 03:00:00",
        "2025-10-26 01:59:59",
        "2025-10-26 03:00:01",
        "2026-01-31 00:00",
    ]
    frame = pd.DataFrame({"timestamp": times, "event": "view_item", "user_id": "ann", "item_id": list("abcdefghij")})
    frame.to_csv(tmp_path / "log.csv", index=False)
    yield tmp_path / "log.csv"


def test_text_that_tells_a_time_tells_the_same(
    both: Callable[..., tuple[Prepared, Prepared]], data_config: Callable[..., DataConfig], clock_log: Path
) -> None:
    duckdb, spark = both(data_config(events=str(clock_log), time_zone="Europe/Berlin"))

    assert duckdb.rows["time"].tolist() == spark.rows["time"].tolist()
    assert len(duckdb.rows["time"]) == 10
    assert duckdb.vocabulary(s.EVENT, refit=True) == spark.vocabulary(s.EVENT, refit=True)


def test_lines_with_too_few_or_too_many_fields_are_the_same_ones(
    both: Callable[..., tuple[Prepared, Prepared]],
    data_config: Callable[..., DataConfig],
    clock_log: Path,
) -> None:
    clock_log.write_text(clock_log.read_text() + "2026-01-31,view_item\n2026-01-31,view_item,ann,a,more\n2026-01")

    duckdb, spark = both(data_config(events=str(clock_log), bad_values="drop"))

    assert duckdb.manifest["dropped"] == {f"{clock_log}: a line with too few or too many fields": 3}
    assert same(duckdb, spark)
