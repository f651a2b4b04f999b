import socket
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from shopkeeper.config import TrackingConfig
from shopkeeper.train.delivery import AT_ONCE, END, FILE, METRICS, PARAMS, TAGS, check_answer, is_away, take
from shopkeeper.train.tracking import Store


def test_a_record_that_is_written_twice_is_there_once(tracking: TrackingConfig, tmp_path: Path) -> None:
    store = Store(tracking)
    run = store.start(name="r", tags={})
    (tmp_path / "note.txt").write_text("kept")
    many = {f"p{i}": str(i) for i in range(AT_ONCE + 1)}
    for _ in range(2):
        take(store.client, run.run_id, METRICS, {"values": {"a": 0.5, "b": 0.25}, "step": 3, "time": 1000})
        take(store.client, run.run_id, PARAMS, {"values": many})
        take(store.client, run.run_id, TAGS, {"values": {"t": "x"}})
        take(store.client, run.run_id, FILE, {"path": str(tmp_path / "note.txt")})
        take(store.client, run.run_id, END, {"status": "FINISHED", "time": 2000})

    found = store.client.get_run(run.run_id)
    points = store.client.get_metric_history(run.run_id, "a")
    assert [(p.value, p.step, p.timestamp) for p in points] == [(0.5, 3, 1000)]
    assert (found.data.params, found.data.tags["t"]) == (many, "x")
    assert (found.info.status, found.info.end_time) == ("FINISHED", 2000)
    assert run.file("note.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (MlflowException("no connection"), True),  # MLflow's word for it is an internal error
        (MlflowException.invalid_parameter_value("refused"), False),
        (ConnectionRefusedError(), True),
        (FileNotFoundError(2, "no such file", "model.pt"), False),
        (ValueError(), False),
    ],
)
def test_a_server_that_is_away_is_told_from_one_that_refuses(error: Exception, away: bool) -> None:
    assert is_away("http://somewhere", error) is away


def test_a_file_is_never_away() -> None:
    assert not is_away("sqlite:///mlruns.db", MlflowException("locked"))
    assert not is_away("mlruns", MlflowException("locked"))


def test_only_a_server_is_asked_whether_it_answers() -> None:
    check_answer("sqlite:///mlruns.db")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            check_answer(f"http://127.0.0.1:{taken.getsockname()[1]}")
