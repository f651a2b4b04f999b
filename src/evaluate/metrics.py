"""Ranking metrics of examples from the ranks of their targets."""

import numpy as np
import numpy.typing as npt

METRICS = ("recall", "ndcg", "mrr", "hit")

FloatArray = npt.NDArray[np.float64]


def per_example(
    ranks: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], cutoff: int = 20
) -> dict[str, FloatArray]:
    """Each metric at the cutoff for every example (n,); NaN where an example has no target."""
    count = len(offsets) - 1
    sizes = np.diff(offsets)
    owner = np.repeat(np.arange(count), sizes)
    inside = ranks <= cutoff
    discount = 1.0 / np.log2(np.arange(2, cutoff + 2))
    hits = np.bincount(owner[inside], minlength=count).astype(np.float64)
    gain = np.bincount(owner[inside], discount[ranks[inside] - 1], minlength=count)
    ideal = np.cumsum(discount)[np.minimum(np.maximum(sizes, 1), cutoff) - 1]
    best = np.full(count, np.inf)
    np.minimum.at(best, owner[inside], ranks[inside])
    values = {
        "recall": hits / np.maximum(sizes, 1),
        "ndcg": gain / ideal,
        "mrr": 1.0 / best,
        "hit": (hits > 0).astype(np.float64),
    }
    return {f"{name}@{cutoff}": np.where(sizes > 0, value, np.nan) for name, value in values.items()}
