"""Leave-one-out, held against requests that really come without the event or the value."""

from collections.abc import Callable

import msgspec
import pytest

from shopkeeper_serving.explain import EXPLAINED_EVENTS, SHOWN
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event

Load = Callable[..., Predictor]
MOBILE = Event(event="session_start", context={"device": "mobile"})


def view(item: str | None) -> Event:
    return Event(event="page_view", item_id=item)


def test_what_moved_a_segment_is_named_with_its_sign(load: Load) -> None:
    """Income's odds of high to low: a bread is worth 8, an apple 1/2, mobile 4; after two steps they are squared."""
    answer = load("sasrec").predict([MOBILE, view("apple"), view("bread")], explain=True)

    assert answer.explanation is not None
    told = answer.explanation["income"]
    assert told.most_probable == "high"
    high = answer.segments["income"]["high"]
    assert high == pytest.approx(256 / 257)  # (1/2 * 8 * 4) squared
    # with one step less the odds are not squared: without bread 1/2 * 4, without apple 8 * 4
    expected = {1: high - 32 / 33, 2: high - 2 / 3, None: high - 16 / 17}
    assert {i.event: pytest.approx(i.change, abs=1e-6) for i in told.influences} == expected
    assert [(i.event, i.context) for i in told.influences] == [(2, None), (None, "device"), (1, None)]


def test_it_is_the_answer_to_the_request_without_the_event(load: Load) -> None:
    predictor = load("sasrec")
    events = [view("cheese"), MOBILE, view("apple"), view("no such"), view(None), view("bread")]

    answer = predictor.predict(events, explain=True)

    assert answer.explanation is not None
    told = answer.explanation["income"]
    assert {i.event for i in told.influences} <= {0, 2, 3, 4, 5, None}
    whole = answer.segments["income"][told.most_probable]
    for influence in told.influences:
        if influence.event is not None:
            rest = [event for place, event in enumerate(events) if place != influence.event]
        else:
            rest = [msgspec.structs.replace(event, context={}) for event in events]
        less = predictor.predict(rest).segments["income"][told.most_probable]
        assert influence.change == pytest.approx(whole - less, abs=1e-6)


def test_the_strongest_come_first_and_only_a_few(load: Load) -> None:
    told = load("sasrec").predict([view("bread")] * 4 + [view("apple")] * 4, explain=True).explanation

    assert told is not None
    strength = [abs(i.change) for i in told["income"].influences]
    assert strength == sorted(strength, reverse=True)
    assert len(strength) <= SHOWN


def test_of_a_long_history_the_latest_events_are_tried(load: Load) -> None:
    predictor = load("sasrec", max_len=4)
    events = [view("bread")] * 10 + [view("eggs")] * (EXPLAINED_EVENTS - 2) + [view("apple")] * 2

    told = predictor.predict(events, explain=True).explanation

    assert told is not None
    assert {i.event for i in told["income"].influences} == {len(events) - 2, len(events) - 1}


@pytest.mark.parametrize("events", [[], [view("no such")], [MOBILE]])
def test_who_has_done_nothing_is_explained_by_context_at_most(load: Load, events: list[Event]) -> None:
    told = load("sasrec").predict(events, explain=True).explanation

    assert told is not None
    assert {i.context for i in told["income"].influences} <= {"device"}
    assert {i.event for i in told["income"].influences} <= {None}


def test_nothing_is_explained_unasked_or_without_segments(load: Load) -> None:
    assert load("sasrec").predict([view("apple")]).explanation is None
    assert load("popularity").predict([view("apple")], explain=True).explanation == {}


def test_together_is_as_one_by_one(load: Load) -> None:
    predictor = load("sasrec")
    histories = [[MOBILE, view("apple")], [view("eggs")], [view("bread"), MOBILE]]

    together = predictor.predict_many(histories, explain=True)

    assert together == [predictor.predict(events, explain=True) for events in histories]
    assert len({str(answer.explanation) for answer in together}) == 3
