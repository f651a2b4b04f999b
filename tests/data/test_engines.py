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


BROKEN = """id;name
1;one
2
3;three;more
4;"four; in
two lines"
5;five
"""


def test_lines_with_too_few_or_too_many_fields_are_counted_and_read_over(engine: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text(BROKEN)
    (tmp_path / "whole.csv").write_text("id;name\n6;six\n")
    files = [tmp_path / "broken.csv", tmp_path / "whole.csv"]

    broken = engine.broken_lines(files, CsvConfig())
    kept = engine.scan(files, "csv", CsvConfig(), skip_broken=True).order_by(s.ROW).execute()

    assert broken.number == 2
    assert broken.first == f"line 3 of {files[0]}: '2'"
    assert kept["id"].tolist() == ["1", "4", "5", "6"]
    assert kept["name"].tolist()[1] == "four; in\ntwo lines"
