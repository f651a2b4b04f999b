"""The Python face of a bundle: load it once, ask it as often as you like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper_serving.bundle import GOLDEN, PRIOR, Bundle, Manifest, read_bundle
from shopkeeper_serving.calibration import DEPTHS, Calibration, Judged
from shopkeeper_serving.explain import influences, versions
from shopkeeper_serving.golden import replay
from shopkeeper_serving.history import Histories, Inputs, Reader, select, to_inputs
from shopkeeper_serving.outcomes import INTENT, PHASE, PURCHASE, SEGMENT_PREFIX
from shopkeeper_serving.schemas import ColdStart, Event, Explanation, ModelInfo, Prediction, PredictRequest, ScoredItem
from shopkeeper_serving.scorers import Classifier, FloatArray, make_scorer

TASK_NEXT = "next"
SCORES_AT_ONCE = 6_000_000


class Ranked(NamedTuple):
    """The best items of each history for one task; rank j of history i is item[i, j]."""

    item: npt.NDArray[np.int64]  # (B, k) item index from 1
    score: FloatArray  # (B, k); -inf where fewer than k items may be named


class Answers(NamedTuple):
    """What is said of many histories: per task the best items, and, where the bundle has outcomes, the rest."""

    ranked: dict[str, Ranked]
    judged: Judged | None


class Predictor:
    """Answers histories from a bundle. Safe to share between threads; holds no state of any visitor."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.reader = Reader(bundle)
        self.scorer = make_scorer(bundle)
        manifest = bundle.manifest
        self.calibration = Calibration(bundle.outcomes, manifest.tasks) if bundle.outcomes else None
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
        replay(predictor.bundle.path / GOLDEN, predictor.manifest, predictor.respond)
        return predictor

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def respond(self, request: PredictRequest) -> Prediction:
        """`predict` for what came over the wire."""
        return self.predict(
            request.events,
            k=request.k,
            tasks=request.tasks,
            exclude_seen=request.exclude_seen,
            explain=request.explain,
        )

    def predict(
        self,
        events: Sequence[Event],
        *,
        k: int = 20,
        tasks: Sequence[str] | None = None,
        exclude_seen: bool = False,
        explain: bool = False,
    ) -> Prediction:
        """The k best items per task for one visitor's events, oldest first, and all outcomes of the bundle.

        With `explain` it also says which events and context moved the segments' probabilities.

        Raises:
            ValueError: for a task the bundle does not have, or k below 1.
        """
        return self.predict_many([events], k=k, tasks=tasks, exclude_seen=exclude_seen, explain=explain)[0]

    def predict_many(
        self,
        histories: Sequence[Sequence[Event]],
        *,
        k: int = 20,
        tasks: Sequence[str] | None = None,
        exclude_seen: bool = False,
        explain: bool = False,
    ) -> list[Prediction]:
        """`predict` for many visitors, as many in one pass of the encoder as scores fit in 24 MB."""
        if k < 1:
            raise ValueError(f"k={k}: at least one item has to be asked for")
        size = max(1, SCORES_AT_ONCE // (self.manifest.num_items * len(self.manifest.tasks)))
        parts = [histories[begin : begin + size] for begin in range(0, len(histories), size)]
        return [
            prediction
            for part in parts
            for prediction in self.predict_part(part, k=k, tasks=tasks, exclude_seen=exclude_seen, explain=explain)
        ]

    def predict_part(
        self,
        histories: Sequence[Sequence[Event]],
        *,
        k: int,
        tasks: Sequence[str] | None,
        exclude_seen: bool,
        explain: bool,
    ) -> list[Prediction]:
        """`predict_many` in a single pass."""
        read = self.reader.read(histories)
        inputs = self.inputs(read)
        ranked, judged = self.answer(inputs, k=k, tasks=tasks, exclude_seen=exclude_seen)
        cold = cold_starts(read, inputs)
        return [
            Prediction(
                model=self.info,
                items={task: self.named(best, i) for task, best in ranked.items()},
                steps=int(inputs.steps[i]),
                cold_start=cold[i],
                **({} if judged is None else self.told(judged, i)),
                explanation=self.explain(select(read, i, i + 1)) if explain else None,
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

    def answer(
        self,
        inputs: Inputs,
        *,
        k: int,
        tasks: Sequence[str] | None = None,
        exclude_seen: bool = False,
        sets: bool = True,
    ) -> Answers:
        """The k best items per task (equal scores: the lower index first), and the outcomes, with sets where asked for.

        `exclude_seen` is about what is named; outcomes, sets and depth are about the visitor and do not heed it.
        """
        wanted = self.manifest.tasks if tasks is None else list(tasks)
        for task in wanted:
            if task not in self.manifest.tasks:
                raise ValueError(f"tasks: {task!r} is not among this model's: {', '.join(self.manifest.tasks)}")
        nothing = nothing_known(inputs)
        scores, logits = self.scored(inputs)
        scores[nothing] = self.bundle.arrays[PRIOR]
        if TASK_NEXT in self.manifest.tasks:  # by definition it differs from the last item
            rows = np.flatnonzero(inputs.last_item)
            scores[rows, self.manifest.tasks.index(TASK_NEXT), inputs.last_item[rows] - 1] = -np.inf
        judged = None
        if self.calibration is not None:
            judged = self.calibration.judge(
                scores, logits, steps=inputs.length - 1, nothing=nothing, tasks=wanted if sets else []
            )
        if exclude_seen:
            scores[inputs.past_owner, :, inputs.past_item - 1] = -np.inf
        return Answers({task: top_k(scores[:, self.manifest.tasks.index(task)], k) for task in wanted}, judged)

    def scored(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Scores (B, H, V) that may be written to, and logits (B, C) of the outcomes."""
        if isinstance(self.scorer, Classifier):
            scores, logits = self.scorer.score_and_classify(inputs)
            return np.array(scores, np.float32), logits
        return np.array(self.scorer.score(inputs), np.float32), np.zeros((len(inputs.event), 0), np.float32)

    def named(self, best: Ranked, i: int) -> list[ScoredItem]:
        pairs = zip(best.item[i].tolist(), best.score[i].tolist(), strict=True)
        return [
            ScoredItem(item_id=self.bundle.item_ids[item - 1], score=score, rank=rank)
            for rank, (item, score) in enumerate(pairs, start=1)
            if score > -np.inf
        ]

    def told(self, judged: Judged, i: int) -> dict[str, Any]:
        """What history i is told besides items, as fields of a `Prediction`."""
        assert self.calibration is not None
        names, places = self.calibration.classes, self.calibration.places
        told = {
            name: dict(zip(names[name], judged.probability[i, at].tolist(), strict=True)) for name, at in places.items()
        }
        segments = {name.removeprefix(SEGMENT_PREFIX): told[name] for name in self.calibration.segments}
        named = zip(segments.items(), judged.addressable[i].tolist(), strict=True)
        return {
            "segments": segments,
            "intent": told[INTENT][PURCHASE] if INTENT in told else None,
            "phase": told.get(PHASE),
            "sets": {task: int(sizes[i]) for task, sizes in judged.sets.items()},
            "depth": DEPTHS[judged.depth[i]],
            "address_as": {name: max(own, key=own.__getitem__) for (name, own), sure in named if sure},
        }

    def explain(self, history: Histories) -> dict[str, Explanation]:
        """Of one history: per segment, what moved the probability of its most probable class."""
        if self.calibration is None or not isinstance(self.scorer, Classifier):
            return {}
        changed, events, columns = versions(history)
        inputs = self.inputs(changed)
        probability = self.calibration.probabilities(
            self.scorer.classify(inputs), steps=inputs.length - 1, nothing=nothing_known(inputs)
        )
        context = [self.manifest.context[column] for column in columns]
        explained = {}
        for name in self.calibration.segments:
            own = probability[:, self.calibration.places[name]]
            top = int(own[0].argmax())
            explained[name.removeprefix(SEGMENT_PREFIX)] = Explanation(
                most_probable=self.calibration.classes[name][top],
                influences=influences(own[:, top], events, context),
            )
        return explained


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
