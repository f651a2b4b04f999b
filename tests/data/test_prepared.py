import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopkeeper.config import UserError
from shopkeeper.data.prepared import MANIFEST, Prepared, Window, ragged_ranges


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20))
def test_ragged_ranges_are_the_ranges_one_after_the_other(pairs: list[tuple[int, int]]) -> None:
    expected = [number for start, end in pairs for number in range(start, end)]

    assert ragged_ranges([start for start, _ in pairs], [end for _, end in pairs]).tolist() == expected


def test_window_keeps_the_chosen_visitors() -> None:
    window = Window(np.array([0, 1, 2]), np.array([0, 4, 6]), np.array([4, 6, 9]))

    chosen = window.only(np.array([True, False, True]))

    assert (chosen.visitor.tolist(), chosen.start.tolist(), chosen.end.tolist()) == ([0, 2], [0, 6], [4, 9])


def test_every_row_is_a_step_where_a_log_has_clicks(clicks: Prepared) -> None:
    assert not clicks.order_only
    assert clicks.step_offsets.tolist() == list(range(20))


def test_a_trip_is_one_step_where_a_log_has_orders_only(trips: Prepared) -> None:
    # ann: bread milk jam | tea | bread tea | milk; bob: milk | honey milk | bread; cid: milk; eve: tea jam | milk
    assert trips.order_only
    assert trips.step_offsets.tolist() == [0, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15]


def test_known_items_are_those_of_train_and_a_refit_knows_all(clicks: Prepared) -> None:
    assert clicks.item_ids() == ["bread", "milk", "tea", "honey", "jam"]
    assert (clicks.num_items(), clicks.num_items(refit=True)) == (3, 5)
    assert clicks.items_frame().loc[1, "item_id"] == "bread"


def test_known_words_are_those_of_train_and_a_refit_knows_all(clicks: Prepared) -> None:
    assert clicks.vocabulary("event") == ["session_start", "purchase", "search", "view_item"]
    assert clicks.purchase_code == 2
    assert clicks.context_columns == ["channel"]
    assert clicks.vocabulary("channel") == ["app", "web"]
    assert clicks.vocabulary("channel", refit=True) == ["app", "web", "tv"]


def test_a_log_without_purchases_has_no_code_for_them(clicks: Prepared) -> None:
    vocab = {"event": {"values": ["session_start", "view_item"], "known": 2}}

    assert Prepared(clicks.path, clicks.manifest | {"vocab": vocab}).purchase_code == -1


def test_cuts_are_microseconds_utc(clicks: Prepared) -> None:
    day = 86_400_000_000

    assert clicks.cut("test_start") - clicks.cut("val_start") == 10 * day
    assert clicks.cut("val_start") == np.datetime64("2026-01-11", "us").astype(int)


def test_visitors_keep_their_ids(clicks: Prepared) -> None:
    frame = clicks.visitors_frame()

    assert frame["visitor_key"].tolist() == ["s:w1", "s:w2", "u:ann", "u:bob", "u:eve"]
    assert frame["user_id"].dropna().tolist() == ["ann", "bob", "eve"]


def test_events_come_back_in_the_designs_names(clicks: Prepared) -> None:
    frame = clicks.events_frame([4])

    assert frame["timestamp"].dt.strftime("%d %H:%M").tolist() == ["22 06:00", "22 06:01", "22 06:02"]
    assert frame["event"].tolist() == ["view_item", "view_item", "purchase"]
    assert frame["item_id"].tolist() == ["honey", "bread", "bread"]
    assert frame["channel"].tolist() == ["tv", "tv", "tv"]
    assert frame["price"].tolist()[2] == 2.5
    assert len(clicks.events_frame()) == 19


def test_arrays_cannot_be_written(clicks: Prepared) -> None:
    with pytest.raises(ValueError, match="read-only"):
        clicks.rows["item"][0] = 7


def test_context_of_a_log_without_any_is_empty(trips: Prepared) -> None:
    assert trips.context(trips.rows, [0, 1]).shape == (2, 0)


def test_no_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} is not a prepared dataset"):
        Prepared.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"format_version": 0}', "format 0, expected 4"), ("{}", "damaged"), ('{"format_ver', "damaged")],
)
def test_a_manifest_of_another_kind_is_refused(clicks: Prepared, tmp_path: Path, text: str, message: str) -> None:
    folder = shutil.copytree(clicks.path, tmp_path / "copy")
    (folder / MANIFEST).write_text(text)

    with pytest.raises(UserError, match=message):
        Prepared.read(folder)


def test_a_copy_reads_the_same(clicks: Prepared, tmp_path: Path) -> None:
    copy = Prepared.read(shutil.copytree(clicks.path, tmp_path / "copy"))

    assert copy.content_hash == clicks.content_hash == json.loads((clicks.path / MANIFEST).read_text())["content_hash"]
    assert all(np.array_equal(copy.rows[name], clicks.rows[name], equal_nan=True) for name in clicks.rows)


@pytest.mark.parametrize("name", ["rows/item.npy", "sessions/split.npy", "visitors/held_out.npy", "items.parquet"])
def test_a_missing_file_is_named(clicks: Prepared, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clicks.path, copy)
    (copy / name).unlink()

    with pytest.raises(UserError, match=f"{name} is missing"):
        Prepared.read(copy)


def test_a_file_cut_short_is_refused(clicks: Prepared, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(clicks.path, copy)
    file = copy / "rows" / "item.npy"
    file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(UserError, match="is damaged"):
        Prepared.read(copy)
