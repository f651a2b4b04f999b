"""What every model is: fitted on a window of the prepared data, it scores the whole catalogue for any history."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.models.calibration import Calibration, scaled

DAY = 86_400_000_000
"""Microseconds."""


class FitData(NamedTuple):
    """What a model may learn from: the rows of `window`, nothing else."""

    prepared: Prepared
    window: Window
    vocabulary: Vocabulary

    def rows(self) -> IntArray:
        """Numbers of the window's rows (R,)."""
        return ragged_ranges(self.window.start, self.window.end)

    def target_rows(self, task: str | None) -> IntArray:
        """Numbers of the rows whose item can be a target of the task: purchases, or events of any kind (also None)."""
        rows = self.rows()
        kept = np.asarray(self.prepared.rows["item"])[rows] > 0
        if task == s.TASK_PURCHASE:
            kept &= np.asarray(self.prepared.rows["order"])[rows] >= 0
        return rows[kept]

    def target_counts(self, task: str, *, since: int | None = None, half_life_days: float | None = None) -> np.ndarray:
        """How often each item is a target of the task (V,) float32: purchases, or events of any kind.

        `since` (microseconds) leaves out what came earlier; with `half_life_days` an event of that age, seen from
        the latest one, counts half.
        """
        rows = self.target_rows(task)
        item = np.asarray(self.prepared.rows["item"])[rows]
        time = np.asarray(self.prepared.rows["time"])[rows]
        kept = slice(None) if since is None else time >= since
        age_days = (self.last_time() - time[kept]) / DAY
        weights = None if half_life_days is None else 0.5 ** (age_days / half_life_days)
        counts = np.bincount(item[kept], weights, minlength=self.vocabulary.num_items + 1)[1:]
        return counts.astype(np.float32)

    def event_counts(self) -> np.ndarray:
        """How many rows name each item (V,) float32."""
        item = np.asarray(self.prepared.rows["item"])[self.rows()]
        return np.bincount(item, minlength=self.vocabulary.num_items + 1)[1:].astype(np.float32)

    def catalogue(self) -> pd.DataFrame:
        """What the items table says of each item of the vocabulary (V rows); it was known before anything happened."""
        return self.prepared.items_frame().iloc[: self.vocabulary.num_items]

    def last_time(self) -> int:
        """Time of the latest row, in microseconds."""
        return int(np.asarray(self.prepared.rows["time"])[self.window.end - 1].max())


class SessionModel(nn.Module, ABC):
    """Base of all model families.

    A model is built from plain values (its YAML, the vocabulary sizes, the tasks, the longest history it reads), so
    that a checkpoint rebuilds it without anything else. `trained_by_gradient` says whether `fit` is all there is, and
    `kind` by which of its scorers serving answers.

    Invariants, held by the contract suite: padding and batch order change nothing, items inside a step have no
    order, an unknown item counts as none, and scores are finite.
    """

    family: ClassVar[str]
    kind: ClassVar[str]
    trained_by_gradient: ClassVar[bool] = False
    scores_are_logits: ClassVar[bool] = False
    """Whether the softmax of the scores over the catalogue says how likely each item is."""

    def __init__(
        self, *, vocabulary: Vocabulary, tasks: list[str], max_len: int, outcomes: Sequence[Outcome] = ()
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.tasks = list(tasks)
        self.max_len = max_len
        self.outcomes = list(outcomes)
        self.calibration: Calibration | None = None  # fitted on validation, after training

    @abstractmethod
    def fit(self, data: FitData) -> None:
        """Learn what needs no gradient: tables and counts, or where gradient training starts from."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the `state_dict` of a model built from the same values."""
        self.load_state_dict(state)

    @abstractmethod
    def prior_scores(self) -> Tensor:
        """Scores where nothing is known of a visitor (H, V)."""

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """Scores of every item after the last step of each history (B, H tasks, V items), higher is better."""

    def classify(self, batch: Batch) -> list[Tensor]:
        """Log probability of each class (B, classes) after the last step of each history, per outcome of the model.

        A model that ranks only has no outcomes.
        """
        told = zip(self.outcomes, self.raw_outcomes(batch), self.outcome_priors(), strict=True)
        return [self.answered(outcome.name, own, prior, batch) for outcome, own, prior in told]

    def raw_outcomes(self, batch: Batch) -> list[Tensor]:
        """What `classify` calibrates: raw logits (B, classes) per outcome of the model."""
        assert not self.outcomes, f"{type(self).__name__} predicts no outcomes"
        return []

    def outcome_priors(self) -> list[Tensor]:
        """Log probability of each class (classes,) where nothing is known of a visitor, per outcome of the model."""
        assert not self.outcomes, f"{type(self).__name__} predicts no outcomes"
        return []

    def answered(self, outcome: str, logits: Tensor, prior: Tensor, batch: Batch) -> Tensor:
        """Log probabilities (B, classes) as they are judged and served, from a head's raw logits (B, classes).

        Calibrated where a calibration was fitted; a history of which nothing is known is answered from the prior.
        """
        found = torch.log_softmax(logits, dim=-1)
        if self.calibration is not None:
            scale = self.calibration.at(self.calibration.scales[outcome], batch.length - 1)
            found = scaled(found, prior, scale)
        return torch.where(nothing_known(batch)[:, None], prior, found)


def nothing_known(batch: Batch) -> Tensor:
    """Histories with no known item and no known context (B,)."""
    has_context = (batch.context > 0).flatten(1).any(dim=1)
    return ~(has_context | (batch.seen > 0).any(dim=1))


@torch.no_grad()
def rank_ready(model: SessionModel, batch: Batch) -> Tensor:
    """The scores (B, H, V) as they are judged and served.

    A history of which nothing is known is answered from the prior. What cannot be a target is at -inf: `next`
    differs from the last item by definition.
    """
    scores = torch.where(nothing_known(batch)[:, None, None], model.prior_scores(), model.score(batch))
    if s.TASK_NEXT in model.tasks:
        rows = torch.nonzero(batch.last_item)[:, 0]
        scores[rows, model.tasks.index(s.TASK_NEXT), batch.last_item[rows] - 1] = -torch.inf
    return scores
