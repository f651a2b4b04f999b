"""outcomes.json: what it may hold, and what is refused with the file and the key."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shopkeeper_serving.bundle import BundleError, read_bundle
from shopkeeper_serving.outcomes import Outcomes

MakeBundle = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def content(make_bundle: MakeBundle) -> dict[str, Any]:
    """That of the tiny bundle: intent, phase and income, over 0, 1 and 2 steps."""
    parsed: dict[str, Any] = json.loads((make_bundle("sasrec") / "outcomes.json").read_text())
    return parsed


def put(place: str, value: Any) -> Change:
    """`a.0.b` -> set that member."""
    *path, last = place.split(".")

    def change(content: Any) -> None:
        for part in (int(part) if part.isdigit() else part for part in path):
            content = content[part]
        content[last] = value

    return change


HOSTILE: list[tuple[Change, str]] = [
    (put("ks", []), "ks: [] does not ascend from 0"),
    (put("ks", [1, 2, 3]), "ks: [1, 2, 3] does not ascend from 0"),
    (put("ks", [0, 2, 2]), "ks: [0, 2, 2] does not ascend from 0"),
    (put("ks", [0, 1]), "outcomes[0].scale: "),
    (put("ks", "0"), "Expected `array`, got `str` - at `$.ks`"),
    (put("surprise", 1), "unknown field `surprise`"),
    (put("depth", {}), "missing required field `segments` - at `$.depth`"),
    (put("outcomes.0.name", "mood"), "outcomes[0].name: 'mood' is no outcome"),
    (put("outcomes.2.name", "segment:"), "outcomes[2].name: 'segment:' is no outcome"),
    (put("outcomes.1.name", "intent"), "outcomes: intent, intent, segment:income are not all different"),
    (put("outcomes.0.classes", ["none", "sale"]), "outcomes[0].classes: ['none', 'sale'] does not hold 'purchase'"),
    (put("outcomes.2.classes", ["low", "low"]), "outcomes[2].classes: ['low', 'low'] are not two or more different"),
    (put("outcomes.2.classes", ["low"]), "outcomes[2].classes: ['low'] are not two or more different"),
    (put("outcomes.2.classes", ["low", 3]), "Expected `str`, got `int` - at `$.outcomes[2].classes[1]`"),
    (put("outcomes.2.prior", [-0.7]), "outcomes[2].prior: [-0.7] is not a finite number for each of the classes"),
    (put("outcomes.2.prior", [0.0, 0.0]), "outcomes[2].prior: the probabilities sum to 2, not to 1"),
    (put("outcomes.2.prior", [1e300, -0.7]), "outcomes[2].prior: the probabilities sum to 3.21"),
    (put("outcomes.2.prior", [None, -0.7]), "Expected `float`, got `null`"),
    (put("outcomes.2.scale", [1, 1]), "outcomes[2].scale: [1.0, 1.0] is not a number for each of the 3 ks"),
    (put("outcomes.2.scale", [1, 1, -0.5]), "outcomes[2].scale: [1.0, 1.0, -0.5] is not all finite and from 0 to inf"),
    (put("sets.sell", [1, 1, 1]), "sets.sell: the model has no such task"),
    (put("sets.purchase", [1, 1, 1.5]), "sets.purchase: [1.0, 1.0, 1.5] is not all finite and from 0 to 1"),
    (put("sets.purchase", [1]), "sets.purchase: [1.0] is not a number for each of the 3 ks"),
    (put("temperature.sell", [1, 1, 1]), "temperature.sell: the model has no such task"),
    (put("temperature.purchase", [1, 0, 1]), "temperature.purchase: [1.0, 0.0, 1.0] holds a zero"),
    (put("temperature.purchase", [1, -1, 1]), "temperature.purchase: [1.0, -1.0, 1.0] is not all finite"),
    (put("depth.segments", {"segment:age": 0.5}), "depth.segments.segment:age: the model has no such segment"),
    (put("depth.segments", {"intent": 0.5}), "depth.segments.intent: the model has no such segment"),
    (put("depth.segments", {"segment:income": 1.5}), "depth.segments.segment:income: 1.5 is no probability"),
    (put("depth.one_to_one", -0.1), "depth.one_to_one: -0.1 is no probability"),
]


@pytest.mark.parametrize(("change", "says"), HOSTILE)
def test_what_is_wrong_is_named_with_its_file_and_key(
    make_bundle: MakeBundle, seal: Callable[..., None], content: dict[str, Any], change: Change, says: str
) -> None:
    bundle = make_bundle("sasrec")
    change(content)
    (bundle / "outcomes.json").write_text(json.dumps(content))
    seal(bundle, family="sasrec")

    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)

    assert str(caught.value).startswith(f"{bundle / 'outcomes.json'}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "NaN", '{"ks": [0], "outcomes": [1e999]}', '{"ks": [0, 1, NaN]}'])
def test_what_is_no_outcomes_at_all_is_refused(make_bundle: MakeBundle, seal: Callable[..., None], text: str) -> None:
    bundle = make_bundle("sasrec")
    (bundle / "outcomes.json").write_text(text)
    seal(bundle, family="sasrec")

    with pytest.raises(BundleError, match=r"outcomes\.json: "):
        read_bundle(bundle)


@pytest.mark.parametrize("key", ["prior", "scale"])
@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_no_number_may_be_infinite_or_none(content: dict[str, Any], key: str, number: float) -> None:
    changed = copy.deepcopy(content)
    changed["outcomes"][1][key][1] = number

    with pytest.raises(ValueError, match=rf"outcomes\[1\]\.{key}: "):
        msgspec.convert(changed, Outcomes).check(["purchase", "next"])


def test_a_model_that_only_ranks_may_bring_sets_and_no_outcomes(content: dict[str, Any]) -> None:
    changed = content | {"outcomes": [], "depth": {"segments": {}, "one_to_one": 0.9}}

    msgspec.convert(changed, Outcomes).check(["purchase"])


def test_a_family_without_an_encoder_has_no_outcomes(
    make_bundle: MakeBundle, seal: Callable[..., None], content: dict[str, Any]
) -> None:
    bundle = make_bundle("popularity")
    assert read_bundle(bundle).outcomes is None

    (bundle / "outcomes.json").write_text(json.dumps(content))
    seal(bundle)

    with pytest.raises(BundleError, match=r"outcomes\.json: outcomes: a popularity bundle has no encoder"):
        read_bundle(bundle)
