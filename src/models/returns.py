"""How often visitors come back to an item, counted in train: milk is bought again, a grill is not."""

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.models.contract import FitData


def return_log_odds(data: FitData, task: str) -> npt.NDArray[np.float32]:
    """log(rate_i / mean rate) of each item (V,), with one return at the mean rate added to what was counted.

    rate_i = returns to i / steps that visitors took after the first that names i. A return is a later step with the
    item; of the task `purchase`, one that buys it.
    """
    rows = data.rows()
    owner = np.repeat(np.arange(len(data.window)), data.window.end - data.window.start)
    item = np.asarray(data.prepared.rows["item"])[rows].astype(np.int64)
    step = np.searchsorted(data.prepared.step_offsets, rows, side="right") - 1
    last = np.searchsorted(data.prepared.step_offsets, data.window.end - 1, side="right") - 1
    counts = np.asarray(data.prepared.rows["order"])[rows] >= 0 if task == s.TASK_PURCHASE else np.ones(len(rows), bool)
    named = item > 0
    size = data.vocabulary.num_items + 1
    pair, first, number = np.unique(owner[named] * size + item[named], return_index=True, return_inverse=True)
    begin = step[named][first]  # rows are in time order, so the first of a pair is its earliest
    after = np.bincount(pair % size, last[pair // size] - begin, minlength=size)[1:]
    again = named.nonzero()[0][(step[named] > begin[number]) & counts[named]]
    visits = np.unique(np.stack([owner[again] * size + item[again], step[again]]), axis=1)[0]
    returns = np.bincount(visits % size, minlength=size)[1:].astype(np.float64)
    if not returns.sum():
        return np.zeros(size - 1, np.float32)
    mean = returns.sum() / after.sum()
    log_odds: npt.NDArray[np.float32] = np.log((returns + 1) / (after * mean + 1)).astype(np.float32)
    return log_odds
