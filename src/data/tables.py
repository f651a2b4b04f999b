"""Open a table wherever it lies: Parquet, CSV and JSON lines, a file, a folder or a glob; or a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from shopkeeper.config import UserError
from shopkeeper.data.settings import CsvConfig

KINDS = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv", "jsonl": "json", "ndjson": "json"}
PLAIN = CsvConfig()


@contextmanager
def reading(*files: str | None) -> Iterator[None]:
    """What the engine finds wrong while it reads (a damaged page, a full disk), in one line that names the files."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowInvalid) as error:
        if "No space left on device" in str(error):
            raise UserError(f"the disk is full: {reason(error)}") from error
        names = ", ".join(file for file in files if file) or "the log"
        raise UserError(f"{names}: cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """First paragraph of the engine's message as one line, without the row it quotes; advice on its options follows."""
    paragraph = str(error).strip().split("\n\n")[0]
    return " ".join(line for line in paragraph.splitlines() if not line.startswith("Original Line:"))


def open_table(con: Backend, path: str, key: str, csv: CsvConfig = PLAIN) -> ir.Table:
    """Scan a table lazily; CSV columns stay text, so that no id loses a leading zero.

    `path` is a file, folder or glob of Parquet, CSV or JSON lines, or `<database URL>::<table>`.

    Raises:
        UserError: when there is no such table, its kind is unknown, or it cannot be read.
    """
    try:
        if is_database(path):
            return open_database(con, path, key)
        files = files_of(path, key)
        table = scan(con, files, csv)
        if kind_of(files[0]) == "csv":
            check_split(table, key, path)
        table.count().execute()
    except UserError:
        raise
    except Exception as error:  # the engines raise many types for a damaged file; each means the same to the user
        raise UserError(f"{key}: {path} cannot be read: {reason(error)}") from error
    return table


def is_database(path: str) -> bool:
    return "://" in path


def files_of(path: str, key: str = "") -> list[Path]:
    """The files a path stands for, sorted: itself, those in a folder, or those of a glob; none for a database.

    Raises:
        UserError: when there is none, or they are of more than one kind.
    """
    if is_database(path):
        return []
    place = Path(path)
    if place.is_dir():
        found = [file for file in sorted(place.rglob("*")) if kind_of(file)]
    elif any(sign in path for sign in "*?["):
        parts = place.parts
        fixed = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
        found = sorted(Path(*parts[:fixed]).glob(str(Path(*parts[fixed:]))))
    else:
        found = [place] if place.exists() else []
    if not found:
        raise UserError(f"{key}: {path} does not exist" if not place.is_dir() else f"{key}: {path} holds no table")
    kinds = {kind_of(file) for file in found}
    if None in kinds:
        raise UserError(f"{key}: {path} is neither .parquet nor .csv nor .jsonl")
    if len(kinds) > 1:
        raise UserError(f"{key}: {path} holds files of several kinds ({', '.join(sorted(map(str, kinds)))}); name one")
    return found


def kind_of(file: Path) -> str | None:
    """`parquet`, `csv` or `json` by the file's ending, compressed or not."""
    ending = file.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2].lower()
    return KINDS.get(ending)


def scan(con: Backend, files: list[Path], csv: CsvConfig) -> ir.Table:
    names = [str(file) for file in files]
    kind = kind_of(files[0])
    if kind == "parquet":
        return con.read_parquet(names, union_by_name=True)
    if kind == "json":
        return con.read_json(names, union_by_name=True)
    options: dict[str, Any] = {} if csv.separator is None else {"sep": csv.separator}
    if csv.nulls:
        options["nullstr"] = ["", *csv.nulls]
    return con.read_csv(names, all_varchar=True, header=True, encoding=csv.encoding, union_by_name=True, **options)


def open_database(con: Backend, path: str, key: str) -> ir.Table:
    """A table of a database, named behind `::`; what another engine holds is copied into ours in batches."""
    url, _, name = path.partition("::")
    if not name:
        raise UserError(f"{key}: {path} names no table: write {path}::<table>")
    if url.startswith("duckdb://"):
        file = Path(url.removeprefix("duckdb://").removeprefix("/"))
        if not file.exists():  # the engine would make an empty one
            raise UserError(f"{key}: {file} does not exist")
        alias = f"log_{file.stem}"
        if alias not in con.list_catalogs():
            con.attach(file, name=alias, read_only=True)
        return con.table(name, database=(alias, "main"))
    copy = ibis.util.gen_name("copied")
    con.con.register(f"{copy}_batches", ibis.connect(url).table(name).to_pyarrow_batches())
    con.raw_sql(f"create temp table {copy} as select * from {copy}_batches")
    return con.table(copy)


def check_split(table: ir.Table, key: str, path: str) -> None:
    """A row with too few or too many fields near the top keeps the engine from finding the separator."""
    (first, *more) = table.columns
    if not more and any(separator in first for separator in ",;|\t"):
        raise UserError(
            f"{key}: {path} cannot be split into columns: check that every row has as many fields as the header, "
            f"{first[:60]!r}"
        )


def present_columns(table: ir.Table) -> set[str]:
    """Names of the columns that hold at least one value (an all-null column counts as absent)."""
    counts = table.aggregate([table[c].count().name(c) for c in table.columns]).execute().iloc[0]
    return {c for c in table.columns if counts[c] > 0}
