"""A table of a real Postgres, started here; it needs `pip install "shopkeeper[postgres]"` and Debian's postgresql."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import DataConfig, PrepareConfig
from shopkeeper.data.tables import open_table

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def table(postgres: str, log: Callable[[str], pd.DataFrame], clicks_log: str) -> str:
    """The shop with clicks as a table, with a column that nobody reads."""
    from sqlalchemy import create_engine

    server = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    log(clicks_log).assign(unused="x").to_sql("log", server, index=False)
    server.dispose()
    return f"{postgres}::log"


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


def test_a_table_that_is_not_there_is_named_without_the_password(engine: DuckDB, postgres: str) -> None:
    with pytest.raises(UserError, match=r"data\.events: .*::bills cannot be read") as caught:
        open_table(engine, f"{postgres}::bills", "data.events")

    assert "secret" not in str(caught.value)
