"""Read raw logs into tables with the names and types of the event table; every dropped row is counted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from shopkeeper.config import DataConfig, UserError
from shopkeeper.data import schema as s


@dataclass
class Source:
    """A log as Ibis tables in the design's names, and what reading it left out.

    `events` has every column of the event table (null where the log lacks it), context as strings and
    `source_row`; `items` and `users` may be None. `dropped` counts rows by reason; `rows` is what was read.
    """

    events: ir.Table
    items: ir.Table | None
    users: ir.Table | None
    context: list[str]
    rows: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def read_source(con: Backend, config: DataConfig) -> Source:
    """Open the log that `config` names.

    Raises:
        UserError: when the source is unknown, or a file or column is missing or has the wrong type.
    """
    if config.source == "complete_journey":
        from shopkeeper.data.complete_journey import read_complete_journey

        return read_complete_journey(con, config)
    if config.source == "events":
        return read_events(con, config)
    raise UserError(f"data.source={config.source!r} is unknown: use complete_journey or events")


def read_events(con: Backend, config: DataConfig) -> Source:
    """Read a log whose columns already carry the design's names, from Parquet or CSV."""
    if not config.events:
        raise UserError("data.events is not set: give the Parquet or CSV file of your event table")
    raw = open_table(con, config.events, "data.events")
    rows = int(raw.count().execute())
    if not rows:
        raise UserError(f"data.events: {config.events} holds no rows")
    present = present_columns(raw)
    require_columns(present, config.events)
    context = context_columns(config.context, present, config.events)
    known = {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *context}
    notes: list[str] = []
    note(notes, config.events, "not used", [c for c in raw.columns if c not in known and c in present])
    note(notes, config.events, "without any value count as absent", [c for c in raw.columns if c not in present])
    return Source(
        events=canonical_events(raw, present, context, config.events),
        items=read_side(con, config.items, "data.items", s.ITEM, notes, used=s.ITEM_COLUMNS),
        users=read_side(con, config.users, "data.users", s.USER, notes),
        context=context,
        rows=rows,
        notes=notes,
        files=[Path(f) for f in (config.events, config.items, config.users) if f],
    )


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


def open_table(con: Backend, path: str, key: str) -> ir.Table:
    """Scan one Parquet or CSV file lazily; CSV columns stay text, so that no id loses a leading zero."""
    file = Path(path)
    if not file.exists():
        raise UserError(f"{key}: {path} does not exist")
    try:
        if file.suffix == ".parquet":
            table = con.read_parquet(file)
        elif file.suffix == ".csv" or file.suffixes[-2:] == [".csv", ".gz"]:
            table = con.read_csv(file, all_varchar=True, header=True)
            check_split(table, key, path)
        else:
            raise UserError(f"{key}: {path} is neither .parquet nor .csv")
        table.count().execute()
    except UserError:
        raise
    except Exception as error:  # DuckDB raises many types for a damaged file; each means the same to the user
        raise UserError(f"{key}: {path} cannot be read: {reason(error)}") from error
    return table


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


def require_columns(present: set[str], path: str) -> None:
    missing = [c for c in (s.TIMESTAMP, s.EVENT) if c not in present]
    if missing:
        raise UserError(f"{path}: column {missing[0]!r} is missing or empty; it is required")
    if not present & {s.USER, s.SESSION}:
        raise UserError(f"{path}: neither 'user_id' nor 'session_id' holds a value; one of them is required")


def context_columns(wanted: list[str] | None, present: set[str], path: str) -> list[str]:
    """The declared context columns, by default those of channel, device and country that are present."""
    if wanted is None:
        return [c for c in s.DEFAULT_CONTEXT if c in present]
    for column in wanted:
        if column not in present:
            raise UserError(f"data.context: column {column!r} is missing or empty in {path}")
        if column in {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES}:
            raise UserError(f"data.context: {column!r} is not known before the first click; choose another column")
        if column in s.RESERVED:
            raise UserError(f"data.context: {column!r} is a name shopkeeper uses itself; rename the column in {path}")
    return list(dict.fromkeys(wanted))


def canonical_events(raw: ir.Table, present: set[str], context: list[str], path: str) -> ir.Table:
    """Every column of the event table with its type; null where the log has no such column."""
    columns: dict[str, ir.Value] = {s.ROW: ibis.row_number().cast("int64")}
    columns[s.TIMESTAMP] = as_timestamp(raw[s.TIMESTAMP], path)
    columns[s.EVENT] = raw[s.EVENT].cast("string").nullif("")
    for name in s.IDS:
        columns[name] = as_id(raw[name], path) if name in present else ibis.null("string")
    for name in s.PROPERTIES:
        columns[name] = as_number(raw[name], path) if name in present else ibis.null("float64")
    for name in context:
        columns[name] = as_text(raw[name])
    return raw.select(**columns)


def as_timestamp(column: ir.Column, path: str) -> ir.Value:
    """A UTC timestamp from a timestamp, a date or ISO 8601 text.

    Raises:
        UserError: for numbers (their unit would be a guess) and for text that is not a time.
    """
    kind = column.type()
    if kind.is_timestamp() and kind.timezone:
        # a cast would go through the machine's local time zone
        return make_timestamp(epoch_us(column)).cast("timestamp(6)")
    if kind.is_timestamp() or kind.is_date():
        return column.cast("timestamp(6)")
    if kind.is_string():
        parsed = parse_time(column.nullif(""))
        check_cast(column.nullif(""), parsed, "an ISO 8601 time such as 2026-01-31T09:30:00Z", path)
        return parsed
    raise UserError(f"{path}: column {column.get_name()!r} is {kind}; give timestamps or ISO 8601 text")


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def epoch_us(time: dt.Timestamp(timezone="UTC")) -> int:  # type: ignore[valid-type, empty-body]  # the engine's own
    """Microseconds since 1970 of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def make_timestamp(microseconds: int) -> dt.timestamp:  # the engine's own
    """The UTC wall time of an instant."""


def parse_time(text: ir.StringValue) -> ir.Value:
    """UTC time of ISO 8601 text: its wall time less its offset, if it has one; null where it is no time."""
    offset = r":\d{2}(?:\.\d+)?\s*([+-])(\d{2}):?(\d{2})?$"
    sign = ibis.ifelse(text.re_extract(offset, 1) == "-", -1, 1)
    hours = text.re_extract(offset, 2).nullif("").cast("int64").fill_null(0)
    minutes = text.re_extract(offset, 3).nullif("").cast("int64").fill_null(0)
    # the engine also reads words such as "infinity" as times
    wall = ibis.ifelse(text.re_search(r"^\s*\d"), text.try_cast("timestamp(6)"), ibis.null("timestamp(6)"))
    return wall - (sign * (hours * 60 + minutes)).as_interval("m")


def as_id(column: ir.Column, path: str) -> ir.Value:
    """Ids are text; integers and whole floats (integers that once met a null) become their digits.

    Raises:
        UserError: for floats with a fraction and for any other type.
    """
    kind = column.type()
    if kind.is_string():
        return column.nullif("")
    if kind.is_integer():
        return column.cast("string")
    if kind.is_floating():
        number = ibis.ifelse(column.isnan(), ibis.null("float64"), column)
        whole = number.try_cast("int64")  # a plain cast fails on NaN even where it is masked
        fractions = number.notnull() & (whole.isnull() | (whole.cast("float64") != number))
        if not int(fractions.sum().execute() or 0):
            return whole.cast("string")
    raise UserError(f"{path}: column {column.get_name()!r} is {kind}; ids must be text or whole numbers")


def as_text(column: ir.Column) -> ir.Value:
    """A value as text, empty as null; whole floats (integers that once met a null) become their digits."""
    if not column.type().is_floating():
        return column.cast("string").nullif("")
    whole = column.try_cast("int64")
    text = ibis.ifelse(whole.cast("float64") == column, whole.cast("string"), column.cast("string"))
    return ibis.ifelse(column.isnan(), ibis.null("string"), text)


def as_number(column: ir.Column, path: str) -> ir.Value:
    kind = column.type()
    if kind.is_numeric():
        return column.cast("float64")
    if kind.is_string():
        parsed = column.nullif("").try_cast("float64")
        check_cast(column.nullif(""), parsed, "a number", path)
        return parsed
    raise UserError(f"{path}: column {column.get_name()!r} is {kind}; it must be a number")


def check_cast(text: ir.Value, parsed: ir.Value, expected: str, path: str) -> None:
    """Refuse a column with values that did not survive their cast, naming how many and one of them."""
    lost = text.notnull() & parsed.isnull()
    name = text.name("text").as_table()
    found = name.mutate(lost=lost).filter(ibis._.lost).aggregate(n=ibis._.count(), example=ibis._.text.min()).execute()
    count, example = int(found["n"].iloc[0]), found["example"].iloc[0]
    if count:
        column = _source_column(text)
        raise UserError(f"{path}: column {column!r}: {count} values are not {expected}, for example {example!r}")


def _source_column(value: ir.Value) -> str:
    """Name of the column below a cleaned expression, for messages."""
    fields = value.op().find(ibis.expr.operations.Field)
    return str(fields[0].name) if fields else value.get_name()


def read_side(
    con: Backend, path: str | None, key: str, id_column: str, notes: list[str], *, used: tuple[str, ...] | None = None
) -> ir.Table | None:
    """An `items` or `users` table with text ids; None when it is not given or has no rows.

    Of the columns besides the id those in `used` are read (None: all) where they hold a value; `notes` gets the rest.

    Raises:
        UserError: when the id column is missing, null or not unique, or a column has a name that preparation uses.
    """
    if path is None:
        return None
    raw = open_table(con, path, key)
    if id_column not in raw.columns:
        raise UserError(f"{key}: {path} has no column {id_column!r}")
    if not int(raw.count().execute()):
        return None
    present = present_columns(raw) - {id_column}
    read = [name for name in raw.columns if name in present and (used is None or name in used)]
    note(notes, path, "not used", [name for name in raw.columns if name in present and name not in read])
    note(notes, path, "without any value count as absent", [n for n in raw.columns if n not in present | {id_column}])
    reserved = [name for name in read if name in s.RESERVED]
    if reserved:
        raise UserError(f"{key}: column {reserved[0]!r} is a name shopkeeper uses itself; rename it in {path}")
    columns = {name: as_number(raw[name], path) if name == s.PRICE else as_text(raw[name]) for name in read}
    table = raw.select(**{id_column: as_id(raw[id_column], path)}, **columns)
    check_unique(table, path, id_column)
    return table


def note(notes: list[str], path: str, what: str, columns: list[str]) -> None:
    """Name columns once, where there are any."""
    if columns:
        notes.append(f"{path}: columns {what}: {', '.join(columns)}")


def check_unique(table: ir.Table, path: str, id_column: str) -> None:
    total = table.aggregate(rows=table.count(), ids=table[id_column].count(), distinct=table[id_column].nunique())
    rows, ids, distinct = (int(v) for v in total.execute().iloc[0])
    if ids < rows:
        raise UserError(f"{path}: {rows - ids} rows have no {id_column!r}")
    if distinct < ids:
        raise UserError(f"{path}: {ids - distinct} rows repeat an {id_column!r}; keep one row each")


def relabel_users(users: ir.Table, relabel: Mapping[str, Mapping[str, str]]) -> ir.Table:
    """Replace the values of segment columns by coarser labels; a value without a label becomes null (masked).

    Raises:
        UserError: when `relabel` names a column that `users` lacks.
    """
    for column in relabel:
        if column not in users.columns:
            raise UserError(f"data.relabel: users have no column {column!r}")
    changed = {
        c: users[c].cases(*labels.items(), else_=ibis.null("string")) if labels else ibis.null("string")
        for c, labels in relabel.items()
    }
    return users.mutate(**changed) if changed else users
