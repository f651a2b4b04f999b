from collections.abc import Callable
from typing import Any

import ibis
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.columns import Times, as_id, as_number, as_timestamp, parse_time, refuse_bad_values

BERLIN = Times(zone="Europe/Berlin")


@pytest.fixture
def read() -> Callable[..., list[Any]]:
    """read(values, times, type) -> UTC times as text."""

    def run(values: list[Any], times: Times, kind: str) -> list[Any]:
        table = ibis.memtable({"t": values}, schema={"t": kind})
        typed = as_timestamp(table["t"], "log.csv", times)
        refuse_bad_values(table, {"t": typed}, "log.csv")
        times_read = table.select(t=typed.value).execute()["t"]
        return [None if pd.isna(time) else str(time) for time in times_read]

    return run


def test_text_that_is_no_time_becomes_null() -> None:
    assert parse_time(ibis.literal("yesterday"), Times()).execute() is pd.NaT


@pytest.mark.parametrize(
    ("value", "unit", "kind"),
    [
        (1767355200, "s", "int64"),
        (1767355200.25, "s", "float64"),
        (1767355200250, "ms", "int64"),
        (1767355200250000, "us", "int64"),
        (1767355200250000999, "ns", "int64"),
        ("1767355200250", "ms", "string"),
        ("1767355200.25", "s", "string"),
    ],
)
def test_numbers_since_1970_are_times_in_their_unit(
    read: Callable[..., list[Any]], value: Any, unit: str, kind: str
) -> None:
    (found, empty) = read([value, None], Times(unit=unit, zone="Europe/Berlin"), kind)

    assert found in ("2026-01-02 12:00:00", "2026-01-02 12:00:00.250000")
    assert (found.endswith(".250000")) == (value != 1767355200)
    assert empty is None


def test_a_number_without_a_unit_is_no_time(read: Callable[..., list[Any]]) -> None:
    with pytest.raises(UserError, match=r"is int64; give timestamps, ISO 8601 text, or data\.time_unit"):
        read([1767355200], Times(), "int64")


def test_text_that_is_no_number_is_named(read: Callable[..., list[Any]]) -> None:
    with pytest.raises(UserError, match=r"1 values are not a number of ms since 1970, .* example 'noon'"):
        read(["noon"], Times(unit="ms"), "string")


def test_local_times_are_those_of_the_log_s_zone_in_summer_and_winter(read: Callable[..., list[Any]]) -> None:
    assert read(["2026-07-01 12:00", "2026-01-01 12:00"], BERLIN, "string") == [
        "2026-07-01 10:00:00",
        "2026-01-01 11:00:00",
    ]
    assert read([pd.Timestamp("2026-07-01 12:00")], BERLIN, "timestamp(6)") == ["2026-07-01 10:00:00"]


def test_an_offset_goes_before_the_zone(read: Callable[..., list[Any]]) -> None:
    times = ["2026-07-01T12:00:00Z", "2026-07-01T12:00:00+05:30", "2026-07-01 12:00:00.5-02"]

    assert read(times, BERLIN, "string") == ["2026-07-01 12:00:00", "2026-07-01 06:30:00", "2026-07-01 14:00:00.500000"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-07-01", "2026-07-01 00:00:00"),
        ("2026-7-1 9:05", "2026-07-01 09:05:00"),
        ("2026-07-01 12:00:00 UTC", "2026-07-01 12:00:00"),
        ("2026-07-01T12:00+05:30", "2026-07-01 06:30:00"),
        ("2026-07-01T12:00:00.123456789Z", "2026-07-01 12:00:00.123456"),
    ],
)
def test_times_as_logs_write_them(read: Callable[..., list[Any]], text: str, time: str) -> None:
    assert read([text], Times(), "string") == [time]


@pytest.mark.parametrize("text", ["2026-07-011", "2026-13-01", "infinity", "10:00", "01.07.2026", "2026-07-01T25:00Z"])
def test_text_that_is_nearly_a_time_is_none(read: Callable[..., list[Any]], text: str) -> None:
    with pytest.raises(UserError, match="1 values are not an ISO 8601 time"):
        read([text], Times(), "string")


def test_text_of_another_form_is_read_by_it(read: Callable[..., list[Any]]) -> None:
    german = BERLIN._replace(format="%d.%m.%Y %H:%M")

    assert read(["01.07.2026 12:00", ""], german, "string") == ["2026-07-01 10:00:00", None]
    with pytest.raises(UserError, match=r"1 values are not of the form %d\.%m\.%Y %H:%M, for example '2026-07-01'"):
        read(["2026-07-01"], german, "string")


def test_a_decimal_comma_is_read_where_it_is_told() -> None:
    price = ibis.memtable({"price": ["1,50", "2"]})["price"]

    assert as_number(price, "log.csv", ",").value.execute().tolist() == [1.5, 2.0]
    bad = as_number(price, "log.csv").bad
    assert bad is not None
    assert bad.execute().tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "kind"), [("6c0a2d3a-3a3b-4b3c-8b3d-123456789abc", "uuid"), ("12345678901234567890", "decimal(20, 0)")]
)
def test_ids_may_be_uuids_and_whole_decimals(value: str, kind: str) -> None:
    given = ibis.duckdb.connect().sql(f"select '{value}'::{kind} as id")

    assert as_id(given["id"], "log.jsonl").value.execute().tolist() == [value]
