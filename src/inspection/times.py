"""How a column tells the time: stamps, numbers since 1970, ISO 8601, or text of another form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ibis
import ibis.expr.types as ir
import numpy as np

from shopkeeper.data.columns import Times, as_timestamp, from_number, parse_time

YEARS = (1990, 2100)
"""Shops keep no logs of other years: what would lie there is no time, or is read in the wrong way."""

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
OFFSET = r":\d{2}(?:\.\d+)?\s*(?:[+-]\d{2}:?(?:\d{2})?|[Zz]|UTC|GMT)\s*$"
ZONE_NAME = r"(?:UTC|GMT)\s*$"
ENOUGH = 0.9
"""Share of the values that must be times of a form for the form to be proposed."""

HAS_CLOCK = ("%H", "%I")


@dataclass(frozen=True)
class Clock:
    """How the values of a column are written, in the terms of `prepare`."""

    unit: str | None = None
    form: str | None = None
    swapped: str | None = None  # the form with day and month exchanged, where nothing tells which it is
    offset: str = "none"  # "all", "some" or "none" of the values say how far from UTC they are
    in_utc: bool = False  # they do so in a way that leaves `prepare` to read them in time_zone, which must be UTC
    days: bool = False  # a date without a time of day
    lost: int = 0  # values that are no times of this form
    lost_example: str = ""

    def missing(self, text: ir.StringValue, time: ir.Value) -> "Clock":
        """The clock with how many values it reads as no times, and one of them."""
        gone = ibis.ifelse(text.notnull() & time.isnull(), text, ibis.null("string"))
        found = text.name("text").as_table().aggregate(n=gone.count(), example=gone.min()).execute().iloc[0]
        return replace(self, lost=int(found["n"]), lost_example=str(found["example"]) if found["n"] else "")


def unit_of(low: float | None, high: float | None) -> str | None:
    """The unit in which all of low..high are times since 1970 in plausible years; the units' ranges do not touch."""
    if low is None or high is None:
        return None
    first, last = ((year - 1970) * 365.2425 * 86400 for year in YEARS)
    fitting = [unit for unit, factor in UNITS.items() if first * factor <= low and high <= last * factor]
    return fitting[0] if fitting else None


def number_remark(low: float | None, high: float | None) -> str:
    """What numbers in a column of times may be that are no time since 1970; "" where nobody knows."""
    if low is None or high is None:
        return ""
    if YEARS[0] * 10_000 <= low and high <= YEARS[1] * 10_000:
        return "they look like dates written as YYYYMMDD: store them as text or as dates"
    days_1900 = [(year - 1900) * 365.2425 for year in YEARS]
    if days_1900[0] <= low and high <= days_1900[1]:
        return "they look like a spreadsheet's days since 1900: store them as dates"
    return "they are no times since 1970 in s, ms, us or ns"


def clock_of_stamps(column: ir.Column) -> Clock:
    """Of a column that holds timestamps or dates."""
    kind = column.type()
    if kind.is_timestamp() and kind.timezone:
        return Clock(offset="all")
    return Clock(days=kind.is_date() or bool(whole_days(column.cast("timestamp(6)")).execute()))


def clock_of_text(column: ir.StringColumn, forms: Sequence[str]) -> Clock | None:
    """Of a text column: ISO 8601 first, then the best of `forms` and of these with day and month swapped."""
    text = column.nullif("")
    filled = int(text.count().execute())
    iso = in_years(parse_time(text, Times()))
    found = (
        text.name("text")
        .as_table()
        .aggregate(
            times=iso.count(),
            offsets=text.re_search(OFFSET).sum(),
            names=text.re_search(ZONE_NAME).sum(),
            days=whole_days(iso),
        )
    )
    times, offsets, names, days = found.execute().iloc[0]
    if filled and times >= ENOUGH * filled:
        return Clock(offset=share(offsets, filled), in_utc=bool(names), days=bool(days)).missing(text, iso)
    return clock_of_form(text, filled, forms)


def share(count: int, total: int) -> str:
    return "all" if count >= total else "some" if count else "none"


def clock_of_json(text: ir.StringValue, clock: Clock) -> Clock:
    """Of a column that the engine made timestamps of while it read JSON: offsets are then in UTC already.

    `text` is the column as it stands in the file.
    """
    found = text.name("text").as_table().aggregate(n=text.count(), offsets=text.re_search(OFFSET).sum())
    filled, offsets = found.execute().iloc[0]
    return replace(clock, offset=share(offsets, filled), in_utc=True) if filled and offsets else clock


def clock_of_form(text: ir.StringValue, filled: int, forms: Sequence[str]) -> Clock | None:
    """The form that reads most values, where it reads enough; a tie with its swap is said."""
    known = list(dict.fromkeys(form for given in forms for form in (given, swap(given)) if form))
    few = text.name("text").as_table().filter(ibis._.text.notnull()).distinct().order_by("text").limit(1000)
    counts = reads(few.text, known)
    near = [form for form in known if counts[form] >= ENOUGH * max(counts.values(), default=0) and counts[form]]
    counts = reads(text, near)
    best = max(near, key=counts.__getitem__, default=None)  # of equals the first
    if best is None or counts[best] < ENOUGH * filled:
        return None
    other = swap(best)
    tied = other is not None and counts.get(other) == counts[best]
    clock = Clock(form=best, swapped=other if tied else None, days=not any(sign in best for sign in HAS_CLOCK))
    return clock.missing(text, in_years(parse_time(text, Times(format=best))))


def reads(text: ir.StringValue, forms: Sequence[str]) -> dict[str, int]:
    """How many values each form reads as times of plausible years."""
    if not forms:
        return {}
    parsed = {f"form{i}": in_years(parse_time(text, Times(format=form))).count() for i, form in enumerate(forms)}
    counts = text.name("text").as_table().aggregate(**parsed).execute().iloc[0]
    return {form: int(counts[f"form{i}"]) for i, form in enumerate(forms)}


def swap(form: str) -> str | None:
    """The form with day and month exchanged; None where they cannot be mistaken (names, dots, year first)."""
    for sign in "/-":
        pair, other = f"%d{sign}%m", f"%m{sign}%d"
        if form.startswith(pair):
            return other + form.removeprefix(pair)
        if form.startswith(other):
            return pair + form.removeprefix(other)
    return None


def time_of(column: ir.Column, clock: Clock) -> ir.Value:
    """UTC time of the values of a column, read by its clock in UTC; null where they are no times of it."""
    if clock.unit is not None:
        first, last = ((year - 1970) * 365.2425 * 86400 * UNITS[clock.unit] for year in YEARS)
        number = column.try_cast("float64" if clock.unit == "s" else "int64") if column.type().is_string() else column
        plausible = ibis.ifelse(number.between(first, last), number, ibis.null(number.type()))
        return from_number(plausible, plausible, Times(unit=clock.unit)).value
    if column.type().is_string():
        return in_years(parse_time(column.nullif(""), Times(format=clock.form)))
    return in_years(as_timestamp(column, "log", Times()).value)


def in_years(time: ir.Value) -> ir.Value:
    return ibis.ifelse(time.year().between(*YEARS), time, ibis.null("timestamp(6)"))


def whole_days(time: ir.Value) -> ir.Value:
    """Whether all are midnight."""
    return (time == time.truncate("D")).all()


def hour_counts(time: ir.Value) -> np.ndarray:
    """Events by hour of the day (24,)."""
    hours = time.hour().name("hour").as_table().filter(ibis._.hour.notnull())
    found = hours.group_by("hour").agg(n=ibis._.count()).execute()
    counts = np.zeros(24, np.int64)
    counts[found["hour"].to_numpy(np.int64)] = found["n"]
    return counts


def quiet_hours(counts: np.ndarray, *, hours: int = 4, share: float = 0.08) -> tuple[int, int] | None:
    """First and end hour of the quietest stretch of a day (24,), where it holds no more than `share` of the events.

    Evenly spread, four hours hold a sixth. None where the day has no such night.
    """
    total = int(counts.sum())
    if total < 1000:
        return None
    sums = np.array([np.take(counts, range(first, first + hours), mode="wrap").sum() for first in range(24)])
    first = int(sums.argmin())
    return (first, (first + hours) % 24) if sums[first] <= share * total else None
