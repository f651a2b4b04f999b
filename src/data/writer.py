"""Stream query results into memory-mappable arrays, and hash what a folder says."""

import hashlib
import json
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, open_memmap, write_array_header_1_0
from tqdm import tqdm

from shopkeeper.data.engines import Engine
from shopkeeper.data.prepared import SEGMENTS

CHUNK = 1_000_000


def write_columns(engine: Engine, table: ir.Table, folder: Path, *, count: int) -> None:
    """Write each column of an ordered query as `<folder>/<column>.npy`, a batch at a time.

    Floats are rounded to six digits, here and not by an engine, so that all engines agree, and keep NaN for null;
    integer columns must hold no null.
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
        for batch in engine.batches(table, CHUNK):
            for name, array in arrays.items():
                values = batch.column(name).to_numpy(zero_copy_only=False)
                array[done : done + batch.num_rows] = rounded(values) if array.dtype.kind == "f" else values
            done += batch.num_rows
            progress.update(batch.num_rows)
    assert done == count, f"{folder}: expected {count} rows, wrote {done}"
    for array in arrays.values():
        array.flush()


class GrowingArray:
    """A `.npy` file that is written part by part, of one dimension and a length that only the end tells."""

    def __init__(self, file: Path, kind: np.dtype[np.generic]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.kind, self.length = kind, 0
        self.stream = file.open("wb")
        self._write_header()

    def append(self, values: npt.NDArray[np.generic]) -> None:
        assert values.dtype == self.kind, f"{self.stream.name}: {values.dtype} is not {self.kind}"
        values.tofile(self.stream)
        self.length += len(values)

    def __enter__(self) -> "GrowingArray":
        return self

    def __exit__(self, *_error: object) -> None:
        self.stream.seek(0)
        self._write_header()  # as long as before: numpy leaves room for the length to grow
        self.stream.close()

    def _write_header(self) -> None:
        header = {"descr": dtype_to_descr(self.kind), "fortran_order": False, "shape": (self.length,)}
        write_array_header_1_0(self.stream, header)


def read_part(file: Path, begin: int, end: int) -> npt.NDArray[Any]:
    """Rows [begin, end) of an array, in memory: nothing of the file stays mapped."""
    part: npt.NDArray[Any] = np.load(file, mmap_mode="r")[begin:end].copy()
    return part


def write_offsets(sorted_numbers: Path, target: Path, *, count: int) -> None:
    """From a sorted column of numbers 0..count-1, write where each number's rows begin (count + 1 offsets)."""
    target.parent.mkdir(exist_ok=True)
    numbers = np.load(sorted_numbers, mmap_mode="r")
    sizes = np.zeros(count, np.int64)
    for start in range(0, len(numbers), CHUNK):
        sizes += np.bincount(numbers[start : start + CHUNK], minlength=count)
    np.save(target, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Six digits after the point; values too large to have any, and -0.0, as one writes them."""
    small = np.abs(values) < 1e9
    return np.where(small, np.round(np.where(small, values, 0.0), 6), values) + 0.0


def write_table(engine: Engine, table: ir.Table, file: Path) -> None:
    """Write an ordered query as one Parquet file, a batch at a time."""
    schema = table.schema().to_pyarrow()
    with pq.ParquetWriter(file, schema) as writer:
        for batch in engine.batches(table, CHUNK):
            writer.write_batch(batch.cast(schema))


def content_hash(folder: Path) -> str:
    """SHA-256 over the logical values: every array's, every side table's and the rules', in canonical order.

    The bytes of the files may differ between engines and versions of libraries; what they say does not.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.npy")):
        array = np.load(path, mmap_mode="r")
        digest.update(f"{path.parent.name}/{path.name}:{array.dtype.str}:{array.shape}".encode())
        for start in range(0, len(array), CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + CHUNK]).tobytes())
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        for name in sorted(table.column_names):
            digest.update(f"{path.name}:{name}:{len(table)}".encode())
            for part in column_bytes(table.column(name)):
                digest.update(part)
    for path in folder.glob(SEGMENTS):
        rules = json.dumps(json.loads(path.read_text()), sort_keys=True)
        digest.update(f"{path.name}:{rules}".encode())
    return digest.hexdigest()


def column_bytes(column: pa.ChunkedArray) -> list[bytes]:
    """The values of a column of a side table: which are null, and the others as text or as 64-bit numbers."""
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    nulls = np.packbits(whole.is_null().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_string(whole.type) or pa.types.is_large_string(whole.type):
        text = pc.fill_null(whole, "").cast(pa.large_string())
        lengths = pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.int64).tobytes()
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        data = text.buffers()[2]
        return [nulls, lengths, data.to_pybytes()[offsets[0] : offsets[-1]] if data is not None and len(text) else b""]
    kind = np.float64 if pa.types.is_floating(whole.type) else np.int64
    values = pc.fill_null(whole.cast(pa.float64() if kind is np.float64 else pa.int64()), 0)
    numbers = values.to_numpy(zero_copy_only=False)
    return [nulls, (rounded(numbers) if kind is np.float64 else numbers).tobytes()]
