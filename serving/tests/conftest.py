"""Bundles small enough to answer by hand: five items, two tasks, one context column, histories of four steps.

One of them tells outcomes, by a graph whose logits are the sum of the steps' vectors, times a matrix.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopkeeper_serving.predictor import Predictor

ITEM_IDS = ["apple", "bread", "cheese", "dates", "eggs"]
TASKS = ["purchase", "next"]
PRIOR = [[0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5]]
VOCABULARY = {
    "event": ["session_start", "page_view", "add_to_cart", "purchase"],
    "context": {"device": ["mobile", "desktop"]},
}
# Purchase: apple -> bread, cheese; bread -> apple; cheese -> dates. Next: apple -> bread; bread -> cheese.
NEIGHBOURS: dict[str, tuple[list[int], list[int], list[float]]] = {
    "purchase": ([0, 2, 3, 4, 4, 4], [1, 2, 0, 3], [0.8, 0.2, 0.8, 0.5]),
    "next": ([0, 1, 2, 2, 2, 2], [1, 2], [1.0, 1.0]),
}
ITSELF = ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [1.0] * 5)
TABLES = {"item_knn": NEIGHBOURS, "repeat": {"purchase": ITSELF, "next": ITSELF}}
KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "popularity": ("prior", {}),
    "repeat": ("table", {"decay": 0.5, "prior_weight": 1.0}),
    "item_knn": ("table", {"decay": 0.5, "prior_weight": 1e-3}),
    "sasrec": ("encoder", {}),
    "blend": ("blend", {"own.decay": 1.0, "own.prior_weight": 1.0}),
}
"""Kind of each family, and its params."""
BY_PRIOR = {"purchase": list(zip(ITEM_IDS, PRIOR[0], strict=True)), "next": list(zip(ITEM_IDS, PRIOR[1], strict=True))}
BY_PRIOR["next"].reverse()

VECTORS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0]]
LN2 = math.log(2)
# Classes: intent none, purchase; phase discovery, purchase; income low, high. An apple or a bread each adds its row.
LOGITS = [[0, math.log(3), 0, 2 * LN2, LN2, 0], [0, 0, 0, 0, 0, 3 * LN2]]
CONTEXT_LOGITS = [[0, 0, 0, 0, 0, 2 * LN2]]
"""What the code of the device adds: 1 for mobile, 2 for desktop."""
OUTCOMES: dict[str, Any] = {
    "ks": [0, 1, 2],
    "outcomes": [
        {
            "name": "intent",
            "classes": ["none", "purchase"],
            "prior": [math.log(0.75), math.log(0.25)],
            "scale": [0, 1, 1],
        },
        {"name": "phase", "classes": ["discovery", "purchase"], "prior": [-LN2, -LN2], "scale": [1, 1, 1]},
        {"name": "segment:income", "classes": ["low", "high"], "prior": [-LN2, -LN2], "scale": [0.5, 1, 2]},
    ],
    "sets": {"purchase": [0.9, 0.9, 0.9]},
    "temperature": {"purchase": [1, 1, 1]},
    "depth": {"segments": {"segment:income": 0.7}, "one_to_one": None},
}
NOBODY: dict[str, Any] = {
    "segments": {"income": {"low": 0.5, "high": 0.5}},
    "intent": 0.25,
    "phase": {"discovery": 0.5, "purchase": 0.5},
    "sets": {"purchase": [5, 5]},  # e^.5, e^.4, ... of 6.82: 24, 46, 66, 84, 100%
    "depths": ["welcome"],
}
AFTER_APPLE: dict[str, Any] = {
    "segments": {"income": {"low": 2 / 3, "high": 1 / 3}},
    "intent": 0.75,
    "phase": {"discovery": 0.2, "purchase": 0.8},
    "sets": {"purchase": [4, 4]},  # e^2, e^1.2, e^.8, e^.4, e^.1 of 15.53: 48, 69, 83, 93, 100%
    "depths": ["welcome"],
}

Answers = dict[str, list[tuple[str, float]]]


def after_apple(family: str) -> Answers:
    """What the family answers to a visitor who looked at an apple once; `next` never names the apple."""
    without_apple = BY_PRIOR["next"][:-1]
    if family == "repeat":
        return {"purchase": [("apple", 1.5), *BY_PRIOR["purchase"][1:]], "next": without_apple}
    if family == "item_knn":  # similarity, and a thousandth of the prior
        purchase = [("bread", 0.8004), ("cheese", 0.2003), ("apple", 0.0005), ("dates", 0.0002), ("eggs", 0.0001)]
        return {
            "purchase": purchase,
            "next": [("bread", 1.0002), ("eggs", 0.0005), ("dates", 0.0004), ("cheese", 0.0003)],
        }
    if family == "sasrec":  # prior + query . vector, with the query (1/2, 0); 1 more for the apple, which was seen once
        purchase = [("apple", 2.0), ("dates", 1.2), ("cheese", 0.8), ("bread", 0.4), ("eggs", 0.1)]
        return {"purchase": purchase, "next": [("dates", 1.4), ("cheese", 0.8), ("eggs", 0.5), ("bread", 0.2)]}
    return {"purchase": BY_PRIOR["purchase"], "next": without_apple}


# ---- a graph of a few operators, written by hand ----

Field = tuple[int, int | bytes]


def varint(value: int) -> bytes:
    low = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(part | 0x80 for part in low[:-1]), low[-1]])


def message(*fields: Field) -> bytes:
    """A protocol buffer: (number, integer) or (number, bytes) each."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def tensor(name: str, *dims: str, kind: int = 1) -> bytes:
    """A tensor whose sizes are all free, of floats unless `kind` is 7, integers."""
    shape = message(*((1, message((2, dim.encode()))) for dim in dims))
    return message((1, name.encode()), (2, message((1, message((1, kind), (2, shape))))))


def constant(name: str, values: Any) -> Field:
    array = np.array(values, np.float32)
    return 5, message(*((1, size) for size in array.shape), (2, 1), (8, name.encode()), (9, array.tobytes()))


def node(operator: str, inputs: list[str], output: str, *, axes: int | None = None, **numbers: int) -> Field:
    attributes = [] if axes is None else [(5, message((1, b"axes"), (8, axes), (20, 7)))]
    attributes += [(5, message((1, name.encode()), (3, number), (20, 2))) for name, number in numbers.items()]
    return 1, message(
        *((1, name.encode()) for name in inputs), (2, output.encode()), (4, operator.encode()), *attributes
    )


def graph(*, logits: Any = None, context: Any = None) -> bytes:
    """query = mean of the tokens' vectors (B, 1, D); bonus = times + steps_ago (B, 1, U); with matrices, logits (B, C)
    = the sum of the tokens' vectors times one, and the sum of their context codes times the other.
    """
    fields = [
        node("ReduceMean", ["vectors"], "query", axes=1),
        node("Add", ["times", "steps_ago"], "sum"),
        node("Unsqueeze", ["sum"], "bonus", axes=1),
        (2, b"tiny"),
        (11, tensor("vectors", "b", "t", "d")),
        (11, tensor("times", "b", "u")),
        (11, tensor("steps_ago", "b", "u")),
        (12, tensor("query", "b", "one", "d")),
        (12, tensor("bonus", "b", "one", "u")),
    ]
    if logits is not None:
        fields += [
            node("ReduceSum", ["vectors"], "total", axes=1, keepdims=0),
            node("Cast", ["context"], "codes", to=1),
            node("ReduceSum", ["codes"], "code", axes=1, keepdims=0),
            node("MatMul", ["total", "by_vector"], "of_vectors"),
            node("MatMul", ["code", "by_code"], "of_context"),
            node("Add", ["of_vectors", "of_context"], "logits"),
            constant("by_vector", logits),
            constant("by_code", context),
            (11, tensor("context", "b", "t", "c", kind=7)),
            (12, tensor("logits", "b", "classes")),
        ]
    return message((1, 8), (7, message(*sorted(fields, key=lambda field: field[0]))), (8, message((2, 11))))


@pytest.fixture
def tiny_graph() -> bytes:
    """An encoder without outcomes."""
    return graph()


# ---- bundles ----


def golden_line(events: list[dict[str, Any]], answers: Answers, **told: Any) -> str:
    return json.dumps(
        {
            "request": {"events": events, "k": 20, "exclude_seen": False},
            "item_ids": {task: [item for item, _ in ranked] for task, ranked in answers.items()},
            "scores": {task: [score for _, score in ranked] for task, ranked in answers.items()},
            **told,
        }
    )


def write_tables(folder: Path, family: str) -> None:
    np.save(folder / "prior.npy", np.array(PRIOR, np.float32))
    for task, (indptr, indices, values) in TABLES.get(family, {}).items():
        np.save(folder / f"indptr_{task}.npy", np.array(indptr, np.int64))
        np.save(folder / f"indices_{task}.npy", np.array(indices, np.int32))
        np.save(folder / f"values_{task}.npy", np.array(values, np.float32))
    if family == "sasrec":
        np.save(folder / "items.npy", np.array(VECTORS, np.float32))
        np.save(folder / "bias.npy", np.array(PRIOR, np.float32))
        np.save(folder / "repeat.npy", np.zeros((2, 5), np.float32))
        (folder / "encoder.onnx").write_bytes(graph(logits=LOGITS, context=CONTEXT_LOGITS))
        (folder / "outcomes.json").write_text(json.dumps(OUTCOMES))


def write_manifest(folder: Path, **changes: Any) -> None:
    files = [f for f in sorted(folder.iterdir()) if f.name != "manifest.json"]
    manifest = {
        "format_version": 2,
        "name": "tiny-popularity",
        "version": "run1",
        "kind": "prior",
        "family": "popularity",
        "created": "2026-01-05T09:30:00+00:00",
        "tasks": TASKS,
        "num_items": 5,
        "max_len": 4,
        "order_only": False,
        "receipt_gap_seconds": 3600.0,
        "purchase_event": "purchase",
        "context": ["device"],
        "params": {},
        "run_id": "run1",
        "refit_of": None,
        "dataset_hash": "0" * 64,
        "shopkeeper_version": "0.1.0",
        "score_tolerance": 1e-4,
        "files": {
            f.name: {"size": f.stat().st_size, "sha256": hashlib.sha256(f.read_bytes()).hexdigest()} for f in files
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def fields_of(family: str) -> dict[str, Any]:
    """Fields of the manifest that follow from the family."""
    kind, params = KINDS[family]
    return {"name": f"tiny-{family}", "kind": kind, "family": family, "params": params}


def write_bundle(folder: Path, family: str, **changes: Any) -> Path:
    folder.mkdir()
    write_tables(folder, family)
    (folder / "item_ids.json").write_text(json.dumps(ITEM_IDS))
    (folder / "vocabulary.json").write_text(json.dumps(VOCABULARY))
    apple = {"event": "page_view", "item_id": "apple", "timestamp": "2026-01-05T09:30:00Z"}
    nobody, later = (NOBODY, AFTER_APPLE) if family == "sasrec" else ({}, {})
    lines = [golden_line([], BY_PRIOR, **nobody), golden_line([apple], after_apple(family), **later)]
    (folder / "golden.jsonl").write_text("\n".join(lines) + "\n")
    write_manifest(folder, **fields_of(family) | changes)
    return folder


@pytest.fixture
def blend(tmp_path: Path) -> Path:
    """A blend of own counts and popularity: the former alone for purchases, both halves for the next item."""
    folder = tmp_path / "blend"
    folder.mkdir()
    for part in ("", "own.", "popular."):
        np.save(folder / f"{part}prior.npy", np.array(PRIOR, np.float32))
    for name, entries in zip(("indptr", "indices", "values"), ITSELF, strict=True):
        for task in TASKS:
            np.save(folder / f"own.{name}_{task}.npy", np.array(entries, np.float32 if name == "values" else np.int64))
    np.save(folder / "ks.npy", np.array([0, 2]))
    weights = [[[0, 1], [1, 0]], [[0, 1], [0.5, 0.5]]]  # by task, bucket and part
    np.save(folder / "weights.npy", np.array(weights, np.float32))
    (folder / "item_ids.json").write_text(json.dumps(ITEM_IDS))
    (folder / "vocabulary.json").write_text(json.dumps(VOCABULARY))
    (folder / "golden.jsonl").write_text(golden_line([], BY_PRIOR) + "\n")
    write_manifest(folder, **fields_of("blend"), parts={"own": "table", "popular": "prior"})
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """make_bundle(family, **manifest fields) -> a folder that is a valid bundle, but for what the fields change."""

    def make(family: str = "popularity", **changes: Any) -> Path:
        return write_bundle(tmp_path / f"bundle{len(list(tmp_path.iterdir()))}", family, **changes)

    return make


@pytest.fixture
def seal() -> Callable[..., None]:
    """seal(folder, family, **manifest fields): write the manifest anew, with the hashes of the files as they stand."""

    def write(folder: Path, family: str = "popularity", **changes: Any) -> None:
        write_manifest(folder, **fields_of(family) | changes)

    return write


@pytest.fixture
def load(make_bundle: Callable[..., Path]) -> Callable[..., Predictor]:
    """load(family, **manifest fields) -> a predictor of such a bundle."""

    def make(family: str = "popularity", **changes: Any) -> Predictor:
        return Predictor.load(make_bundle(family, **changes))

    return make
