"""From a model and the moments it is judged at to what its scores say of every target: full ranking, in chunks."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from shopkeeper.data.batches import Batch, collate, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared, ragged_ranges
from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.ranks import rank_among_unseen, rank_targets
from shopkeeper.models.calibration import better_mass, item_probabilities, set_size
from shopkeeper.models.contract import SessionModel, rank_ready

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SCORES_AT_ONCE = 6_000_000
"""Scores held in memory at a time (24 MB): larger blocks cost page faults each time."""


class Scored(NamedTuple):
    """A chunk of examples with their scores (b, V) of one task, and where their targets stand among all targets."""

    numbers: IntArray  # (b,) of the examples
    batch: Batch
    scores: Tensor
    targets: Ragged
    places: IntArray  # of the chunk's targets among all


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


def judge(
    model: SessionModel, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str, progress: bool = False
) -> IntArray:
    """Rank of every target among the model's whole catalogue (M,), 1 is best; see `rank_targets` for ties."""
    ranks = np.empty(len(targets.items), np.int64)
    for part in scored(model, prepared, examples, targets, task=task, progress=progress):
        ranks[part.places] = rank_targets(part.scores.numpy(), part.targets.offsets, part.targets.items)
    return ranks


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
    """Ranks, and what else the same scores say; `visible` are the items of each example's visible history."""
    count = len(targets.items)
    ranks, unseen_ranks = np.empty(count, np.int64), np.empty(count, np.int64)
    told = np.full(count, np.nan) if model.scores_are_logits else None
    with_sets &= model.calibration is not None and task in model.calibration.sets
    sets = Sets(np.zeros(len(examples), np.int64), np.zeros(len(examples), bool)) if with_sets else None
    for part in scored(model, prepared, examples, targets, task=task):
        found, own = rank_targets(part.scores.numpy(), *part.targets), select(visible, part.numbers)
        ranks[part.places] = found
        unseen_ranks[part.places] = rank_among_unseen(part.scores.numpy(), *part.targets, found, own)
        if told is not None:
            told[part.places] = log_probabilities(model, part, task)
        if sets is not None:
            sets.size[part.numbers], sets.covers[part.numbers] = sets_of(model, part, task)
    return Judgement(ranks, unseen_ranks, told, sets)


@torch.inference_mode()
def scored(
    model: SessionModel, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str, progress: bool = False
) -> Iterator[Scored]:
    """All examples in chunks of histories of similar length, in no particular order."""
    model.eval()
    head = model.tasks.index(task)
    pieces = example_pieces(examples, model.max_len)
    order = np.argsort(pieces.last - pieces.first, kind="stable")
    rows = max(1, min(512, SCORES_AT_ONCE // (model.vocabulary.num_items * len(model.tasks))))
    chunks = [order[begin : begin + rows] for begin in range(0, len(order), rows)]
    for chunk in tqdm(chunks, desc=f"{model.family} {task}", unit="batch", leave=False, disable=not progress):
        batch = collate(prepared, pieces.take(chunk), model.vocabulary)
        scores = rank_ready(model, batch)[:, head]
        places = ragged_ranges(targets.offsets[chunk], targets.offsets[chunk + 1])
        yield Scored(chunk, batch, scores, select(targets, chunk), places)


def select(lists: Ragged, chosen: IntArray) -> Ragged:
    """The chosen lists."""
    places = ragged_ranges(lists.offsets[chosen], lists.offsets[chosen + 1])
    return Ragged(np.append(0, np.cumsum(lists.sizes[chosen])).astype(np.int64), lists.items[places])


def temperature(model: SessionModel, batch: Batch, task: str) -> Tensor:
    """What the scores are multiplied with to be logits (b,)."""
    if model.calibration is None or task not in model.calibration.temperature:
        return torch.ones(len(batch.length))
    return model.calibration.at(model.calibration.temperature[task], batch.length - 1)


def log_probabilities(model: SessionModel, part: Scored, task: str) -> Array:
    """log p of each of the chunk's targets by the softmax over the catalogue; NaN outside of it."""
    logits = part.scores.double() * temperature(model, part.batch, task)[:, None]
    total = torch.logsumexp(logits, dim=1)
    owner, inside = owners(part.targets), part.targets.items <= logits.shape[1]
    found = np.full(len(owner), np.nan)
    rows = torch.from_numpy(owner[inside])
    found[inside] = (logits[rows, torch.from_numpy(part.targets.items[inside]) - 1] - total[rows]).numpy()
    return found


def sets_of(model: SessionModel, part: Scored, task: str) -> Sets:
    """Size of each example's list, and whether it holds one of its targets: then it holds the one that ranks best."""
    assert model.calibration is not None
    threshold = model.calibration.at(model.calibration.sets[task], part.batch.length - 1)
    probabilities = item_probabilities(part.scores, temperature(model, part.batch, task))
    owner, inside = owners(part.targets), part.targets.items <= probabilities.shape[1]
    owner, item = owner[inside], part.targets.items[inside]
    order = np.lexsort([part.scores.numpy()[owner, item - 1], owner])
    best = order[np.flatnonzero(np.diff(owner[order], append=-1))]  # the last of each owner
    rows, covers = torch.from_numpy(owner[best]), np.zeros(len(part.numbers), bool)
    held = better_mass(probabilities[rows], torch.from_numpy(item[best] - 1)) < threshold[rows]
    covers[owner[best]] = held.numpy()
    return Sets(set_size(probabilities, threshold).numpy(), covers)


def owners(lists: Ragged) -> IntArray:
    """To which list each item belongs."""
    return np.repeat(np.arange(len(lists.sizes)), lists.sizes)
