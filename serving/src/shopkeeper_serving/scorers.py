"""Scores of the whole catalogue for histories, one class per kind of model; NumPy and one ONNX graph."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from shopkeeper_serving.bundle import BLEND, ENCODER, ENCODER_KIND, INPUTS, OUTCOMES, PRIOR, Bundle, BundleError
from shopkeeper_serving.counted import ContextScorer, PriorScorer, SessionScorer, TableScorer, VisitorScorer
from shopkeeper_serving.history import Inputs

FloatArray = npt.NDArray[np.float32]


HISTORY_INPUTS = ("vectors", "event", "context", "time", "length")
SEEN_INPUTS = ("times", "bought", "steps_ago", "seconds_ago", "last_event", "steps", "popularity")
GRAPH_INPUTS = frozenset([*HISTORY_INPUTS, *SEEN_INPUTS])


class Scorer(Protocol):
    """Scores a batch of histories: (B, H tasks, V items) float32, higher is better."""

    def score(self, inputs: Inputs) -> FloatArray: ...


@runtime_checkable
class Classifier(Scorer, Protocol):
    """A scorer that also has raw logits (B, C) of all classes of all outcomes, in the order of outcomes.json."""

    def classify(self, inputs: Inputs) -> FloatArray: ...

    def score_and_classify(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]: ...


def make_scorer(bundle: Bundle) -> Scorer:
    """The scorer of the bundle's kind of model."""
    kinds: dict[str, Callable[[Bundle], Scorer]] = {
        ENCODER_KIND: EncoderScorer,
        "prior": PriorScorer,
        "table": TableScorer,
        "context": ContextScorer,
        "sessions": SessionScorer,
        "visitors": VisitorScorer,
        BLEND: BlendScorer,
    }
    return kinds[bundle.manifest.kind](bundle)


class EncoderScorer:
    """query . item + bias, and a bonus for items of the history; query, bonus and logits come from the ONNX graph."""

    def __init__(self, bundle: Bundle) -> None:
        self.items, self.bias = bundle.arrays["items"], np.asarray(bundle.arrays["bias"], np.float32)
        self.read = bundle.arrays.get(INPUTS, self.items)
        self.repeat = bundle.arrays["repeat"]
        self.popularity = np.asarray(bundle.arrays[PRIOR][0], np.float32)
        self.purchase = event_code(bundle, bundle.manifest.purchase_event)
        self.session = open_graph(bundle)
        self.inputs = {i.name for i in self.session.get_inputs()}
        if not self.inputs <= GRAPH_INPUTS:
            unknown = ", ".join(sorted(self.inputs - GRAPH_INPUTS))
            raise BundleError(f"{bundle.file(ENCODER)}: wants inputs this version does not know: {unknown}")
        outcomes = bundle.outcomes.outcomes if bundle.outcomes else []
        self.classes = sum(len(outcome.classes) for outcome in outcomes)
        self.file = bundle.file(ENCODER)
        if self.classes and "logits" not in {o.name for o in self.session.get_outputs()}:
            raise BundleError(f"{self.file}: has no output `logits`, which {OUTCOMES} is about")

    def score(self, inputs: Inputs) -> FloatArray:
        query, bonus = self.run(["query", "bonus"], inputs)
        return self.scores(inputs, query, bonus)

    def classify(self, inputs: Inputs) -> FloatArray:
        if not self.classes:
            return np.zeros((len(inputs.event), 0), np.float32)
        (logits,) = self.run(["logits"], inputs)
        return self.checked(logits)

    def score_and_classify(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        if not self.classes:
            return self.score(inputs), self.classify(inputs)
        query, bonus, logits = self.run(["query", "bonus", "logits"], inputs)
        return self.scores(inputs, query, bonus), self.checked(logits)

    def checked(self, logits: FloatArray) -> FloatArray:
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise BundleError(f"{self.file}: logits of shape {logits.shape}, {OUTCOMES} has {self.classes} classes")
        return logits

    def run(self, outputs: Sequence[str], inputs: Inputs) -> list[FloatArray]:
        feeds = {
            "vectors": self.pool(inputs),
            "event": inputs.event,
            "context": inputs.context,
            "time": inputs.time,
            "length": inputs.length,
            **self.observe(inputs),
        }
        wanted = self.inputs
        found: list[FloatArray] = self.session.run(list(outputs), {k: v for k, v in feeds.items() if k in wanted})
        return found

    def scores(self, inputs: Inputs, query: FloatArray, bonus: FloatArray) -> FloatArray:
        scores: FloatArray = query @ self.items.T + self.bias
        row, slot = np.nonzero(inputs.seen)
        item = inputs.seen[row, slot] - 1
        scores[row, :, item] += bonus[row, :, slot] + self.repeat[:, item].T
        return scores

    def pool(self, inputs: Inputs) -> FloatArray:
        """Mean vector of each step's items (B, T, D); zero where a step has none."""
        cells = inputs.event.size
        pooled = np.zeros((cells, self.items.shape[1]), np.float32)
        np.add.at(pooled, inputs.bag_cell, self.read[inputs.bag_item - 1])
        sizes = np.bincount(inputs.bag_cell, minlength=cells)
        pooled /= np.maximum(sizes, 1)[:, None].astype(np.float32)
        return pooled.reshape(*inputs.event.shape, -1)

    def observe(self, inputs: Inputs) -> dict[str, npt.NDArray[np.generic]]:
        """Counts and recencies of each distinct item (B, U); without meaning in padded places, which are not read."""
        (count, width), slots = inputs.event.shape, inputs.seen.shape[1]
        owner, token = inputs.bag_cell // width, inputs.bag_cell % width
        place = owner * slots + inputs.bag_slot
        bought = inputs.event.reshape(-1)[inputs.bag_cell] == self.purchase
        last = np.zeros(count * slots, np.int64)
        np.maximum.at(last, place, token)
        last = last.reshape(count, slots)
        end = inputs.length[:, None] - 1
        rows = np.arange(count)[:, None]
        seconds = np.maximum(inputs.time[rows, end] - inputs.time[rows, last], 0)
        return {
            "times": np.bincount(place, minlength=count * slots).reshape(count, slots).astype(np.float32),
            "bought": np.bincount(place, bought, minlength=count * slots).reshape(count, slots).astype(np.float32),
            "steps_ago": (end - last).astype(np.float32),
            "seconds_ago": seconds.astype(np.float32),
            "last_event": inputs.event[rows, last],
            "steps": np.broadcast_to(end, (count, slots)).astype(np.float32),
            "popularity": np.where(inputs.seen > 0, self.popularity[inputs.seen - 1], np.float32(0)),
        }


class BlendScorer:
    """The parts' scores on one scale, weighed by task and by how much was seen; outcomes are one part's."""

    def __init__(self, bundle: Bundle) -> None:
        self.parts = {name: make_scorer(part) for name, part in bundle.parts.items()}
        self.counted = [part.manifest.kind != ENCODER_KIND for part in bundle.parts.values()]
        self.weights, self.ks = np.asarray(bundle.arrays["weights"], np.float32), np.asarray(bundle.arrays["ks"])
        self.speaker = next((part for part in self.parts.values() if isinstance(part, EncoderScorer)), None)

    def classify(self, inputs: Inputs) -> FloatArray:
        return self.speaker.classify(inputs) if self.speaker else np.zeros((len(inputs.event), 0), np.float32)

    def score_and_classify(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        if self.speaker is None:
            return self.score(inputs), self.classify(inputs)
        spoken, logits = self.speaker.score_and_classify(inputs)
        return self.blended(inputs, spoken), logits

    def score(self, inputs: Inputs) -> FloatArray:
        return self.blended(inputs, None)

    def blended(self, inputs: Inputs, spoken: FloatArray | None) -> FloatArray:
        """`spoken` are the scores of the part that tells outcomes, where they are known already."""
        bucket = np.searchsorted(self.ks, inputs.length - 1, side="right") - 1
        weights = self.weights[:, bucket].swapaxes(0, 1)  # (B, H, P)
        total: FloatArray = np.zeros(1, np.float32)
        for p, (part, counted) in enumerate(zip(self.parts.values(), self.counted, strict=True)):
            scores = spoken if spoken is not None and part is self.speaker else part.score(inputs)
            total = total + weights[:, :, p, None] * (log_share(scores) if counted else scores)
        return total


def log_share(scores: FloatArray) -> FloatArray:
    """log(1 + score / mean): the log of the distribution that counts make, half of it even, but for a constant."""
    weight = np.maximum(scores, np.float32(0))
    return np.asarray(np.log1p(weight / np.maximum(weight.mean(axis=-1, keepdims=True), np.float32(1e-12))))


def event_code(bundle: Bundle, name: str) -> int:
    """Code of an event name; -1 where the log had none."""
    names = bundle.vocabulary.event
    return names.index(name) + 1 if name in names else -1


def open_graph(bundle: Bundle) -> ort.InferenceSession:
    """The encoder on one thread; graphs with outside data or unknown operators are refused by the runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    file = bundle.file(ENCODER)
    try:
        # from bytes, so that the graph cannot name files beside it
        return ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own untyped exceptions
        raise BundleError(f"{file}: {str(error).splitlines()[0]}") from error
