"""What a column looks like: its kind, how many values it has, whether they are numbers, times or a few words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from shopkeeper.data.columns import as_text
from shopkeeper.inspection.times import Clock, clock_of_stamps, clock_of_text, unit_of

THOUSANDS = r"^[+-]?\d{1,3}(?:\.\d{3})+,\d+$|^[+-]?\d{1,3}(?:,\d{3})+\.\d+$"
DIGITS = r"(?:\D*\d){3}"
"""At least three digits: a time has more, and text without them need not be tried."""


@dataclass(frozen=True)
class Look:
    """A column of the rows looked at; empty text counts as no value."""

    name: str
    kind: str  # text, whole, number, time, flag or nested
    filled: int = 0
    distinct: int = 0
    example: str = ""
    low: float | None = None
    high: float | None = None
    decimal: str | None = None  # of text that is numbers: "." or ","
    odd_number: str = ""  # a number with thousands separators
    is_id: bool = False  # text or whole numbers
    clock: Clock | None = None
    values: dict[str, int] = field(default_factory=dict)  # with their counts, most frequent first, where they are few

    @property
    def is_number(self) -> bool:
        return self.kind in ("whole", "number") or self.decimal is not None

    def describe(self) -> str:
        """The kind and the number of values, without any of them."""
        kinds = {"whole": "whole numbers", "number": "numbers", "time": "times", "flag": "true or false"}
        return f"{kinds.get(self.kind, self.kind)}, {self.distinct:,} distinct"


def look_at(table: ir.Table, *, forms: Sequence[str], max_values: int) -> list[Look]:
    """Look at every column that holds a value, in the order of the table."""
    measures = {f"{i}_{name}": value for i, c in enumerate(table.columns) for name, value in measure(table[c]).items()}
    found = table.aggregate(**measures).execute().iloc[0]
    looks = []
    for i, name in enumerate(table.columns):
        numbers = {key.partition("_")[2]: found[key] for key in measures if key.startswith(f"{i}_")}
        if numbers["filled"]:
            looks.append(look(table[name], numbers, forms=forms, max_values=max_values))
    return looks


def kind_of_column(column: ir.Column) -> str:
    kind = column.type()
    if kind.is_string() or kind.is_uuid():
        return "text"
    if kind.is_integer() or (kind.is_decimal() and kind.scale == 0):
        return "whole"
    if kind.is_numeric():
        return "number"
    if kind.is_timestamp() or kind.is_date():
        return "time"
    return "flag" if kind.is_boolean() else "nested"


def measure(column: ir.Column) -> dict[str, ir.Value]:
    """What to compute of a column, by kind; all columns are computed in one pass."""
    kind = kind_of_column(column)
    if kind == "nested":
        return {"filled": column.count()}
    text = as_text(column)
    measures = {"filled": text.count(), "distinct": text.nunique(), "example": text.min()}
    if kind in ("whole", "number"):
        number = finite(column.cast("float64"))
        return measures | {"low": number.min(), "high": number.max(), "whole": (number == number.round()).all()}
    if column.type().is_string():
        point, comma = (finite(text.replace(",", sign).try_cast("float64")) for sign in (",", "."))
        measures |= {"points": point.count(), "commas": comma.count(), "low": point.min(), "high": point.max()}
        odd = ibis.ifelse(text.re_search(THOUSANDS), text, ibis.null("string"))
        measures |= {"wholes": text.re_search(r"^\d{1,18}$").sum(), "odd_number": odd.min()}
        measures |= {"digits": text.re_search(DIGITS).sum()}
    return measures


def finite(number: ir.Value) -> ir.Value:
    return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)


def look(column: ir.Column, found: dict[str, Any], *, forms: Sequence[str], max_values: int) -> Look:
    """Judge the measures of a column that holds a value."""
    kind, filled = kind_of_column(column), int(found["filled"])
    if kind == "nested":
        return Look(name=column.get_name(), kind=kind, filled=filled)
    low, high = number(found.get("low")), number(found.get("high"))
    decimal = None
    if column.type().is_string():
        decimal = "." if found["points"] == filled else "," if found["commas"] == filled else None
        kind = "whole" if found["wholes"] == filled else "text"
    distinct = int(found["distinct"])
    odd = found.get("odd_number")
    return Look(
        name=column.get_name(),
        kind=kind,
        filled=filled,
        distinct=distinct,
        example=str(found["example"]),
        low=low,
        high=high,
        decimal=decimal,
        odd_number=odd if isinstance(odd, str) else "",
        is_id=kind in ("text", "whole") or (kind == "number" and column.type().is_floating() and bool(found["whole"])),
        clock=clock_of(column, kind, low, high, bool(found.get("digits", 0) >= filled / 2), decimal, forms),
        values=value_counts(column) if distinct <= max_values and kind in ("text", "whole") else {},
    )


def number(value: object) -> float | None:
    return None if value is None or not isinstance(value, float | int) or math.isnan(value) else float(value)


def clock_of(
    column: ir.Column,
    kind: str,
    low: float | None,
    high: float | None,
    has_digits: bool,
    decimal: str | None,
    forms: Sequence[str],
) -> Clock | None:
    """How the column tells the time, if it does."""
    if kind == "time":
        return clock_of_stamps(column)
    if kind in ("whole", "number") or decimal == ".":
        unit = unit_of(low, high)
        if unit is not None and not (decimal and kind != "whole" and unit != "s"):  # text is read whole but in seconds
            return Clock(unit=unit)
    if column.type().is_string() and has_digits:
        return clock_of_text(column, forms)
    return None


def value_counts(column: ir.Column) -> dict[str, int]:
    """The values and their counts, most frequent first."""
    counted = as_text(column).name("value").as_table().filter(ibis._.value.notnull())
    found: pd.DataFrame = counted.group_by("value").agg(n=ibis._.count()).execute()
    found = found.sort_values(["n", "value"], ascending=[False, True])
    return dict(zip(found["value"], found["n"].astype(int), strict=True))
