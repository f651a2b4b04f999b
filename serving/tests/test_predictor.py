from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopkeeper_serving.bundle import BundleError
from shopkeeper_serving.predictor import Predictor, top_k
from shopkeeper_serving.schemas import Event, Prediction

Load = Callable[..., Predictor]
FAMILIES = ["popularity", "repeat", "item_knn"]
MOBILE = Event(event="session_start", context={"device": "mobile"})


def view(*items: str) -> list[Event]:
    return [Event(event="page_view", item_id=item) for item in items]


def named(answer: Prediction, task: str) -> list[str]:
    return [item.item_id for item in answer.items[task]]


def scores(answer: Prediction, task: str) -> dict[str, Any]:
    return {item.item_id: pytest.approx(item.score, abs=1e-6) for item in answer.items[task]}


# ---- answers ----


def test_repeat_names_own_items_first(load: Load) -> None:
    answer = load("repeat").predict(view("apple", "bread", "eggs"), k=4)

    # a step back halves: apple 0.5 + 0.25, bread 0.4 + 0.5, eggs 0.1 + 1
    assert scores(answer, "purchase") == {"eggs": 1.1, "bread": 0.9, "apple": 0.75, "cheese": 0.3}
    assert named(answer, "purchase") == ["eggs", "bread", "apple", "cheese"]
    assert [item.rank for item in answer.items["purchase"]] == [1, 2, 3, 4]
    assert named(answer, "next") == ["bread", "dates", "apple", "cheese"]


def test_neighbours_are_named_first(load: Load) -> None:
    answer = load("item_knn").predict(view("apple", "bread"), k=3)

    assert scores(answer, "purchase") == {"apple": 0.8005, "bread": 0.4004, "cheese": 0.1003}
    assert named(answer, "next") == ["cheese", "eggs", "dates"]


@pytest.mark.parametrize("family", FAMILIES)
def test_next_never_names_the_last_item(load: Load, family: str) -> None:
    predictor = load(family)

    for item in predictor.bundle.item_ids:
        answer = predictor.predict([*view("apple", item), Event(event="page_view")], k=5)
        assert item not in named(answer, "next")
        assert item in named(answer, "purchase")


@pytest.mark.parametrize("family", FAMILIES)
def test_after_an_unknown_item_next_may_name_the_one_before(load: Load, family: str) -> None:
    predictor = load(family)

    for item in predictor.bundle.item_ids:
        assert item in named(predictor.predict([*view("apple", item), *view("no such")], k=5), "next")


@pytest.mark.parametrize("k", [1, 3, 5, 100])
def test_k_items_or_as_many_as_there_are(load: Load, k: int) -> None:
    answer = load().predict([], k=k)

    assert len(answer.items["purchase"]) == min(k, 5)


def test_seen_items_are_left_out_when_asked(load: Load) -> None:
    answer = load("repeat").predict(view("apple", "dates", "apple"), exclude_seen=True)

    assert named(answer, "purchase") == ["bread", "cheese", "eggs"]
    assert named(answer, "next") == ["eggs", "cheese", "bread"]


def test_who_has_seen_everything_is_named_nothing(load: Load) -> None:
    predictor = load("repeat", max_len=8)

    answer = predictor.predict(view(*predictor.bundle.item_ids), exclude_seen=True)

    assert answer.items == {"purchase": [], "next": []}


def test_asking_does_not_change_what_comes_after(load: Load) -> None:
    predictor = load("popularity")
    before = predictor.predict([])

    predictor.predict(view("apple"), exclude_seen=True)

    assert predictor.predict([]) == before


def test_tasks_are_answered_in_the_order_asked_for(load: Load) -> None:
    predictor = load("repeat")
    both = predictor.predict(view("apple"))

    answer = predictor.predict(view("apple"), tasks=["next", "purchase"])

    assert list(answer.items) == ["next", "purchase"]
    assert answer.items == both.items


def test_an_unknown_task_names_those_there_are(load: Load) -> None:
    with pytest.raises(ValueError, match="'sell' is not among this model's: purchase, next"):
        load().predict([], tasks=["sell"])


def test_steps_are_those_of_the_whole_history(load: Load) -> None:
    assert load().predict([MOBILE, *view(*["apple"] * 9)]).steps == 9


# ---- cold starts ----


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ([], "empty_history"),
        (view("no such", "no such either"), "unknown_history"),
        ([Event(event="session_start")], "unknown_history"),
        ([Event(event="no such", context={"device": "no such"})], "unknown_history"),
    ],
)
def test_of_whom_nothing_is_known_gets_the_priors(load: Load, family: str, history: list[Event], reason: str) -> None:
    answer = load(family).predict(history)

    assert answer.cold_start.used
    assert answer.cold_start.reason == reason
    assert scores(answer, "purchase") == {"apple": 0.5, "bread": 0.4, "cheese": 0.3, "dates": 0.2, "eggs": 0.1}
    assert named(answer, "next") == ["eggs", "dates", "cheese", "bread", "apple"]


def test_context_alone_is_a_cold_start_of_its_own(load: Load) -> None:
    cold = load().predict([MOBILE]).cold_start

    assert (cold.used, cold.reason, cold.unknown_context) == (True, "context_only", 0)


def test_known_and_unknown_items_are_counted(load: Load) -> None:
    cold = load().predict([MOBILE, *view("apple", "no such", "apple"), Event(event="page_view")]).cold_start

    assert (cold.used, cold.reason) == (False, None)
    assert (cold.known_items, cold.unknown_items, cold.unknown_context) == (2, 1, 0)


# ---- many at once ----

EVENTS = st.builds(
    Event,
    event=st.sampled_from(["session_start", "page_view", "purchase", "no such"]),
    timestamp=st.none() | st.integers(0, 10**9),
    item_id=st.sampled_from(["apple", "bread", "cheese", "dates", "eggs", "no such", None]),
    session_id=st.sampled_from(["a", "b", None]),
    context=st.sampled_from([{}, {"device": "mobile"}, {"device": "no such"}]),
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order_only", [False, True])
def test_together_is_as_one_by_one(load: Load, family: str, order_only: bool) -> None:
    predictor = load(family, order_only=order_only)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        histories=st.lists(st.lists(EVENTS, max_size=9), max_size=5), k=st.integers(1, 6), exclude_seen=st.booleans()
    )
    def check(histories: list[list[Event]], k: int, exclude_seen: bool) -> None:
        together = predictor.predict_many(histories, k=k, exclude_seen=exclude_seen)
        assert together == [predictor.predict(events, k=k, exclude_seen=exclude_seen) for events in histories]

    check()


def test_nobody_asks_nobody_is_answered(load: Load) -> None:
    assert load().predict_many([]) == []


# ---- ranking ----


def test_the_best_come_first() -> None:
    best = top_k(np.array([[1, 5, 3], [9, 7, 8]], np.float32), 2)

    assert best.item.tolist() == [[2, 3], [1, 3]]
    assert best.score.tolist() == [[5, 3], [9, 8]]


def test_of_equal_scores_the_lower_index_comes_first() -> None:
    row = [0, 1, 0, 1, 0, 0, 1, 0]

    assert top_k(np.array([row], np.float32), 20).item.tolist() == [[2, 4, 7, 1, 3, 5, 6, 8]]


@pytest.mark.parametrize(
    ("row", "expected"), [([1, 0, 3, 3, 0], [3]), ([0, 0, 1, 3, 1], [4, 3, 5, 1]), ([1, *[0] * 99, 1], [1, 101, 2])]
)
def test_of_those_that_tie_with_the_last_the_lower_index_is_named(row: list[int], expected: list[int]) -> None:
    assert top_k(np.array([row], np.float32), len(expected)).item.tolist() == [expected]


# ---- outcomes ----


def test_outcomes_sharpen_with_every_event(load: Load) -> None:
    predictor = load("sasrec")

    first, second = predictor.predict(view("apple")), predictor.predict(view("apple", "bread"))

    # LOGITS in conftest.py: an apple's odds of low to high are 2, with a bread 1/4; after two steps they are squared
    assert first.segments == {"income": {"low": pytest.approx(2 / 3), "high": pytest.approx(1 / 3)}}
    assert second.segments == {"income": {"low": pytest.approx(1 / 17), "high": pytest.approx(16 / 17)}}
    assert first.intent == pytest.approx(0.75)
    assert first.phase == pytest.approx({"discovery": 0.2, "purchase": 0.8})
    assert (first.depth, first.address_as) == ("welcome", {})
    assert (second.depth, second.address_as) == ("segment", {"income": "high"})
    assert first.sets == {"purchase": 4}


@pytest.mark.parametrize("history", [[], view("no such", "no such either"), [Event(event="session_start")]])
def test_of_whom_nothing_is_known_gets_the_outcomes_priors_and_a_welcome(load: Load, history: list[Event]) -> None:
    answer = load("sasrec").predict(history)

    assert answer.segments == {"income": {"low": pytest.approx(0.5), "high": pytest.approx(0.5)}}
    assert answer.intent == pytest.approx(0.25)
    assert (answer.depth, answer.sets) == ("welcome", {"purchase": 5})


def test_context_alone_tells_a_little(load: Load) -> None:
    # the odds of mobile are 4, of which half the logarithm is believed before any step; of intent nothing is
    answer = load("sasrec").predict([MOBILE])

    assert answer.segments == {"income": {"low": pytest.approx(1 / 3), "high": pytest.approx(2 / 3)}}
    assert answer.intent == pytest.approx(0.25)


def test_outcomes_are_about_the_visitor_not_about_what_is_asked_for(load: Load) -> None:
    predictor = load("sasrec")
    whole = predictor.predict(view("apple", "bread"))

    for question in ({"exclude_seen": True}, {"k": 1}, {"tasks": ["purchase"]}):
        answer = predictor.predict(view("apple", "bread"), **question)
        assert (answer.segments, answer.depth, answer.sets) == (whole.segments, whole.depth, whole.sets)


def test_a_model_without_outcomes_tells_none(load: Load) -> None:
    answer = load("repeat").predict(view("apple"))

    assert (answer.segments, answer.intent, answer.phase, answer.sets) == ({}, None, None, {})
    assert (answer.depth, answer.address_as, answer.explanation) == (None, {}, None)


@pytest.mark.parametrize("classes", [None, 1])
def test_a_graph_that_tells_other_outcomes_is_refused(
    make_bundle: Callable[..., Path], seal: Callable[..., None], tiny_graph: bytes, classes: int | None
) -> None:
    bundle = make_bundle("sasrec")
    if classes is None:
        (bundle / "encoder.onnx").write_bytes(tiny_graph)
    else:
        outcomes = msgspec.json.decode((bundle / "outcomes.json").read_bytes())
        outcomes["outcomes"].pop(classes)
        (bundle / "outcomes.json").write_bytes(msgspec.json.encode(outcomes))
    seal(bundle, family="sasrec")

    with pytest.raises(BundleError, match=r"encoder\.onnx: .*logits"):
        Predictor.load(bundle)
