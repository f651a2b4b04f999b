"""Runs: where their parameters, metrics and files are kept.

A run carries, as tags, what later stages need to find it: its model family, the content hash of the dataset, and for
a refit the run it repeats. Files are kept as MLflow artifacts; while a run trains, its checkpoints lie in
`<runs_dir>/<run id>`, where `resume` finds them after a crash, and where records wait for a server that is away.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from shopkeeper.config import TrackingConfig, UserError
from shopkeeper.train.delivery import (
    END,
    FILE,
    METRICS,
    PARAMS,
    TAGS,
    check_answer,
    is_away,
    now,
    take,
    troubles,
)
from shopkeeper.train.outbox import OUTBOX_FILE, Outbox, Record

if TYPE_CHECKING:
    from mlflow.entities import Run

DATASET_HASH = "shopkeeper.dataset_hash"
FAMILY = "shopkeeper.family"
REFIT_OF = "shopkeeper.refit_of"
CONFIG_HASH = "shopkeeper.config_hash"
CHECKPOINTS = "shopkeeper.checkpoints"
PRIMARY = "val/primary"
MODEL_FILE = "model.pt"
CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"


class Unreachable(UserError):
    """The store of runs does not answer."""


@dataclass(frozen=True)
class TrackedRun:
    """A run of the store, and the way to its files."""

    run_id: str
    store: "Store"

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.store.client.get_run(self.run_id).data.tags)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric, those included that the server has not taken yet."""
        kept: dict[str, float] = {}
        for record in self.pending():
            kept |= record.content["values"] if record.kind == METRICS else {}
        try:
            return dict(self.store.client.get_run(self.run_id).data.metrics) | kept
        except troubles() as error:
            if not kept or not is_away(self.store.config.uri, error):
                raise
            return kept

    @property
    def checkpoints(self) -> Path:
        """Local folder of the checkpoints of a run in training."""
        return self.folder if self.folder.is_dir() else Path(self.tags[CHECKPOINTS])

    @property
    def folder(self) -> Path:
        """Where this machine keeps what belongs to the run."""
        return Path(self.store.config.runs_dir).resolve() / self.run_id

    @property
    def can_resume(self) -> bool:
        """Whether its configuration and its checkpoint folder are still there."""
        return CHECKPOINTS in self.tags and (self.checkpoints / CONFIG_FILE).is_file()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tell(TAGS, {"values": dict(tags)})

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.tell(PARAMS, {"values": {name: str(value)[:6000] for name, value in params.items()}})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.tell(METRICS, {"values": dict(metrics), "step": step, "time": now()})

    def log_file(self, path: Path) -> None:
        self.tell(FILE, {"path": str(path.resolve())})

    def finish(self, status: str = "FINISHED") -> None:
        self.tell(END, {"status": status, "time": now()})

    def tell(self, kind: str, content: dict[str, Any]) -> None:
        """Hand a record to the store; one that is away gets it later, in its turn."""
        outbox = Outbox(self.folder)
        if not outbox.pending():
            try:
                take(self.store.client, self.run_id, kind, content)
                return
            except troubles() as error:
                if not is_away(self.store.config.uri, error):
                    raise
            print(f"{self.store.config.uri} does not answer: records wait in {outbox.folder}", file=sys.stderr)
            outbox.add(kind, content)
            return
        outbox.add(kind, content)
        self.deliver()

    def pending(self) -> list[Record]:
        """What the store has still to take."""
        return Outbox(self.folder).pending()

    def deliver(self) -> int:
        """Hand over what waits, as far as the store takes it; the number of records that went."""
        outbox = Outbox(self.folder)
        waiting = outbox.pending()
        for sent, record in enumerate(waiting):
            try:
                check_answer(self.store.config.uri)
                take(self.store.client, self.run_id, record.kind, record.content)
            except troubles() as error:
                if not is_away(self.store.config.uri, error):
                    raise
                return sent
            outbox.mark(record)
        return len(waiting)

    def file(self, name: str) -> Path:
        """A local copy of one of the run's files.

        Raises:
            UserError: when the run has no such file.
        """
        from mlflow.exceptions import MlflowException

        try:
            return Path(self.store.client.download_artifacts(self.run_id, name))
        except (MlflowException, OSError) as error:
            raise UserError(f"run {self.run_id} has no file {name}; was it finished?") from error

    def curve(self, metric: str) -> list[float]:
        """A metric's values in the order of their steps, the last one logged for each."""
        points = {m.step: m.value for m in self.store.client.get_metric_history(self.run_id, metric)}
        return [points[step] for step in sorted(points)]

    @contextmanager
    def ending_known(self) -> Iterator[None]:
        """Mark the run as failed or stopped when what is done inside raises; it can be resumed all the same."""
        try:
            yield
        except Exception:
            self.finish("FAILED")
            raise
        except KeyboardInterrupt:
            self.finish("KILLED")
            raise


class Store:
    """An MLflow tracking store and one experiment in it."""

    def __init__(self, config: TrackingConfig) -> None:
        quiet_mlflow()
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        self.config = config
        try:
            check_answer(config.uri)
            self.client: MlflowClient = MlflowClient(database_uri(config.uri))
            self.experiment_id = self._experiment()
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise Unreachable(f"tracking.uri={config.uri}: the MLflow store cannot be reached: {reason}") from error

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.config.experiment)
        if found is not None:
            return str(found.experiment_id)
        folder = self.config.artifacts
        location = Path(folder).resolve().as_uri() if folder and "://" not in folder else folder
        return str(self.client.create_experiment(self.config.experiment, artifact_location=location))

    def start(self, *, name: str, tags: Mapping[str, str]) -> TrackedRun:
        """Begin a run with its own folder for checkpoints."""
        created = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        run = TrackedRun(created.info.run_id, self)
        folder = Path(self.config.runs_dir).resolve() / run.run_id
        folder.mkdir(parents=True)
        self.client.set_tag(run.run_id, CHECKPOINTS, str(folder))
        return run

    def reopen(self, run_id: str) -> TrackedRun:
        """Go on with a run that did not finish.

        Raises:
            UserError: when there is no such run, it has finished, or its checkpoints are gone.
        """
        run = self.get(run_id)
        run.deliver()
        if self._status(run_id) == "FINISHED":
            raise UserError(f"resume={run_id}: that run has finished; start a new one, or refit it with refit={run_id}")
        if CHECKPOINTS not in run.tags or not run.checkpoints.is_dir():
            raise UserError(f"resume={run_id}: its checkpoint folder is gone")
        self.client.update_run(run_id, status="RUNNING")
        return run

    def get(self, run_id: str) -> TrackedRun:
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            raise UserError(f"there is no run {run_id!r} in {self.config.uri}") from error
        return TrackedRun(run_id, self)

    def find(self, run: str, *, dataset_hash: str) -> TrackedRun:
        """The run of that id, or with `best` the finished one on this dataset with the highest `val/primary`.

        Ties go to the newest. A refit has no metric and is never the best.

        Raises:
            UserError: when there is none, or the run was trained on another dataset.
        """
        if run == "best":
            return self.best(dataset_hash=dataset_hash)
        found = self.get(run)
        if found.tags.get(DATASET_HASH) != dataset_hash:
            raise UserError(f"run={run} was trained on another prepared dataset; give the one it was trained on")
        if self._status(run) != "FINISHED":
            raise UserError(f"run={run} has not finished; go on with: shopkeeper train prepared=... resume={run}")
        return found

    def best(self, *, dataset_hash: str, family: str | None = None) -> TrackedRun:
        runs = [run for run in self._finished(dataset_hash, family) if PRIMARY in run.data.metrics]
        if not runs:
            what = f"{family} run" if family else "run"
            raise UserError(f"no finished {what} on this prepared dataset in {self.config.uri}; train one first")
        best = max(runs, key=lambda run: (run.data.metrics[PRIMARY], run.info.start_time))
        return TrackedRun(best.info.run_id, self)

    def refit_of(self, run_id: str, *, dataset_hash: str) -> TrackedRun | None:
        """The newest finished refit of a run on the same dataset, if there is one."""
        runs = [run for run in self._finished(dataset_hash, None) if run.data.tags.get(REFIT_OF) == run_id]
        newest = max(runs, key=lambda run: int(run.info.start_time), default=None)
        return TrackedRun(newest.info.run_id, self) if newest else None

    def same_as(self, *, dataset_hash: str, config_hash: str) -> tuple[TrackedRun | None, TrackedRun | None]:
        """The newest finished run of that configuration on that dataset, and the newest that can be resumed."""
        query = f"tags.`{DATASET_HASH}` = '{dataset_hash}' AND tags.`{CONFIG_HASH}` = '{config_hash}'"
        found = [run for run in self._search(query) if REFIT_OF not in run.data.tags]
        runs = sorted(found, key=lambda run: int(run.info.start_time))
        done = [TrackedRun(r.info.run_id, self) for r in runs if r.info.status == "FINISHED"]
        open_runs = [TrackedRun(r.info.run_id, self) for r in runs if r.info.status != "FINISHED"]
        resumable = [run for run in open_runs if run.can_resume]
        return (done[-1] if done else None, resumable[-1] if resumable else None)

    def waiting(self) -> list[TrackedRun]:
        """Runs of this machine with records that no server has taken yet."""
        folders = sorted(file.parent for file in Path(self.config.runs_dir).glob(f"*/{OUTBOX_FILE}"))
        return [run for run in (TrackedRun(folder.name, self) for folder in folders) if run.pending()]

    def on_datasets(self, hashes: list[str]) -> list[TrackedRun]:
        """Every run, finished or not, that was trained on one of the datasets."""
        queries = [f"tags.`{DATASET_HASH}` = '{dataset_hash}'" for dataset_hash in hashes]
        return [TrackedRun(run.info.run_id, self) for query in queries for run in self._search(query)]

    def _finished(self, dataset_hash: str, family: str | None) -> list["Run"]:
        query = f"attributes.status = 'FINISHED' AND tags.`{DATASET_HASH}` = '{dataset_hash}'"
        return self._search(query + (f" AND tags.`{FAMILY}` = '{family}'" if family else ""))

    def _search(self, query: str) -> list["Run"]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _status(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.status)


def database_uri(uri: str) -> str:
    """The URI itself; of an SQLite file its absolute form, as MLflow goes by its name even if the folder changes."""
    from sqlalchemy.engine import make_url

    database = make_url(uri).database if uri.startswith("sqlite:") else None
    if not database or database == ":memory:":
        return uri
    place = Path(database).absolute()
    if not place.exists():
        create_whole(place)
    return f"sqlite:///{place}"


def create_whole(place: Path) -> None:
    """Set a new SQLite store up beside its place and put it there complete: a kill leaves none, never half of one."""
    from mlflow.tracking import MlflowClient

    with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
        draft = Path(folder) / place.name
        MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was first
            os.link(draft, place)


def quiet_mlflow() -> None:
    """Keep MLflow's set-up chatter (schema migrations, telemetry, git advice) out of our output; errors still show."""
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven would stop training for minutes
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # MLflow sets its loggers up anew when it is imported
    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def environment() -> dict[str, str]:
    """Versions of what decides a result, for the run's parameters."""
    import platform
    from importlib.metadata import version

    names = ("shopkeeper", "torch", "pytorch-lightning", "numpy", "duckdb", "ibis-framework", "mlflow")
    return {"env/python": platform.python_version()} | {f"env/{name}": version(name) for name in names}
