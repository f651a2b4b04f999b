"""From a model and the moments it is judged at to the rank of every target: full ranking, in chunks."""

import numpy as np
import torch
from tqdm import tqdm

from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.ranks import rank_targets
from shopkeeper.models.contract import SessionModel, rank_ready

SCORES_AT_ONCE = 6_000_000
"""Scores held in memory at a time (24 MB): larger blocks cost page faults each time."""


@torch.inference_mode()
def judge(
    model: SessionModel, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str, progress: bool = False
) -> IntArray:
    """Rank of every target among the model's whole catalogue (M,), 1 is best; see `rank_targets` for ties.

    Histories of similar length are scored together; the result is in the order of `targets`.
    """
    model.eval()
    head, device = model.tasks.index(task), model.prior_scores().device
    pieces = example_pieces(examples, model.max_len)
    order = np.argsort(pieces.last - pieces.first, kind="stable")
    rows = max(1, min(512, SCORES_AT_ONCE // (model.vocabulary.num_items * len(model.tasks))))
    ranks = np.empty(len(targets.items), np.int64)
    chunks = [order[begin : begin + rows] for begin in range(0, len(order), rows)]
    for chunk in tqdm(chunks, desc=f"{model.family} {task}", unit="batch", leave=False, disable=not progress):
        batch = collate(prepared, pieces.take(chunk), model.vocabulary)
        scores = rank_ready(model, batch.to(device))[:, head].cpu().numpy()
        sizes = targets.sizes[chunk]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        at = np.repeat(targets.offsets[chunk] - offsets[:-1], sizes) + np.arange(offsets[-1])
        ranks[at] = rank_targets(scores, offsets, targets.items[at])
    return ranks
