import numpy as np
import pytest

from shopkeeper.evaluate.intervals import Interval, clustered_intervals, drawn_times, resample, verdict


def test_the_mean_is_over_examples_and_visitors_are_counted() -> None:
    (found,) = clustered_intervals(
        np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([7, 7, 7, 9]), resamples=200, seed=0
    )

    assert (found.mean, found.examples, found.visitors) == (0.5, 4, 2)
    # two visitors with means 1/3 and 1: every resample lies between drawing one of them twice
    assert found.low == pytest.approx(1 / 3)
    assert found.high == 1.0


def test_examples_of_one_visitor_are_drawn_together() -> None:
    values = np.repeat([0.0, 1.0], 500)[:, None]
    alone = np.arange(1000)
    together = np.repeat(np.arange(20), 50)

    (narrow,) = clustered_intervals(values, alone, resamples=500, seed=1)
    (wide,) = clustered_intervals(values, together, resamples=500, seed=1)

    # standard errors: 0.5 / sqrt(1000) = 0.0158 against 0.5 / sqrt(20) = 0.112; an interval is about 3.92 of them
    assert narrow.high - narrow.low == pytest.approx(3.92 * 0.0158, rel=0.15)
    assert wide.high - wide.low == pytest.approx(3.92 * 0.112, rel=0.15)


def test_all_columns_share_the_resamples() -> None:
    rng = np.random.default_rng(0)
    a, visitor = rng.random(60), np.arange(60) % 15

    first, second, difference = clustered_intervals(
        np.stack([a, a - 0.1, a - (a - 0.1)], axis=1), visitor, resamples=100, seed=3
    )

    assert first.low - second.low == pytest.approx(0.1)
    assert difference.low == pytest.approx(difference.high) == pytest.approx(0.1)


def test_a_resample_is_a_ratio_of_sums() -> None:
    # the first visitor has one example, 3; the second has two, 0 and 0
    found = resample(np.array([[3.0], [0.0], [0.0]]), np.array([4, 5, 5]), resamples=400, seed=0)

    # drawn twice the first: 6/2; each once: 3/3; twice the second: 0
    assert set(np.unique(found.draws)) == {0.0, 1.0, 3.0}
    assert np.mean(found.draws == 1.0) == pytest.approx(0.5, abs=0.1)


def test_differences_and_ratios_of_columns_are_paired() -> None:
    a = np.arange(1.0, 31.0)
    found = resample(np.stack([a, a / 4], axis=1), np.arange(30), resamples=100, seed=3)

    ratio = found.ratio(1, 0)
    assert (ratio.mean, ratio.low, ratio.high) == (0.25, 0.25, 0.25)
    whole, difference = found.mean(0), found.difference(0, 1)
    assert [difference.low, difference.high] == pytest.approx([0.75 * whole.low, 0.75 * whole.high])


def test_chunks_change_nothing_but_the_order_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopkeeper.evaluate.intervals.DRAWS_AT_ONCE", 7)

    blocks = list(drawn_times(3, resamples=11, seed=0))

    assert [len(block) for block in blocks] == [2, 2, 2, 2, 2, 1]
    assert np.concatenate(blocks).sum(axis=1).tolist() == [3.0] * 11


def test_no_examples_and_nan_are_errors() -> None:
    with pytest.raises(ValueError, match="no examples"):
        clustered_intervals(np.empty((0, 1)), np.empty(0, np.int64), resamples=10, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        clustered_intervals(np.array([[np.nan]]), np.array([1]), resamples=10, seed=0)


@pytest.mark.parametrize(
    ("low", "high", "visitors", "expected"),
    [
        (0.01, 0.2, 10, "better"),
        (-0.2, -0.01, 10, "worse"),
        (-0.1, 0.1, 10, "no difference"),
        (0.0, 0.1, 10, "no difference"),
        (0.01, 0.2, 9, "too few visitors"),
    ],
)
def test_verdict(low: float, high: float, visitors: int, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 50, visitors)) == expected
