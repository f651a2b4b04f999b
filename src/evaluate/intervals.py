"""Intervals by bootstrap over visitors: a visitor's examples resemble each other, so they are drawn together."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

MIN_VISITORS: Final = 10
"""With fewer visitors an interval says little; no verdict rests on it."""

DRAWS_AT_ONCE: Final = 4_000_000


class Interval(NamedTuple):
    """A mean and its 95% interval, over `examples` examples of `visitors` visitors."""

    mean: float
    low: float
    high: float
    examples: int
    visitors: int


def clustered_intervals(
    values: npt.NDArray[np.float64],
    visitor: npt.NDArray[np.int64],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> list[Interval]:
    """Mean and percentile bootstrap interval of each column of `values` (n, C), clustered by `visitor` (n,).

    A resample draws as many visitors as there are, with replacement; its mean is the sum of all values of those drawn
    over the number of their examples (the ratio estimator of cluster sampling). All columns share the resamples, so a
    column of differences is a paired comparison (Efron and Tibshirani 1993, chapters 8 and 13).

    Raises:
        ValueError: when there are no examples, or a value is NaN.
    """
    if not len(values):
        raise ValueError("no examples to average")
    if np.isnan(values).any():
        raise ValueError("values hold NaN")
    _, cluster = np.unique(visitor, return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)
    sums = np.stack([np.bincount(cluster, column) for column in values.T], axis=1, dtype=np.float64)
    means = resampled_means(sums, sizes, resamples=resamples, seed=seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(lo), float(hi), len(values), len(sizes))
        for mean, lo, hi in zip(values.mean(axis=0), low, high, strict=True)
    ]


def resampled_means(
    sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], *, resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Means (resamples, C) over clusters drawn with replacement; `sums` is (K, C), `sizes` (K,)."""
    generator = np.random.default_rng(seed)
    count = len(sizes)
    chunk = max(1, DRAWS_AT_ONCE // count)
    means = np.empty((resamples, sums.shape[1]))
    for begin in range(0, resamples, chunk):
        rows = min(chunk, resamples - begin)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        means[begin : begin + rows] = (times @ sums) / (times @ sizes)[:, None]
    return means


def verdict(difference: Interval) -> str:
    """`better`, `worse`, `no difference` where the interval touches zero, or `too few visitors` to say."""
    if difference.visitors < MIN_VISITORS:
        return "too few visitors"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference"
