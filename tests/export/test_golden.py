import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.export.golden import golden_lines
from shopkeeper.models.contract import SessionModel
from shopkeeper_serving.bundle import read_bundle
from shopkeeper_serving.predictor import Predictor

Bundles = Callable[[str, str], Path]


@pytest.fixture
def golden(bundles: Bundles, shop: str, family: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bundles(shop, family) / "golden.jsonl").read_text().splitlines()]


def test_the_edge_cases_are_among_them(golden: list[dict[str, Any]], bundles: Bundles, shop: str, family: str) -> None:
    bundle = read_bundle(bundles(shop, family))
    histories = [case["request"]["events"] for case in golden]
    items = set(bundle.item_ids)
    values = {v for known in bundle.vocabulary.context.values() for v in known}

    assert len(golden) >= 32
    assert [] in histories
    assert any(len(h) == 1 and h[0].get("item_id") in items for h in histories)
    assert any(e.get("item_id") and e["item_id"] not in items for h in histories for e in h)
    assert any(len(h) > bundle.manifest.max_len for h in histories)
    assert any(v not in values for h in histories for e in h for v in e.get("context", {}).values())
    assert any("timestamp" not in e for h in histories for e in h)


def test_every_family_answers_them_as_it_was_trained(bundles: Bundles, shop: str, family: str) -> None:
    Predictor.load(bundles(shop, family))  # replays them, or raises


def test_they_depend_on_the_seed_alone(
    bundles: Bundles, models: Callable[[str, str], SessionModel], shop: str, family: str
) -> None:
    model, folder = models(shop, family), bundles(shop, family)
    first, again, other = (golden_lines(model, folder, count=20, seed=seed) for seed in (1, 1, 2))

    assert first == again != other
    assert len(first.splitlines()) == 20
