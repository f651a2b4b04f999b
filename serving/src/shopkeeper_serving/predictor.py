"""The Python face of a bundle: load it once, ask it as often as you like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shopkeeper_serving.bundle import GOLDEN, PRIOR, Bundle, BundleError, Manifest, read_bundle
from shopkeeper_serving.history import Histories, Inputs, Reader, to_inputs
from shopkeeper_serving.schemas import ColdStart, Event, ModelInfo, Prediction, PredictRequest, ScoredItem
from shopkeeper_serving.scorers import FloatArray, make_scorer

TASK_NEXT = "next"
SCORES_AT_ONCE = 6_000_000


class Golden(msgspec.Struct, frozen=True):
    """A raw request and what the trained model answered: per task the ids and scores, best first."""

    request: PredictRequest
    item_ids: dict[str, list[str]]
    scores: dict[str, list[float]]

    def is_whole(self, tasks: Sequence[str]) -> bool:
        """Whether every task asked for is answered, with as many ids as scores."""
        wanted = set(self.request.tasks if self.request.tasks is not None else tasks)
        if not self.item_ids.keys() == self.scores.keys() == wanted:
            return False
        return all(len(self.item_ids[task]) == len(scores) for task, scores in self.scores.items())


class Ranked(NamedTuple):
    """The best items of each history for one task; rank j of history i is item[i, j]."""

    item: npt.NDArray[np.int64]  # (B, k) item index from 1
    score: FloatArray  # (B, k); -inf where fewer than k items may be named


class Predictor:
    """Answers histories from a bundle. Safe to share between threads; holds no state of any visitor."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.reader = Reader(bundle)
        self.scorer = make_scorer(bundle)
        manifest = bundle.manifest
        self.info = ModelInfo(
            name=manifest.name, version=manifest.version, family=manifest.family, created=manifest.created
        )

    @classmethod
    def load(cls, path: str | Path) -> "Predictor":
        """Open the bundle at `path` and replay its golden requests.

        Raises:
            BundleError: naming the file, when the bundle is damaged or does not answer as the trained model did.
        """
        predictor = cls(read_bundle(path))
        predictor.replay()
        return predictor

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def predict(
        self, events: Sequence[Event], *, k: int = 20, tasks: Sequence[str] | None = None, exclude_seen: bool = False
    ) -> Prediction:
        """The k best items per task for one visitor's events, oldest first.

        Raises:
            ValueError: for a task the bundle does not have, or k below 1.
        """
        return self.predict_many([events], k=k, tasks=tasks, exclude_seen=exclude_seen)[0]

    def predict_many(
        self,
        histories: Sequence[Sequence[Event]],
        *,
        k: int = 20,
        tasks: Sequence[str] | None = None,
        exclude_seen: bool = False,
    ) -> list[Prediction]:
        """`predict` for many visitors, as many in one pass of the encoder as scores fit in 24 MB."""
        if k < 1:
            raise ValueError(f"k={k}: at least one item has to be asked for")
        size = max(1, SCORES_AT_ONCE // (self.manifest.num_items * len(self.manifest.tasks)))
        parts = [histories[begin : begin + size] for begin in range(0, len(histories), size)]
        return [p for part in parts for p in self.predict_part(part, k=k, tasks=tasks, exclude_seen=exclude_seen)]

    def predict_part(
        self, histories: Sequence[Sequence[Event]], *, k: int, tasks: Sequence[str] | None, exclude_seen: bool
    ) -> list[Prediction]:
        """`predict_many` in a single pass."""
        read = self.reader.read(histories)
        inputs = self.inputs(read)
        ranked = self.rank(inputs, k=k, tasks=tasks, exclude_seen=exclude_seen)
        cold = cold_starts(read, inputs)
        return [
            Prediction(
                model=self.info,
                items={task: self.named(best, i) for task, best in ranked.items()},
                steps=int(inputs.steps[i]),
                cold_start=cold[i],
            )
            for i in range(len(histories))
        ]

    def inputs(self, histories: Histories) -> Inputs:
        manifest = self.manifest
        return to_inputs(
            histories,
            order_only=manifest.order_only,
            gap_seconds=manifest.receipt_gap_seconds,
            max_len=manifest.max_len,
        )

    def rank(
        self, inputs: Inputs, *, k: int, tasks: Sequence[str] | None = None, exclude_seen: bool = False
    ) -> dict[str, Ranked]:
        """The k best items per task (equal scores: the lower index first)."""
        wanted = self.manifest.tasks if tasks is None else list(tasks)
        for task in wanted:
            if task not in self.manifest.tasks:
                raise ValueError(f"tasks: {task!r} is not among this model's: {', '.join(self.manifest.tasks)}")
        scores = np.array(self.scorer.score(inputs))
        nothing = nothing_known(inputs)
        scores[nothing] = self.bundle.arrays[PRIOR]
        if exclude_seen:
            scores[inputs.past_owner, :, inputs.past_item - 1] = -np.inf
        ranked = {}
        for task in wanted:
            own = scores[:, self.manifest.tasks.index(task)]
            if task == TASK_NEXT:  # by definition it differs from the last item
                rows = np.flatnonzero(inputs.last_item)
                own[rows, inputs.last_item[rows] - 1] = -np.inf
            ranked[task] = top_k(own, k)
        return ranked

    def named(self, best: Ranked, i: int) -> list[ScoredItem]:
        pairs = zip(best.item[i].tolist(), best.score[i].tolist(), strict=True)
        return [
            ScoredItem(item_id=self.bundle.item_ids[item - 1], score=score, rank=rank)
            for rank, (item, score) in enumerate(pairs, start=1)
            if score > -np.inf
        ]

    def replay(self) -> None:
        """Answer the golden requests from their raw form; scores and order must be the trained model's."""
        file = self.bundle.path / GOLDEN
        decoder = msgspec.json.Decoder(Golden)
        try:
            golden = [decoder.decode(line) for line in file.read_bytes().splitlines() if line]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BundleError(f"{file}: {error}") from error
        if not golden:
            raise BundleError(f"{file} holds no golden request")
        for number, case in enumerate(golden, start=1):
            if not case.is_whole(self.manifest.tasks):
                raise BundleError(f"{file}: request {number} lacks the answer to a task, or an item of it")
            request = case.request
            answer = self.predict(request.events, k=request.k, tasks=request.tasks, exclude_seen=request.exclude_seen)
            for task, scores in case.scores.items():
                found = answer.items.get(task, [])
                if not agrees(found, case.item_ids[task], scores, self.manifest.score_tolerance):
                    raise BundleError(f"{file}: request {number} is not answered as the trained model did ({task})")


def nothing_known(inputs: Inputs) -> npt.NDArray[np.bool_]:
    """Histories with no known item and no known context (B,): answered from the priors."""
    has_context = (inputs.context > 0).any(axis=(1, 2))
    return np.asarray(~(has_context | (inputs.seen > 0).any(axis=1)), bool)


def top_k(scores: FloatArray, k: int) -> Ranked:
    """The k highest of each row, best first; ties in the order of the index."""
    k = min(k, scores.shape[1])
    index = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    bar = np.take_along_axis(scores, index, axis=1).min(axis=1, keepdims=True)
    # a partition takes any of the items that tie with the k-th: these rows are picked again
    for row in np.flatnonzero((scores >= bar).sum(axis=1) > k):
        rivals = np.flatnonzero(scores[row] >= bar[row])
        index[row] = rivals[np.argsort(-scores[row, rivals], kind="stable")[:k]]
    best = np.take_along_axis(scores, index, axis=1)
    order = np.lexsort((index, -best), axis=1)
    return Ranked(np.take_along_axis(index, order, axis=1) + 1, np.take_along_axis(best, order, axis=1))


def agrees(found: list[ScoredItem], item_ids: list[str], scores: list[float], tolerance: float) -> bool:
    """Every item with the score it had within `tolerance`; items that tie with the last may stand for each other."""
    if len(found) != len(scores):
        return False
    expected = dict(zip(item_ids, scores, strict=True))
    bar = (scores[-1] if scores else 0.0) + 2 * tolerance
    if any(abs(item.score - expected.get(item.item_id, bar)) > 3 * tolerance for item in found):
        return False
    ranked = all(abs(item.score - score) <= tolerance for item, score in zip(found, scores, strict=True))
    certain = {item for item, score in expected.items() if score > bar}
    return ranked and certain <= {item.item_id for item in found}


def cold_starts(histories: Histories, inputs: Inputs) -> list[ColdStart]:
    """How little is known of each visitor, and whether the priors had to answer."""
    count = len(inputs.length)
    owner = np.repeat(np.arange(count), np.diff(histories.offsets))
    read = np.bincount(inputs.bag_cell // inputs.event.shape[1], minlength=count)  # known items the model reads
    known = np.bincount(owner[histories.item > 0], minlength=count)
    unknown = np.bincount(owner[histories.names_item & (histories.item == 0)], minlength=count)
    nothing = nothing_known(inputs)
    missing = (inputs.context[:, 0] == 0).sum(axis=1)
    answers = []
    for i in range(count):
        empty = bool(histories.offsets[i] == histories.offsets[i + 1])
        reason = why_cold(empty=empty, nothing=bool(nothing[i]), items=int(read[i]))
        answers.append(
            ColdStart(
                used=reason is not None,
                reason=reason,
                known_items=int(known[i]),
                unknown_items=int(unknown[i]),
                unknown_context=int(missing[i]),
            )
        )
    return answers


def why_cold(
    *, empty: bool, nothing: bool, items: int
) -> Literal["empty_history", "unknown_history", "context_only"] | None:
    """The kind of cold start; None where an item is known."""
    if empty:
        return "empty_history"
    if nothing:
        return "unknown_history"
    return None if items else "context_only"
