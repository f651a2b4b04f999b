"""A bundle that no longer answers as the trained model did is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shopkeeper_serving.bundle import BundleError, read_bundle
from shopkeeper_serving.predictor import Predictor


def with_golden(bundle: Path, seal: Callable[..., None], change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle with its second golden request changed."""
    lines = [msgspec.json.decode(line) for line in (bundle / "golden.jsonl").read_bytes().splitlines()]
    change(lines[1])
    (bundle / "golden.jsonl").write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines))
    seal(bundle)
    return bundle


def other_score(case: dict[str, Any]) -> None:
    case["scores"]["purchase"][0] += 0.001


def other_item(case: dict[str, Any]) -> None:
    ids = case["item_ids"]["purchase"]
    ids[0], ids[1] = ids[1], ids[0]


def one_less(case: dict[str, Any]) -> None:
    case["item_ids"]["purchase"].pop()
    case["scores"]["purchase"].pop()


def other_request(case: dict[str, Any]) -> None:
    case["request"]["exclude_seen"] = True


@pytest.mark.parametrize("change", [other_score, other_item, one_less, other_request])
def test_another_answer_than_the_trained_model_s_is_refused(
    make_bundle: Callable[..., Path], seal: Callable[..., None], change: Callable[[dict[str, Any]], None]
) -> None:
    bundle = with_golden(make_bundle(), seal, change)

    read_bundle(bundle)
    with pytest.raises(BundleError, match=r"golden\.jsonl: request 2 is not answered as the trained model did"):
        Predictor.load(bundle)


@pytest.mark.parametrize("content", ["", "\n", "{}\n", "no json\n"])
def test_golden_requests_that_are_none_are_refused(
    make_bundle: Callable[..., Path], seal: Callable[..., None], content: str
) -> None:
    bundle = make_bundle()
    (bundle / "golden.jsonl").write_text(content)
    seal(bundle)

    with pytest.raises(BundleError, match=r"golden\.jsonl"):
        Predictor.load(bundle)


def unlikely(case: dict[str, Any]) -> None:
    case["segments"]["income"] = {"low": 0.6, "high": 0.4}


def another_class(case: dict[str, Any]) -> None:
    case["phase"] = {"discovery": 0.2, "engagement": 0.8}


def another_segment(case: dict[str, Any]) -> None:
    case["segments"] = {"wealth": case["segments"]["income"]}


def no_segments(case: dict[str, Any]) -> None:
    del case["segments"]


def other_intent(case: dict[str, Any]) -> None:
    case["intent"] = 0.7


def no_intent(case: dict[str, Any]) -> None:
    del case["intent"]


def other_set(case: dict[str, Any]) -> None:
    case["sets"] = {"purchase": [1, 3]}


def no_set(case: dict[str, Any]) -> None:
    del case["sets"]


def other_depth(case: dict[str, Any]) -> None:
    case["depths"] = ["segment", "one_to_one"]


def no_depth(case: dict[str, Any]) -> None:
    del case["depths"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (unlikely, "income"),
        (another_class, "phase"),
        (another_segment, "segments"),
        (no_segments, "segments"),
        (other_intent, "intent"),
        (no_intent, "intent"),
        (other_set, "sets"),
        (no_set, "sets"),
        (other_depth, "depth"),
        (no_depth, "depth"),
    ],
)
def test_other_outcomes_than_the_trained_model_s_are_refused_by_name(
    make_bundle: Callable[..., Path],
    seal: Callable[..., None],
    change: Callable[[dict[str, Any]], None],
    what: str,
) -> None:
    bundle = with_golden(make_bundle("sasrec"), lambda folder: seal(folder, family="sasrec"), change)

    with pytest.raises(BundleError, match=rf"request 2 is not answered as the trained model did \({what}\)"):
        Predictor.load(bundle)


def test_what_the_tolerance_leaves_open_is_accepted(
    make_bundle: Callable[..., Path], seal: Callable[..., None]
) -> None:
    def roughly(case: dict[str, Any]) -> None:
        case["segments"]["income"] = {"low": 2 / 3 + 5e-5, "high": 1 / 3 - 5e-5}
        case["sets"]["purchase"] = [3, 6]
        case["depths"] = ["segment", "welcome"]

    Predictor.load(with_golden(make_bundle("sasrec"), lambda folder: seal(folder, family="sasrec"), roughly))
