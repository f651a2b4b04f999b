import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.export.card import Origin, model_card
from shopkeeper.models.calibration import DepthThresholds
from shopkeeper.models.contract import SessionModel

Models = Callable[[str, str], SessionModel]
RATES = {"error": 0.1, "miss": 0.5, "confidence": 0.95}
METRICS = {"val/primary": 0.25, "val/segment.income/skill": 0.0625, "val/segment.income/skill/k1": 0.5}


def card(model: SessionModel, prepared: Prepared, **changes: Any) -> str:
    origin: dict[str, Any] = {"run_id": "run-1", "refit_of": None, "metrics": METRICS, "depth": RATES}
    return model_card(model, prepared, Origin(**(origin | changes)))


def test_it_lists_outcomes_with_their_skill(models: Models, shops: dict[str, Prepared], shop: str) -> None:
    text = card(models(shop, "sasrec"), shops[shop])

    assert "| segment:income | high, low, middle | 0.0625 |" in text
    assert "| segment:region | north, south | not known |" in text
    assert "an affinity, not an identity" in text
    assert "| val/segment.income/skill | 0.0625 |" in text
    assert "/k1" not in text


def test_it_says_who_is_addressed_and_at_what_error_rate(models: Models, shops: dict[str, Prepared]) -> None:
    text = card(models("orders", "sasrec"), shops["orders"])

    assert "Depth `segment`: income from 60% on." in text
    assert "Depth `one_to_one`: best items together from 100% on." in text
    assert "at most 10% of those addressed by a segment are not in it" in text
    assert "at most 50% of those served one to one" in text


def test_a_model_that_addresses_nobody_says_so(
    models: Models, shops: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("orders", "sasrec")
    assert model.calibration is not None
    nobody = DepthThresholds(segments={"segment:income": None}, one_to_one=None)
    monkeypatch.setattr(model, "calibration", dataclasses.replace(model.calibration, depth=nobody))

    text = card(model, shops["orders"], depth={})

    assert "Depth `segment`: nobody. Depth `one_to_one`: nobody." in text
    assert "Chosen on validation so" not in text


def test_an_uncalibrated_model_says_so(models: Models, shops: dict[str, Prepared]) -> None:
    assert "It was not calibrated" in card(models("orders", "gru4rec"), shops["orders"])


def test_a_model_that_only_ranks_tells_nothing_of_a_visitor(models: Models, shops: dict[str, Prepared]) -> None:
    assert "What it tells of a visitor" not in card(models("orders", "repeat"), shops["orders"])


def test_the_bundle_holds_it(bundles: Callable[[str, str], Path]) -> None:
    assert "## What it tells of a visitor" in (bundles("orders", "sasrec") / "MODEL_CARD.md").read_text()
