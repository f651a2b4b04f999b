from collections.abc import Callable, Sequence
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from shopkeeper.data.engines import DuckDB
from shopkeeper.inspection.settings import InspectConfig
from shopkeeper.inspection.times import (
    Clock,
    clock_of_json,
    clock_of_stamps,
    clock_of_text,
    hour_counts,
    number_remark,
    quiet_hours,
    swap,
    time_of,
    unit_of,
)


@pytest.fixture(scope="module")
def forms(compose: Callable[..., Any]) -> list[str]:
    known: list[str] = compose("inspect", InspectConfig, "log=x").time_formats
    return known


def texts(*values: str | None) -> Any:
    return ibis.memtable({"t": list(values)}, schema={"t": "string"}).t


# 2025-11-03 14:05 UTC is 1,762,178,700 seconds after 1970
@pytest.mark.parametrize(("factor", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
def test_the_size_of_a_number_tells_its_unit(factor: int, unit: str) -> None:
    assert unit_of(1_762_178_700.0 * factor, 1_762_190_000.0 * factor) == unit


@pytest.mark.parametrize(("low", "high"), [(1, 5), (20_250_101, 20_251_231), (45_000, 45_900), (-1, 1.7e9), (None, 1)])
def test_other_numbers_have_no_unit(low: float | None, high: float) -> None:
    assert unit_of(low, high) is None


def test_what_odd_numbers_may_be_is_said() -> None:
    assert "YYYYMMDD" in number_remark(20_250_101, 20_251_231)
    assert "spreadsheet" in number_remark(45_000, 45_900)  # 45,658 is 2025-01-01
    assert number_remark(1, 5) == "they are no times since 1970 in s, ms, us or ns"
    assert number_remark(None, None) == ""


@pytest.mark.parametrize(
    ("values", "clock"),
    [
        (["2025-11-03T14:05:00Z", "2025-11-03T14:05:00+01:00", None, ""], Clock(offset="all")),
        (["2025-11-03 14:05:00", "2025-11-03 14:06:00"], Clock()),
        (["2025-11-03 14:05:00Z", "2025-11-03 14:06:00"], Clock(offset="some")),
        (["2025-11-03 14:05:00 UTC"], Clock(offset="all", in_utc=True)),
        (["2025-11-03"], Clock(days=True)),
        (["03.11.2025 14:05", "3.1.2025 4:05"], Clock(form="%d.%m.%Y %H:%M")),
        (["31.12.25"], Clock(form="%d.%m.%y", days=True)),
        (["20251103"], Clock(form="%Y%m%d", days=True)),
        (["13/11/2025 10:00", "01/02/2025 10:00"], Clock(form="%d/%m/%Y %H:%M")),
        (["11/13/2025 10:00", "01/02/2025 10:00"], Clock(form="%m/%d/%Y %H:%M")),
        (["11/13/2025 2:05 PM"], Clock(form="%m/%d/%Y %I:%M %p")),
        (["03/11/2025", "04/12/2025"], Clock(form="%d/%m/%Y", swapped="%m/%d/%Y", days=True)),
        (["2025-11-03 14:05:00,123"], Clock(form="%Y-%m-%d %H:%M:%S,%f")),
    ],
)
def test_how_text_tells_the_time(forms: Sequence[str], values: list[str | None], clock: Clock) -> None:
    assert clock_of_text(texts(*values), forms) == clock


@pytest.mark.parametrize("value", ["bread", "12-05-26 x", "infinity", "0012-05-26", "995242", "555-1234"])
def test_other_text_tells_none(forms: Sequence[str], value: str) -> None:
    assert clock_of_text(texts(value), forms) is None


def test_a_few_values_that_are_no_times_are_counted(forms: Sequence[str]) -> None:
    values = ["03.11.2025 14:05"] * 19 + ["soon"]

    clock = clock_of_text(texts(*values), forms)

    assert clock == Clock(form="%d.%m.%Y %H:%M", lost=1, lost_example="soon")
    assert clock_of_text(texts(*values[10:], "later", "never"), forms) is None  # 9 of 12 are too few


def test_stamps_know_whether_they_have_a_zone(engine: DuckDB) -> None:
    table = engine.con.sql(
        "select timestamptz '2025-11-03 14:05Z' z, timestamp '2025-11-03 14:05' n, date '2025-11-03' d"
    )

    assert clock_of_stamps(table.z) == Clock(offset="all")
    assert clock_of_stamps(table.n) == Clock()
    assert clock_of_stamps(table.d) == Clock(days=True)


def test_json_shows_its_offsets_in_the_file_alone() -> None:
    assert clock_of_json(texts("2025-11-03T14:05:00+01:00"), Clock()) == Clock(offset="all", in_utc=True)
    assert clock_of_json(texts("2025-11-03T14:05:00"), Clock()) == Clock()


@pytest.mark.parametrize(
    ("value", "clock"),
    [
        ("1762178700", Clock(unit="s")),
        ("1762178700000", Clock(unit="ms")),
        ("03.11.2025 14:05", Clock(form="%d.%m.%Y %H:%M")),
        ("2025-11-03T15:05:00+01:00", Clock(offset="all")),
    ],
)
def test_a_column_is_read_by_its_clock(value: str, clock: Clock) -> None:
    assert time_of(texts(value), clock).execute()[0] == pd.Timestamp("2025-11-03 14:05")


def test_a_number_out_of_all_years_is_no_time() -> None:
    assert time_of(texts("99999999999999999"), Clock(unit="s")).execute().isna().all()


def test_day_and_month_change_places_where_they_can_be_mistaken() -> None:
    assert swap("%d/%m/%Y %H:%M") == "%m/%d/%Y %H:%M"
    assert swap("%m-%d-%Y") == "%d-%m-%Y"
    assert swap("%d.%m.%Y") is None
    assert swap("%Y-%m-%d %I:%M:%S %p") is None


def test_quiet_hours_are_the_four_with_least_events(engine: DuckDB) -> None:
    stamps = engine.con.sql("select timestamp '2025-11-03 23:30' t union all select timestamp '2025-11-04 23:10'").t
    assert hour_counts(stamps)[23] == hour_counts(stamps).sum() == 2

    day = np.full(24, 100)
    assert quiet_hours(day) is None  # 4 of 24 hours hold a sixth
    day[[23, 0, 1, 2]] = 10  # 40 of 2,040
    assert quiet_hours(day) == (23, 3)
    assert quiet_hours(day // 10) is None  # too few events to tell
