"""From a model and the moments it is judged at to the rank of every target, and to what is said of outcomes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from shopkeeper.data.batches import Batch, collate, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.ranks import rank_targets
from shopkeeper.models.contract import SessionModel, rank_ready

FloatArray = npt.NDArray[np.float64]

AT_ONCE = 512
"""Histories in a batch at most."""
SCORES_AT_ONCE = 6_000_000
"""Scores held in memory at a time (24 MB): larger blocks cost page faults each time."""


@torch.inference_mode()
def judge(
    model: SessionModel, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str, progress: bool = False
) -> IntArray:
    """Rank of every target among the model's whole catalogue (M,), 1 is best; see `rank_targets` for ties.

    Histories of similar length are scored together; the result is in the order of `targets`.
    """
    ranks = np.empty(len(targets.items), np.int64)
    for chunk, scored in scores_of(model, prepared, examples, task=task, progress=progress):
        scores, sizes = scored.cpu().numpy(), targets.sizes[chunk]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        at = np.repeat(targets.offsets[chunk] - offsets[:-1], sizes) + np.arange(offsets[-1])
        ranks[at] = rank_targets(scores, offsets, targets.items[at])
    return ranks


def scores_of(
    model: SessionModel, prepared: Prepared, examples: Examples, *, task: str, progress: bool = False
) -> Iterator[tuple[IntArray, Tensor]]:
    """Examples in chunks of similar length, and their scores as judged (chunk, V)."""
    head = model.tasks.index(task)
    desc, rows = f"{model.family} {task}", chunk_rows(model)
    for chunk, batch in batches_of(model, prepared, examples, rows, desc=desc, progress=progress):
        yield chunk, rank_ready(model, batch)[:, head]


def chunk_rows(model: SessionModel) -> int:
    """Histories in a batch whose whole catalogue is scored."""
    return max(1, min(AT_ONCE, SCORES_AT_ONCE // (model.vocabulary.num_items * len(model.tasks))))


@torch.inference_mode()
def classify_all(model: SessionModel, prepared: Prepared, examples: Examples) -> list[FloatArray]:
    """Log probabilities of each outcome's classes as answered, in the order of the examples (n, classes) each."""
    found = [np.empty((len(examples), len(outcome.classes))) for outcome in model.outcomes]
    for chunk, batch in batches_of(model, prepared, examples, AT_ONCE, desc=f"{model.family} outcomes", progress=False):
        for whole, part in zip(found, model.classify(batch), strict=True):
            whole[chunk] = part.cpu().numpy()
    return found


def batches_of(
    model: SessionModel, prepared: Prepared, examples: Examples, rows: int, *, desc: str, progress: bool
) -> Iterator[tuple[IntArray, Batch]]:
    """Examples as batches of at most `rows`, those of similar length together, the model ready to answer them."""
    model.eval()
    device = next((table.device for table in model.state_dict().values()), torch.device("cpu"))
    pieces = example_pieces(examples, model.max_len)
    order = np.argsort(pieces.last - pieces.first, kind="stable")
    chunks = [order[begin : begin + rows] for begin in range(0, len(order), rows)]
    for chunk in tqdm(chunks, desc=desc, unit="batch", leave=False, disable=not progress):
        yield chunk, collate(prepared, pieces.take(chunk), model.vocabulary).to(device)
