"""What follows what: a Markov chain, and sequential rules, which look further back than one step.

Both count, over every moment of every training history, pairs of an item i of a step and a target j of the task at that
moment: the items of the next order, or the next item. A step t moments back (1 = the latest) weighs w(t),

    n(i, j) = sum over moments m and t <= reach of w(t) * [i in the step t back] * [j is a target at m]
    T[i, j] = n(i, j) / (n(i) + shrink),    n(i) = sum over moments with a target and t of w(t) * [i in the step t back]

and the `neighbours` largest T[i, j] of every item i are kept. See `TableModel` for how a history is scored.
"""

import numpy as np
import scipy.sparse as sp

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.examples import window_steps
from shopkeeper.data.prepared import IntArray, ragged_ranges
from shopkeeper.data.targets import Moments, Targets
from shopkeeper.models.baselines import TableModel, top_of_rows
from shopkeeper.models.contract import FitData


class Rules(TableModel):
    """Scores are sums of rules from the items of the history; see the module's docstring.

    Args:
        neighbours: rules that are kept of an item.
        shrink: moments added to an item's count, so that what was seen once is not sure.
        decay: weight of a step when a history is scored, per step back; 0 reads the latest step alone.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        neighbours: int,
        shrink: float,
        decay: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            window_days=window_days,
            prior_weight=1e-3,
            decay=decay,
        )
        self.neighbours, self.shrink = neighbours, shrink

    def table(self, data: FitData, task: str) -> sp.csr_array:
        cues, targets = cues_and_targets(data, task, self.back_weights())
        return conditional(cues, targets, shrink=self.shrink, keep=self.neighbours)

    def back_weights(self) -> list[float]:
        """w(1), w(2), ..., w(reach)."""
        return [1.0]


class Markov(Rules):
    """A first-order Markov chain: P(j is next | i is among the latest), from transitions between neighbouring steps.

    A step of several items is scored by the sum over them (as Rendle et al. 2010 factor it,
    https://doi.org/10.1145/1772690.1772773).
    """

    family = "markov"


class SequentialRules(Rules):
    """SR (Ludewig and Jannach 2018, https://doi.org/10.1007/s11257-018-9209-6): w(t) = 1 / t, for t <= `reach`."""

    family = "sequential_rules"

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        tasks: list[str],
        max_len: int,
        reach: int,
        neighbours: int,
        shrink: float,
        decay: float,
        window_days: float | None,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            tasks=tasks,
            max_len=max_len,
            neighbours=neighbours,
            shrink=shrink,
            decay=decay,
            window_days=window_days,
        )
        if reach < 1:
            raise ValueError(f"reach={reach} must be at least 1")
        self.reach = reach

    def back_weights(self) -> list[float]:
        return [1.0 / t for t in range(1, self.reach + 1)]


def cues_and_targets(data: FitData, task: str, weights: list[float]) -> tuple[sp.csr_array, sp.csr_array]:
    """Weighted items of the latest steps, and targets, of every training moment that has some; (moments, V) each."""
    prepared, window, items = data.prepared, data.window, data.vocabulary.num_items
    first, count = window_steps(prepared, window)
    step = ragged_ranges(first, first + count)  # the moment after each step
    limit, begin = np.repeat(window.end, count), np.repeat(first, count)
    end = np.minimum(prepared.step_offsets[step + 1], limit)
    found = Targets(prepared).of(task, Moments(np.repeat(window.start, count), end, limit))
    moment = np.flatnonzero(found.sizes)
    step, begin, limit = step[moment], begin[moment], limit[moment]
    parts = [items_of(data, np.flatnonzero(step - back >= begin), step - back, limit) for back in range(len(weights))]
    cue = np.concatenate([np.stack(part) for part in parts], axis=1)
    weight = np.repeat(np.asarray(weights, np.float32), [len(part[0]) for part in parts])
    shape = (len(moment), items)
    target = sp.csr_array(
        (np.ones(len(found.items), np.float32), found.items - 1, np.append(0, np.cumsum(found.sizes[moment]))),
        shape=shape,
    )
    return sp.csr_array((weight, (cue[0], cue[1] - 1)), shape=shape), target


def items_of(data: FitData, chosen: IntArray, step: IntArray, limit: IntArray) -> tuple[IntArray, IntArray]:
    """Numbers of the `chosen` moments, and the distinct items in `step` of each: an entry per item."""
    offsets, width = data.prepared.step_offsets, data.vocabulary.num_items + 1
    begin, end = offsets[step[chosen]], np.minimum(offsets[step[chosen] + 1], limit[chosen])
    item = np.asarray(data.prepared.rows["item"])[ragged_ranges(begin, end)].astype(np.int64)
    keys = np.unique(np.repeat(chosen, end - begin)[item > 0] * width + item[item > 0])
    return keys // width, keys % width


def conditional(
    cues: sp.csr_array, targets: sp.csr_array, *, shrink: float, keep: int, block: int = 4096
) -> sp.csr_array:
    """T of the module's docstring, by blocks of items to bound memory."""
    by_item, blocks = sp.csr_array(cues.T), []
    scale = 1.0 / np.maximum(cues.sum(axis=0) + shrink, 1e-12)
    for begin in range(0, by_item.shape[0], block):
        together = sp.csr_array(by_item[begin : begin + block] @ targets)
        size = np.diff(together.indptr)
        together.data = (together.data * np.repeat(scale[begin : begin + block], size)).astype(np.float32)
        blocks.append(top_of_rows(together, keep))
    return sp.csr_array(sp.vstack(blocks, format="csr"))
