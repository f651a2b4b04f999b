"""From a model and moments to what it says of outcomes there, and how personal its answer may be."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch
from shopkeeper.data.examples import Examples
from shopkeeper.data.outcomes import MASKED, Labels, Outcome
from shopkeeper.data.prepared import Prepared, Window
from shopkeeper.data.windows import strangers
from shopkeeper.evaluate.judge import AT_ONCE, batches_of, chunk_rows
from shopkeeper.evaluate.judgements import temperature
from shopkeeper.models.calibration import depth_of, item_probabilities, shortlist_mass
from shopkeeper.models.contract import SessionModel, nothing_known, rank_ready

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

GIVEN_AWAY: Final = 0.95
"""Share of validation strangers that a context column must tell right to give a segment away."""
ABOVE_PRIOR: Final = 0.5
"""Share of the likeliest class's errors that the column must take away besides."""


class Classified(NamedTuple):
    """What a model said at n moments."""

    log_probabilities: dict[str, Array]  # by outcome (n, C)
    depth: IntArray | None  # (n,) place in schema.DEPTHS, of a model with a calibration
    addressed: dict[str, BoolArray]  # by segment (n,): may be addressed as its likeliest class


@torch.inference_mode()
def classify(
    model: SessionModel, prepared: Prepared, examples: Examples, *, without: str | None = None, with_depth: bool = False
) -> Classified:
    """Log probabilities of all outcomes of the model at the moments, in their order.

    Args:
        without: a context column that is blanked.
        with_depth: also decide how personal the answers may be, which takes scoring the catalogue.
    """
    with_depth &= model.calibration is not None
    rows = chunk_rows(model) if with_depth else AT_ONCE
    found = {o.name: np.zeros((len(examples), len(o.classes))) for o in model.outcomes}
    depth = np.zeros(len(examples), np.int64) if with_depth else None
    addressed: dict[str, BoolArray] = {}
    for chunk, batch in batches_of(model, prepared, examples, rows, desc=f"{model.family} outcomes", progress=False):
        if without is not None:
            batch = blanked(batch, prepared.context_columns.index(without))
        said = {o.name: part for o, part in zip(model.outcomes, model.classify(batch), strict=True)}
        for name, part in said.items():
            found[name][chunk] = part.numpy()
        if depth is not None:
            decided, whom = decide(model, batch, said)
            depth[chunk] = decided.numpy()
            for name, who in whom.items():
                addressed.setdefault(name, np.zeros(len(examples), bool))[chunk] = who.numpy()
    return Classified(found, depth, addressed)


def decide(model: SessionModel, batch: Batch, said: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Depth of each answer (B,), and which segments it may name (B,) each."""
    assert model.calibration is not None
    scores = rank_ready(model, batch)[:, 0]
    shortlist = shortlist_mass(item_probabilities(scores, temperature(model, batch.length - 1, model.tasks[0])))
    tops = {name: part.exp().amax(dim=1) for name, part in said.items() if name.startswith(s.SEGMENT_PREFIX)}
    return depth_of(batch.length - 1, shortlist, tops, model.calibration.depth, nothing=nothing_known(batch))


def blanked(batch: Batch, column: int) -> Batch:
    """The batch as if a context column were not known at all."""
    context = batch.context.clone()
    context[:, :, column] = s.PAD
    return batch._replace(context=context)


def telling_columns(prepared: Prepared, window: Window, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Segments that can be read off one context column of the entry, and that column.

    A column tells the class that most train visitors of its value have (the most frequent of all where that is
    unknown). It gives the segment away where this is right for at least 95% of validation strangers, and wrong for at
    most half as many as the most frequent class alone.
    """
    found: dict[str, str] = {}
    val = strangers(prepared, s.VAL)
    for outcome in outcomes:
        if not outcome.name.startswith(s.SEGMENT_PREFIX) or not len(val):
            continue
        (codes, label), (val_codes, val_label) = (entries(prepared, w, outcome) for w in (window, val))
        if not len(label) or not len(val_label):
            continue
        plain = (val_label == np.bincount(label).argmax()).mean()
        for place, column in enumerate(prepared.context_columns):
            right = (majority(codes[:, place], label, val_codes[:, place]) == val_label).mean()
            if right >= GIVEN_AWAY and 1 - right <= (1 - ABOVE_PRIOR) * (1 - plain):
                found[outcome.name] = column
                break
    return found


def entries(prepared: Prepared, window: Window, outcome: Outcome) -> tuple[IntArray, IntArray]:
    """Context codes (n, C) of the first session of each visitor whose class is known before any step, and that (n,)."""
    label = Labels(prepared, [outcome]).of(outcome.name, Examples.at_entry(prepared, window).moments(prepared))
    session = np.asarray(prepared.rows["session"])[window.start[label != MASKED]]
    return prepared.context(prepared.sessions, session), label[label != MASKED]


def majority(codes: IntArray, label: IntArray, asked: IntArray) -> IntArray:
    """Of each asked code (m,) the most frequent label beside it (n,); the most frequent of all where it is new."""
    size, classes = int(max(codes.max(initial=0), asked.max(initial=0))) + 1, int(label.max()) + 1
    times = np.bincount(codes * classes + label, minlength=size * classes).reshape(size, classes)
    return np.where(times.any(axis=1), times.argmax(axis=1), np.bincount(label).argmax())[asked]
