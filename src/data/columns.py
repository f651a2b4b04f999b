"""Raw columns -> typed ones: times in UTC, ids as text, numbers; what cannot be read is named, never guessed."""

from typing import NamedTuple

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from shopkeeper.config import UserError


class Times(NamedTuple):
    """How a log writes its times."""

    zone: str = "UTC"  # of those without an offset
    unit: str | None = None  # s, ms, us or ns, of those that are numbers since 1970
    format: str | None = None  # of text that is not ISO 8601, in the engine's strptime letters


def as_timestamp(column: ir.Column, path: str, times: Times) -> ir.Value:
    """A UTC timestamp from a timestamp, a date, text or, where their unit is given, numbers.

    Raises:
        UserError: for numbers without a unit (it would be a guess) and for text that is not a time.
    """
    kind = column.type()
    if kind.is_timestamp() and kind.timezone:
        # a cast would go through the machine's local time zone
        return make_timestamp(epoch_us(column)).cast("timestamp(6)")
    if kind.is_timestamp() or kind.is_date():
        return in_utc(column.cast("timestamp(6)"), times.zone)
    if kind.is_numeric() and times.unit is not None:
        return from_number(column, times.unit)
    if kind.is_string() and times.unit is not None:
        number = column.nullif("").try_cast("float64" if times.unit == "s" else "int64")
        check_cast(column.nullif(""), number, f"a number of {times.unit} since 1970", path)
        return from_number(number, times.unit)
    if kind.is_string():
        text = column.nullif("")
        written = (
            "an ISO 8601 time such as 2026-01-31T09:30:00Z" if times.format is None else f"of the form {times.format}"
        )
        parsed = parse_time(text, times)
        check_cast(text, parsed, written, path)
        return parsed
    raise UserError(
        f"{path}: column {column.get_name()!r} is {kind}; give timestamps, ISO 8601 text, or data.time_unit"
    )


def from_number(column: ir.Value, unit: str) -> ir.Value:
    """UTC time of a number since 1970."""
    if unit == "ns":
        return make_timestamp_ns(column.cast("int64")).cast("timestamp(6)")
    microseconds = (column * {"s": 1_000_000, "ms": 1000, "us": 1}[unit]).round().cast("int64")
    return make_timestamp(microseconds).cast("timestamp(6)")


def in_utc(wall: ir.Value, zone: str) -> ir.Value:
    """UTC time of what a clock in the zone shows."""
    if zone == "UTC":
        return wall
    return make_timestamp(epoch_us(local_time(zone, wall))).cast("timestamp(6)")


@ibis.udf.scalar.builtin(name="timezone")  # type: ignore[untyped-decorator]  # ibis ships no types
def local_time(zone: str, time: dt.timestamp) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """The instant at which a clock in the zone shows the time."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def try_strptime(text: str, form: str) -> dt.timestamp:  # the engine's own
    """The time a text of that form tells, null where it does not have it."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def epoch_us(time: dt.Timestamp(timezone="UTC")) -> int:  # type: ignore[valid-type, empty-body]  # the engine's own
    """Microseconds since 1970 of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def make_timestamp(microseconds: int) -> dt.timestamp:  # the engine's own
    """The UTC wall time of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def make_timestamp_ns(nanoseconds: int) -> dt.timestamp:  # the engine's own
    """The UTC wall time of an instant."""


def parse_time(text: ir.StringValue, times: Times) -> ir.Value:
    """UTC time of ISO 8601 text: its wall time less its offset, or in the log's zone if it has none; null if no time.

    Text of another form is read by `times.format` (the engine's strptime).
    """
    if times.format is not None:
        return in_utc(try_strptime(text, times.format).cast("timestamp(6)"), times.zone)
    offset = r":\d{2}(?:\.\d+)?\s*([+-])(\d{2}):?(\d{2})?$"
    sign = ibis.ifelse(text.re_extract(offset, 1) == "-", -1, 1)
    hours = text.re_extract(offset, 2).nullif("").cast("int64").fill_null(0)
    minutes = text.re_extract(offset, 3).nullif("").cast("int64").fill_null(0)
    # the engine also reads words such as "infinity" as times
    wall = ibis.ifelse(text.re_search(r"^\s*\d"), text.try_cast("timestamp(6)"), ibis.null("timestamp(6)"))
    exact = wall - (sign * (hours * 60 + minutes)).as_interval("m")
    return ibis.ifelse(text.re_search(offset) | text.re_search(r"[Zz]\s*$"), exact, in_utc(wall, times.zone))


def as_id(column: ir.Column, path: str) -> ir.Value:
    """Ids are text; integers and whole floats (integers that once met a null) become their digits.

    Raises:
        UserError: for floats with a fraction and for any other type.
    """
    kind = column.type()
    if kind.is_string():
        return column.nullif("")
    if kind.is_integer() or kind.is_uuid() or (kind.is_decimal() and kind.scale == 0):
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


def as_number(column: ir.Column, path: str, decimal: str = ".") -> ir.Value:
    kind = column.type()
    if kind.is_numeric():
        return column.cast("float64")
    if kind.is_string():
        text = column.nullif("") if decimal == "." else column.nullif("").replace(decimal, ".")
        parsed = text.try_cast("float64")
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
