"""End to end with real servers: MLflow on Postgres, two workers on one study, and the way to a champion."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import pytest
import pytorch_lightning as pl

from shopkeeper.config import ExportConfig, TrackingConfig, TrainConfig
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.stages import export, sync, tune
from shopkeeper.train.fit import train
from shopkeeper.train.settings import SyncConfig, TuneConfig
from shopkeeper.train.study import close_storage, open_storage
from shopkeeper.train.tracking import MODEL_FILE, Store, TrackedRun

pytestmark = [pytest.mark.service, pytest.mark.slow]
Compose = Callable[..., Any]
SMALL = ["model.embed_dim=8", "model.num_layers=1", "batches.max_len=10", "batches.tokens=512"]
PROGRAM = "from shopkeeper.cli import main; main()"


class Server:
    """An MLflow server at a fixed port, with its records in Postgres and its files in a folder."""

    def __init__(self, database: str, artifacts: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = ["--backend-store-uri", database, "--artifacts-destination", str(artifacts)]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = begin(["-m", "mlflow", "server", *where, *self.options], until="Uvicorn running on")

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
        self.process = None


def begin(arguments: list[str], *, until: str) -> "subprocess.Popen[str]":
    """A Python program in a group of its own, once it has said that it is ready."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # or it starts three more processes
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | quick | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if until in line:
            Thread(target=drain, args=[process.stdout], daemon=True).start()  # a full pipe would stop the program
            return process
    raise AssertionError("".join(said))


def drain(pipe: IO[str]) -> None:
    with pipe:
        pipe.read()


def end(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def database(postgres: str) -> Iterator[Callable[[str], str]]:
    """database(name): URL of a new database; MLflow and Optuna need one each."""
    from sqlalchemy import create_engine, text

    driver = postgres.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(driver, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(name: str) -> str:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        made.append(name)
        return driver.replace("/postgres?", f"/{name}?")

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def server(database: Callable[[str], str], tmp_path: Path) -> Iterator[Server]:
    made = Server(database("runs"), tmp_path / "served")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def tracked(server: Server, tmp_path: Path) -> list[str]:
    """Overrides that keep runs on the server."""
    return [f"tracking.uri={server.url}", "tracking.artifacts=null", f"tracking.runs_dir={tmp_path / 'runs'}"]


class Outage(pl.Callback):
    """The server goes away as one epoch ends, and comes back as another does."""

    def __init__(self, server: Server, *, away: int, back: int | None) -> None:
        self.server, self.away, self.back = server, away, back

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.away:
            self.server.stop()
        if trainer.current_epoch == self.back:
            self.server.start()


@pytest.mark.parametrize("back", [3, None])
def test_an_outage_of_the_server_costs_no_record_and_doubles_none(
    server: Server,
    tracked: list[str],
    shops: dict[str, Prepared],
    compose: Compose,
    back: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [f"prepared={shops['clicks'].path}", *SMALL, "trainer.max_epochs=5", "early_stopping.patience=9", *tracked]
    config: TrainConfig = compose("train", TrainConfig, *asked, "trainer.enable_progress_bar=false")

    run = train(config, say=lambda text: None, extra=[Outage(server, away=1, back=back)])

    if back is None:
        waiting = len(run.pending())
        assert waiting > 4  # four epochs, the figures, the files and the end
        server.start()
        sync.run(SyncConfig(tracking=config.tracking))
        assert f"sync: {waiting} records of 1 runs" in capsys.readouterr().out
    assert run.pending() == []
    found = run.store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    points = run.store.client.get_metric_history(run.run_id, "val_epoch/primary")
    assert [point.step for point in points] == [0, 1, 2, 3, 4]
    assert run.metrics["val/primary"] == pytest.approx(max(point.value for point in points), abs=1)
    assert run.file(MODEL_FILE).stat().st_size > 0
    again = Store(config.tracking).find("best", dataset_hash=shops["clicks"].content_hash)
    assert again.run_id == run.run_id


def worker(arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "tune", *arguments], stdout=file, stderr=file, start_new_session=True
        )


def test_two_workers_finish_a_study_though_one_is_killed(
    database: Callable[[str], str], shops: dict[str, Prepared], tracking_overrides: list[str], tmp_path: Path
) -> None:
    import optuna

    studies = database("studies")
    fixed = [*SMALL, "trainer.max_epochs=12", "early_stopping.patience=20"]
    arguments = [
        f"prepared={shops['clicks'].path}",
        "study=s",
        "trials=6",
        "heartbeat=2",
        f"storage={quoted(studies)}",
    ]
    arguments += [f"output={tmp_path / 'out'}", f"train={json.dumps(fixed)}", *tracking_overrides]
    storage = open_storage(studies, heartbeat=2, on_stale=lambda trial: None)
    first, second = (worker(arguments, tmp_path / f"{name}.log") for name in ("first", "second"))
    wait_for_trials(storage, "s/sasrec", second, count=2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=540) == 0, (tmp_path / "second.log").read_text()

    study = optuna.load_study(study_name="s/sasrec", storage=storage)
    ends = Counter(trial.state.name for trial in study.trials)
    assert ends["FAIL"] == 1
    assert ends["COMPLETE"] + ends["PRUNED"] == 6
    assert ends.total() == 7
    (killed,) = (trial for trial in study.trials if trial.state.name == "FAIL")
    assert [t.params for t in study.trials].count(killed.params) == 2  # what it tried was tried again
    assert (tmp_path / "out" / "study.html").exists()
    close_storage(storage)


def wait_for_trials(storage: Any, name: str, process: "subprocess.Popen[bytes]", *, count: int) -> None:
    """Until so many trials have told their first epoch and still run."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
            raise AssertionError("the worker ended before both were on their way")
        for study in storage.get_all_studies():
            if study.study_name == name:
                trials = storage.get_all_trials(study._study_id, deepcopy=False)
                if sum(t.state.name == "RUNNING" and bool(t.intermediate_values) for t in trials) == count:
                    return


def quoted(url: str) -> str:
    """A URL as Hydra's grammar takes it."""
    return f'"{url}"'


@pytest.fixture(scope="module")
def shop(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A simulated shop with enough test strangers for a verdict."""
    folder = tmp_path_factory.mktemp("shop")
    asked = ["data=simulated", "data.simulation.visitors=4000", "data.simulation.items=200", f"output={folder / 'p'}"]
    return prepare(compose("prepare", PrepareConfig, *asked, "threads=1"), say=lambda text: None)


def test_from_a_study_to_a_champion(
    shop: Prepared,
    database: Callable[[str], str],
    tracked: list[str],
    compose: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where, studies = [f"prepared={shop.path}", *tracked], database("studies")

    def tuned(family: str, *, trials: int) -> None:
        asked = [f"study={family}", f"models=[{family}]", f"trials={trials}", f"storage={quoted(studies)}"]
        tune.run(compose("tune", TuneConfig, *where, *asked, f"output={tmp_path / 'studies'}"))

    def registered(run: str) -> list[str]:
        """What export says of the registry."""
        asked = [f"run={run}", f"output={tmp_path / 'bundle'}", "register=shop", "protocol.resamples=200"]
        capsys.readouterr()
        export.run(compose("export", ExportConfig, *where, *asked))
        return capsys.readouterr().out.splitlines()[-3:-1]

    def trained(*overrides: str) -> TrackedRun:
        return train(compose("train", TrainConfig, *where, *overrides), say=lambda text: None)

    tuned("popularity", trials=2)
    assert registered("best") == ["registered: version 1 of shop", "champion: version 1 of shop: there was none"]
    tuned("repeat", trials=1)  # its YAML's own values
    said = registered("best")
    assert said[1].startswith("champion: version 2 of shop: it beats version 1: +")
    alike = trained("model=repeat", "model.window_days=27")
    assert registered(alike.run_id)[1].startswith("champion: version 2 stays: no difference to version 2: ")
    poor = trained("model=popularity", "model.window_days=5")
    assert registered(poor.run_id)[1].startswith("champion: version 2 stays: it loses to version 2: -")

    config: TrackingConfig = compose("train", TrainConfig, *where).tracking
    version = Store(config).client.get_model_version_by_alias("shop", "champion")
    assert version.version in (2, "2")
    assert version.tags["shopkeeper.dataset_hash"] == shop.content_hash
    assert version.tags["test/purchase/ndcg_at_20"].endswith("]")
    assert json.loads(version.tags["shopkeeper.config"])["model"]["_target_"].endswith("Repeat")
    with scoring(config.uri, "models:/shop@champion") as url:
        body = json.dumps({"dataframe_records": [{"request": '{"events": [], "k": 3}'}]}).encode()
        request = urllib.request.Request(f"{url}/invocations", data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            (answer,) = json.load(response)["predictions"]
    assert len(json.loads(answer)["items"]["purchase"]) == 3


@contextmanager
def scoring(tracking_uri: str, model: str) -> Iterator[str]:
    """`mlflow models serve` of a model, in this environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); from mlflow.cli import cli; "
        f"cli(['models', 'serve', '-m', '{model}', '--env-manager', 'local', '-p', '{port}'])"
    )
    process = begin(["-c", program, tracking_uri], until="Uvicorn running on")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)
