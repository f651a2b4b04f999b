"""Open a table wherever it lies: Parquet, CSV and JSON lines, a file, a folder or a glob; or a database."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import Broken, Engine
from shopkeeper.data.settings import CsvConfig

KINDS = {
    **dict.fromkeys(("parquet", "pq"), "parquet"),
    **dict.fromkeys(("csv", "tsv", "dat", "inter", "item", "user"), "csv"),
    **dict.fromkeys(("jsonl", "ndjson"), "json"),
}
"""By a file's ending."""
PLAIN = CsvConfig()
ROWS = "number of rows"


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
        names = ", ".join(shown(file) for file in files if file) or "the log"
        advice = (
            "; mend the line, or leave out such lines with data.bad_values=drop" if "CSV Error" in str(error) else ""
        )
        raise UserError(f"{names}: cannot be read: {reason(error)}{advice}") from error


def reason(error: Exception) -> str:
    """First paragraph of the engine's message as one line, without the row it quotes; advice on its options follows."""
    paragraph = str(error).strip().split("\n\n")[0]
    return " ".join(line for line in paragraph.splitlines() if not line.startswith("Original Line:"))


def open_table(
    engine: Engine,
    path: str,
    key: str,
    csv: CsvConfig = PLAIN,
    *,
    wanted: Collection[str] | None = None,
    skip_broken: bool = False,
) -> ir.Table:
    """Scan a table lazily, with `source_row`; CSV columns stay text, so that no id loses a leading zero.

    `path` is a file, folder or glob of Parquet, CSV or JSON lines, or `<database URL>::<table>`, of which only the
    `wanted` columns are read (None: all). `skip_broken` reads over CSV lines with too few or too many fields, which
    `broken_lines` counts.

    Raises:
        UserError: when there is no such table, its kind is unknown, or it cannot be read.
    """
    try:
        if is_database(path):
            return open_database(engine, path, key, wanted)
        files = files_of(path, key)
        kind = kind_of(files[0])
        assert kind is not None
        table = engine.scan(files, kind, csv, skip_broken=skip_broken)
        if kind == "csv":
            check_split(table.drop(s.ROW), key, path)
        table.limit(1).count().execute()
    except UserError:
        raise
    except Exception as error:  # the engines raise many types for a damaged file; each means the same to the user
        broken = broken_lines(engine, path, csv)
        why = told(broken) if broken.number else f"cannot be read: {reason(error)}"
        raise UserError(f"{key}: {shown(path)} {why}") from error
    return table


def broken_lines(engine: Engine, path: str, csv: CsvConfig) -> Broken:
    """Lines of the CSV files a path stands for that have too few or too many fields; none of any other table."""
    files = files_of(path)
    return engine.broken_lines(files, csv) if files and kind_of(files[0]) == "csv" else Broken(0, "")


def told(broken: Broken) -> str:
    """What is wrong with lines, where they are errors."""
    return (
        f"holds lines with too few or too many fields, {broken.number:,} of them, the first: {broken.first}; "
        "mend them, or leave them out with data.bad_values=drop"
    )


def shown(path: str) -> str:
    """A path or URL as it may be printed and kept: without a password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", path)


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


def kinds_of(path: str) -> set[str | None]:
    """The kinds of the files a path stands for; none for a database, whose tables are read from its copy."""
    return {kind_of(file) for file in files_of(path)}


def is_there(path: str) -> bool:
    """Whether a path stands for any file; a database is taken at its word."""
    try:
        return is_database(path) or bool(files_of(path))
    except UserError:
        return False


def kind_of(file: Path) -> str | None:
    """`parquet`, `csv` or `json` by the file's ending, compressed or not."""
    ending = file.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2].lower()
    return KINDS.get(ending)


def open_database(engine: Engine, path: str, key: str, wanted: Collection[str] | None) -> ir.Table:
    """A table of a database, named behind `::`; where the engine cannot read it in place, it is copied in batches."""
    url, _, name = path.partition("::")
    if not name:
        raise UserError(f"{key}: {shown(path)} names no table: write {shown(path)}::<table>")
    scheme, _, rest = url.partition("://")
    file = Path(rest.removeprefix("/"))  # three slashes are relative, four absolute, as in SQLAlchemy
    if scheme in ("duckdb", "sqlite") and not file.exists():  # it would be made, empty
        raise UserError(f"{key}: {file} does not exist")
    if scheme == "duckdb":
        attached = engine.attach(file, name)
        if attached is not None:
            return attached
    copy = engine.folder / f"{ibis.util.gen_name('copied')}.parquet"
    remote = ibis.sqlite.connect(file) if scheme == "sqlite" else ibis.connect(url)
    try:
        table = remote.table(name)
        read = [c for c in table.columns if wanted is None or c in wanted] or table.columns
        with remote.to_pyarrow_batches(table.select(*read)) as rows, pq.ParquetWriter(copy, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
    finally:
        remote.disconnect()
    return engine.scan([copy], "parquet", PLAIN)


def check_split(table: ir.Table, key: str, path: str) -> None:
    """A row with too few or too many fields near the top keeps the engine from finding the separator."""
    (first, *more) = table.columns
    if not more and any(separator in first for separator in ",;|\t"):
        raise UserError(
            f"{key}: {path} cannot be split into columns: check that every row has as many fields as the header, "
            f"{first[:60]!r}"
        )


def count_values(table: ir.Table) -> tuple[int, set[str]]:
    """How many rows a table has, and which columns hold at least one value (an all-null column counts as absent)."""
    counts = table.aggregate([table.count().name(ROWS), *(table[c].count().name(c) for c in table.columns)])
    found = counts.execute().iloc[0]
    return int(found[ROWS]), {c for c in table.columns if found[c] > 0}
