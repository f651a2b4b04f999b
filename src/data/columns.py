"""Raw columns -> typed ones: times in UTC, ids as text, numbers; what cannot be read is marked, never guessed."""

from collections.abc import Mapping
from typing import NamedTuple

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis import _

from shopkeeper.config import UserError
from shopkeeper.data.clocks import Clock, DuckDBClock

FIRST_YEAR, LAST_YEAR = 1, 9999
"""Years that every engine and Python can hold."""
LAST_SECOND = 253_402_300_799
"""Of the year 9999, since 1970."""
PARTS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Of a second."""


DATE, CLOCK = r"\d{4}-\d{1,2}-\d{1,2}", r"\d{1,2}:\d{2}"
ZONE = r"\s*(?:[Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?\s*$"
ISO = rf"^\s*({DATE}(?:[T ]{CLOCK}(?::\d{{2}}(?:\.\d{{1,6}})?)?)?){ZONE}"
"""A time as ISO 8601 and its relatives write it; the first group is what the wall shows."""
FINER = rf"^\s*({DATE}[T ]{CLOCK}:\d{{2}}\.\d{{6}})\d+{ZONE}"
"""The same with parts of a microsecond."""


class Typed(NamedTuple):
    """A column with its type: null where nothing came in or it cannot be `wanted`; `bad` is true for the latter."""

    value: ir.Value
    bad: ir.Value | None = None
    wanted: str = ""


class Times(NamedTuple):
    """How a log writes its times."""

    zone: str = "UTC"  # of those without an offset
    unit: str | None = None  # s, ms, us or ns, of those that are numbers since 1970
    format: str | None = None  # of text that is not ISO 8601, in the letters of strptime
    clock: Clock = DuckDBClock()  # it holds nothing


def as_timestamp(column: ir.Column, path: str, times: Times) -> Typed:
    """A UTC timestamp from a timestamp, a date, text or, where their unit is given, numbers.

    Raises:
        UserError: for numbers without a unit: it would be a guess.
    """
    kind = column.type()
    if kind.is_timestamp() and kind.timezone:
        return in_calendar(times.clock.utc(column), column, "a time")
    if kind.is_timestamp() or kind.is_date():
        return in_calendar(in_utc(column.cast("timestamp(6)"), times), column, "a time")
    if kind.is_numeric() and times.unit is not None:
        return from_number(column, column, times)
    if kind.is_string() and times.unit is not None:
        text = column.nullif("")
        return from_number(text, text.try_cast("float64" if times.unit == "s" else "int64"), times)
    if kind.is_string():
        text = column.nullif("")
        example = "an ISO 8601 time such as 2026-01-31T09:30:00Z"
        wanted = example if times.format is None else f"of the form {times.format}"
        return in_calendar(parse_time(text, times), text, wanted)
    raise UserError(
        f"{path}: column {column.get_name()!r} is {kind}; give timestamps, ISO 8601 text, or data.time_unit"
    )


def from_number(given: ir.Value, number: ir.Value, times: Times) -> Typed:
    """UTC time of a number since 1970."""
    assert times.unit is not None
    parts = PARTS[times.unit]
    most = min(LAST_SECOND * parts, 2**63 - 1)
    inside = number.notnull() & (number >= -most) & (number <= most)
    safe = ibis.ifelse(inside, number, 0)
    if times.unit == "ns":
        time = times.clock.from_nanoseconds(safe.cast("int64"))
    else:
        time = times.clock.from_microseconds((safe * (1_000_000 // parts)).round().cast("int64"))
    value = ibis.ifelse(inside, time, ibis.null("timestamp(6)"))
    wanted = f"a number of {times.unit} since 1970, before the year {LAST_YEAR + 1}"
    return in_calendar(value, given, wanted)


def in_calendar(time: ir.Value, given: ir.Value, wanted: str) -> Typed:
    """Null, and bad, where the year has no place in a calendar."""
    inside = time.notnull() & (time.year() >= FIRST_YEAR) & (time.year() <= LAST_YEAR)
    return Typed(ibis.ifelse(inside, time, ibis.null("timestamp(6)")), given.notnull() & ~inside, wanted)


def in_utc(wall: ir.Value, times: Times) -> ir.Value:
    """UTC time of what a clock in the log's zone shows."""
    return wall if times.zone == "UTC" else times.clock.from_wall(wall, times.zone)


def parse_time(text: ir.StringValue, times: Times) -> ir.Value:
    """UTC time of ISO 8601 text: its wall time less its offset, or in the log's zone if it has none; null if no time.

    Text of another form is read by `times.format`.
    """
    if times.format is not None:
        return in_utc(times.clock.parse(text, times.format).cast("timestamp(6)"), times)
    offset = r":\d{2}(?:\.\d+)?\s*([+-])(\d{2}):?(\d{2})?\s*$"
    sign = ibis.ifelse(text.re_extract(offset, 1) == "-", -1, 1)
    hours = text.re_extract(offset, 2).nullif("").cast("int64").fill_null(0)
    minutes = text.re_extract(offset, 3).nullif("").cast("int64").fill_null(0)
    # what the engines' own casts take for a time differs, and some take words such as "infinity"
    shown = ibis.coalesce(text.re_extract(ISO, 1).nullif(""), text.re_extract(FINER, 1).nullif(""))
    wall = shown.try_cast("timestamp(6)")
    exact = wall - (sign * (hours * 60 + minutes)).as_interval("m")
    zoned = text.re_search(offset) | text.re_search(r"([Zz]|\sUTC)\s*$")
    return ibis.ifelse(zoned, exact, in_utc(wall, times))


def as_id(column: ir.Column, path: str) -> Typed:
    """Ids are text; integers and whole floats (integers that once met a null) become their digits.

    Raises:
        UserError: for a type that is neither.
    """
    kind = column.type()
    if kind.is_string():
        return Typed(column.nullif(""))
    if kind.is_integer() or kind.is_uuid() or kind.is_date() or is_whole(kind):
        return Typed(column.cast("string"))
    if kind.is_floating():
        number = ibis.ifelse(column.isnan(), ibis.null("float64"), column)
        whole = number.try_cast("int64")  # a plain cast fails on NaN even where it is masked
        fraction = number.notnull() & (whole.isnull() | (whole.cast("float64") != number))
        value = ibis.ifelse(fraction, ibis.null("string"), whole.cast("string"))
        return Typed(value, fraction, "an id (text or a whole number)")
    raise UserError(f"{path}: column {column.get_name()!r} is {kind}; ids must be text or whole numbers")


def is_whole(kind: dt.DataType) -> bool:
    """Whether a type is of decimals without a fraction."""
    return bool(kind.is_decimal() and kind.scale == 0)


def refuse_bad_values(raw: ir.Table, typed: Mapping[str, Typed], path: str) -> None:
    """Raise for the first column with a bad value, naming how many and one of them."""
    for name, (_value, bad, wanted) in typed.items():
        if bad is None:
            continue
        found = raw.filter(bad).aggregate(n=_.count(), example=_[name].cast("string").min()).execute()
        count, example = found.iloc[0]
        if count:
            raise UserError(f"{path}: column {name!r}: {count} values are not {wanted}, for example {example!r}")


def as_text(column: ir.Column) -> ir.Value:
    """A value as text, empty as null; whole floats (integers that once met a null) become their digits."""
    if not column.type().is_floating():
        return column.cast("string").nullif("")
    whole = column.try_cast("int64")
    text = ibis.ifelse(whole.cast("float64") == column, whole.cast("string"), column.cast("string"))
    return ibis.ifelse(column.isnan(), ibis.null("string"), text)


def as_number(column: ir.Column, path: str, decimal: str = ".", *, least: float | None = None) -> Typed:
    """A finite number, at least `least`; NaN counts as none.

    Raises:
        UserError: for a type that is neither number nor text.
    """
    kind = column.type()
    if not (kind.is_numeric() or kind.is_string()):
        raise UserError(f"{path}: column {column.get_name()!r} is {kind}; it must be a number")
    text = column.nullif("") if kind.is_string() else column
    plain = text.replace(decimal, ".") if kind.is_string() and decimal != "." else text
    number = plain.try_cast("float64") if kind.is_string() else column.cast("float64")
    number = ibis.ifelse(number.isnan(), ibis.null("float64"), number)
    absent = text.isnull() | (text.lower() == "nan" if kind.is_string() else number.isnull())
    fits = number.notnull() & ~number.isinf() & (ibis.literal(True) if least is None else number >= least)
    wanted = "a number" if least is None else f"a number of at least {least:g}"
    return Typed(ibis.ifelse(fits, number, ibis.null("float64")), ~absent & ~fits, wanted)


def microseconds(time: ir.Value) -> ir.Value:
    """Microseconds since 1970 (UTC), exact."""
    return time.delta(ibis.timestamp("1970-01-01"), unit="microsecond").cast("int64")
