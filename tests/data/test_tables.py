import sqlite3
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.settings import CsvConfig
from shopkeeper.data.tables import PLAIN, open_table, reason

ROWS = pd.DataFrame({"id": ["007", "8"], "n": [1, 2]})


def ids(engine: DuckDB, path: Path | str, csv: CsvConfig = PLAIN, *, skip_broken: bool = False) -> list[str]:
    table = open_table(engine, str(path), "data.events", csv, skip_broken=skip_broken)
    return sorted(table.execute()["id"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days of a log as Parquet; the second has a column more."""
    (tmp_path / "log" / "day=2").mkdir(parents=True)
    ROWS.to_parquet(tmp_path / "log" / "a.parquet")
    ROWS.assign(id=["9", "10"], more=["x", "y"]).to_parquet(tmp_path / "log" / "day=2" / "b.parquet")
    return tmp_path / "log"


def test_a_folder_and_a_glob_are_one_table(engine: DuckDB, folder: Path) -> None:
    assert ids(engine, folder) == ids(engine, folder / "**" / "*.parquet") == ["007", "10", "8", "9"]
    assert ids(engine, folder / "*.parquet") == ["007", "8"]
    assert open_table(engine, str(folder), "data.events").more.count().execute() == 2


def test_every_kind_of_file_keeps_ids_as_they_are(engine: DuckDB, tmp_path: Path) -> None:
    ROWS.to_csv(tmp_path / "a.csv", index=False)
    ROWS.to_csv(tmp_path / "b.csv.gz", index=False)
    ROWS.to_csv(tmp_path / "c.tsv", index=False, sep="\t")
    ROWS.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    ROWS.to_json(tmp_path / "e.ndjson.gz", orient="records", lines=True)

    for file in sorted(tmp_path.iterdir()):
        assert ids(engine, file) == ["007", "8"], file


def test_a_file_is_read_as_it_is_said_to_be_written(engine: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id|n\nÄpfel, rot|1\n", encoding="latin-1")

    assert ids(engine, tmp_path / "a.csv", CsvConfig(separator="|", decimal=".", encoding="latin-1")) == ["Äpfel, rot"]


def test_tables_of_databases(engine: DuckDB, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.sqlite") as lite:
        ROWS.to_sql("log", lite, index=False)
    lite.close()
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as duck:
        duck.execute("create table log as select '007' as id union all select '8'")

    for url in (f"sqlite:///{tmp_path}/shop.sqlite::log", f"duckdb:///{tmp_path}/shop.duckdb::log"):
        assert ids(engine, url) == ["007", "8"]
        assert ids(engine, url) == ["007", "8"]  # and once more: items may lie in the same database
        with pytest.raises(UserError, match=r"data\.events: .*::bills cannot be read"):
            ids(engine, url.replace("::log", "::bills"))
        with pytest.raises(UserError, match=r"names no table: write .*::<table>"):
            ids(engine, url.removesuffix("::log"))
    with pytest.raises(UserError, match=r"gone\.duckdb does not exist"):
        ids(engine, f"duckdb:///{tmp_path}/gone.duckdb::log")
    assert not (tmp_path / "gone.duckdb").exists()


def test_a_database_may_lie_beside_us(engine: DuckDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as lite:
        ROWS.to_sql("log", lite, index=False)
    lite.close()
    monkeypatch.chdir(tmp_path)

    assert ids(engine, "sqlite:///shop.db::log") == ["007", "8"]
    with pytest.raises(UserError, match=r"gone\.db does not exist"):
        ids(engine, "sqlite:///gone.db::log")


def test_what_is_not_there_or_unclear_is_named(engine: DuckDB, folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(UserError, match=r"data\.events: .*empty holds no table"):
        ids(engine, folder.parent / "empty")
    with pytest.raises(UserError, match=r"data\.events: .*\*\.csv does not exist"):
        ids(engine, folder / "*.csv")
    ROWS.to_csv(folder / "c.csv", index=False)
    with pytest.raises(UserError, match=r"holds files of several kinds \(csv, parquet\); name one"):
        ids(engine, folder)


def test_a_reason_is_the_engine_s_first_paragraph_without_the_row_it_quotes() -> None:
    error = ValueError("CSV Error on Line: 3\nOriginal Line: a,b\nToo few fields.\n\nPossible Solution: ...")

    assert reason(error) == "CSV Error on Line: 3 Too few fields."


def test_words_for_no_value_are_nulls(engine: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,n\nNA,1\n,2\n7,3\n")

    table = open_table(engine, str(tmp_path / "a.csv"), "data.events", CsvConfig(nulls=["NA"]))

    assert table.id.count().execute() == 1


def test_lines_that_cannot_be_split_are_named_with_the_way_out(engine: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "cut.csv").write_text("id,n\n1,2\n3,4,5\n6\n")

    with pytest.raises(UserError, match=r"fields, 2 of them, the first: line 3 of .*cut\.csv: '3,4,5'; .*values=drop"):
        open_table(engine, str(tmp_path / "cut.csv"), "data.events", CsvConfig(separator=","))
    assert ids(engine, tmp_path / "cut.csv", skip_broken=True) == ["1"]
