from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.log import columns_read, exploded, feeds_of, is_live, log_files, open_log, places
from shopkeeper.data.settings import CsvConfig, DataConfig, FeedConfig

Configure = Callable[..., DataConfig]


def test_a_feed_has_what_it_does_not_say_from_the_log(data_config: Configure) -> None:
    web = FeedConfig(events="web.csv", time_zone="Europe/Berlin")

    feeds = feeds_of(data_config(feeds={"web": web}, time_unit="ms", constants={"channel": "web"}))

    assert (feeds["web"].time_zone, feeds["web"].time_unit) == ("Europe/Berlin", "ms")
    assert feeds["web"].constants == {"channel": "web"}


def test_a_log_without_events_or_with_two_ways_of_naming_them_is_refused(data_config: Configure) -> None:
    with pytest.raises(UserError, match=r"data\.events is not set"):
        feeds_of(data_config())
    with pytest.raises(UserError, match=r"data\.events and data\.feeds exclude each other"):
        feeds_of(data_config(events="a.csv", feeds={"web": FeedConfig(events="b.csv")}))


def test_every_table_of_a_log_is_opened_and_its_files_are_known(
    engine: DuckDB, data_config: Configure, tmp_path: Path
) -> None:
    for name in ("events", "items", "users", "pairs", "tree"):
        pd.DataFrame({name: [1]}).to_parquet(tmp_path / f"{name}.parquet")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("events", "items", "users")}
    config = data_config(
        **paths, identities=str(tmp_path / "pairs.parquet"), extras={"tree": str(tmp_path / "tree.parquet"), "no": None}
    )

    log = open_log(engine, config)

    assert [feed.key for feed in log.feeds.values()] == ["data.events"]
    tables = (log.items, log.users, log.identities, log.extras["tree"])
    assert [t.columns[0] for t in tables if t is not None] == ["items", "users", "pairs", "tree"]
    assert list(log.extras) == ["tree"]
    assert log_files(config) == [Path(place) for place in places(config)]
    assert len(log_files(config)) == 5
    assert not is_live(config)


def test_a_database_is_live_and_only_what_is_used_is_read_of_it(data_config: Configure) -> None:
    config = data_config(events="postgresql://h/d::log", columns={"timestamp": "am"}, context=["shop"])

    assert is_live(config)
    assert log_files(config) == []
    read = columns_read(config, feeds_of(config)[""])
    assert {"am", "event", "price", "shop", "consent", "category"} <= read
    assert not {"channel", "unused"} & read


def test_a_table_that_is_optional_may_be_missing_and_is_noted(
    engine: DuckDB, data_config: Configure, tmp_path: Path
) -> None:
    pd.DataFrame({"event": ["x"]}).to_parquet(tmp_path / "events.parquet")
    paths = {"events": str(tmp_path / "events.parquet"), "items": "/nowhere/*.item"}

    config = data_config(**paths, extras={"tree": "/nowhere/tree.csv"}, optional=["items", "tree"])
    log = open_log(engine, config)

    assert (log.items, log.extras) == (None, {})
    assert log.notes == [
        "data.items: no /nowhere/*.item, read without it",
        "data.extras.tree: no /nowhere/tree.csv, read without it",
    ]
    assert places(config) == [paths["events"]]
    with pytest.raises(UserError, match=r"data\.extras\.tree: /nowhere/tree\.csv does not exist"):
        open_log(engine, data_config(**paths, extras={"tree": "/nowhere/tree.csv"}, optional=["items"]))


def test_the_elements_of_a_list_keep_its_order(engine: DuckDB, tmp_path: Path) -> None:
    pd.DataFrame({"who": ["a", "b", "c"], "seen": [["y", "x"], [], ["z"]]}).to_parquet(tmp_path / "t.parquet")
    table = engine.scan([tmp_path / "t.parquet"], "parquet", CsvConfig())

    found = exploded(table, "seen", keep_empty=True).order_by("source_row").execute()

    assert found["who"].tolist() == ["a", "a", "b", "c"]
    assert found["seen"].fillna("").tolist() == ["y", "x", "", "z"]
    assert found["source_row"].is_unique
    assert exploded(table, "seen").count().execute() == 3


def test_lines_read_over_are_counted_for_events_and_told_of_other_tables(
    engine: DuckDB, data_config: Configure, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("timestamp,event,user_id\n2026-01-02,view_item,ann\n2026-01-02,view\n")
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B,bee\n")
    paths = {"events": str(tmp_path / "log.csv"), "items": str(tmp_path / "items.csv")}

    log = open_log(engine, data_config(**paths, bad_values="drop", csv=CsvConfig(separator=",")))

    assert log.dropped == {f"{paths['events']}: a line with too few or too many fields": 1}
    assert log.notes == ["data.items: left out 1 lines with too few or too many fields"]
    assert log.feeds[""].table.count().execute() == 1
