"""Engines that run the preparation: what the pipeline asks of one beyond Ibis, and DuckDB, the default."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from shopkeeper.data import schema as s
from shopkeeper.data.clocks import Clock, DuckDBClock
from shopkeeper.data.lines import header_separator
from shopkeeper.data.settings import CsvConfig, PrepareConfig

ROW_BITS = 32
"""Of a row's number that tell its place in its file; those above tell the file."""


class Broken(NamedTuple):
    """Lines of CSV files that cannot be split into the header's fields: how many, and where the first one is."""

    number: int
    first: str


class Engine(ABC):
    """An Ibis backend and a folder of its own for what it computes on the way."""

    con: BaseBackend
    clock: Clock
    folder: Path

    @abstractmethod
    def scan(self, files: list[Path], kind: str, csv: CsvConfig, *, skip_broken: bool = False) -> ir.Table:
        """Files of one kind (parquet, csv, json) as a lazy table, with `source_row` in the order of files and rows.

        CSV columns stay text, so that no id loses a leading zero. `skip_broken` reads over what `broken_lines` counts.
        """

    @abstractmethod
    def broken_lines(self, files: list[Path], csv: CsvConfig) -> Broken:
        """Count the lines of CSV files that have too few or too many fields."""

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

    def scan(self, files: list[Path], kind: str, csv: CsvConfig, *, skip_broken: bool = False) -> ir.Table:
        names = [str(file) for file in files]
        if kind == "parquet":
            return self._scan_parquet(names)
        if kind == "json":
            table = self.con.read_json(names, union_by_name=True)
        else:
            options = csv_options(csv) | (tolerant(files[0], csv) if skip_broken else {})
            table = self.con.read_csv(names, union_by_name=True, **options)
        return numbered(table)

    def broken_lines(self, files: list[Path], csv: CsvConfig) -> Broken:
        count, first = 0, ""
        for file in files:
            rejects = ibis.util.gen_name("rejects")
            kept = {"store_rejects": True, "rejects_table": rejects, "rejects_scan": f"{rejects}_scan"}
            self.con.read_csv(str(file), **(csv_options(csv) | tolerant(file, csv) | kept)).count().execute()
            lines = f"select count(distinct line), min(line), arg_min(csv_line, line) from {rejects}"
            found, line, text = self.con.raw_sql(lines).fetchone()
            count += found
            first = first or (f"line {line} of {file}: {text.strip()[:80]!r}" if found else "")
        return Broken(count, first)

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


def csv_options(csv: CsvConfig) -> dict[str, Any]:
    """How DuckDB reads CSV files."""
    options: dict[str, Any] = {"all_varchar": True, "encoding": csv.encoding}
    options |= {} if csv.separator is None else {"sep": csv.separator}
    options |= {"nullstr": ["", *csv.nulls]} if csv.nulls else {}
    return options | ({"header": True} if csv.columns is None else {"header": False, "names": list(csv.columns)})


def tolerant(file: Path, csv: CsvConfig) -> dict[str, Any]:
    """What makes DuckDB read over broken lines, without letting them tell it how the file is written."""
    return {"ignore_errors": True, "sep": csv.separator or header_separator(file, csv), "quote": '"', "escape": '"'}


def numbered(table: ir.Table) -> ir.Table:
    """Rows numbered from 0 as DuckDB reads them: it keeps the order of files and rows."""
    return table.mutate(**{s.ROW: ibis.row_number().cast("int64")})


def start_engine(config: PrepareConfig, folder: Path) -> Engine:
    """The engine that `config.engine` names, working in `folder`."""
    if config.engine == "spark":
        from shopkeeper.data.spark import Spark

        return Spark(folder, config.spark)
    return DuckDB(folder, memory_limit=config.memory_limit, threads=config.threads)
