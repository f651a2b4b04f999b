"""Spark as the engine: local or a cluster, by its master URL; its folder must lie where every node sees it."""

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.clocks import SparkClock
from shopkeeper.data.engines import Broken, Engine
from shopkeeper.data.lines import header_separator
from shopkeeper.data.settings import CsvConfig, SparkConfig

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


class Spark(Engine):
    """A Spark session of its own; every stored table is Parquet in `folder`."""

    def __init__(self, folder: Path, config: SparkConfig) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.session = start_session(config, self.folder)
        self.con = ibis.pyspark.connect(self.session)
        self.clock = SparkClock()

    def scan(self, files: list[Path], kind: str, csv: CsvConfig, *, skip_broken: bool = False) -> ir.Table:
        names = [str(file.resolve()) for file in files]
        reader = self.session.read
        if kind == "parquet":
            frame = reader.option("mergeSchema", True).parquet(*names)
        elif kind == "json":
            frame = reader.option("mode", "FAILFAST").json(names)
        else:
            frame = self._read_csv(files, csv, mode="DROPMALFORMED" if skip_broken else "FAILFAST")
            if csv.nulls:
                frame = without_words(frame, csv.nulls)
        return self._view(with_rows(frame, names))

    def broken_lines(self, files: list[Path], csv: CsvConfig) -> Broken:
        count, first = 0, ""
        for file in files:
            every, whole = (self._read_csv([file], csv, mode=mode) for mode in ("PERMISSIVE", "DROPMALFORMED"))
            found = every.count() - whole.count()
            count += found
            first = first or (f"one of {file}" if found else "")
        return Broken(count, first)

    def _read_csv(self, files: list[Path], csv: CsvConfig, *, mode: str) -> Any:
        reader = self.session.read
        if csv.columns is not None:
            reader = reader.schema(", ".join(f"`{column}` string" for column in csv.columns))
        # all columns are parsed whatever is asked for: else a line would be broken or not by what is asked for
        return reader.options(
            header=csv.columns is None, sep=csv.separator or header_separator(files[0], csv), encoding=csv.encoding,
            multiLine=True, quote='"', escape='"', mode=mode, columnPruning=False,
        ).csv([str(file.resolve()) for file in files])  # fmt: skip

    def attach(self, file: Path, name: str) -> None:
        return None

    def put(self, name: str, table: pa.Table) -> ir.Table:
        file = self.folder / f"{name}.parquet"
        pq.write_table(table, file)
        return self._view(self.session.read.parquet(str(file)))

    def store(self, name: str, table: ir.Table) -> ir.Table:
        return self._view(self._write(name, table))

    def batches(self, table: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        name = ibis.util.gen_name("ordered")
        self._write(name, table)
        parts = sorted((self.folder / name).glob("part-*.parquet"))
        for part in parts:  # of an ordered query, each part comes after the one before
            yield from pq.ParquetFile(part).iter_batches(batch_size=size)
        shutil.rmtree(self.folder / name)

    def close(self) -> None:
        self.session.stop()

    def _write(self, name: str, table: ir.Table) -> Any:
        place = str(self.folder / name)
        self.session.sql(self.con.compile(table)).write.mode("overwrite").parquet(place)
        return self.session.read.parquet(place)

    def _view(self, frame: Any) -> ir.Table:
        name = ibis.util.gen_name("view")
        frame.createOrReplaceTempView(name)
        return self.con.table(name)


def start_session(config: SparkConfig, folder: Path) -> Any:
    """A Spark session with the settings that results depend on.

    Raises:
        UserError: when pyspark or Java is missing.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError('engine=spark needs pyspark: pip install "shopkeeper[spark]"') from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # pyspark 4.3 says so of pandas 3 at every turn; nothing here passes through the parts it means
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
    builder = SparkSession.builder.master(config.master).appName("shopkeeper prepare")
    settings = {
        **SETTINGS,
        "spark.driver.memory": config.memory,
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
        **config.settings,
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise UserError(f"engine=spark did not start: {error}; is Java 17 installed and JAVA_HOME set?") from error


def with_rows(frame: Any, names: list[str]) -> Any:
    """The rows numbered from 0 in the order of the files and of the rows in them, as DuckDB does.

    Spark reads a file in pieces of which only the place is known: rows are counted inside each piece, and each piece
    begins where those before it end.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    file, piece, within = "__file", "__piece", "__within"
    marked = frame.select(
        "*",
        f.col("_metadata.file_path").alias(file),
        f.col("_metadata.file_block_start").alias(piece),
        f.monotonically_increasing_id().alias(within),
    )
    place = {name: number for number, name in enumerate(names)}
    counts = marked.groupBy(file, piece).count().collect()
    counts.sort(key=lambda row: (place[unquote(urlparse(row[file]).path)], row[piece]))
    starts, total = [], 0
    for row in counts:
        starts.append((row[file], row[piece], total))
        total += row["count"]
    offsets = frame.sparkSession.createDataFrame(starts, f"{file} string, {piece} bigint, __start bigint")
    inside = f.row_number().over(Window.partitionBy(file, piece).orderBy(within)) - 1
    joined = marked.withColumn(s.ROW, inside).join(f.broadcast(offsets), [file, piece])
    return joined.withColumn(s.ROW, (f.col(s.ROW) + f.col("__start")).cast("bigint")).drop(
        file, piece, within, "__start"
    )


def without_words(frame: Any, words: list[str]) -> Any:
    """Text columns in which the given words stand for no value."""
    from pyspark.sql import functions as f

    return frame.select(*(f.when(~f.col(f"`{c}`").isin(words), f.col(f"`{c}`")).alias(c) for c in frame.columns))
