"""Ranks of targets among all items; ties are decided here, once."""

from typing import Final

import numpy as np
import numpy.typing as npt

MISS: Final = int(np.iinfo(np.int64).max)
"""Rank of a target outside the catalogue."""


def rank_targets(
    scores: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the 1-based rank of every target (M,).

    Args:
        scores: (n, V), column j is item index j + 1; -inf excludes an item.
        offsets: (n + 1,), the targets of row i are `items[offsets[i]:offsets[i + 1]]`.
        items: (M,) item indexes from 1; one above V is outside the catalogue and gets `MISS`.

    Ties count against the model: the rank is one plus the number of other items that score at least as high.

    Raises:
        ValueError: when a score is NaN.
    """
    if np.isnan(scores.max(initial=-np.inf)):  # NaN passes through a maximum: a third of the time of a mask
        raise ValueError("scores hold NaN")
    owner = np.repeat(np.arange(len(scores)), np.diff(offsets))
    inside = items <= scores.shape[1]
    ranks = np.full(len(items), MISS, np.int64)
    own = scores[owner[inside], items[inside] - 1]
    # one pass over a row per target: a row fits the cache, and there are few targets to it
    ranks[inside] = [np.count_nonzero(scores[row] >= score) for row, score in zip(owner[inside], own, strict=True)]
    return ranks
