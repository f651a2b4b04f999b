import socket
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from shopkeeper.config import TrackingConfig, UserError
from shopkeeper.train import tracking as names
from shopkeeper.train.delivery import METRICS
from shopkeeper.train.outbox import Outbox
from shopkeeper.train.tracking import Store, TrackedRun


@pytest.fixture
def store(tracking: TrackingConfig) -> Store:
    return Store(tracking)


def finished(
    store: Store, primary: float | None, *, dataset: str = "d1", family: str = "repeat", **tags: str
) -> TrackedRun:
    run = store.start(name=family, tags={names.DATASET_HASH: dataset, names.FAMILY: family} | tags)
    if primary is not None:
        run.log_metrics({names.PRIMARY: primary}, step=0)
    run.finish()
    return run


def test_the_best_is_the_highest_on_the_same_data(store: Store) -> None:
    finished(store, 0.9, dataset="d2")
    finished(store, 0.1)
    best = finished(store, 0.3, family="sasrec")
    open_run = store.start(name="open", tags={names.DATASET_HASH: "d1"})
    open_run.log_metrics({names.PRIMARY: 0.8}, step=0)

    assert store.find("best", dataset_hash="d1").run_id == best.run_id
    assert store.best(dataset_hash="d1", family="repeat").run_id != best.run_id


def test_of_equal_ones_the_newest_is_the_best(store: Store) -> None:
    started = [(1000 + i, store.client.create_run(store.experiment_id, 1000 + i).info.run_id) for i in (5, 9, 2)]
    for _, run_id in started:
        store.client.set_tag(run_id, names.DATASET_HASH, "d1")
        TrackedRun(run_id, store).log_metrics({names.PRIMARY: 0.3}, step=0)
        TrackedRun(run_id, store).finish()

    assert store.best(dataset_hash="d1").run_id == max(started)[1]


def test_a_run_without_the_metric_is_never_the_best(store: Store) -> None:
    finished(store, None)

    with pytest.raises(UserError, match="no finished run on this prepared dataset"):
        store.best(dataset_hash="d1")


def test_a_refit_is_found_by_what_it_repeats(store: Store) -> None:
    run = finished(store, 0.3)
    assert store.refit_of(run.run_id, dataset_hash="d1") is None
    refit = finished(store, None, **{names.REFIT_OF: run.run_id})

    found = store.refit_of(run.run_id, dataset_hash="d1")
    assert found is not None
    assert found.run_id == refit.run_id


def test_the_same_configuration_is_found_finished_or_to_be_resumed(store: Store) -> None:
    tag = {names.CONFIG_HASH: "c1"}
    assert store.same_as(dataset_hash="d1", config_hash="c1") == (None, None)
    open_run = store.start(name="open", tags={names.DATASET_HASH: "d1"} | tag)
    assert store.same_as(dataset_hash="d1", config_hash="c1") == (None, None)  # nothing kept to go on from
    (open_run.checkpoints / names.CONFIG_FILE).write_text("{}")
    done = finished(store, 0.1, **tag)

    found, cut_off = store.same_as(dataset_hash="d1", config_hash="c1")

    assert found is not None
    assert cut_off is not None
    assert (found.run_id, cut_off.run_id) == (done.run_id, open_run.run_id)


def test_curves_keep_the_last_value_of_each_step(store: Store) -> None:
    run = store.start(name="r", tags={})
    for step, value in [(0, 0.1), (1, 0.2), (1, 0.3)]:
        run.log_metrics({"m": value}, step=step)

    assert run.curve("m") == [0.1, 0.3]


def test_files_come_back(store: Store, tmp_path: Path) -> None:
    run = store.start(name="r", tags={})
    (tmp_path / "note.txt").write_text("kept")
    run.log_file(tmp_path / "note.txt")

    assert run.file("note.txt").read_text() == "kept"
    with pytest.raises(UserError, match=f"run {run.run_id} has no file other.txt"):
        run.file("other.txt")


def test_a_store_outlives_its_process(tracking: TrackingConfig, store: Store) -> None:
    run = finished(store, 0.5)

    assert Store(tracking).get(run.run_id).metrics == {names.PRIMARY: 0.5}


def test_a_store_that_cannot_be_reached_is_named(tracking: TrackingConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tracking.uri = f"sqlite:///{tmp_path / 'file' / 'm.db'}"

    with pytest.raises(UserError, match="the MLflow store cannot be reached"):
        Store(tracking)


def test_a_store_that_a_kill_left_half_made_is_not_there(
    tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """Stands for the kill."""

    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("os.link", cut)  # all is made by then, but in no place anyone looks
        with pytest.raises(Cut):
            Store(tracking)
    place = Path(tracking.uri.removeprefix("sqlite:///"))
    assert not place.exists()

    Store(tracking).start(name="a", tags={})
    assert [file.name for file in place.parent.glob(f"{place.name}*")] == [place.name]


def test_a_server_that_does_not_answer_is_named_at_once(tracking: TrackingConfig) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(UserError, match=f"tracking.uri={uri}: the MLflow store cannot be reached: .*refused"):
            Store(replace(tracking, uri=uri))


def test_a_database_without_its_driver_is_named(tracking: TrackingConfig) -> None:
    with pytest.raises(UserError, match="the MLflow store cannot be reached: No module named"):
        Store(replace(tracking, uri="mysql://shop/runs"))


def test_a_run_that_raises_is_marked_and_can_go_on(store: Store) -> None:
    run = store.start(name="a", tags={})

    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(error), run.ending_known():
            raise error
        assert store.client.get_run(run.run_id).info.status == status
        assert store.reopen(run.run_id).run_id == run.run_id


def test_what_a_file_refuses_is_an_error_and_does_not_wait(store: Store) -> None:
    run = store.start(name="a", tags={})
    run.log_params({"p": 1})

    with pytest.raises(MlflowException, match="p"):
        run.log_params({"p": 2})
    assert run.pending() == []


def test_records_that_wait_go_before_the_next_one(store: Store) -> None:
    run = store.start(name="a", tags={})
    Outbox(run.folder).add(METRICS, {"values": {"m": 0.5}, "step": 0, "time": 1000})

    run.log_metrics({"m": 0.75}, step=1)

    assert run.curve("m") == [0.5, 0.75]
    assert run.pending() == []
    assert [record.number for record in Outbox(run.folder).records()] == [1, 2]
