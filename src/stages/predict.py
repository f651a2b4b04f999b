"""shopkeeper predict: a bundle and a file of histories -> Parquet files of answers, in bounded memory."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from shopkeeper.config import PredictConfig, UserError
from shopkeeper.data import schema as s
from shopkeeper.data.columns import Times, Typed, as_id, as_text, as_timestamp, microseconds, refuse_bad_values
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.tables import count_values, open_table, reading
from shopkeeper.export.predictions import FILES, HISTORY, tables

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from shopkeeper_serving.history import Histories
    from shopkeeper_serving.predictor import Predictor

SCHEMA = PredictConfig
SCORES_AT_ONCE = 6_000_000
"""Scores held in memory at a time (24 MB)."""


def run(config: PredictConfig) -> None:
    predictor = load(config.bundle)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with reading(config.histories):
        histories, rows = predict(predictor, config, output)
    print(f"{histories:,} histories, {rows:,} rows, tasks: {', '.join(predictor.manifest.tasks)}")
    print(f"outcomes: {told(predictor)}")
    print(f"predictions: {output}")


def predict(predictor: "Predictor", config: PredictConfig, output: Path) -> tuple[int, int]:
    """Answer every history into the files of `output`; return how many and of how many rows."""
    work = output / "predict.work"
    engine = DuckDB(work)
    try:
        raw = open_table(engine, config.histories, "histories")
        rows = read_rows(raw, config.histories, predictor.manifest.context)
        total, histories = int(rows.count().execute()), 0
        with whole_files(output) as writers, tqdm(total=total, unit="row", desc="predict") as progress:
            for table in whole_histories(rows, config.rows_per_batch):
                names, offsets = history_offsets(table)
                for file, part in answer(predictor, names, to_histories(predictor, table, offsets), config):
                    writers[file].write_table(part)
                histories += len(names)
                progress.update(table.num_rows)
    finally:
        engine.close()
        shutil.rmtree(work, ignore_errors=True)
    return histories, total


@contextmanager
def whole_files(folder: Path) -> Iterator[dict[str, pq.ParquetWriter]]:
    """Writers of all files; the files appear together once everything is written, or not at all."""
    partial = {file: folder / f"{file}.partial" for file in FILES}
    try:
        with ExitStack() as stack:
            yield {f: stack.enter_context(pq.ParquetWriter(partial[f], schema)) for f, schema in FILES.items()}
        for file, path in partial.items():
            path.rename(folder / file)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def told(predictor: "Predictor") -> str:
    """Which outcomes are written, and why no purchase intent is among them."""
    if predictor.calibration is None:
        return f"none, a {predictor.manifest.family} bundle tells none: segments.parquet and outcomes.parquet are empty"
    known = [*predictor.calibration.classes, "depth"]
    why = "every session of the log buys" if predictor.manifest.order_only else "the model was not trained for it"
    return ", ".join(known) + ("" if s.INTENT in known else f"; no {s.PURCHASE}: {why}")


def load(path: str) -> "Predictor":
    try:
        from shopkeeper_serving.bundle import BundleError
        from shopkeeper_serving.predictor import Predictor
    except ImportError as error:
        raise UserError("predict needs shopkeeper-serving: pip install ./serving") from error
    try:
        return Predictor.load(path)
    except BundleError as error:
        raise UserError(f"bundle: {error}") from error


def read_rows(raw: "ir.Table", path: str, context: list[str]) -> "ir.Table":
    """Event rows with the columns prediction needs, by history and then in file order.

    Raises:
        UserError: when `history_id` or `event` is missing, null or empty, or a column has the wrong type.
    """
    for column in (HISTORY, s.EVENT):
        if column not in raw.columns:
            raise UserError(f"histories: {path} has no column {column!r}")
    typed = {HISTORY: as_id(raw[HISTORY], path), s.EVENT: Typed(raw[s.EVENT].cast("string").nullif(""))}
    for column in (HISTORY, s.EVENT):
        empty = int(typed[column].value.isnull().sum().execute() or 0)
        if empty:
            raise UserError(f"histories: {path}: {empty} rows have no {column!r}")
    _, present = count_values(raw)
    null = ibis.null("string")
    typed |= {c: as_id(raw[c], path) if c in present else Typed(null) for c in (s.ITEM, s.SESSION)}
    if s.TIMESTAMP in present:
        typed[s.TIMESTAMP] = as_timestamp(raw[s.TIMESTAMP], path, Times())
    refuse_bad_values(raw, typed, path)
    columns = {name: value for name, (value, _bad, _wanted) in typed.items() if name != s.TIMESTAMP}
    columns |= {c: as_text(raw[c]) if c in present else null for c in context}
    columns["time"] = microseconds(typed[s.TIMESTAMP].value) if s.TIMESTAMP in typed else ibis.null("int64")
    return raw.select(**columns, **{s.ROW: raw[s.ROW]}).order_by([HISTORY, s.ROW])


def whole_histories(rows: "ir.Table", size: int) -> Iterator[pa.Table]:
    """Tables of about `size` rows that never cut a history in two."""
    kept: list[pa.RecordBatch] = []
    for batch in rows.to_pyarrow_batches(chunk_size=size):
        if not batch.num_rows:
            continue
        ids = batch.column(HISTORY)
        last = pc.index(ids, ids[-1]).as_py()  # rows are sorted: where the last history begins
        same = kept and kept[-1].column(HISTORY)[-1].as_py() == ids[0].as_py()
        if last == 0 and same:
            kept.append(batch)
            continue
        ready = [*kept, batch.slice(0, last)]
        if sum(b.num_rows for b in ready):
            yield pa.Table.from_batches(ready)
        kept = [batch.slice(last)]
    if kept:
        yield pa.Table.from_batches(kept)


def history_offsets(table: pa.Table) -> tuple[list[str], np.ndarray]:
    """Names of the histories, and where the rows of each begin (B + 1,)."""
    ids = table.column(HISTORY).combine_chunks()
    changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False) if len(ids) > 1 else np.empty(0, bool)
    first = np.concatenate([[0], np.flatnonzero(changed) + 1])
    return ids.take(pa.array(first)).to_pylist(), np.append(first, len(ids)).astype(np.int64)


def to_histories(predictor: "Predictor", table: pa.Table, offsets: np.ndarray) -> "Histories":
    """Look every value up in the bundle's vocabularies; no row is visited in Python."""
    from shopkeeper_serving.history import Histories

    vocabulary = predictor.bundle.vocabulary
    session = table.column(s.SESSION).combine_chunks().dictionary_encode().indices
    context = [codes(table, c, values) for c, values in vocabulary.context.items()]
    item = table.column(s.ITEM)
    return Histories(
        offsets=offsets,
        event=codes(table, s.EVENT, vocabulary.event),
        item=codes(table, s.ITEM, predictor.bundle.item_ids),
        names_item=pc.is_valid(item).to_numpy(),
        time=pc.fill_null(table.column("time"), -1).to_numpy(),
        session=pc.fill_null(session, -1).to_numpy(zero_copy_only=False).astype(np.int64),
        context=np.stack(context, axis=1) if context else np.zeros((table.num_rows, 0), np.int64),
    )


def codes(table: pa.Table, column: str, values: list[str]) -> np.ndarray:
    """Position from one of each value in `values`, 0 where it is null or not there (R,)."""
    found = pc.index_in(table.column(column), value_set=pa.array(values, pa.string()))
    position: np.ndarray = pc.fill_null(pc.add(found.cast(pa.int64()), 1), 0).to_numpy()
    return position


def answer(
    predictor: "Predictor", names: list[str], histories: "Histories", config: PredictConfig
) -> Iterator[tuple[str, pa.Table]]:
    """Rows of the files for all histories, in chunks that score in bounded memory."""
    from shopkeeper_serving.history import select

    manifest = predictor.manifest
    size = max(1, min(512, SCORES_AT_ONCE // (manifest.num_items * len(manifest.tasks))))
    for begin in range(0, len(names), size):
        end = min(begin + size, len(names))
        inputs = predictor.inputs(select(histories, begin, end))
        found = predictor.answer(inputs, k=config.k, exclude_seen=config.exclude_seen, sets=False)
        yield from tables(predictor, names[begin:end], found)
