from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from ibis import _

from shopkeeper.data import writer
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.writer import content_hash, write_columns, write_offsets


@pytest.mark.parametrize("chunk", [2, 1000])
def test_columns_are_arrays_of_their_own_type(
    engine: DuckDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(writer, "CHUNK", chunk)
    table = ibis.memtable(pd.DataFrame({"number": [3, 1, 2], "price": [0.5, None, 1.5]}))
    ordered = table.order_by("number").select(number=_.number.cast("int16"), price=_.price)

    write_columns(engine, ordered, tmp_path / "rows", count=3)

    number, price = (np.load(tmp_path / "rows" / f"{name}.npy") for name in ("number", "price"))
    assert (number.dtype, number.tolist()) == (np.int16, [1, 2, 3])
    np.testing.assert_array_equal(price, [np.nan, 1.5, 0.5])


def test_no_rows_make_empty_arrays(engine: DuckDB, tmp_path: Path) -> None:
    table = ibis.memtable(pd.DataFrame({"number": [1]})).filter(_.number > 1)

    write_columns(engine, table, tmp_path / "rows", count=0)

    found = np.load(tmp_path / "rows" / "number.npy")
    assert (found.dtype, found.shape) == (np.int64, (0,))


def test_a_count_that_does_not_hold_is_an_error(engine: DuckDB, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="expected 3 rows, wrote 2"):
        write_columns(engine, ibis.memtable(pd.DataFrame({"number": [1, 2]})), tmp_path / "rows", count=3)


@pytest.mark.parametrize("chunk", [2, 1000])
def test_offsets_say_where_each_number_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(writer, "CHUNK", chunk)
    np.save(tmp_path / "sorted.npy", np.array([0, 0, 2, 2, 2], np.int32))

    write_offsets(tmp_path / "sorted.npy", tmp_path / "out" / "offsets.npy", count=4)

    assert np.load(tmp_path / "out" / "offsets.npy").tolist() == [0, 2, 2, 5, 5]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "rows" / "item.npy", np.arange(5, dtype=np.int32))
    pd.DataFrame({"item_id": ["a", None]}).to_parquet(tmp_path / "items.parquet")
    return tmp_path


def test_the_hash_is_of_the_values_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_hash(folder)
    pd.DataFrame({"item_id": ["a", None]}).to_parquet(folder / "items.parquet", compression="gzip")
    (folder / "manifest.json").write_text("{}")
    monkeypatch.setattr(writer, "CHUNK", 2)

    assert content_hash(folder) == before


def test_the_hash_tells_every_change_apart(folder: Path) -> None:
    hashes = [content_hash(folder)]
    for values in (np.array([0, 1, 2, 4, 3], np.int32), np.arange(5, dtype=np.int64), np.arange(4, dtype=np.int32)):
        np.save(folder / "rows" / "item.npy", values)
        hashes.append(content_hash(folder))
    (folder / "rows" / "item.npy").rename(folder / "rows" / "order.npy")
    hashes.append(content_hash(folder))
    pd.DataFrame({"item_id": ["a", "None"]}).to_parquet(folder / "items.parquet")
    hashes.append(content_hash(folder))

    assert len(set(hashes)) == len(hashes)
