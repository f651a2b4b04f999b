"""Whatever a log holds, preparation says what became of every row of it, or what is wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopkeeper.config import UserError
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig

BEGIN = datetime(2026, 1, 1)
TIMES = st.integers(0, 40).map(lambda hours: BEGIN + timedelta(hours=hours)) | st.datetimes(
    datetime(1900, 1, 1), datetime(9999, 1, 1)
)
NAMES = st.sampled_from(["ann", "bob"]) | st.text(max_size=6).filter(lambda text: "\x00" not in text)
EVENTS = st.sampled_from(["view_item", "purchase", "session_start"]) | NAMES
TEXTS = ("event", "user_id", "session_id", "item_id", "order_id", "channel")
PRICES = st.floats() | st.sampled_from([0.0, -0.0, -1.0, 1e308, float("inf"), float("nan")])


@st.composite
def wild_logs(draw: st.DrawFn) -> pd.DataFrame:
    """Rows out of order, some of them twice, with nulls, Unicode ids and absurd prices; possibly one user or none."""

    def or_null(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return values if draw(st.booleans()) else values | st.none()

    row = st.fixed_dictionaries(
        {
            "timestamp": or_null(TIMES),
            "event": or_null(EVENTS),
            "user_id": or_null(NAMES if draw(st.booleans()) else st.just("one")),
            "session_id": or_null(NAMES),
            "item_id": or_null(NAMES if draw(st.booleans()) else st.just("one")),
            "order_id": or_null(NAMES),
            "price": or_null(PRICES),
            "channel": or_null(NAMES),
        }
    )
    rows = draw(st.lists(row, max_size=12))
    twice = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    frame = pd.DataFrame(
        [*rows, *twice],
        columns=["timestamp", "event", "user_id", "session_id", "item_id", "order_id", "price", "channel"],
    )
    frame["timestamp"] = frame["timestamp"].astype("datetime64[us]")
    return frame.astype({"price": "float64"} | dict.fromkeys(TEXTS, "string"))


@pytest.fixture
def account(compose: Callable[..., Any], tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare a frame; its counts are checked against a plain reading of the frame."""

    def run(frame: pd.DataFrame, *overrides: str) -> Prepared:
        number = len(list(tmp_path.iterdir()))
        file = tmp_path / f"{number}.parquet"
        frame.to_parquet(file, index=False)
        where = ["data=events", f"data.events={file}", f"output={tmp_path / f'out{number}'}", "threads=1"]
        return prepare(compose("prepare", PrepareConfig, *where, *overrides), say=lambda text: None)

    return run


def expected(frame: pd.DataFrame) -> tuple[int, int, int]:
    """Events, session_start rows and dropped ones, by a plain loop."""
    events = starts = dropped = 0
    row: Any
    for row in frame.itertuples():
        bad = pd.notna(row.price) and (np.isinf(row.price) or row.price < 0)
        someone = any(pd.notna(value) and value != "" for value in (row.user_id, row.session_id))
        if bad or pd.isna(row.timestamp) or pd.isna(row.event) or row.event == "" or not someone:
            dropped += 1
        elif row.event == "session_start":
            starts += 1
        else:
            events += 1
    return events, starts, dropped


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=wild_logs())
def test_rows_in_are_rows_kept_and_rows_dropped_with_their_reasons(
    account: Callable[..., Prepared], frame: pd.DataFrame
) -> None:
    events, starts, dropped = expected(frame)
    try:
        prepared = account(frame, "data.bad_values=drop")
    except UserError as error:
        assert "\n" not in str(error)
        usable = frame.loc[frame["timestamp"].notna() & frame["event"].notna()]
        times = usable["timestamp"].nunique()
        reasons = ("holds no rows", "is missing or empty", "neither", "no event is left", "alone", "data.split")
        assert any(reason in str(error) for reason in reasons)
        assert times < 3 or events < 10 or "data.split" in str(error)
        return
    counts = prepared.manifest["counts"]
    assert (counts["events"], counts["session_starts"], counts["rows_dropped"]) == (events, starts, dropped)
    assert counts["rows_in"] == len(frame) == events + starts + sum(prepared.manifest["dropped"].values())
    assert len(prepared.rows["time"]) == events
    assert len(prepared.sessions["time"]) == counts["sessions"]
    assert (np.diff(prepared.rows["visitor"]) >= 0).all()
    same = np.diff(prepared.rows["visitor"]) == 0
    assert (np.diff(prepared.rows["time"])[same] >= 0).all()
    assert set(prepared.rows["phase"].tolist()) <= {1, 2, 3, 4, 5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "before"),
    [("preparing", True), ("sorting events", False), ("cutting sessions", True), ("numbering items", False)],
)
def test_a_preparation_that_is_killed_leaves_nothing_or_what_was_there(
    account: Callable[..., Prepared], logs: dict[str, Path], tmp_path: Path, word: str, before: bool
) -> None:
    output = tmp_path / "prepared"
    command = [sys.executable, "-u", "-m", "shopkeeper", "prepare", "data=events", f"output={output}"]
    old = [f"data.events={logs['orders']}"]
    if before:
        subprocess.run([*command, *old], check=True, capture_output=True)
    told = (output / "manifest.json").read_text() if before else None

    with subprocess.Popen([*command, f"data.events={logs['clicks']}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(word):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    if told is None:
        with pytest.raises(UserError, match="is not a prepared dataset"):
            Prepared.read(output)
    else:
        assert (Prepared.read(output).path / "manifest.json").read_text() == told
    with pytest.raises(UserError):
        Prepared.read(output.with_name("prepared.partial"))
    again = subprocess.run([*command, f"data.events={logs['clicks']}"], check=True, capture_output=True, text=True)
    assert again.stdout.splitlines()[-1] == f"prepared dataset: {output}"
    assert json.loads((output / "manifest.json").read_text())["counts"]["rows_in"] == len(
        pd.read_parquet(logs["clicks"])
    )
    assert not output.with_name("prepared.partial").exists()
