from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from shopkeeper.data.engines import DuckDB
from shopkeeper.inspection.gaps import BINS, gap_counts, resolution, round_minutes, share_beyond, valley
from shopkeeper.inspection.settings import GapConfig, InspectConfig


@pytest.fixture(scope="module")
def settings(compose: Callable[..., Any]) -> GapConfig:
    found: GapConfig = compose("inspect", InspectConfig, "log=x").gaps
    return found


def hills(*hills: tuple[float, int]) -> np.ndarray:
    """Counts around some seconds, each a bell with a deviation of one octave."""
    octaves = np.arange(BINS) / 4
    bells = sum(size * np.exp(-0.5 * (octaves - np.log2(seconds)) ** 2) for seconds, size in hills)
    return np.asarray(np.round(bells), np.int64)


def test_gaps_are_those_between_events_of_one_user() -> None:
    # ann: 0, 8, 8 and 72 seconds: gaps of 8, 0 and 64; bob: 5 and 21: a gap of 16; a row without a user counts nowhere
    seconds = {"ann": [72, 0, 8, 8], "bob": [5, 21], None: [6]}
    rows = [(user, second * 1_000_000) for user, times in seconds.items() for second in times]
    table = ibis.memtable(pd.DataFrame(rows, columns=["user", "time"]))

    counts = gap_counts(table)

    assert {int(i): int(counts[i]) for i in np.flatnonzero(counts)} == {12: 1, 16: 1, 24: 1}  # 4 bins an octave


def test_a_clock_of_whole_minutes_is_coarse(engine: DuckDB) -> None:
    table = engine.con.sql("select unnest([60000000, 180000000]) as t, unnest([60000000, 180000001]) as u")

    assert resolution(table.t) == 60
    assert resolution(table.u) == 1


def test_the_valley_lies_between_the_hills(settings: GapConfig) -> None:
    # bells of one height at 2^5 s and 2^17 s meet halfway, at 2^11 s; a bin's middle is half a bin beyond its start
    found = valley(hills((2**5, 1000), (2**17, 1000)), settings)

    assert found == pytest.approx(2 ** (11 + 1 / 8), rel=0.2)


def test_one_hill_or_few_gaps_have_no_valley(settings: GapConfig) -> None:
    assert valley(hills((60, 1000)), settings) is None
    assert valley(hills((2**5, 10), (2**17, 10)), settings) is None
    assert valley(hills((2**5, 1000), (2**17, 10)), settings) is None  # hardly anyone comes back
    assert valley(hills((2**19, 1000), (2**24, 1000)), settings) is None  # beyond a day


def test_steps_of_a_coarse_clock_are_no_hills(settings: GapConfig) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[[int(np.log2(60 * minutes) * 4) for minutes in (1, 2, 3, 4, 5)]] = 1000

    assert valley(counts, settings, resolution=60.0) is None


@pytest.mark.parametrize(("seconds", "minutes"), [(61, 1), (1450, 20), (1550, 30), (3500, 60), (80_000, 1440)])
def test_minutes_are_round(seconds: float, minutes: int) -> None:
    assert round_minutes(seconds) == minutes  # between 20 and 30 the middle in ratio is 24.5 minutes, 1,470 s


def test_the_share_beyond_takes_part_of_a_bin() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[[4, 24, 80]] = 10, 20, 10  # bin 24 runs from 64 s to 76.1 s

    assert share_beyond(counts, 64 / 60) == pytest.approx(30 / 40)
    assert share_beyond(counts, 2 ** (6 + 1 / 8) / 60) == pytest.approx(20 / 40)  # half of the bin
    assert share_beyond(np.zeros(BINS), 30) == 0
