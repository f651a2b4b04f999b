"""Raw numbers -> probabilities, 90% sets and depth, by the rules of outcomes.json.

With the raw log probabilities l = log_softmax(z) of an outcome, its prior p and the scale s of as many steps as were
seen, the answer is log_softmax(p + s (l - p)): s = 0 is the prior, s = 1 the network's own word. Of whom nothing is
known gets the prior. The probability of an item is softmax(score * temperature) over the whole catalogue.

B histories, C classes of all outcomes one after another, O outcomes, G segments, H tasks, V items, K entries of `ks`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper_serving.outcomes import SEGMENT_PREFIX, Outcomes

DEPTHS: Final = ("welcome", "segment", "one_to_one")
CONFIDENT_ITEMS: Final = 20
"""`one_to_one` asks how probable the best so many items are together."""

IGNORED_BITS: Final = 16
LEVELS: Final = (0x3F800000 >> IGNORED_BITS) + 1
"""Leading bits that float32 numbers from 0 to 1 may have."""

FloatArray = npt.NDArray[np.floating]
Scores = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Judged(NamedTuple):
    """What is said of each history besides its items."""

    probability: FloatArray  # (B, C)
    sets: dict[str, IntArray]  # per task (B,), how many of the best items hold the target with probability 90%
    addressable: BoolArray  # (B, G) whether the visitor may be addressed by the segment's most probable class
    depth: IntArray  # (B,) place in DEPTHS


class Calibration:
    """The rules of one bundle as arrays."""

    def __init__(self, outcomes: Outcomes, tasks: Sequence[str]) -> None:
        found, ones = outcomes.outcomes, [1.0] * len(outcomes.ks)
        self.ks = np.array(outcomes.ks, np.int64)
        sizes = np.array([len(outcome.classes) for outcome in found], np.int64)
        self.begins = np.cumsum(sizes) - sizes  # (O,) place of each outcome's first class
        self.owner = np.repeat(np.arange(len(found)), sizes)  # (C,)
        self.places = {o.name: slice(b, b + n) for o, b, n in zip(found, self.begins, sizes, strict=True)}
        self.classes = {outcome.name: outcome.classes for outcome in found}
        self.prior = np.array([value for outcome in found for value in outcome.prior], float)  # (C,)
        self.scale = np.array([outcome.scale for outcome in found], float).reshape(len(found), len(self.ks)).T  # (K, O)
        self.temperature = {task: np.array(outcomes.temperature.get(task, ones)) for task in tasks}
        self.sets = {task: np.array(outcomes.sets[task]) for task in tasks if task in outcomes.sets}
        self.segments = [name for name in self.places if name.startswith(SEGMENT_PREFIX)]
        thresholds = [outcomes.depth.segments.get(name) for name in self.segments]
        self.least = np.array([np.inf if value is None else value for value in thresholds])  # (G,)
        self.one_to_one = outcomes.depth.one_to_one

    def judge(
        self,
        scores: Scores,
        logits: FloatArray,
        *,
        steps: IntArray,
        nothing: BoolArray,
        tasks: Sequence[str],
    ) -> Judged:
        """All at once, from scores (B, H, V) as they are ranked, raw logits (B, C) and visible steps (B,).

        Sets are sized for the given tasks.
        """
        probability = self.probabilities(logits, steps=steps, nothing=nothing)
        sets, confidence = self.confidence(scores, steps=steps, tasks=tasks)
        addressable = self.top(probability) >= self.least
        addressable[nothing] = False  # the prior knows the shop, not the visitor
        depth = np.where(addressable.any(axis=1), DEPTHS.index("segment"), DEPTHS.index("welcome"))
        if self.one_to_one is not None:
            personal = (confidence >= self.one_to_one) & (steps > 0) & ~nothing
            depth = np.where(personal, DEPTHS.index("one_to_one"), depth)
        return Judged(probability, sets, addressable, depth)

    def bucket(self, steps: IntArray) -> IntArray:
        """Which entry of `ks` applies (B,)."""
        return np.searchsorted(self.ks, steps, side="right") - 1

    def probabilities(self, logits: FloatArray, *, steps: IntArray, nothing: BoolArray) -> FloatArray:
        """Calibrated probability of every class (B, C)."""
        if not self.classes:
            return np.zeros((len(steps), 0))
        scale = self.scale[self.bucket(steps)]
        scale[nothing] = 0.0
        own = self.log_softmax(logits.astype(float))
        return np.exp(self.log_softmax(self.prior + scale[:, self.owner] * (own - self.prior)))

    def log_softmax(self, values: FloatArray) -> FloatArray:
        """Within each outcome (B, C)."""
        shifted = values - np.maximum.reduceat(values, self.begins, axis=1)[:, self.owner]
        total = np.add.reduceat(np.exp(shifted), self.begins, axis=1)
        return shifted - np.log(total)[:, self.owner]

    def top(self, probability: FloatArray) -> FloatArray:
        """Probability of each segment's most probable class (B, G)."""
        tops = [probability[:, self.places[name]].max(axis=1) for name in self.segments]
        return np.stack(tops, axis=1) if tops else np.zeros((len(probability), 0))

    def confidence(
        self, scores: Scores, *, steps: IntArray, tasks: Sequence[str]
    ) -> tuple[dict[str, IntArray], FloatArray]:
        """Size of each task's 90% set (B,), and how probable the first task's best items are together (B,).

        A softmax needs the whole catalogue: it is taken once per history and task, and only where a rule asks for it.
        """
        bucket, confidence = self.bucket(steps), np.zeros(len(steps))
        sets: dict[str, IntArray] = {}
        for h, task in enumerate(self.temperature):
            first, sized = h == 0 and self.one_to_one is not None, task in self.sets and task in tasks
            if not first and not sized:
                continue
            weight = softmax_weights(scores[:, h], self.temperature[task][bucket])
            total = weight.sum(axis=1, dtype=float)
            if first:
                confidence = best_mass(weight, CONFIDENT_ITEMS) / np.where(total > 0, total, 1.0)
            if sized:
                limits = (self.sets[task][bucket] * total).tolist()
                sets[task] = np.array([set_size(w, limit) for w, limit in zip(weight, limits, strict=True)], np.int64)
        return sets, confidence


def softmax_weights(scores: Scores, temperature: FloatArray) -> Scores:
    """exp(score * temperature) over the largest one (B, V); 0 for items that may not be named."""
    best = np.maximum(scores.max(axis=1, keepdims=True), np.finfo(scores.dtype).min)  # finite, where none may be
    weight: Scores = np.exp((scores - best) * temperature[:, None].astype(scores.dtype))
    return weight


def best_mass(weight: FloatArray, count: int) -> FloatArray:
    """Together the `count` largest weights (B,)."""
    count = min(count, weight.shape[1])
    mass: FloatArray = np.partition(weight, -count, axis=1)[:, -count:].sum(axis=1, dtype=float)
    return mass


def set_size(weight: Scores, target: float) -> int:
    """How many of the largest weights (V,), from 0 to 1, reach the target; all where they do not.

    The leading bits of a float order it. Weights are summed by them, and only those that share the bits of the last
    one inside are sorted: a fraction of the time that sorting the catalogue takes.
    """
    level = weight.view(np.int32) >> IGNORED_BITS
    mass = np.bincount(level, weight, minlength=LEVELS).astype(float)
    reached = np.cumsum(mass[::-1])[::-1]  # by all weights of a level and above
    last = max(int(np.count_nonzero(reached >= target)) - 1, 0)
    inside = np.cumsum(-np.sort(-weight[level == last].astype(float)))
    above = int(np.count_nonzero(level > last))
    short = int(np.count_nonzero(reached[last] - mass[last] + inside < target))
    return min(above + 1 + short, len(weight))
