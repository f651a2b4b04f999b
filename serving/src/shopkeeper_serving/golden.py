"""Golden requests: what the trained model answered, and whether the bundle still answers so."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from shopkeeper_serving.bundle import BundleError, Manifest
from shopkeeper_serving.schemas import Prediction, PredictRequest, ScoredItem

Distribution = dict[str, float]


class Golden(msgspec.Struct, frozen=True):
    """A raw request and what the trained model answered: per task the ids and scores, best first.

    Of a model that tells outcomes also their probabilities, for each task the least and the most items its 90% set may
    have, and the depths that may be said: both leave what the tolerance of scores leaves open.
    """

    request: PredictRequest
    item_ids: dict[str, list[str]]
    scores: dict[str, list[float]]
    segments: dict[str, Distribution] = {}
    intent: float | None = None
    phase: Distribution | None = None
    sets: dict[str, tuple[int, int]] = {}
    depths: list[str] = []

    def is_whole(self, tasks: Sequence[str]) -> bool:
        """Whether every task asked for is answered, with as many ids as scores."""
        wanted = set(self.request.tasks if self.request.tasks is not None else tasks)
        if not self.item_ids.keys() == self.scores.keys() == wanted:
            return False
        return all(len(self.item_ids[task]) == len(scores) for task, scores in self.scores.items())

    def disagreement(self, answer: Prediction, tolerance: float) -> str | None:
        """What of the answer is not the trained model's, if anything."""
        for task, scores in self.scores.items():
            if not agrees(answer.items.get(task, []), self.item_ids[task], scores, tolerance):
                return task
        told = {**answer.segments, "phase": answer.phase or {}, "intent": as_distribution(answer.intent)}
        expected = {**self.segments, "phase": self.phase or {}, "intent": as_distribution(self.intent)}
        if told.keys() != expected.keys():
            return "segments"
        for name, distribution in expected.items():
            if not near(told[name], distribution, tolerance):
                return name
        sized = answer.sets.keys() == self.sets.keys()
        if not sized or any(not low <= answer.sets[task] <= high for task, (low, high) in self.sets.items()):
            return "sets"
        return None if (answer.depth in self.depths if self.depths else answer.depth is None) else "depth"


def replay(file: Path, manifest: Manifest, answer: Callable[[PredictRequest], Prediction]) -> None:
    """Answer the golden requests from their raw form.

    Raises:
        BundleError: naming the file and the request that is answered otherwise than by the trained model.
    """
    decoder = msgspec.json.Decoder(Golden)
    try:
        golden = [decoder.decode(line) for line in file.read_bytes().splitlines() if line]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: {error}") from error
    if not golden:
        raise BundleError(f"{file} holds no golden request")
    for number, case in enumerate(golden, start=1):
        if not case.is_whole(manifest.tasks):
            raise BundleError(f"{file}: request {number} lacks the answer to a task, or an item of it")
        wrong = case.disagreement(answer(case.request), manifest.score_tolerance)
        if wrong is not None:
            raise BundleError(f"{file}: request {number} is not answered as the trained model did ({wrong})")


def as_distribution(probability: float | None) -> Distribution:
    return {} if probability is None else {"purchase": probability}


def near(found: Distribution, expected: Distribution, tolerance: float) -> bool:
    """The same classes in the same order, with the same probabilities."""
    same = list(found) == list(expected)
    return same and all(abs(found[name] - value) <= tolerance for name, value in expected.items())


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
