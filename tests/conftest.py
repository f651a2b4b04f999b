"""Settings for all tests; a fixture belongs here only when tests of more than one package use it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: two test processes share two cores, and one thread each keeps sums reproducible.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may call out; MLflow would report its use.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
import pytest

from shopkeeper.config import TrackingConfig, configure
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig

STEPS = {"view_item": 0.55, "add_to_cart": 0.25, "purchase": 0.2}
ITEMS = 24
WINDOWS = ["data.split.val_share=0.25", "data.split.test_share=0.25"]


@pytest.fixture(scope="session")
def compose() -> Callable[..., Any]:
    """`compose(command, schema, *overrides)`: the configuration of a command."""
    return configure


def make_log(*, orders_only: bool, users: int = 150, seed: int = 5) -> pd.DataFrame:
    """A made-up shop over sixty days: users have three favourites among 24 items, and come three to twelve times."""
    rng = np.random.default_rng(seed)
    visits = rng.integers(3, 13, users)
    user = np.repeat(np.arange(users), visits)
    start = rng.uniform(0, 60, len(user)).round(3) + rng.integers(0, 20, users)[user] * 0.5
    rows = rng.integers(2, 6, len(user))
    session = np.repeat(np.arange(len(user)), rows)
    favourites = rng.integers(0, ITEMS, (users, 3))
    liked = favourites[user[session], rng.integers(0, 3, len(session))]
    item = np.where(rng.random(len(session)) < 0.7, liked, rng.integers(0, ITEMS, len(session)))
    event = (
        np.full(len(session), "purchase")
        if orders_only
        else rng.choice(list(STEPS), len(session), p=list(STEPS.values()))
    )
    minute = np.zeros(len(session)) if orders_only else np.arange(len(session)) % 5
    bought = event == "purchase"
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(np.round(start[session] * 1440 + minute), unit="min"),
            "event": event,
            "item_id": [f"item {i}" for i in item],
            "user_id": [f"user {u}" for u in user[session]],
            "session_id": [f"visit {n}" for n in session],
            "order_id": [f"order {n}" if paid else None for n, paid in zip(session, bought, strict=True)],
            "channel": np.where(session % 3 == 0, "app", "web"),
        }
    )
    return frame.sort_values(["timestamp", "session_id"], kind="stable", ignore_index=True)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of two made-up shops: `clicks` logs views, carts and purchases, `orders` logs purchases alone."""
    folder = tmp_path_factory.mktemp("logs")
    for name, orders_only in {"clicks": False, "orders": True}.items():
        make_log(orders_only=orders_only).to_parquet(folder / f"{name}.parquet", index=False)
    return {name: folder / f"{name}.parquet" for name in ("clicks", "orders")}


@pytest.fixture(scope="session")
def shops(
    logs: dict[str, Path], compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Prepared]:
    """Both shops, prepared."""
    folder = tmp_path_factory.mktemp("shops")

    def prepared(name: str) -> Prepared:
        overrides = ["data=events", f"data.events={logs[name]}", f"output={folder / name}", "threads=1", *WINDOWS]
        return prepare(compose("prepare", PrepareConfig, *overrides), say=lambda text: None)

    return {name: prepared(name) for name in logs}


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingConfig:
    """A store of its own for the test."""
    return TrackingConfig(
        uri=f"sqlite:///{tmp_path / 'mlruns.db'}",
        experiment="test",
        artifacts=str(tmp_path / "artifacts"),
        runs_dir=str(tmp_path / "runs"),
    )


@pytest.fixture
def tracking_overrides(tracking: TrackingConfig) -> list[str]:
    """The same store, as overrides of a command."""
    fields = {"uri": tracking.uri, "artifacts": tracking.artifacts, "runs_dir": tracking.runs_dir}
    return [f"tracking.{name}={value}" for name, value in fields.items()] + ["tracking.experiment=test"]


Silent = Callable[[str], None]


@pytest.fixture
def silent() -> Silent:
    return lambda text: None


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDB]:
    duckdb = DuckDB(tmp_path_factory.mktemp("engine"), threads=1)
    yield duckdb
    duckdb.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres of our own that listens on a socket in its folder."""
    pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "shopkeeper[postgres]"')
    initdb, pg_ctl = (shutil.which(tool) for tool in ("initdb", "pg_ctl"))
    if initdb is None or pg_ctl is None:
        pytest.skip("initdb and pg_ctl are not on the path: apt install postgresql")
    folder = Path(tempfile.mkdtemp())  # the name of a socket must be short
    who: dict[str, Any] = {}
    if os.getuid() == 0:  # postgres does not run as root
        shutil.chown(folder, "nobody")
        who = {"user": "nobody"}
    data, options = str(folder / "data"), f"-k {folder} -c listen_addresses=''"
    subprocess.run([initdb, "-D", data, "-U", "shop", "--auth=trust"], check=True, capture_output=True, **who)
    start = [pg_ctl, "-D", data, "-o", options, "-w", "-l", str(folder / "log"), "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, **who)
    try:
        yield f"postgresql://shop:secret@/postgres?host={folder}"
    finally:
        subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **who)
        shutil.rmtree(folder)
