"""Probabilities, sets and depth, by numbers worked out by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopkeeper_serving.calibration import DEPTHS, Calibration, best_mass, set_size, softmax_weights
from shopkeeper_serving.outcomes import Outcomes

TASKS = ["purchase", "next"]
LN3 = math.log(3)


@pytest.fixture
def content(make_bundle: Callable[..., Path]) -> dict[str, Any]:
    """intent (prior .75, .25; scale 0, 1, 1), phase (even; 1, 1, 1), income (even; .5, 1, 2) after 0, 1 and 2 steps."""
    parsed: dict[str, Any] = json.loads((make_bundle("sasrec") / "outcomes.json").read_text())
    return parsed


def calibration(content: dict[str, Any], **changes: Any) -> Calibration:
    return Calibration(msgspec.convert(content | changes, Outcomes), TASKS)


def judge(rules: Calibration, logits: list[list[float]], steps: list[int], **changes: Any) -> Any:
    count = len(logits)
    return rules.judge(
        changes.get("scores", np.zeros((count, 2, 4), np.float32)),
        np.array(logits, np.float32),
        steps=np.array(steps),
        nothing=np.array(changes.get("nothing", [False] * count)),
        tasks=changes.get("tasks", TASKS),
    )


def test_the_scale_goes_from_the_prior_to_the_network_and_beyond(content: dict[str, Any]) -> None:
    logits = [[5, 5 + LN3, 0, LN3, 0, LN3]] * 4

    found = judge(calibration(content), logits, [0, 1, 2, 99]).probability

    np.testing.assert_allclose(found[:, :2], [[0.75, 0.25], [0.25, 0.75], [0.25, 0.75], [0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(found[:, 2:4], [[0.25, 0.75]] * 4, atol=1e-6)
    # odds of 3 to the power of the scale: its root, itself, its square
    root = math.sqrt(3)
    income = [[1 / (1 + root), root / (1 + root)], [0.25, 0.75], [0.1, 0.9], [0.1, 0.9]]
    np.testing.assert_allclose(found[:, 4:], income, atol=1e-6)


def test_of_whom_nothing_is_known_gets_the_prior_and_a_welcome(content: dict[str, Any]) -> None:
    depth = {"segments": {"segment:income": 0.5}, "one_to_one": 0.0}

    found = judge(calibration(content, depth=depth), [[9, 0, 9, 0, 9, 0]] * 2, [2, 2], nothing=[True, False])

    np.testing.assert_allclose(found.probability[0], [0.75, 0.25, 0.5, 0.5, 0.5, 0.5], atol=1e-9)
    assert [DEPTHS[place] for place in found.depth] == ["welcome", "one_to_one"]
    assert found.addressable.tolist() == [[False], [True]]


def test_who_may_be_addressed_by_a_segment(content: dict[str, Any]) -> None:
    logits = [[0, 0, 0, 0, 0, math.log(odds)] for odds in (2, 3)]

    found = judge(calibration(content), logits, [1, 1])  # probabilities 2/3 and 3/4, from .7 on

    assert found.addressable.tolist() == [[False], [True]]
    assert [DEPTHS[place] for place in found.depth] == ["welcome", "segment"]


@pytest.mark.parametrize("least", [None, "left out"])
def test_a_segment_without_a_threshold_addresses_nobody(content: dict[str, Any], least: Any) -> None:
    segments = {} if least else {"segment:income": None}
    rules = calibration(content, depth={"segments": segments, "one_to_one": None})

    assert not judge(rules, [[0, 0, 0, 0, 0, 50]], [5]).addressable.any()


def test_one_to_one_asks_for_a_step_and_for_likely_items(content: dict[str, Any]) -> None:
    """Of 40 items 20 are three times as likely as the others: together 60 of 80."""
    scores = np.zeros((3, 2, 40), np.float32)
    scores[:, 0, 5:25] = LN3
    scores[2, 0, 30] = LN3  # 63 of 82, but the twenty best still 60: 73.2%
    rules = calibration(content, depth={"segments": {"segment:income": 0.5}, "one_to_one": 0.745})

    found = judge(rules, [[0] * 6] * 3, [0, 1, 1], scores=scores)

    assert [DEPTHS[place] for place in found.depth] == ["segment", "one_to_one", "segment"]


def test_a_set_is_the_shortest_list_that_is_likely_enough(content: dict[str, Any]) -> None:
    """Probabilities .5, .25, .125, .125, the items in another order."""
    scores = np.log(np.array([[[1, 4, 1, 2]] * 2] * 4, np.float32))

    sizes = {
        threshold: judge(
            calibration(content, sets={"purchase": [threshold] * 3}), [[0] * 6] * 4, [0] * 4, scores=scores
        )
        for threshold in (0.4, 0.6, 0.74, 0.8, 0.9, 1.0)
    }

    assert [found.sets["purchase"].tolist() for found in sizes.values()] == [[n] * 4 for n in (1, 2, 2, 3, 4, 4)]


def test_temperature_and_threshold_are_those_of_the_steps_seen(content: dict[str, Any]) -> None:
    scores = np.log(np.array([[[4, 2, 1, 1]] * 2] * 3, np.float32))
    # a temperature of 2 squares the odds: 16, 4, 1, 1 of 22
    rules = calibration(content, sets={"purchase": [0.7, 0.7, 0.95]}, temperature={"purchase": [1, 2, 2]})

    assert judge(rules, [[0] * 6] * 3, [0, 1, 2], scores=scores).sets["purchase"].tolist() == [2, 1, 3]


def test_what_cannot_be_named_is_in_no_set(content: dict[str, Any]) -> None:
    scores = np.full((1, 2, 4), -np.inf, np.float32)
    scores[0, 1, :2] = 0.0
    rules = calibration(content, sets={"purchase": [0.9] * 3, "next": [0.9] * 3})

    found = judge(rules, [[0] * 6], [1], scores=scores)

    assert found.sets["next"].tolist() == [2]
    assert np.isfinite(found.probability).all()


def test_sets_are_sized_for_the_tasks_asked_for(content: dict[str, Any]) -> None:
    rules = calibration(content, sets={"purchase": [0.9] * 3, "next": [0.9] * 3})

    assert list(judge(rules, [[0] * 6], [1], tasks=["next"]).sets) == ["next"]


def test_a_model_that_only_ranks_has_sets_and_a_depth(content: dict[str, Any]) -> None:
    rules = calibration(content, outcomes=[], depth={"segments": {}, "one_to_one": 0.9})

    found = rules.judge(
        np.zeros((1, 2, 4), np.float32),
        np.zeros((1, 0), np.float32),
        steps=np.array([1]),
        nothing=np.array([False]),
        tasks=TASKS,
    )

    assert found.probability.shape == (1, 0)
    assert found.sets["purchase"].tolist() == [4]
    assert [DEPTHS[place] for place in found.depth] == ["one_to_one"]


@given(st.lists(st.floats(-90, 5, width=32), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_a_set_is_as_large_as_sorting_the_catalogue_says(scores: list[float], share: float) -> None:
    (weight,) = softmax_weights(np.array([scores], np.float32), np.ones(1))
    target = share * float(weight.sum(dtype=float))

    size = set_size(weight, target)

    mass = np.cumsum(-np.sort(-weight.astype(float)))  # the same but for the order of sums
    assert mass[size - 1] >= target * (1 - 1e-12)
    assert size == 1 or mass[size - 2] < target * (1 + 1e-12)


def test_the_mass_of_the_best_is_theirs_alone() -> None:
    assert best_mass(np.array([[0.25, 1.0, 0.5], [0.0, 0.0, 1.0]], np.float32), 2).tolist() == [1.5, 1.0]
    assert best_mass(np.array([[0.25, 1.0]], np.float32), 20).tolist() == [1.25]
