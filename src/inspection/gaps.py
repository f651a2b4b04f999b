"""Where visits end: the valley in the distribution of the times between a user's events.

Within a visit events follow each other in seconds or minutes, between visits in hours or days; on a logarithmic axis
the two make two hills. Source: Halfaker et al., User Session Identification Based on Strong Regularities in
Inter-activity Time, WWW 2015.
"""

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis import _

from shopkeeper.inspection.settings import GapConfig

PER_OCTAVE = 4
BINS = 26 * PER_OCTAVE  # from one second to 2^26, two years
LEAST, MOST = 60.0, 86_400.0  # seconds: between them a valley is looked for
COARSE = 8  # times the clock's resolution: below, its steps look like hills
ROUND = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)
"""Minutes a person would write."""


def gap_counts(events: ir.Table) -> np.ndarray:
    """Gaps of at least a second between consecutive events of a `user`, by octaves of seconds (BINS,).

    `events` has `user` and `time`, microseconds since 1970. Bin i holds 2^(i / 4) up to 2^((i + 1) / 4) seconds.
    """
    timeline = ibis.window(group_by="user", order_by="time")
    known = events.filter(_.user.notnull() & _.time.notnull())
    gaps = known.mutate(seconds=(_.time - _.time.lag().over(timeline)) / 1_000_000).filter(_.seconds >= 1)
    binned = gaps.mutate(bin=(_.seconds.log2() * PER_OCTAVE).floor().cast("int64")).filter(_.bin < BINS)
    found = binned.group_by("bin").agg(n=_.count()).execute()
    counts = np.zeros(BINS, np.int64)
    counts[found["bin"].to_numpy(np.int64)] = found["n"]
    return counts


def resolution(time: ir.Value) -> float:
    """Seconds between two ticks of the clock: 60 where all times are whole minutes, else 1."""
    return 60.0 if bool((time % 60_000_000 == 0).all().execute()) else 1.0


def valley(counts: np.ndarray, settings: GapConfig, *, resolution: float = 1.0) -> float | None:
    """Seconds at the lowest point between the two hills of the gaps (BINS,); None where there are no two.

    The depth of a point is the lower of the highest points on its two sides over its own height, after smoothing.
    """
    total = counts.sum()
    if total < settings.least:
        return None
    smooth = smoothed(counts, settings.smooth * PER_OCTAVE)
    before = np.cumsum(counts) - counts
    left = np.maximum.accumulate(smooth)
    right = np.maximum.accumulate(smooth[::-1])[::-1]
    depth = np.minimum(left, right) / np.maximum(smooth, total * 1e-6)
    centre = 2 ** ((np.arange(BINS) + 0.5) / PER_OCTAVE)
    allowed = (centre >= max(LEAST, COARSE * resolution)) & (centre <= MOST)
    allowed &= (before >= settings.side * total) & (total - before - counts >= settings.side * total)
    depth = np.where(allowed, depth, 0)
    if depth.max() < settings.depth:
        return None
    lowest = np.flatnonzero(depth >= depth.max() * (1 - 1e-9))  # an empty stretch has many
    return float(np.exp2(np.log2(centre[lowest]).mean()))


def smoothed(counts: np.ndarray, deviation: float) -> np.ndarray:
    """Counts under a Gaussian kernel of that deviation, in bins."""
    reach = int(np.ceil(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    result: np.ndarray = np.convolve(counts, kernel / kernel.sum())[reach : reach + len(counts)]
    return result


def round_minutes(seconds: float) -> int:
    """The number of minutes a person would write that is nearest in ratio."""
    return min(ROUND, key=lambda minutes: abs(np.log(minutes * 60 / seconds)))


def share_beyond(counts: np.ndarray, minutes: float) -> float:
    """Share of the gaps that are longer; the bin that the limit falls into counts as far as it reaches beyond."""
    position = np.log2(minutes * 60) * PER_OCTAVE
    share = np.clip(np.arange(BINS) + 1 - position, 0, 1)
    return float((counts * share).sum() / max(counts.sum(), 1))
