"""What engines call differently when they turn a log's times into UTC."""

import re
from typing import Protocol

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from shopkeeper.config import UserError


class Clock(Protocol):
    """An engine's functions on times; each gives `timestamp(6)` in UTC, or as the wall shows it."""

    def utc(self, instant: ir.Value) -> ir.Value:
        """UTC wall time of a timestamp that knows its zone."""

    def from_microseconds(self, number: ir.Value) -> ir.Value:
        """UTC time of microseconds since 1970."""

    def from_nanoseconds(self, number: ir.Value) -> ir.Value:
        """UTC time of nanoseconds since 1970, to the microsecond."""

    def from_wall(self, wall: ir.Value, zone: str) -> ir.Value:
        """UTC time at which a clock in the zone shows the time."""

    def parse(self, text: ir.StringValue, form: str) -> ir.Value:
        """The wall time that text of a strptime form tells; null if it does not have it."""


class DuckDBClock:
    """Times in DuckDB; a plain cast would go through the machine's local zone."""

    def utc(self, instant: ir.Value) -> ir.Value:
        return make_timestamp(epoch_us(instant)).cast("timestamp(6)")

    def from_microseconds(self, number: ir.Value) -> ir.Value:
        return make_timestamp(number).cast("timestamp(6)")

    def from_nanoseconds(self, number: ir.Value) -> ir.Value:
        return make_timestamp_ns(number).cast("timestamp(6)")

    def from_wall(self, wall: ir.Value, zone: str) -> ir.Value:
        return make_timestamp(epoch_us(timezone(zone, wall))).cast("timestamp(6)")

    def parse(self, text: ir.StringValue, form: str) -> ir.Value:
        return try_strptime(text, form).cast("timestamp(6)")


class SparkClock:
    """Times in Spark, whose session runs in UTC."""

    def utc(self, instant: ir.Value) -> ir.Value:
        return instant.cast("timestamp(6)")

    def from_microseconds(self, number: ir.Value) -> ir.Value:
        return timestamp_micros(number).cast("timestamp(6)")

    def from_nanoseconds(self, number: ir.Value) -> ir.Value:
        return timestamp_micros(div(number, 1000)).cast("timestamp(6)")

    def from_wall(self, wall: ir.Value, zone: str) -> ir.Value:
        return to_utc_timestamp(wall, zone).cast("timestamp(6)")

    def parse(self, text: ir.StringValue, form: str) -> ir.Value:
        return try_to_timestamp(text, java_form(form)).cast("timestamp(6)")


JAVA = {
    "d": "d",
    "m": "M",
    "Y": "yyyy",
    "y": "yy",
    "H": "H",
    "I": "h",
    "M": "m",
    "S": "s",
    "f": "SSSSSS",
    "g": "SSS",
    "p": "a",
    "b": "MMM",
    "B": "MMMM",
    "a": "EEE",
    "A": "EEEE",
    "z": "xx",
    "j": "D",
    "%": "%",
}
"""Letters of strptime -> patterns of java.time, which Spark uses."""


def java_form(form: str) -> str:
    """The pattern of java.time for a strptime form.

    Raises:
        UserError: for a letter that has none.
    """

    def letter(found: re.Match[str]) -> str:
        if found[0][0] != "%":
            return "'" + found[0].replace("'", "''") + "'"
        if found[0][1:] not in JAVA:
            raise UserError(f"data.time_format: {found[0]} is not known to engine=spark; use engine=duckdb")
        return JAVA[found[0][1:]]

    return re.sub(r"%-?.|[^%]+", letter, form.replace("%-", "%"))


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def timezone(zone: str, time: dt.timestamp) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """DuckDB: the instant at which a clock in the zone shows the time."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def try_strptime(text: str, form: str) -> dt.timestamp:
    """DuckDB: the time a text of that form tells, null where it does not have it."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def epoch_us(time: dt.Timestamp(timezone="UTC")) -> int:  # type: ignore[valid-type, empty-body]
    """DuckDB: microseconds since 1970 of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def make_timestamp(microseconds: int) -> dt.timestamp:
    """DuckDB: the UTC wall time of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def make_timestamp_ns(nanoseconds: int) -> dt.timestamp:
    """DuckDB: the UTC wall time of an instant."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def div(number: int, by: int) -> int:  # type: ignore[empty-body]
    """Spark: a whole number by another, without the rest."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def timestamp_micros(microseconds: int) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """Spark: the instant of microseconds since 1970."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def to_utc_timestamp(time: dt.timestamp, zone: str) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """Spark: the instant at which a clock in the zone shows the time."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # ibis ships no types
def try_to_timestamp(text: str, form: str) -> dt.timestamp:
    """Spark: the time a text of that form tells, null where it does not have it."""
