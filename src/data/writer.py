"""Stream query results into memory-mappable arrays, and hash what a folder says."""

import hashlib
import json
from pathlib import Path

import ibis.expr.types as ir
import numpy as np
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from numpy.lib.format import open_memmap
from tqdm import tqdm

CHUNK = 1_000_000


def write_columns(con: Backend, table: ir.Table, folder: Path, *, count: int) -> None:
    """Write each column of an ordered query as `<folder>/<column>.npy`, a batch at a time.

    Floats keep NaN for null; integer columns must hold no null.
    """
    folder.mkdir(exist_ok=True)
    kinds = {name: np.dtype(kind.to_pandas()) for name, kind in table.schema().items()}
    if not count:
        for name, kind in kinds.items():
            np.save(folder / f"{name}.npy", np.empty(0, kind))
        return
    arrays = {n: open_memmap(folder / f"{n}.npy", mode="w+", dtype=k, shape=(count,)) for n, k in kinds.items()}
    done = 0
    with tqdm(total=count, desc=folder.name, unit="row", unit_scale=True, leave=False) as progress:
        for batch in con.to_pyarrow_batches(table, chunk_size=CHUNK):
            for name, array in arrays.items():
                array[done : done + batch.num_rows] = batch.column(name).to_numpy(zero_copy_only=False)
            done += batch.num_rows
            progress.update(batch.num_rows)
    assert done == count, f"{folder}: expected {count} rows, wrote {done}"
    for array in arrays.values():
        array.flush()


def write_offsets(sorted_numbers: Path, target: Path, *, count: int) -> None:
    """From a sorted column of numbers 0..count-1, write where each number's rows begin (count + 1 offsets)."""
    target.parent.mkdir(exist_ok=True)
    numbers = np.load(sorted_numbers, mmap_mode="r")
    sizes = np.zeros(count, np.int64)
    for start in range(0, len(numbers), CHUNK):
        sizes += np.bincount(numbers[start : start + CHUNK], minlength=count)
    np.save(target, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def content_hash(folder: Path) -> str:
    """SHA-256 over the logical values: every array's bytes and every side table's cells, in canonical order."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.npy")):
        array = np.load(path, mmap_mode="r")
        digest.update(f"{path.parent.name}/{path.name}:{array.dtype.str}:{array.shape}".encode())
        for start in range(0, len(array), CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + CHUNK]).tobytes())
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches():
            digest.update(json.dumps(batch.to_pydict(), sort_keys=True, default=str).encode())
    return digest.hexdigest()
