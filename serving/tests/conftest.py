"""Bundles small enough to answer by hand: five items, two tasks, one context column, histories of four steps."""

import hashlib
import json
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
}
"""Kind of each family, and its params."""
BY_PRIOR = {"purchase": list(zip(ITEM_IDS, PRIOR[0], strict=True)), "next": list(zip(ITEM_IDS, PRIOR[1], strict=True))}
BY_PRIOR["next"].reverse()

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
    return {"purchase": BY_PRIOR["purchase"], "next": without_apple}


def golden_line(events: list[dict[str, Any]], answers: Answers) -> str:
    return json.dumps(
        {
            "request": {"events": events, "k": 20, "exclude_seen": False},
            "item_ids": {task: [item for item, _ in ranked] for task, ranked in answers.items()},
            "scores": {task: [score for _, score in ranked] for task, ranked in answers.items()},
        }
    )


def write_tables(folder: Path, family: str) -> None:
    np.save(folder / "prior.npy", np.array(PRIOR, np.float32))
    for task, (indptr, indices, values) in TABLES.get(family, {}).items():
        np.save(folder / f"indptr_{task}.npy", np.array(indptr, np.int64))
        np.save(folder / f"indices_{task}.npy", np.array(indices, np.int32))
        np.save(folder / f"values_{task}.npy", np.array(values, np.float32))


def write_manifest(folder: Path, **changes: Any) -> None:
    files = [f for f in sorted(folder.iterdir()) if f.name != "manifest.json"]
    manifest = {
        "format_version": 1,
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
    lines = [golden_line([], BY_PRIOR), golden_line([apple], after_apple(family))]
    (folder / "golden.jsonl").write_text("\n".join(lines) + "\n")
    write_manifest(folder, **fields_of(family) | changes)
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
