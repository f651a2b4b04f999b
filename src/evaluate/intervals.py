"""Intervals by bootstrap over visitors: a visitor's examples resemble each other, so they are drawn together."""

from collections.abc import Iterator
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


class Resampled(NamedTuple):
    """Means (C,) of columns over the examples, and over each of R resamples of their visitors (R, C)."""

    means: npt.NDArray[np.float64]
    draws: npt.NDArray[np.float64]
    examples: int
    visitors: int

    def interval(self, value: float, draws: npt.NDArray[np.float64]) -> Interval:
        return interval_of(value, draws, examples=self.examples, visitors=self.visitors)

    def mean(self, column: int) -> Interval:
        return self.interval(self.means[column], self.draws[:, column])

    def difference(self, column: int, other: int) -> Interval:
        """Mean of one column less that of another, paired."""
        return self.interval(self.means[column] - self.means[other], self.draws[:, column] - self.draws[:, other])

    def ratio(self, column: int, other: int) -> Interval:
        """Mean of one column over that of another, paired."""
        return self.interval(self.means[column] / self.means[other], self.draws[:, column] / self.draws[:, other])


def interval_of(
    value: float, draws: npt.NDArray[np.float64], *, examples: int, visitors: int, level: float = 0.95
) -> Interval:
    """The percentile interval of a value, from the same value in every resample (R,)."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), examples, visitors)


def resample(
    values: npt.NDArray[np.float64], visitor: npt.NDArray[np.int64], *, resamples: int, seed: int
) -> Resampled:
    """Bootstrap the means of the columns of `values` (n, C), clustered by `visitor` (n,).

    A resample draws as many visitors as there are, with replacement; its mean is the sum of all values of those drawn
    over the number of their examples (the ratio estimator of cluster sampling). All columns share the resamples, so a
    difference or ratio of columns is a paired comparison (Efron and Tibshirani 1993, chapters 8 and 13).

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
    blocks = drawn_times(len(sizes), resamples=resamples, seed=seed)
    draws = np.concatenate([(times @ sums) / (times @ sizes)[:, None] for times in blocks])
    return Resampled(values.mean(axis=0), draws, len(values), len(sizes))


def clustered_intervals(
    values: npt.NDArray[np.float64], visitor: npt.NDArray[np.int64], *, resamples: int, seed: int
) -> list[Interval]:
    """Mean and percentile bootstrap interval of each column of `values` (n, C), see `resample`."""
    found = resample(values, visitor, resamples=resamples, seed=seed)
    return [found.mean(column) for column in range(values.shape[1])]


def drawn_times(clusters: int, *, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each cluster is drawn in each resample, as blocks (rows, clusters) to bound memory."""
    generator = np.random.default_rng(seed)
    chunk = max(1, DRAWS_AT_ONCE // clusters)
    for begin in range(0, resamples, chunk):
        rows = min(chunk, resamples - begin)
        drawn = generator.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)


def verdict(difference: Interval) -> str:
    """`better`, `worse`, `no difference` where the interval touches zero, or `too few visitors` to say."""
    if difference.visitors < MIN_VISITORS:
        return "too few visitors"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference"
