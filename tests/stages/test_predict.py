from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopkeeper.config import ExportConfig, PredictConfig, UserError
from shopkeeper.export.predictions import FILES
from shopkeeper.stages import export, predict
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event

Flows = dict[str, Any]
Compose = Callable[..., Any]


def histories() -> pd.DataFrame:
    """Visitors met in file order: one in two sessions, one with an unknown item, one who has only entered."""
    rows: list[Any] = [
        ("b", "view_item", "item 3", "s1", "web", "2026-03-01T10:00:00Z"),
        ("b", "add_to_cart", "item 4", "s1", "web", "2026-03-01T10:01:00Z"),
        ("a", "view_item", "never seen", "s2", "app", "2026-03-02T10:00:00Z"),
        ("b", "view_item", "item 5", "s3", None, "2026-03-03T10:00:00Z"),
        ("c", "session_start", None, "s4", "web", "2026-03-04T10:00:00Z"),
    ]
    frame = pd.DataFrame.from_records(
        rows, columns=["history_id", "event", "item_id", "session_id", "channel", "timestamp"]
    )
    frame["timestamp"] = pd.to_datetime(frame["timestamp"])
    return frame.assign(user_id=np.array(["u", "v", None, "w", "x"], object), k=[1, 2, 3, 4, 5])


def run(compose: Compose, flow: Any, frame: pd.DataFrame, folder: Path, *overrides: str) -> pd.DataFrame:
    frame.to_parquet(folder / "histories.parquet", index=False)
    arguments = [f"bundle={flow.bundle}", f"histories={folder / 'histories.parquet'}", f"output={folder / 'out'}"]
    predict.run(compose("predict", PredictConfig, *arguments, *overrides))
    return pd.read_parquet(folder / "out" / "items.parquet")


def test_every_history_comes_out_ranked_for_every_task(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    found = run(compose, flows["clicks"], histories(), tmp_path, "k=5")

    assert list(found.columns) == ["history_id", "task", "rank", "item_id", "score"]
    assert set(zip(found["history_id"], found["task"], strict=True)) == {
        (h, t) for h in "abc" for t in ("purchase", "next")
    }
    for _, group in found.groupby(["history_id", "task"]):
        assert group["rank"].tolist() == [1, 2, 3, 4, 5]
        assert group["score"].is_monotonic_decreasing
        assert group["item_id"].is_unique


def test_it_answers_as_the_predictor_does(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    flow, frame = flows["clicks"], histories()
    found = run(compose, flow, frame, tmp_path, "k=5")
    predictor = Predictor.load(flow.bundle)

    for name, rows in frame.groupby("history_id", sort=False):
        events = [
            Event(
                event=row["event"],
                timestamp=row["timestamp"].to_pydatetime(),
                item_id=row["item_id"] if isinstance(row["item_id"], str) else None,
                session_id=row["session_id"],
                context={"channel": row["channel"] if isinstance(row["channel"], str) else None},
            )
            for row in rows.to_dict("records")
        ]
        for task, items in predictor.predict(events, k=5).items.items():
            own = found[(found["history_id"] == name) & (found["task"] == task)]
            assert own["item_id"].tolist() == [item.item_id for item in items]
            np.testing.assert_allclose(own["score"], [item.score for item in items], atol=1e-5)


def test_next_never_names_the_last_item(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    found = run(compose, flows["clicks"], histories(), tmp_path, "k=24")
    last = found[(found["history_id"] == "b") & (found["task"] == "next")]

    assert "item 5" not in set(last["item_id"])
    assert len(last) == 23


def test_small_chunks_change_nothing(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    for name in ("whole", "chunks"):
        (tmp_path / name).mkdir()
    whole = run(compose, flows["clicks"], histories(), tmp_path / "whole")
    chunks = run(compose, flows["clicks"], histories(), tmp_path / "chunks", "rows_per_batch=1")

    keys = ["history_id", "task", "rank"]
    whole, chunks = (f.sort_values(keys, ignore_index=True) for f in (whole, chunks))
    assert whole.drop(columns="score").equals(chunks.drop(columns="score"))
    np.testing.assert_allclose(whole["score"], chunks["score"], atol=1e-5)


def test_orders_alone_are_answered_for_the_next_order(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    frame = histories().assign(event="purchase")

    assert set(run(compose, flows["orders"], frame, tmp_path)["task"]) == {"purchase"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history_id": None}, "5 rows have no 'history_id'"),
        ({"history_id": ""}, "5 rows have no 'history_id'"),
        ({"history_id": float("nan")}, "5 rows have no 'history_id'"),
        ({"event": None}, "5 rows have no 'event'"),
        ({"timestamp": "yesterday"}, "column 'timestamp': 5 values are not an ISO 8601 time"),
    ],
)
def test_what_cannot_be_read_is_named(
    flows: Flows, compose: Compose, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(compose, flows["clicks"], histories().assign(**change), tmp_path)


def test_a_missing_column_and_a_missing_bundle_are_named(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no column 'history_id'"):
        run(compose, flows["clicks"], histories().drop(columns="history_id"), tmp_path)
    with pytest.raises(UserError, match=r"bundle: .*manifest.json does not exist"):
        predict.run(compose("predict", PredictConfig, f"bundle={tmp_path}", "histories=h", "output=o"))


# ---- outcomes ----


def test_outcomes_of_every_history_come_out_as_the_predictor_tells_them(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose, flows["clicks"], histories(), tmp_path)
    found = pd.read_parquet(tmp_path / "out" / "outcomes.parquet")
    answer = Predictor.load(flows["clicks"].bundle).predict([Event(event="view_item", item_id="never seen")])

    assert list(found.columns) == ["history_id", "outcome", "probability"]
    assert set(found["history_id"]) == {"a", "b", "c"}
    names = {"purchase", *(f"phase:{name}" for name in answer.phase or {})}
    assert set(found["outcome"]) == names | {"depth:welcome", "depth:segment", "depth:one_to_one"}
    table = found.pivot(index="history_id", columns="outcome", values="probability")
    np.testing.assert_allclose(table.filter(like="phase:").sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(table.filter(like="depth:").sum(axis=1), 1.0)
    assert table["purchase"].between(0, 1).all()
    assert "outcomes: intent, phase, segment:card, depth\n" in capsys.readouterr().out


def test_segments_of_every_history_come_out_and_sum_to_one(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    run(compose, flows["clicks"], histories(), tmp_path)
    found = pd.read_parquet(tmp_path / "out" / "segments.parquet")

    assert list(found.columns) == ["history_id", "segment", "class", "probability"]
    assert found[["segment", "class"]].drop_duplicates().values.tolist() == [["card", "no"], ["card", "yes"]]
    sums = found.groupby("history_id")["probability"].sum()
    assert sorted(sums.index) == ["a", "b", "c"]
    np.testing.assert_allclose(sums, 1.0, atol=1e-6)


def test_a_log_where_every_session_buys_has_no_intent_and_says_so(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose, flows["orders"], histories().assign(event="purchase"), tmp_path)

    told = set(pd.read_parquet(tmp_path / "out" / "outcomes.parquet")["outcome"])
    assert told == {"depth:welcome", "depth:segment", "depth:one_to_one"}
    assert "no purchase: every session of the log buys" in capsys.readouterr().out


def test_a_bundle_without_outcomes_writes_empty_tables_and_says_so(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, bundle = flows["clicks"], tmp_path / "popularity"
    where = [f"prepared={flow.prepared.path}", *flow.store, f"run={flow.runs['popularity'].run_id}"]
    export.run(compose("export", ExportConfig, *where, f"output={bundle}"))

    items = run(compose, replace(flow, bundle=bundle), histories(), tmp_path)

    assert set(items["history_id"]) == {"a", "b", "c"}
    tables = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("segments", "outcomes")}
    assert {name: (len(table), table.column_names) for name, table in tables.items()} == {
        "segments": (0, ["history_id", "segment", "class", "probability"]),
        "outcomes": (0, ["history_id", "outcome", "probability"]),
    }
    assert "outcomes: none, a popularity bundle tells none" in capsys.readouterr().out


def test_all_files_or_none(tmp_path: Path) -> None:
    def write(task: str, *, fail: bool) -> None:
        with predict.whole_files(tmp_path) as writers:
            row = pa.table([["h"], [task], [1], ["i"], [0.5]], schema=FILES["items.parquet"])
            writers["items.parquet"].write_table(row)
            assert not fail

    with pytest.raises(AssertionError):
        write("first", fail=True)
    assert list(tmp_path.iterdir()) == []

    write("second", fail=False)
    with pytest.raises(AssertionError):
        write("third", fail=True)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)
    assert pq.read_table(tmp_path / "items.parquet").column("task").to_pylist() == ["second"]
