"""All that is told of a visitor besides items, as it is judged, exported and served: probabilities, sets and depth."""

from typing import NamedTuple

import torch
from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch
from shopkeeper.models.calibration import depth_of, item_probabilities, set_size, shortlist_mass
from shopkeeper.models.contract import SessionModel, nothing_known


class Told(NamedTuple):
    """Of B histories."""

    probabilities: dict[str, Tensor]  # per outcome (B, classes)
    sets: dict[str, Tensor]  # per task that has one: how many of the best items hold the target nine times out of ten
    depth: Tensor  # (B,) place in s.DEPTHS
    addressed: dict[str, Tensor]  # per segment (B,), whether the visitor may be addressed by its likeliest class


@torch.no_grad()
def tell(model: SessionModel, batch: Batch, scores: Tensor, *, slack: float = 0.0) -> Told:
    """What is told beside `scores` (B, H, V), those of `rank_ready`.

    Decisions are taken as if every probability were `slack` higher than it is; a model that is not calibrated welcomes
    everybody.
    """
    found = zip(model.outcomes, model.classify(batch), strict=True)
    probabilities = {outcome.name: logs.exp() for outcome, logs in found}
    k, rules = batch.length - 1, model.calibration
    if rules is None:
        return Told(probabilities, {}, torch.zeros_like(k), {})
    ones = [1.0] * len(rules.ks)
    by_task = dict(zip(model.tasks, scores.unbind(dim=1), strict=True))
    items = {task: item_probabilities(x, rules.at(rules.temperature.get(task, ones), k)) for task, x in by_task.items()}
    sets = {task: set_size(items[task], rules.at(limits, k) - slack) for task, limits in rules.sets.items()}
    tops = {n: p.amax(dim=1) + slack for n, p in probabilities.items() if n.startswith(s.SEGMENT_PREFIX)}
    shortlist = shortlist_mass(items[model.tasks[0]]) + slack
    depth, addressed = depth_of(k, shortlist, tops, rules.depth, nothing=nothing_known(batch))
    return Told(probabilities, sets, depth, addressed)
