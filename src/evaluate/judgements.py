"""All that a model's scores say of the moments it is judged at: ranks, likelihood of the targets, and 90% sets."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared, ragged_ranges
from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.judge import scores_of
from shopkeeper.evaluate.ranks import rank_among_unseen, rank_targets
from shopkeeper.models.calibration import better_mass, item_probabilities, set_size
from shopkeeper.models.contract import SessionModel

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Judgement(NamedTuple):
    """What a model's scores say of n examples with M targets."""

    ranks: IntArray  # (M,) see `rank_targets`
    unseen_ranks: IntArray  # (M,) among the items that the visible history does not name; MISS for one that it names
    log_probability: Array | None  # (M,) of a model whose scores are logits; NaN for a target outside the catalogue
    sets: "Sets | None"  # of a model with a calibration


class Sets(NamedTuple):
    """The lists that hold the next target nine times out of ten, as far as the model is right (n,) each."""

    size: IntArray
    covers: BoolArray  # one of the targets at least


@torch.inference_mode()
def judge_whole(
    model: SessionModel,
    prepared: Prepared,
    examples: Examples,
    targets: Ragged,
    *,
    task: str,
    visible: Ragged,
    with_sets: bool,
) -> Judgement:
    """Judge in one pass over the scores; `visible` are the items of each example's visible history."""
    count = len(targets.items)
    ranks, unseen_ranks = np.empty(count, np.int64), np.empty(count, np.int64)
    told = np.full(count, np.nan) if model.scores_are_logits else None
    with_sets &= model.calibration is not None and task in model.calibration.sets
    sets = Sets(np.zeros(len(examples), np.int64), np.zeros(len(examples), bool)) if with_sets else None
    steps = visible_steps(model, examples)
    for chunk, scores in scores_of(model, prepared, examples, task=task):
        wanted, places = select(targets, chunk), ragged_ranges(targets.offsets[chunk], targets.offsets[chunk + 1])
        found = rank_targets(scores.numpy(), *wanted)
        ranks[places] = found
        unseen_ranks[places] = rank_among_unseen(scores.numpy(), *wanted, found, select(visible, chunk))
        if told is not None:
            told[places] = log_probabilities(scores, temperature(model, steps[chunk], task), wanted)
        if sets is not None:
            sets.size[chunk], sets.covers[chunk] = sets_of(model, scores, steps[chunk], wanted, task)
    return Judgement(ranks, unseen_ranks, told, sets)


def visible_steps(model: SessionModel, examples: Examples) -> Tensor:
    """How many steps the model sees of each example (n,)."""
    return torch.from_numpy(np.minimum(examples.last - examples.first, model.max_len))


def select(lists: Ragged, chosen: IntArray) -> Ragged:
    """The chosen lists."""
    places = ragged_ranges(lists.offsets[chosen], lists.offsets[chosen + 1])
    return Ragged(np.append(0, np.cumsum(lists.sizes[chosen])).astype(np.int64), lists.items[places])


def temperature(model: SessionModel, steps: Tensor, task: str) -> Tensor:
    """What scores are multiplied with to be logits (b,)."""
    if model.calibration is None or task not in model.calibration.temperature:
        return torch.ones(len(steps))
    return model.calibration.at(model.calibration.temperature[task], steps)


def log_probabilities(scores: Tensor, temperature: Tensor, targets: Ragged) -> Array:
    """log p of each target (M,) by the softmax of the scores (b, V) over the catalogue; NaN outside of it."""
    logits = scores.double() * temperature[:, None]
    total = torch.logsumexp(logits, dim=1)
    owner, inside = owners(targets), targets.items <= logits.shape[1]
    found = np.full(len(owner), np.nan)
    rows = torch.from_numpy(owner[inside])
    found[inside] = (logits[rows, torch.from_numpy(targets.items[inside]) - 1] - total[rows]).numpy()
    return found


def sets_of(model: SessionModel, scores: Tensor, steps: Tensor, targets: Ragged, task: str) -> Sets:
    """Size of each example's list, and whether it holds one of its targets: then it holds the one that ranks best."""
    assert model.calibration is not None
    threshold = model.calibration.at(model.calibration.sets[task], steps)
    probabilities = item_probabilities(scores, temperature(model, steps, task))
    owner, inside = owners(targets), targets.items <= probabilities.shape[1]
    owner, item = owner[inside], targets.items[inside]
    order = np.lexsort([scores.numpy()[owner, item - 1], owner])
    best = order[np.flatnonzero(np.diff(owner[order], append=-1))]  # the last of each owner
    rows, covers = torch.from_numpy(owner[best]), np.zeros(len(scores), bool)
    held = better_mass(probabilities[rows], torch.from_numpy(item[best] - 1)) < threshold[rows]
    covers[owner[best]] = held.numpy()
    return Sets(set_size(probabilities, threshold).numpy(), covers)


def owners(lists: Ragged) -> IntArray:
    """To which list each item belongs."""
    return np.repeat(np.arange(len(lists.sizes)), lists.sizes)
