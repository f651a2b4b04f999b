from typing import Any

import msgspec
import pytest

from shopkeeper_serving.problems import Problem, field_of
from shopkeeper_serving.schemas import BatchRequest, PredictRequest


def refused(body: bytes, kind: Any = PredictRequest) -> Problem:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=kind)
    return Problem.of(caught.value)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Expected `int` >= 1 - at `$.k`", "k"),
        ("Invalid RFC3339 encoded datetime - at `$.events[0].timestamp`", "events[0].timestamp"),
        ("Object missing required field `events`", "events"),
        ("Object missing required field `event` - at `$.events[12]`", "events[12].event"),
        ("Object contains unknown field `foo` - at `$.events[0]`", "events[0].foo"),
        ("Expected `str | null`, got `int` - at `$.events[0].context[...]`", "events[0].context[...]"),
        ("Expected `object`, got `array`", None),
    ],
)
def test_the_field_is_read_off_the_message(message: str, field: str | None) -> None:
    assert field_of(message) == field


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b'{"events": [{"event": "a", "timestamp": true}]}', PredictRequest, "events[0].timestamp"),
        (b'{"events": [{"event": "a"}, {}]}', PredictRequest, "events[1].event"),
        (b'{"events": [], "exclude_seen": 1}', PredictRequest, "exclude_seen"),
        (b'{"requests": [{"events": [], "kk": 1}]}', BatchRequest, "requests[0].kk"),
    ],
)
def test_the_decoder_words_its_messages_as_read_here(body: bytes, kind: Any, field: str) -> None:
    problem = refused(body, kind)

    assert (problem.status, problem.field) == (422, field)


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense"])
def test_no_json_is_no_field_s_fault(body: bytes) -> None:
    problem = refused(body)

    assert (problem.status, problem.field) == (400, None)


def test_a_problem_becomes_problem_json() -> None:
    response = Problem(503, "too many", headers={"Retry-After": "1"}).to_response()

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert msgspec.json.decode(response.body) == {
        "type": "about:blank",
        "title": "too busy",
        "status": 503,
        "detail": "too many",
    }


def test_the_field_stands_in_the_document() -> None:
    assert msgspec.json.decode(Problem(422, "no", field="events[0].k").to_response().body)["field"] == "events[0].k"
