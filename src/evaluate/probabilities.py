"""Metrics of said probabilities against what came true; n examples, C classes, log probabilities (n, C)."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.evaluate.intervals import Interval, drawn_times, interval_of

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BINS: Final = 15
WEIGHTS_AT_ONCE: Final = 1_000_000


def log_losses(log_probabilities: Array, label: IntArray) -> Array:
    """-log p(true class) of each example (n,)."""
    losses: Array = -log_probabilities[np.arange(len(label)), label]
    return losses


def hits(log_probabilities: Array, label: IntArray) -> Array:
    """1 where the likeliest class is the true one, else 0 (n,); of equally likely ones the first is taken."""
    return (log_probabilities.argmax(axis=1) == label).astype(np.float64)


class Reliability(NamedTuple):
    """What was said and how often it came true, per bin of examples, from the least said to the most."""

    said: Array
    true: Array
    examples: IntArray

    @property
    def ece(self) -> float:
        """Expected calibration error: sum over bins of (examples / n) * |mean said - mean true|."""
        weight = self.examples / max(int(self.examples.sum()), 1)
        return float((weight * np.abs(self.said - self.true)).sum())


def reliability(log_probabilities: Array, label: IntArray, *, bins: int = BINS) -> Reliability:
    """Bins of equal mass (Nguyen and O'Connor 2015, arXiv:1508.05154) of what is said of one event.

    The event is the second class where there are two, else that the likeliest class is the true one (Guo et al. 2017,
    arXiv:1706.04599). Equal probabilities stay in one bin, so there may be fewer bins.
    """
    if log_probabilities.shape[1] == 2:
        said, true = np.exp(log_probabilities[:, 1]), label == 1
    else:
        said, true = np.exp(log_probabilities.max(axis=1)), log_probabilities.argmax(axis=1) == label
    ordered = np.sort(said)
    borders = np.unique(ordered[np.arange(1, bins) * len(said) // bins])
    place = np.searchsorted(borders, said, side="right")
    examples = np.bincount(place, minlength=len(borders) + 1)
    filled = examples > 0
    sums = [np.bincount(place, values, minlength=len(examples))[filled] for values in (said, true)]
    return Reliability(sums[0] / examples[filled], sums[1] / examples[filled], examples[filled])


def auroc(score: Array, positive: BoolArray, visitor: IntArray, *, resamples: int, seed: int) -> Interval | None:
    """Area under the ROC curve and its interval by bootstrap over visitors; None where one of the classes is missing.

    It is the chance that a positive example scores above a negative one, half counted where they are equal (Mann and
    Whitney). In a resample each example weighs as often as its visitor was drawn:
    sum_i in pos w_i sum_j in neg w_j ([s_j < s_i] + [s_j = s_i] / 2) / (sum_pos w * sum_neg w).
    """
    if positive.all() or not positive.any():
        return None
    order = np.argsort(score, kind="stable")
    begins = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    _, cluster = np.unique(visitor[order], return_inverse=True)
    clusters, positive = int(cluster.max()) + 1, positive[order]
    whole = area(np.ones((1, len(score))), positive, begins)
    draws = [
        area(times[:, cluster], positive, begins)
        for block in drawn_times(clusters, resamples=resamples, seed=seed)
        for times in np.array_split(block, -(-len(block) * len(score) // WEIGHTS_AT_ONCE))
    ]
    return interval_of(float(whole[0]), np.concatenate(draws), examples=len(score), visitors=clusters)


def area(weight: Array, positive: BoolArray, begins: IntArray) -> Array:
    """AUROC (r,) for each row of weights (r, n) of examples in ascending order of score; ties begin at `begins`."""
    won, lost = (np.add.reduceat(weight * kind, begins, axis=1) for kind in (positive, ~positive))
    below = np.cumsum(lost, axis=1) - lost / 2
    pairs = won.sum(axis=1) * lost.sum(axis=1)
    return np.where(pairs > 0, (won * below).sum(axis=1) / np.maximum(pairs, 1.0), 0.5)
