"""What is to be predicted at a moment: the items of the next order, the next item that differs from the last, and
the next item of all, which may be the last one again (so the papers on session data count)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges


class Ragged(NamedTuple):
    """Lists of items: list i is items[offsets[i]:offsets[i + 1]]."""

    offsets: IntArray
    items: IntArray

    @property
    def sizes(self) -> IntArray:
        return np.diff(self.offsets)

    def only(self, chosen: npt.ArrayLike) -> "Ragged":
        """The chosen lists, in the order given."""
        index = np.asarray(chosen)
        items = self.items[ragged_ranges(self.offsets[index], self.offsets[index + 1])]
        return Ragged(np.concatenate([[0], np.cumsum(self.sizes[index])]).astype(np.int64), items)


class Moments(NamedTuple):
    """Prediction moments: rows [start, end) are visible, targets lie in [end, limit) of the same visitor; each (n,)."""

    start: IntArray
    end: IntArray
    limit: IntArray


class Targets:
    """Looks up the targets of any moments of one prepared dataset, vectorised."""

    def __init__(self, prepared: Prepared) -> None:
        self.time = prepared.rows["time"]
        self.item = prepared.rows["item"]
        horizon = prepared.manifest["horizon_days"]
        self.horizon = None if horizon is None else int(horizon * 86_400_000_000)
        order = np.asarray(prepared.rows["order"])
        bought = np.flatnonzero(order >= 0)
        bought = bought[np.argsort(order[bought], kind="stable")]
        numbers, first = np.unique(order[bought], return_index=True)
        self.order_rows = bought
        self.order_offsets = np.append(first, len(bought)).astype(np.int64)
        self.order_first = bought[first] if len(numbers) else np.empty(0, np.int64)
        self.item_rows = np.flatnonzero(self.item)
        items, visitors = self.item[self.item_rows], prepared.rows["visitor"][self.item_rows]
        changed = (np.diff(items) != 0) | (np.diff(visitors) != 0)
        self.run_starts = np.flatnonzero(np.concatenate([[True], changed])) if len(items) else np.empty(0, np.int64)

    def of(self, task: str, moments: Moments) -> Ragged:
        """Target items of each moment; an empty list where there is nothing to predict."""
        if task == s.TASK_PURCHASE:
            return self.next_purchase(moments)
        return self.next_item(moments, repeats=task == s.TASK_NEXT_ANY)

    def next_purchase(self, moments: Moments) -> Ragged:
        """Items, each once, of the first order that begins at or after `end`, inside `limit` and the horizon."""
        order = np.searchsorted(self.order_first, moments.end)
        found = order < len(self.order_first)
        order = np.minimum(order, len(self.order_first) - 1)
        if not len(self.order_first):
            return Ragged(np.zeros(len(moments.end) + 1, np.int64), np.empty(0, np.int64))
        first = self.order_first[order]
        found &= first < moments.limit
        if self.horizon is not None:
            last_seen = np.where(moments.end > moments.start, moments.end - 1, first)
            found &= self.time[first] - self.time[last_seen] <= self.horizon
        begin = np.where(found, self.order_offsets[order], 0)
        size = np.where(found, self.order_offsets[order + 1] - begin, 0)
        rows = self.order_rows[ragged_ranges(begin, begin + size)]
        owner = np.repeat(np.arange(len(order)), size)
        keep = (rows < moments.limit[owner]) & (self.item[rows] > 0)
        return unique_lists(owner[keep], self.item[rows[keep]], len(order))

    def next_item(self, moments: Moments, *, repeats: bool = False) -> Ragged:
        """The first item after `end` that differs from the last visible one; with `repeats`, the first of all."""
        n, total = len(moments.end), len(self.item_rows)
        position = np.searchsorted(self.item_rows, moments.end)
        seen = position > np.searchsorted(self.item_rows, moments.start)
        run = np.searchsorted(self.run_starts, np.maximum(position - 1, 0), side="right")
        after_run = np.append(self.run_starts, total)[np.minimum(run, len(self.run_starts))]
        chosen = position if repeats else np.where(seen, after_run, position)
        row = np.append(self.item_rows, np.iinfo(np.int64).max)[np.minimum(chosen, total)]
        found = row < moments.limit
        offsets = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
        assert len(offsets) == n + 1
        return Ragged(offsets, self.item[row[found]].astype(np.int64))


def unique_lists(owner: npt.ArrayLike, items: npt.ArrayLike, count: int) -> Ragged:
    """Group (owner, item) pairs into sorted lists without repeats; owners are 0..count-1."""
    pairs = np.unique(np.stack([np.asarray(owner, np.int64), np.asarray(items, np.int64)]), axis=1)
    sizes = np.bincount(pairs[0], minlength=count)
    return Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), pairs[1])


def supported_tasks(prepared: Prepared, window: Window) -> tuple[list[str], dict[str, str]]:
    """Tasks the rows of a window support, and why each other one is left out."""
    index = ragged_ranges(window.start, window.end)
    item = np.asarray(prepared.rows["item"])[index]
    bought = np.asarray(prepared.rows["order"])[index] >= 0
    items = np.unique(item[item > 0])
    left_out = {}
    if not bought.any():
        left_out[s.TASK_PURCHASE] = "the log has no purchases in train"
    elif not (item[bought] > 0).any():
        left_out[s.TASK_PURCHASE] = f"no purchase in train names an item (column {s.ITEM!r})"
    if prepared.order_only:
        left_out[s.TASK_NEXT] = "the log has no events besides purchases"
    elif not len(items):
        left_out[s.TASK_NEXT] = f"no event in train names an item (column {s.ITEM!r})"
    elif len(items) == 1:
        left_out[s.TASK_NEXT] = "the log knows one item only, so none ever follows another"
    return [task for task in s.TASKS if task not in left_out], left_out
