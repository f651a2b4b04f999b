from pathlib import Path

import pytest

from shopkeeper.config import TrackingConfig
from shopkeeper.stages import sync
from shopkeeper.train.delivery import END, METRICS
from shopkeeper.train.outbox import Outbox
from shopkeeper.train.settings import SyncConfig
from shopkeeper.train.tracking import Store


def test_what_waits_is_delivered_once(tracking: TrackingConfig, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tracking)
    run = store.start(name="r", tags={})
    outbox = Outbox(run.folder)
    outbox.add(METRICS, {"values": {"a": 0.5}, "step": 1, "time": 1000})
    outbox.add(END, {"status": "FINISHED", "time": 2000})
    assert run.metrics == {"a": 0.5}  # what waits is known already
    assert run.curve("a") == []

    for _ in range(2):
        sync.run(SyncConfig(tracking=tracking))

    assert capsys.readouterr().out.splitlines() == [
        f"run {run.run_id}: 2 records delivered",
        "sync: 2 records of 1 runs",
        "sync: 0 records of 0 runs",
    ]
    assert len(store.client.get_metric_history(run.run_id, "a")) == 1
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_run_of_another_store_is_left_alone(tracking: TrackingConfig, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(tracking.runs_dir) / "elsewhere"
    Outbox(folder).add(END, {"status": "FINISHED", "time": 2000})

    sync.run(SyncConfig(tracking=tracking))

    assert "left alone: there is no run 'elsewhere'" in capsys.readouterr().out
    assert len(Outbox(folder).pending()) == 1
