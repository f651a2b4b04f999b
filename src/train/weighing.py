"""The weights of a blend, learned on validation strangers: softmax cross-entropy of what they chose, convex in them.

    sum over examples of (log sum_i exp(w . z_i) - mean over targets t of w . z_t) + shrinkage / 2 * |w - w_all|^2

with w >= 0. Weights w_all of all steps seen come first, then those of each bucket, which the last term holds near them.
The sum over the catalogue is taken over a list of each example: the best items of every part, the targets, and a
sample of the rest, each of which stands for many.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.targets import Ragged
from shopkeeper.models.blend import Blend
from shopkeeper.train.validation import Validation

FloatArray = npt.NDArray[np.float32]

BEST, SAMPLED = 50, 200
"""Items of a list: the best of each part, and those that stand for the rest."""

CHUNK = 32
"""Examples scored at a time while lists are made."""


class Lists(NamedTuple):
    """What the items on each example's list score; n examples, C entries, P parts."""

    view: FloatArray  # (n, C, P)
    log_count: FloatArray  # (n, C), log of how many items an entry stands for; -inf where it is none
    share: FloatArray  # (n, C), a target's share of the example; a row sums to 1, to 0 where all targets are unknown
    bucket: IntArray  # (n,)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Lists":
        view, log_count, share, bucket = self
        return Lists(view[chosen], log_count[chosen], share[chosen], bucket[chosen])


def weigh(blend: Blend, validation: Validation) -> dict[str, float]:
    """Set the weights of every task, and return the blend's validation metrics.

    A visitor is judged with weights that the other half of the visitors taught; the weights that stay come from all.
    Where even so the blend is not ahead of its best part, that part answers the task alone.
    """
    ranks = {}
    for h, (task, (examples, targets)) in enumerate(validation.examples.items()):
        lists, chosen = gather(blend, validation.prepared, examples, targets, task=task)
        half = examples.visitor % 2
        found = {name: validation.judge(part, task) for name, part in blend.named_parts().items()}
        blended = np.empty_like(targets.items)
        for held_out in (0, 1):
            blend.weights[h] = learn(blend, lists.only(half[chosen] != held_out))
            judged = half == held_out
            blended[np.repeat(judged, targets.sizes)] = validation.judge(blend, task, np.flatnonzero(judged))
        best = max(found, key=lambda name: validation.pooled(task, found[name]))
        if validation.pooled(task, blended) > validation.pooled(task, found[best]):
            blend.weights[h], ranks[task] = learn(blend, lists), blended
        else:
            blend.weights[h] = torch.tensor([float(name == best) for name in found])
            ranks[task] = found[best]
    return validation.summary(ranks) | validation.skills(blend)


def learn(blend: Blend, lists: Lists) -> torch.Tensor:
    """Weights of every bucket (K, P); those of all for a bucket without an example."""
    start = np.full(lists.view.shape[2], 1.0 / lists.view.shape[2])
    common = minimise(lists, start, pull=0.0)
    weights = [
        minimise(lists.only(lists.bucket == bucket), common, pull=blend.shrinkage) for bucket in range(len(blend.ks))
    ]
    return torch.from_numpy(np.stack(weights)).float()


def minimise(lists: Lists, start: npt.NDArray[np.float64], *, pull: float) -> npt.NDArray[np.float64]:
    """The weights (P,) at which the loss of the module's docstring is least; `start` is w_all, `pull` the shrinkage."""
    if not len(lists.view):
        return start
    judged = lists.share.sum(axis=1)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        score = lists.view @ weights.astype(np.float32)
        odds = score + lists.log_count
        top = odds.max(axis=1, keepdims=True)
        odds = np.exp(odds - top)
        total = odds.sum(axis=1)
        value = (judged * (np.log(total) + top[:, 0]) - (lists.share * score).sum(axis=1)).sum()
        surplus = odds * (judged / total)[:, None] - lists.share
        slope = surplus.ravel() @ lists.view.reshape(-1, len(start))
        away = weights - start
        return float(value + pull / 2 * away @ away), slope.astype(np.float64) + pull * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start))
    return np.asarray(found.x)


@torch.inference_mode()
def gather(
    blend: Blend, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str
) -> tuple[Lists, IntArray]:
    """Lists of at most `blend.examples` examples, spread evenly, and the numbers of these."""
    blend.eval()
    chosen = np.unique(np.linspace(0, len(examples) - 1, blend.examples).astype(int))
    asked, wanted = examples.only(chosen), targets.only(chosen)
    pieces, rng = example_pieces(asked, blend.max_len), np.random.default_rng(0)
    widest, parts = int(wanted.sizes.max(initial=0)), []
    for begin in range(0, len(asked), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(asked)))
        batch = collate(prepared, pieces.take(rows), blend.vocabulary)
        views = np.stack([view[:, blend.tasks.index(task)].numpy() for view in blend.views(batch)])
        barred = batch.last_item.numpy() - 1 if task == s.TASK_NEXT else np.full(len(rows), -1)
        lists = list_items(views, padded(wanted.only(rows), widest), barred, rng)
        parts.append(Lists(*lists, blend.bucket(batch).numpy()))
    return Lists(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), chosen


def padded(targets: Ragged, width: int) -> IntArray:
    """Items from 0 of each list (n, width), -1 after its end."""
    owner = np.repeat(np.arange(len(targets.sizes)), targets.sizes)
    table = np.full((len(targets.sizes), width), -1)
    table[owner, np.arange(len(owner)) - targets.offsets[owner]] = targets.items - 1
    return table


def list_items(
    views: FloatArray, target: IntArray, barred: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`view`, `log_count` and `share` of Lists from what each part scores (P, n, V).

    Args:
        target: items from 0 (n, T), -1 or above V - 1 where there is none to know.
        barred: item that cannot be a target (n,), -1 where every item can.
    """
    _, count, total = views.shape
    target = np.where(target < total, target, -1)
    best = np.argpartition(-views, min(BEST, total) - 1, axis=2)[:, :, :BEST].transpose(1, 0, 2).reshape(count, -1)
    drawn = np.broadcast_to(rng.choice(total, min(SAMPLED, total), replace=False), (count, min(SAMPLED, total)))
    # an item that stands on the list twice counts once: as one of the sure ones rather than of the drawn
    key = np.sort(np.concatenate([2 * best, 2 * target, 2 * drawn + 1], axis=1), axis=1)
    item, by_chance = key >> 1, key % 2 == 1
    real = (item >= 0) & (item != barred[:, None]) & (np.diff(item, axis=1, prepend=-1) != 0)
    sure = (real & ~by_chance).sum(axis=1)
    rest = total - (barred >= 0) - sure
    each = rest / np.maximum((real & by_chance).sum(axis=1), 1)
    stands_for = np.where(by_chance, each[:, None], 1.0) * real
    with np.errstate(divide="ignore"):
        log_count = np.log(stands_for)
    row = np.arange(count)[:, None]
    hit = real & np.isin(row * total + item, (row * total + target)[target >= 0])
    share = hit / np.maximum(hit.sum(axis=1, keepdims=True), 1)
    view = np.take_along_axis(views, np.maximum(item, 0)[None], axis=2).transpose(1, 2, 0)
    return np.ascontiguousarray(view), log_count.astype(np.float32), share.astype(np.float32)
