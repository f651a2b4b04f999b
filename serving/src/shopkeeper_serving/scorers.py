"""Scores of the whole catalogue for histories, one class per model family; NumPy and one ONNX graph."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from shopkeeper_serving.bundle import BLEND, ENCODER, ENCODERS, INPUTS, OUTCOMES, PRIOR, Bundle, BundleError
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
    """The scorer of the bundle's model family."""
    families: dict[str, Callable[[Bundle], Scorer]] = {
        **dict.fromkeys(ENCODERS, EncoderScorer),
        "popularity": PriorScorer,
        "repeat": RepeatScorer,
        "item_knn": NeighbourScorer,
        "vmis_knn": SessionScorer,
        BLEND: BlendScorer,
    }
    return families[bundle.manifest.family](bundle)


def history_weights(inputs: Inputs, decay: float) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Owner and weight decay ** steps_ago of every bag entry (N,)."""
    width = inputs.event.shape[1]
    owner = inputs.bag_cell // width
    steps_ago = inputs.length[owner] - 1 - inputs.bag_cell % width
    return owner, np.power(np.float32(decay), steps_ago.astype(np.float32))


class PriorScorer:
    """The same scores for everyone."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior = np.asarray(bundle.arrays[PRIOR], np.float32)

    def score(self, inputs: Inputs) -> FloatArray:
        return np.broadcast_to(self.prior, (len(inputs.event), *self.prior.shape))


class RepeatScorer:
    """Own counts, then popularity."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior = np.asarray(bundle.arrays[PRIOR], np.float32)
        self.decay = bundle.manifest.params["decay"]

    def score(self, inputs: Inputs) -> FloatArray:
        scores = np.repeat(self.prior[None], len(inputs.event), axis=0)
        owner, weight = history_weights(inputs, self.decay)
        for h in range(scores.shape[1]):
            np.add.at(scores[:, h], (owner, inputs.bag_item - 1), weight)
        return scores


class NeighbourScorer:
    """Sum of the similarities to the items of the history, popularity between equals."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior = np.asarray(bundle.arrays[PRIOR], np.float32)
        self.decay = bundle.manifest.params["decay"]
        self.tables = [
            (bundle.arrays[f"indptr_{t}"], bundle.arrays[f"indices_{t}"], bundle.arrays[f"values_{t}"])
            for t in bundle.manifest.tasks
        ]

    def score(self, inputs: Inputs) -> FloatArray:
        owner, weight = history_weights(inputs, self.decay)
        count, items = len(inputs.event), self.prior.shape[1]
        scores = np.empty((count, len(self.tables), items), np.float32)
        for h, (indptr, indices, values) in enumerate(self.tables):
            size, entry = row_entries(indptr, inputs.bag_item - 1)
            near = np.repeat(owner * items, size) + indices[entry]
            added = np.bincount(near, values[entry] * np.repeat(weight, size), minlength=count * items)
            scores[:, h] = added.reshape(count, items).astype(np.float32) + np.float32(1e-3) * self.prior[h]
        return scores


class SessionScorer:
    """VMIS-kNN: what the sessions hold that share items with the history; popularity between equals."""

    def __init__(self, bundle: Bundle) -> None:
        self.prior = np.asarray(bundle.arrays[PRIOR], np.float32)
        self.idf = np.asarray(bundle.arrays["idf"], np.float32)
        self.index = (bundle.arrays["sessions_indptr"], bundle.arrays["sessions_indices"])
        self.held = [(bundle.arrays[f"indptr_{t}"], bundle.arrays[f"indices_{t}"]) for t in bundle.manifest.tasks]
        numbers = (int(bundle.manifest.params[name]) for name in ("most_recent", "neighbours", "max_query"))
        self.most_recent, self.neighbours, self.max_query = numbers

    def score(self, inputs: Inputs) -> FloatArray:
        owner, session, value = self.near(inputs)
        count, items = len(inputs.event), self.prior.shape[1]
        scores = np.empty((count, len(self.held), items), np.float32)
        for h, (indptr, indices) in enumerate(self.held):
            size, entry = row_entries(indptr, session)
            place = np.repeat(owner * items, size) + indices[entry]
            added = np.bincount(place, np.repeat(value, size), minlength=count * items).reshape(count, items)
            scores[:, h] = added * self.idf + 1e-6 * self.prior[h]
        return scores

    def near(self, inputs: Inputs) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Owner, number and worth of every neighbour; a higher number is a later session."""
        owner, item, ago = self.query(inputs)
        indptr, indices = self.index
        size, entry = row_entries(indptr, item - 1)
        steps = np.minimum(inputs.length - 1, self.max_query)[owner]
        weight = np.repeat((steps - ago + 1) / np.maximum(steps, 1), size)
        total = max(len(self.held[0][0]) - 1, 1)
        keys, at = np.unique(np.repeat(owner, size) * total + indices[entry], return_inverse=True)
        alike = np.bincount(at, weight, minlength=len(keys))
        latest = np.full(len(keys), np.iinfo(np.int64).max)
        np.minimum.at(latest, at, np.repeat(ago, size))
        visitor, session = keys // total, keys % total
        recent = first_of_groups(visitor, -session, self.most_recent)
        best = recent[first_of_groups(visitor[recent], -alike[recent], self.neighbours, -session[recent])]
        value = (alike * np.maximum(1 - 0.1 * latest, 0.0))[best] / self.neighbours
        return visitor[best], session[best], value

    def query(self, inputs: Inputs) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Owner, code and steps ago (1 = the latest step) of every distinct item of the last `max_query` steps."""
        slots, width = inputs.seen.shape[1], inputs.event.shape[1]
        ago = inputs.length[inputs.bag_cell // width] - inputs.bag_cell % width
        latest = np.full(inputs.seen.size, np.iinfo(np.int64).max)
        np.minimum.at(latest, inputs.bag_cell // width * slots + inputs.bag_slot, ago)
        chosen = np.flatnonzero((inputs.seen.ravel() > 0) & (latest <= self.max_query))
        return chosen // slots, inputs.seen.ravel()[chosen], latest[chosen]


def row_entries(
    indptr: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many entries each of the rows of a sparse table has, and the place of every one of them."""
    begin = indptr[rows]
    size = indptr[rows + 1] - begin
    return size, np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(size.sum())


def first_of_groups(
    group: npt.NDArray[np.int64], key: npt.NDArray[np.generic], keep: int, *ties: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Numbers of the `keep` entries of each group with the lowest key (then the lowest of each of `ties`)."""
    order = np.lexsort([*reversed(ties), key, group])
    ordered = group[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < keep]


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
        self.counted = [part.manifest.family not in ENCODERS for part in bundle.parts.values()]
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
