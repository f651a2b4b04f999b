"""A table of a real Postgres, started here; it needs `pip install "shopkeeper[postgres]"` and Debian's postgresql."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import DataConfig, PrepareConfig
from shopkeeper.data.tables import open_table

pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "shopkeeper[postgres]"')
TOOLS = [shutil.which(tool) for tool in ("initdb", "pg_ctl")]
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(None in TOOLS, reason="initdb and pg_ctl are not on the path: apt install postgresql"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of a server of our own that listens on a socket in its folder."""
    folder = Path(tempfile.mkdtemp())  # the name of a socket must be short
    who: dict[str, Any] = {}
    if os.getuid() == 0:  # postgres does not run as root
        shutil.chown(folder, "nobody")
        who = {"user": "nobody"}
    initdb, pg_ctl = map(str, TOOLS)
    data, options = str(folder / "data"), f"-k {folder} -c listen_addresses=''"
    subprocess.run([initdb, "-D", data, "-U", "shop", "--auth=trust"], check=True, capture_output=True, **who)
    start = [pg_ctl, "-D", data, "-o", options, "-w", "-l", str(folder / "log"), "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, **who)
    try:
        yield f"postgresql://shop:secret@/postgres?host={folder}"
    finally:
        subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **who)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def table(url: str, log: Callable[[str], pd.DataFrame], clicks_log: str) -> str:
    """The shop with clicks as a table, with a column that nobody reads."""
    from sqlalchemy import create_engine

    server = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    log(clicks_log).assign(unused="x").to_sql("log", server, index=False)
    server.dispose()
    return f"{url}::log"


def test_a_table_of_postgres_is_the_same_dataset_as_a_file(
    table: str,
    data_config: Callable[..., DataConfig],
    prepare_settings: Callable[..., PrepareConfig],
    clicks: Prepared,
    tmp_path: Path,
) -> None:
    prepared = prepare(prepare_settings(data_config(events=table), tmp_path / "prepared"), say=lambda text: None)

    assert prepared.content_hash == clicks.content_hash
    assert "secret" not in (prepared.path / "manifest.json").read_text()


def test_only_the_wanted_columns_leave_the_database(engine: DuckDB, table: str) -> None:
    found = open_table(engine, table, "data.events", wanted={"timestamp", "event"})

    assert set(found.columns) == {"timestamp", "event", "source_row"}


def test_a_table_that_is_not_there_is_named_without_the_password(engine: DuckDB, url: str) -> None:
    with pytest.raises(UserError, match=r"data\.events: .*::bills cannot be read") as caught:
        open_table(engine, f"{url}::bills", "data.events")

    assert "secret" not in str(caught.value)
