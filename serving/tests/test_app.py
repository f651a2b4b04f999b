import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from shopkeeper_serving.app import Limits, make_app
from shopkeeper_serving.predictor import Predictor

APPLE = {"event": "page_view", "item_id": "apple", "timestamp": "2026-01-05T09:30:00Z"}
Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


def talk(app: Starlette, *asks: Ask) -> list[httpx.Response]:
    """The answers to several requests at once."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*(ask(client) for ask in asks))

    return asyncio.run(run())


def send(app: Starlette, method: str, path: str, **options: Any) -> httpx.Response:
    return talk(app, lambda client: client.request(method, path, **options))[0]


def post(app: Starlette, path: str, body: Any, **options: Any) -> httpx.Response:
    return send(app, "POST", path, json=body, **options)


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == "about:blank"
    return body


@pytest.fixture
def app(load: Callable[..., Predictor]) -> Starlette:
    return make_app(load())


# ---- answers ----


def test_predict_names_the_best_items_of_each_task(app: Starlette) -> None:
    response = post(app, "/v1/predict", {"events": [APPLE], "k": 2})

    assert response.status_code == 200
    answer = response.json()
    assert answer["model"] == {
        "name": "tiny-popularity",
        "version": "run1",
        "family": "popularity",
        "created": "2026-01-05T09:30:00+00:00",
    }
    assert [(i["item_id"], i["rank"]) for i in answer["items"]["purchase"]] == [("apple", 1), ("bread", 2)]
    assert [(i["item_id"], i["rank"]) for i in answer["items"]["next"]] == [("eggs", 1), ("dates", 2)]
    assert answer["items"]["purchase"][0]["score"] == pytest.approx(0.5)
    assert answer["steps"] == 1
    assert answer["cold_start"] == {
        "used": False,
        "reason": None,
        "known_items": 1,
        "unknown_items": 0,
        "unknown_context": 1,
    }


def test_outcomes_come_with_the_items(load: Callable[..., Predictor]) -> None:
    events = [APPLE, {**APPLE, "item_id": "bread"}]

    answer = post(make_app(load("sasrec")), "/v1/predict", {"events": events, "explain": True}).json()

    assert answer["segments"]["income"]["high"] == pytest.approx(16 / 17)
    assert answer["intent"] == pytest.approx(0.75)
    assert list(answer["phase"]) == ["discovery", "purchase"]
    assert (answer["depth"], answer["address_as"]) == ("segment", {"income": "high"})
    assert answer["sets"] == {"purchase": 4}
    assert answer["explanation"]["income"]["most_probable"] == "high"
    assert answer["explanation"]["income"]["influences"][0]["event"] == 1


def test_what_a_model_does_not_tell_is_null_or_empty(app: Starlette) -> None:
    answer = post(app, "/v1/predict", {"events": [APPLE]}).json()

    assert (answer["intent"], answer["phase"], answer["depth"], answer["explanation"]) == (None, None, None, None)
    assert (answer["segments"], answer["sets"], answer["address_as"]) == ({}, {}, {})


def test_strangers_and_unknown_names_are_answered(app: Starlette) -> None:
    events = [{"event": "no such", "item_id": "no such", "timestamp": 0, "context": {"no such": None, "device": "x"}}]

    empty, unknown = (post(app, "/v1/predict", {"events": e}) for e in ([], events))

    assert (empty.status_code, unknown.status_code) == (200, 200)
    assert empty.json()["cold_start"]["reason"] == "empty_history"
    assert unknown.json()["cold_start"]["reason"] == "unknown_history"
    assert empty.json()["items"] == unknown.json()["items"]


def test_only_the_tasks_asked_for_are_answered(app: Starlette) -> None:
    assert list(post(app, "/v1/predict", {"events": [], "tasks": ["next"]}).json()["items"]) == ["next"]


def test_batch_answers_in_order_and_as_one_by_one(load: Callable[..., Predictor]) -> None:
    app = make_app(load("repeat"))
    requests = [
        {"events": [APPLE], "k": 1},
        {"events": []},
        {"events": [APPLE], "tasks": ["next"]},
        {"events": [APPLE], "exclude_seen": True},
        {"events": [{**APPLE, "item_id": "eggs"}], "k": 1},
        {"events": [APPLE], "explain": True},
    ]

    response = post(app, "/v1/predict:batch", {"requests": requests})

    assert response.status_code == 200
    assert response.json()["predictions"] == [post(app, "/v1/predict", r).json() for r in requests]


def test_model_tells_what_answers(app: Starlette) -> None:
    answer = send(app, "GET", "/v1/model").json()

    assert answer["name"] == "tiny-popularity"
    assert answer["tasks"] == ["purchase", "next"]
    assert (answer["num_items"], answer["max_len"], answer["context"]) == (5, 4, ["device"])
    assert answer["outcomes"] == []


def test_model_tells_its_outcomes_and_their_classes(load: Callable[..., Predictor]) -> None:
    assert send(make_app(load("sasrec")), "GET", "/v1/model").json()["outcomes"] == [
        {"name": "intent", "classes": ["none", "purchase"]},
        {"name": "phase", "classes": ["discovery", "purchase"]},
        {"name": "segment:income", "classes": ["low", "high"]},
    ]


@pytest.mark.parametrize(("path", "text"), [("/healthz", "ok\n"), ("/readyz", "ready\n")])
def test_health(app: Starlette, path: str, text: str) -> None:
    response = send(app, "GET", path)

    assert (response.status_code, response.text) == (200, text)


# ---- what clients get wrong ----


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "events"),
        ({"events": [{}]}, "events[0].event"),
        ({"events": [{"event": "page_view"}, {"event": "page_view", "timestamp": "soon"}]}, "events[1].timestamp"),
        ({"events": [{"event": "page_view", "item_id": 7}]}, "events[0].item_id"),
        ({"events": [{"event": "page_view", "itemid": "apple"}]}, "events[0].itemid"),
        ({"events": [], "top": 3}, "top"),
        ({"events": [], "explain": "please"}, "explain"),
        ({"events": [], "k": 0}, "k"),
        ({"events": [], "k": 101}, "k"),
        ({"events": [], "tasks": ["purchase", "sell"]}, "tasks"),
    ],
)
def test_a_wrong_field_is_named(app: Starlette, body: Any, field: str) -> None:
    response = post(app, "/v1/predict", body)

    assert response.status_code == 422
    assert problem(response)["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"requests": []}, "requests"),
        ({"requests": [{"events": []}] * 65}, "requests"),
        ({"requests": [{"events": []}, {"events": [], "k": "many"}]}, "requests[1].k"),
        ({"requests": [{"events": []}, {"events": [], "tasks": ["sell"]}]}, "requests[1].tasks"),
    ],
)
def test_a_wrong_field_of_a_batch_is_named(app: Starlette, body: Any, field: str) -> None:
    response = post(app, "/v1/predict:batch", body)

    assert response.status_code == 422
    assert problem(response)["field"] == field


def test_the_longest_batch_is_answered(app: Starlette) -> None:
    answer = post(app, "/v1/predict:batch", {"requests": [{"events": []}] * 64}).json()

    assert len(answer["predictions"]) == 64


@pytest.mark.parametrize("body", [b"", b"{", b'{"events": NaN}', b'{"events": [{"event": "\xff"}]}', b"\x00"])
def test_what_is_no_json_is_malformed(app: Starlette, body: bytes) -> None:
    response = send(app, "POST", "/v1/predict", content=body)

    assert response.status_code == 400
    assert "field" not in problem(response)


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/predict", 64 * 1024, 400),
        ("/v1/predict", 64 * 1024 + 1, 413),
        ("/v1/predict:batch", 256 * 1024, 400),
        ("/v1/predict:batch", 256 * 1024 + 1, 413),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_bodies_have_a_limit(app: Starlette, path: str, size: int, status: int, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 1024):
            yield b" " * min(1024, size - start)

    response = send(app, "POST", path, content=b" " * size if announced else chunks())

    assert response.status_code == status
    problem(response)


def test_unknown_routes_and_wrong_methods_are_problems(app: Starlette) -> None:
    assert problem(send(app, "GET", "/v2/predict"))["title"] == "not found"
    wrong = send(app, "GET", "/v1/predict")
    assert problem(wrong)["title"] == "method not allowed"
    assert wrong.headers["allow"] == "POST"


def test_a_client_that_leaves_early_is_no_bug(app: Starlette) -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [], "query_string": b""}
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def keep(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, keep))

    assert sent[0]["status"] == 400


def test_who_sends_too_slowly_is_not_waited_for(load: Callable[..., Predictor]) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = send(make_app(load(), limits=Limits(seconds=0.01)), "POST", "/v1/predict", content=never())

    assert problem(response)["title"] == "request too slow"


def test_a_bug_is_counted_and_tells_nothing(load: Callable[..., Predictor]) -> None:
    predictor = load()
    predictor.scorer = None  # type: ignore[assignment]
    app = make_app(predictor)

    async def run() -> tuple[httpx.Response, str]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/predict", json={"events": []}), (await client.get("/metrics")).text

    response, metrics = asyncio.run(run())

    assert problem(response)["title"] == "internal error"
    assert "NoneType" not in response.text
    assert 'shopkeeper_request_seconds_count{route="/v1/predict",status="500"} 1.0' in metrics
    assert "shopkeeper_in_flight 0.0" in metrics


# ---- load, tokens ----


def test_too_many_requests_at_once_are_told_to_come_back(load: Callable[..., Predictor]) -> None:
    app = make_app(load(), limits=Limits(in_flight=2))

    async def run() -> list[int]:
        waiting, go = asyncio.Barrier(3), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:  # two requests stay open until the third is answered
            yield b'{"events":'
            await waiting.wait()
            await go.wait()
            yield b"[]}"

        async def late(client: httpx.AsyncClient) -> httpx.Response:
            await waiting.wait()
            response = await client.post("/v1/predict", json={"events": []})
            assert response.headers["retry-after"] == "1"
            assert problem(response)["title"] == "too busy"
            assert (await client.get("/healthz")).status_code == 200
            go.set()
            return response

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            slow_ones = [client.post("/v1/predict", content=slow()) for _ in range(2)]
            return [r.status_code for r in await asyncio.gather(*slow_ones, late(client))]

    assert asyncio.run(asyncio.wait_for(run(), timeout=20)) == [200, 200, 503]
    assert post(app, "/v1/predict", {"events": []}).status_code == 200


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Bearer secre", "secret", "Basic secret"])
def test_without_the_token_nothing_under_v1_answers(load: Callable[..., Predictor], given: str | None) -> None:
    app = make_app(load(), token="secret")
    headers = {} if given is None else {"Authorization": given}

    for method, path in [("POST", "/v1/predict"), ("POST", "/v1/predict:batch"), ("GET", "/v1/model")]:
        response = send(app, method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        problem(response)
    assert send(app, "GET", "/readyz").status_code == 200


@pytest.mark.parametrize("token", ["secret", "geheim-é"])
def test_the_token_opens(load: Callable[..., Predictor], token: str) -> None:
    app = make_app(load(), token=token)

    response = post(app, "/v1/predict", {"events": []}, headers={"Authorization": f"Bearer {token}".encode()})

    assert response.status_code == 200


# ---- whatever comes ----

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
EVENT = st.fixed_dictionaries(
    {"event": st.sampled_from(["session_start", "page_view", "purchase", "no such"]) | JSON},
    optional={
        "item_id": st.sampled_from(["apple", "eggs", "no such"]) | JSON,
        "timestamp": st.datetimes().map(lambda d: f"{d.isoformat()}Z") | st.integers(0, 10**15) | JSON,
        "context": st.fixed_dictionaries({}, optional={"device": st.sampled_from(["mobile", "x", None])}) | JSON,
        "price": JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {"events": st.lists(EVENT, max_size=8) | JSON},
    optional={"k": st.integers(-1, 102) | JSON, "exclude_seen": st.booleans() | JSON, "tasks": JSON, "explain": JSON},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=REQUEST.map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_every_body_is_answered_or_refused_as_a_problem(app: Starlette, body: bytes) -> None:
    response = send(app, "POST", "/v1/predict", content=body)

    assert response.status_code in (200, 400, 422)
    if response.status_code != 200:
        problem(response)
