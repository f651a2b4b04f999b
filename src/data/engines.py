"""Engines that run the preparation: what the pipeline asks of one beyond Ibis, and DuckDB, the default."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from shopkeeper.data import schema as s
from shopkeeper.data.clocks import Clock, DuckDBClock
from shopkeeper.data.settings import CsvConfig, PrepareConfig

ROW_BITS = 32
"""Of a row's number that tell its place in its file; those above tell the file."""


class Engine(ABC):
    """An Ibis backend and a folder of its own for what it computes on the way."""

    con: BaseBackend
    clock: Clock
    folder: Path

    @abstractmethod
    def scan(self, files: list[Path], kind: str, csv: CsvConfig) -> ir.Table:
        """Files of one kind (parquet, csv, json) as a lazy table, with `source_row` in the order of files and rows.

        CSV columns stay text, so that no id loses a leading zero.
        """

    @abstractmethod
    def attach(self, file: Path, name: str) -> ir.Table | None:
        """A table of a DuckDB file read where it lies; None where the engine cannot."""

    @abstractmethod
    def put(self, name: str, table: pa.Table) -> ir.Table:
        """A small table from memory."""

    @abstractmethod
    def store(self, name: str, table: ir.Table) -> ir.Table:
        """Compute a table once; what is built on it does not compute it again."""

    @abstractmethod
    def batches(self, table: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        """Rows of an ordered query in bounded memory, in batches of at most `size`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what the engine holds; its folder can be removed then."""


class DuckDB(Engine):
    """Runs inside this process, out of core."""

    def __init__(self, folder: Path, *, memory_limit: str | None = None, threads: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        limit = {} if memory_limit is None else {"memory_limit": memory_limit}
        self.con = ibis.duckdb.connect(
            folder / "work.duckdb", temp_directory=str(folder / "tmp"), threads=threads or os.cpu_count() or 1, **limit
        )
        self.clock = DuckDBClock()
        self.folder = folder

    def scan(self, files: list[Path], kind: str, csv: CsvConfig) -> ir.Table:
        names = [str(file) for file in files]
        if kind == "parquet":
            return self._scan_parquet(names)
        if kind == "json":
            table = self.con.read_json(names, union_by_name=True)
        else:
            options: dict[str, Any] = {} if csv.separator is None else {"sep": csv.separator}
            options |= {"nullstr": ["", *csv.nulls]} if csv.nulls else {}
            options |= {"header": True} if csv.columns is None else {"header": False, "names": list(csv.columns)}
            table = self.con.read_csv(names, all_varchar=True, encoding=csv.encoding, union_by_name=True, **options)
        return numbered(table)

    def _scan_parquet(self, names: list[str]) -> ir.Table:
        """Rows are told by their file and their place in it, which is known without counting: all threads can read."""
        view, quoted = ibis.util.gen_name("scan"), ", ".join("'" + name.replace("'", "''") + "'" for name in names)
        row = f"(file_index::bigint << {ROW_BITS}) + file_row_number"
        files = f"read_parquet([{quoted}], union_by_name = true)"
        self.con.raw_sql(f'create temp view {view} as select *, {row} as "{s.ROW}" from {files}')
        return self.con.table(view)

    def attach(self, file: Path, name: str) -> ir.Table:
        alias = f"log_{file.stem}"
        if alias not in self.con.list_catalogs():
            self.con.attach(file, name=alias, read_only=True)
        return numbered(self.con.table(name, database=(alias, "main")))

    def put(self, name: str, table: pa.Table) -> ir.Table:
        return ibis.memtable(table)

    def store(self, name: str, table: ir.Table) -> ir.Table:
        return self.con.create_table(name, table)

    def batches(self, table: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        return iter(self.con.to_pyarrow_batches(table, chunk_size=size))

    def close(self) -> None:
        self.con.disconnect()


def numbered(table: ir.Table) -> ir.Table:
    """Rows numbered from 0 as DuckDB reads them: it keeps the order of files and rows."""
    return table.mutate(**{s.ROW: ibis.row_number().cast("int64")})


def start_engine(config: PrepareConfig, folder: Path) -> Engine:
    """The engine that `config.engine` names, working in `folder`."""
    if config.engine == "spark":
        from shopkeeper.data.spark import Spark

        return Spark(folder, config.spark)
    return DuckDB(folder, memory_limit=config.memory_limit, threads=config.threads)
