"""Golden requests: made-up raw histories, no customer's, with the answers the trained model gives to them."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch
from shopkeeper.export.outcomes import expected_outcomes
from shopkeeper.models.contract import SessionModel, rank_ready

if TYPE_CHECKING:
    from shopkeeper_serving.bundle import Bundle
    from shopkeeper_serving.history import Inputs

TOP = 20
START = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)


def golden_lines(model: SessionModel, folder: Path, *, count: int, seed: int) -> str:
    """At least `count` requests, one JSON line each, with the ids and scores of the model's best 20 per task.

    Of a model that tells outcomes also with what it says of the visitor.
    """
    import msgspec

    from shopkeeper_serving.bundle import read_bundle
    from shopkeeper_serving.history import Reader, to_inputs
    from shopkeeper_serving.schemas import PredictRequest

    bundle = read_bundle(folder)
    requests = make_requests(bundle, count=count, seed=seed)
    parsed = [msgspec.convert(request, PredictRequest, strict=False) for request in requests]
    inputs = to_inputs(
        Reader(bundle).read([request.events for request in parsed]),
        order_only=bundle.manifest.order_only,
        gap_seconds=bundle.manifest.receipt_gap_seconds,
        max_len=bundle.manifest.max_len,
    )
    batch = as_batch(inputs)
    scores = rank_ready(model, batch)
    told = expected_outcomes(model, batch, scores, tolerance=bundle.manifest.score_tolerance)
    return "".join(
        json.dumps({"request": request, **answer(own.numpy(), model.tasks, bundle.item_ids), **said}) + "\n"
        for request, own, said in zip(requests, scores, told, strict=True)
    )


def as_batch(inputs: "Inputs") -> Batch:
    """Serving's model input as training's batch."""
    names = [name for name in Batch._fields if name not in ("targets", "labels")]
    tensors: dict[str, Any] = {n: torch.from_numpy(np.ascontiguousarray(getattr(inputs, n))) for n in names}
    return Batch(**tensors, targets=())


def answer(scores: np.ndarray, tasks: list[str], item_ids: list[str]) -> dict[str, Any]:
    """The best items of one history per task; scores is (H, V)."""
    best = [np.lexsort([np.arange(scores.shape[1]), -row])[:TOP] for row in scores]
    best = [order[np.isfinite(row[order])] for order, row in zip(best, scores, strict=True)]
    return {
        "item_ids": {t: [item_ids[i] for i in order] for t, order in zip(tasks, best, strict=True)},
        "scores": {t: row[order].tolist() for t, order, row in zip(tasks, best, scores, strict=True)},
    }


def make_requests(bundle: "Bundle", *, count: int, seed: int) -> list[dict[str, Any]]:
    """The edge cases every bundle must answer, then random histories up to `count`."""
    rng = np.random.default_rng(seed)
    start = entry(bundle, rng)
    one = [start, *walk(bundle, rng, 1)]
    strange = {**walk(bundle, rng, 1)[0], "item_id": "no such item \N{SNOWMAN}"}
    lost = {**start, "context": {c: "no such value" for c in bundle.manifest.context}}
    twice = walk(bundle, rng, 1) * 2
    cases = [
        [],
        [start],
        [lost],
        [{"event": s.SESSION_START}],
        one,
        one[1:],
        [start, strange],
        [strange],
        [lost, *walk(bundle, rng, 3)],
        [start, *twice],
        [start, {**twice[0], "event": "no such event"}],
        [start, {"event": twice[0]["event"], "item_id": twice[0]["item_id"]}],
        [start, *walk(bundle, rng, bundle.manifest.max_len + 10)],
        [start, *walk(bundle, rng, 4), start, *walk(bundle, rng, 2)],
    ]
    while len(cases) < count:
        cases.append([entry(bundle, rng), *walk(bundle, rng, int(rng.integers(1, 12)))])
    return [{"events": events, "k": TOP, "exclude_seen": False} for events in cases]


def entry(bundle: "Bundle", rng: np.random.Generator) -> dict[str, Any]:
    """A `session_start` row with known context."""
    return {"event": s.SESSION_START, "timestamp": START.isoformat(), "context": some_context(bundle, rng)}


def some_context(bundle: "Bundle", rng: np.random.Generator) -> dict[str, str]:
    return {c: str(rng.choice(values)) for c, values in bundle.vocabulary.context.items() if values}


def walk(bundle: "Bundle", rng: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    """Steps of one to three items, half an hour to three days apart, each session with a name of its own."""
    events, moment = [], START
    names = bundle.vocabulary.event[1:]
    for step in range(steps):
        moment += dt.timedelta(minutes=float(rng.integers(61, 4320)))
        event, context = str(rng.choice(names)), some_context(bundle, rng)
        for _ in range(int(rng.integers(1, 4)) if bundle.manifest.order_only else 1):
            events.append(
                {
                    "event": event,
                    "timestamp": moment.isoformat(),
                    "item_id": bundle.item_ids[int(rng.integers(len(bundle.item_ids)))],
                    "session_id": f"s{step}",
                    "context": context,
                }
            )
    return events
