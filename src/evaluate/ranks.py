"""Ranks of targets among all items; ties are decided here, once."""

from typing import Final

import numpy as np
import numpy.typing as npt

from shopkeeper.data.prepared import ragged_ranges
from shopkeeper.data.targets import Ragged

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


def rank_among_unseen(
    scores: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    items: npt.NDArray[np.int64],
    ranks: npt.NDArray[np.int64],
    seen: Ragged,
) -> npt.NDArray[np.int64]:
    """Ranks (M,) where each row's `seen` items are taken off its list; `MISS` for a target that is one of them.

    rank - (seen items that score at least as high); `ranks` are those among all items, by `rank_targets`.
    """
    width = scores.shape[1] + 1
    row = np.repeat(np.arange(len(scores)), seen.sizes)
    known = seen.items < width
    row, item = row[known], seen.items[known]
    owner, inside = np.repeat(np.arange(len(scores)), np.diff(offsets)), items < width
    begins = np.searchsorted(row, np.arange(len(scores) + 1))
    # every pair of a target and a seen item of its row
    target = np.repeat(np.flatnonzero(inside), np.diff(begins)[owner[inside]])
    pair = ragged_ranges(begins[owner[inside]], begins[owner[inside] + 1])
    above = scores[row[pair], item[pair] - 1] >= scores[owner[target], items[target] - 1]
    named = np.bincount(target, item[pair] == items[target], minlength=len(items)) > 0
    return np.where(named | ~inside, MISS, ranks - np.bincount(target, above, minlength=len(items)).astype(np.int64))
