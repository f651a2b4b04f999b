from pathlib import Path

import pandas as pd
import pyarrow as pa
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.settings import CsvConfig


def test_rows_are_numbered_in_the_order_of_files_and_rows(engine: DuckDB, tmp_path: Path) -> None:
    for name, ids in {"b": [3, 1], "a": [2, 9, 4]}.items():
        pd.DataFrame({"id": ids}).to_parquet(tmp_path / f"{name}.parquet", index=False)
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]

    found = engine.scan(files, "parquet", CsvConfig()).order_by(s.ROW).execute()

    assert found["id"].tolist() == [2, 9, 4, 3, 1]
    assert found[s.ROW].tolist() == [0, 1, 2, 2**32, 2**32 + 1]


def test_a_column_that_only_some_files_have_is_null_in_the_others(engine: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;more\n007;x\n")
    (tmp_path / "b.csv").write_text("id;\n8;\n")

    found = engine.scan([tmp_path / "a.csv", tmp_path / "b.csv"], "csv", CsvConfig(separator=";")).order_by(s.ROW)

    assert found.execute()["id"].tolist() == ["007", "8"]
    assert found.more.count().execute() == 1


def test_what_is_stored_is_computed_once(engine: DuckDB) -> None:
    table = engine.put("few", pa.table({"n": [2, 1, 3]}))

    stored = engine.store("random", table.mutate(luck=_.n.cast("string").hexdigest("md5")))

    assert stored.order_by("n").execute().equals(stored.order_by("n").execute())
    assert stored.count().execute() == 3


def test_batches_keep_the_order_and_their_size(engine: DuckDB) -> None:
    table = engine.put("numbers", pa.table({"n": list(range(5000))[::-1]}))

    batches = list(engine.batches(table.order_by("n"), 2048))

    assert [n for batch in batches for n in batch.column("n").to_pylist()] == list(range(5000))
    assert max(batch.num_rows for batch in batches) <= 2048
