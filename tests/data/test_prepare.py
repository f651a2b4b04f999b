import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import MANIFEST, Prepared
from shopkeeper.data.settings import DataConfig, PrepareConfig

PrepareLog = Callable[..., Prepared]
ParseLog = Callable[[str], pd.DataFrame]

GOOD = """
    02T10:00 ann a1 view_item bread -
    12T10:00 bob b1 purchase  milk  o1
    31T00:00 cid c1 view_item milk  -
"""


def account(prepared: Prepared) -> list[int]:
    counts = prepared.manifest["counts"]
    return [counts[name] for name in ("rows_in", "events", "session_starts", "rows_dropped")]


def items_of(prepared: Prepared) -> list[str | None]:
    """Item ids of the rows, in the order of the dataset."""
    ids = [None, *prepared.item_ids()]
    return [ids[index] for index in prepared.rows["item"]]


def test_every_row_of_the_shop_is_accounted_for(clicks: Prepared, trips: Prepared) -> None:
    assert account(clicks) == [21, 19, 2, 0]
    assert account(trips) == [15, 15, 0, 0]
    assert clicks.manifest["counts"] == {
        "rows_in": 21,
        "rows_dropped": 0,
        "events": 19,
        "session_starts": 2,
        "sessions": 8,
        "visitors": 5,
        "items": 5,
        "items_known": 3,
        "purchases": 5,
    }


def test_every_dropped_row_is_counted_with_its_reason(prepare_log: PrepareLog, log: ParseLog) -> None:
    bad = log("""
        02T11:00 ann a1 view_item bread -
        02T11:01 ann a1 -         bread -
        02T11:02 -   -  view_item bread -
        02T11:03 -   -  -         bread -
    """)
    bad.loc[0, "timestamp"] = pd.NaT
    frame = pd.concat([log(GOOD), bad])

    prepared = prepare_log(frame)

    assert prepared.manifest["dropped"] == {
        "no event": 2,
        "no timestamp": 1,
        "neither user_id nor session_id": 1,
    }
    assert account(prepared) == [7, 3, 0, 4]


def test_a_log_of_which_nothing_is_left_says_why(prepare_log: PrepareLog, log: ParseLog) -> None:
    frame = log("02T11:00 ann - view_item bread -\n 02T11:00 - - view_item bread -")
    frame.loc[0, "timestamp"] = pd.NaT

    with pytest.raises(UserError, match=r"no event is left of 2 rows: .*'no timestamp': 1"):
        prepare_log(frame)


def test_exact_duplicates_are_counted_and_dropped_where_that_is_asked(
    prepare_log: PrepareLog, log: ParseLog, clicks_log: str
) -> None:
    once = log(clicks_log)
    twice = pd.concat([once, once.iloc[3:6], once.iloc[[3]]], ignore_index=True)
    whole, kept, dropped = prepare_log(once), prepare_log(twice), prepare_log(twice, drop_duplicates=True)

    assert account(kept)[0] == account(whole)[0] + 4
    assert kept.manifest["notes"] == [
        "4 rows repeat an earlier one in every column; data.drop_duplicates=true drops them"
    ]
    assert dropped.manifest["dropped"] == {**whole.manifest["dropped"], "exact duplicate of an earlier row": 4}
    assert dropped.manifest["notes"] == whole.manifest["notes"] == []
    assert dropped.content_hash == whole.content_hash


def test_times_that_cannot_be_are_kept_and_told(prepare_log: PrepareLog, log: ParseLog, clicks_log: str) -> None:
    events = log(clicks_log)
    events["timestamp"] = pd.to_datetime(events["timestamp"], utc=True).dt.as_unit("us")
    events.loc[events.index[-2:], "timestamp"] = pd.Timestamp("2999-01-01T10:00Z")
    events.loc[events.index[1], "timestamp"] = pd.Timestamp("1970-01-01T10:00Z")

    late, early = prepare_log(events).manifest["notes"]

    assert late.startswith("2 events lie in the future, until 2999-01-01 10:00: check their clock")
    assert early.startswith("1 events lie before 1990, from 1970-01-01 10:00: ")


def test_session_start_is_context_and_never_a_row(clicks: Prepared) -> None:
    # bob's first visit: session_start at 08:00, its first event at 08:01
    assert "session_start" not in set(clicks.events_frame()["event"])
    assert pd.to_datetime(clicks.sessions["time"][5], unit="us") == pd.Timestamp("2026-01-12 08:00")
    assert clicks.sessions["visitor"].tolist() == [0, 1, 2, 2, 2, 3, 3, 4]


def test_the_entry_context_is_that_of_session_start(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 view_item     bread - channel=web
        02T10:00 ann a1 session_start -     - channel=app
        02T10:01 bob b1 view_item     bread -
        02T10:02 bob b1 view_item     bread - channel=web
        02T10:03 bob b1 view_item     bread - channel=app
        12T10:00 bob b2 view_item     milk  - channel=web
        31T00:00 cid c1 view_item     milk  - channel=app
    """)

    # the vocabulary is app, web; bob entered with nothing known, which stays unknown
    assert prepared.sessions["context_channel"].tolist() == [1, 0, 2, 1]
    assert prepared.rows["context_channel"].tolist() == [2, 0, 2, 1, 2, 1]


def test_rows_without_a_user_belong_to_the_visitor_of_their_session(clicks: Prepared) -> None:
    eve = clicks.visitors_frame()["user_id"].tolist().index("eve")

    assert np.diff(clicks.visitors["row_offsets"])[eve] == 3


def test_rows_are_sorted_by_visitor_time_and_source(clicks: Prepared) -> None:
    order = np.lexsort([clicks.rows["time"], clicks.rows["visitor"]])

    assert order.tolist() == list(range(19))
    assert items_of(clicks)[4:9] == ["bread", "bread", "milk", "bread", "milk"]


def test_orders_are_numbered_by_visitor_and_time(clicks: Prepared, trips: Prepared) -> None:
    assert clicks.rows["order"].tolist() == [-1] * 7 + [0, 0, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3]
    # order-only: the trip is the order, whatever its receipts say
    assert trips.rows["order"].tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9]


def test_purchases_without_an_order_are_one_order_of_their_session(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 purchase  bread -
        02T10:01 ann a1 view_item tea   -
        02T10:02 ann a1 purchase  milk  -
        03T10:00 ann a2 purchase  milk  -
        12T10:00 ann a3 purchase  milk  o1
        31T00:00 ann a4 purchase  milk  o1
    """)

    assert prepared.rows["order"].tolist() == [0, -1, 0, 1, 2, 2]


def test_items_never_sold_are_in_the_catalogue_and_known(prepare_log: PrepareLog) -> None:
    items = pd.DataFrame({"item_id": ["milk", "zest"], "title": ["Milk", "Zest"], "category": ["dairy", "a > b"]})

    prepared = prepare_log(GOOD.replace("purchase  milk ", "purchase  apple"), items=items)

    frame = prepared.items_frame()
    assert frame["item_id"].tolist() == ["bread", "milk", "zest", "apple"]
    assert frame["listed"].tolist() == [False, True, True, False]
    assert frame["train_events"].tolist() == [1, 0, 0, 0]
    assert frame["category"].tolist()[1:3] == ["dairy", "a > b"]
    assert (prepared.num_items(), prepared.num_items(refit=True)) == (3, 4)


def test_a_held_out_users_rows_teach_no_item(prepare_log: PrepareLog) -> None:
    # with a share just below one everyone with a user id is held out, the sessions w1 and w2 never are
    log = """
        02T10:00 ann a1 view_item bread -
        02T10:00 -   w1 view_item tea   -
        12T10:00 ann a2 purchase  milk  o1
        31T00:00 ann a3 view_item milk  -
    """
    prepared = prepare_log(log, split={"holdout_share": 0.9999, "holdout_when_new_below": 1.1})

    assert prepared.manifest["holdout"]
    assert prepared.item_ids()[: prepared.num_items()] == ["tea"]


def test_side_tables_may_be_missing_or_empty(prepare_log: PrepareLog) -> None:
    empty = {"items": pd.DataFrame({"item_id": []}), "users": pd.DataFrame({"user_id": []})}

    assert prepare_log(GOOD).content_hash == prepare_log(GOOD, **empty).content_hash


def test_segments_come_with_the_visitors(prepare_log: PrepareLog) -> None:
    users = pd.DataFrame({"user_id": ["bob", "ann", "zoe"], "age": ["20", "30", "40"]})

    prepared = prepare_log(GOOD, users=users, relabel={"age": {"20": "young"}})

    assert prepared.manifest["segments"] == ["age"]
    ages = prepared.visitors_frame()["age"]
    assert ages.tolist()[1] == "young"
    assert ages.isna().tolist() == [True, False, True]


def test_csv_and_parquet_with_and_without_time_zones_give_the_same_dataset(
    prepare_log: PrepareLog, log: ParseLog, clicks: Prepared, clicks_log: str, tmp_path: Path
) -> None:
    naive, moved = log(clicks_log), log(clicks_log)
    naive["timestamp"] = naive["timestamp"].dt.tz_localize(None)
    moved["timestamp"] = moved["timestamp"].dt.tz_convert("Asia/Kolkata")
    moved.to_csv(tmp_path / "log.csv", index=False)

    hashes = [prepare_log(source).content_hash for source in (naive, moved, tmp_path / "log.csv")]

    assert hashes == [clicks.content_hash] * 3


def test_the_order_of_the_rows_in_the_file_does_not_matter(prepare_log: PrepareLog, log: ParseLog) -> None:
    # no two rows of a visitor at the same time: only there does the place in the file decide
    frame = log("""
        02T10:00 ann a1 view_item bread -  channel=web
        02T10:01 ann a1 purchase  bread o1 channel=app
        02T10:00 bob -  view_item tea   -  channel=web
        12T10:00 -   w1 purchase  milk  o2 channel=web
        31T00:00 ann a2 view_item milk  -  channel=app
    """)

    hashes = {prepare_log(frame.iloc[order]).content_hash for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])}

    assert len(hashes) == 1


def test_columns_without_a_use_change_nothing(prepare_log: PrepareLog, log: ParseLog) -> None:
    plain, wide = prepare_log(GOOD), prepare_log(log(GOOD).assign(colour="red", empty=None))

    assert wide.content_hash == plain.content_hash
    assert [note.split(": ", 1)[1] for note in wide.manifest["notes"]] == [
        "columns not used: colour",
        "columns without any value count as absent: empty",
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", pd.Timestamp("2026-01-02T10:00:00.000001Z")),
        ("event", "search"),
        ("item_id", "tea"),
        ("user_id", "dan"),
        ("session_id", "a9"),
        ("price", 2.0),
        ("channel", "app"),
    ],
)
def test_one_other_value_is_another_dataset(prepare_log: PrepareLog, log: ParseLog, column: str, value: Any) -> None:
    frame = pd.concat([log(GOOD), log("02T10:01 ann a1 view_item tea -")]).assign(price=1.0, channel="web")
    changed = frame.reset_index(drop=True)
    changed.loc[0, column] = value

    assert prepare_log(frame).content_hash != prepare_log(changed).content_hash


@pytest.fixture
def settings(
    data_config: Callable[..., DataConfig],
    prepare_settings: Callable[..., PrepareConfig],
    log: ParseLog,
    tmp_path: Path,
) -> PrepareConfig:
    log(GOOD).to_parquet(tmp_path / "log.parquet", index=False)
    return prepare_settings(data_config(events=str(tmp_path / "log.parquet")), tmp_path / "out")


def test_the_same_log_and_config_are_not_prepared_twice(settings: PrepareConfig) -> None:
    said: list[str] = []
    first = prepare(settings, say=said.append)
    written = (first.path / MANIFEST).stat().st_mtime_ns

    again = prepare(settings, say=said.append)

    assert (again.path / MANIFEST).stat().st_mtime_ns == written
    assert said[-1] == f"reusing {settings.output}: same log, same config"


def test_another_config_replaces_the_dataset(settings: PrepareConfig, tmp_path: Path) -> None:
    prepare(settings, say=lambda text: None)
    settings.data.split.val_days = 12.0

    again = prepare(settings, say=lambda text: None)

    assert again.manifest["cuts"]["val_start"] == "2026-01-09 00:00:00"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "out"]


def test_a_failure_leaves_the_old_dataset_whole(settings: PrepareConfig, tmp_path: Path) -> None:
    before = prepare(settings, say=lambda text: None).content_hash
    settings.data.split.val_days = 100.0

    with pytest.raises(UserError, match="leave a split empty"):
        prepare(settings, say=lambda text: None)

    assert Prepared.read(settings.output).content_hash == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "out"]


def test_a_folder_that_is_no_dataset_is_not_written_over(settings: PrepareConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")

    with pytest.raises(UserError, match=r"output=.*out exists and is not a prepared dataset"):
        prepare(settings, say=lambda text: None)

    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_what_a_killed_run_left_is_cleared(settings: PrepareConfig, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "rows.npy").write_text("half")

    prepare(settings, say=lambda text: None)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "out"]


def test_the_manifest_says_what_was_done(clicks: Prepared) -> None:
    manifest = json.loads((clicks.path / MANIFEST).read_text())

    assert manifest["config"]["session_gap_minutes"] == 30
    assert manifest["cuts"] == {
        "start": "2026-01-02 10:00:00",
        "val_start": "2026-01-11 00:00:00",
        "test_start": "2026-01-21 00:00:00",
        "end": "2026-01-31 00:00:00",
    }
    assert [path.name for path in clicks.path.glob("work*")] == []


def test_context_told_on_entry_alone_is_in_the_vocabulary(
    prepare_log: PrepareLog, log: ParseLog, clicks_log: str
) -> None:
    events = log(clicks_log)
    whole = prepare_log(events)
    events["channel"] = events["channel"].where(events["event"] == "session_start")
    entries = prepare_log(events)

    told = set(events["channel"].dropna())
    assert told
    assert set(entries.manifest["vocab"]["channel"]["values"]) == told
    assert entries.manifest["vocab"]["channel"]["known"] <= whole.manifest["vocab"]["channel"]["known"]
    opened = np.asarray(entries.sessions["context_channel"]) > 0
    assert opened.sum() == (events["event"] == "session_start").sum()


def test_segments_without_any_value_count_as_absent(prepare_log: PrepareLog, clicks_log: str) -> None:
    users = pd.DataFrame({"user_id": ["ann", "bob"], "age": ["19-34", None], "income": [None, None]})
    prepared = prepare_log(clicks_log, users=users)

    assert prepared.manifest["segments"] == ["age"]
    assert any(
        note.endswith("columns without any value count as absent: income") for note in prepared.manifest["notes"]
    )
