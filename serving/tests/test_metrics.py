import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from shopkeeper_serving.app import make_app
from shopkeeper_serving.predictor import Predictor

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
APPLE = {"event": "page_view", "item_id": "apple"}
STRANGE = {"event": "page_view", "item_id": "secret-item"}


def scrape_after(app: Starlette, *asks: tuple[str, str, dict[str, Any]]) -> str:
    async def run() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for method, path, options in asks:
                await client.request(method, path, **options)
            return (await client.get("/metrics")).text

    return asyncio.run(run())


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


@pytest.fixture
def app(load: Callable[..., Predictor]) -> Starlette:
    return make_app(load())


def test_requests_are_counted_by_route_and_status(app: Starlette) -> None:
    good: dict[str, Any] = {"json": {"events": []}}
    bad: dict[str, Any] = {"json": {"events": [], "k": 0}}

    found = samples(
        scrape_after(app, ("POST", "/v1/predict", good), ("POST", "/v1/predict", good), ("POST", "/v1/predict", bad))
    )

    count = "shopkeeper_request_seconds_count"
    assert found[count, (("route", "/v1/predict"), ("status", "200"))] == 2
    assert found[count, (("route", "/v1/predict"), ("status", "422"))] == 1
    assert found["shopkeeper_in_flight", ()] == 0


def test_visitors_are_counted_by_what_is_known_of_them(app: Starlette) -> None:
    histories: list[list[dict[str, Any]]] = [
        [],
        [STRANGE, STRANGE],
        [{"event": "session_start", "context": {"device": "mobile"}}],
        [APPLE, APPLE, STRANGE],
    ]
    batch = {"json": {"requests": [{"events": events} for events in histories]}}

    found = samples(scrape_after(app, ("POST", "/v1/predict:batch", batch)))

    for reason in ("empty_history", "unknown_history", "context_only"):
        assert found["shopkeeper_cold_starts_total", (("reason", reason),)] == 1
    assert found["shopkeeper_unknown_items_total", ()] == 3
    assert found["shopkeeper_history_steps_count", ()] == 4
    assert found["shopkeeper_history_steps_sum", ()] == 0 + 2 + 0 + 3


def test_answers_are_counted_by_depth(load: Callable[..., Predictor]) -> None:
    events = [[], [APPLE], [APPLE, {**APPLE, "item_id": "bread"}]]
    batch = {"json": {"requests": [{"events": history} for history in events]}}

    found = samples(scrape_after(make_app(load("sasrec")), ("POST", "/v1/predict:batch", batch)))

    assert found["shopkeeper_answers_total", (("depth", "welcome"),)] == 2
    assert found["shopkeeper_answers_total", (("depth", "segment"),)] == 1
    without = samples(scrape_after(make_app(load()), ("POST", "/v1/predict:batch", batch)))
    assert not [name for name, _ in without if name == "shopkeeper_answers_total"]


def test_the_bundle_is_named(app: Starlette) -> None:
    labels = (("family", "popularity"), ("name", "tiny-popularity"), ("version", "run1"))

    assert samples(scrape_after(app))["shopkeeper_bundle_info", labels] == 1


def test_nothing_a_client_sends_becomes_a_label(app: Starlette) -> None:
    text = scrape_after(
        app,
        ("POST", "/v1/predict", {"json": {"events": [{**STRANGE, "session_id": "secret-session"}]}}),
        ("POST", "/v1/predict", {"json": {"events": []}, "headers": {"Host": "secret.example/secret"}}),
        ("POST", "/v1/predict?secret=1", {"json": {"events": []}}),
        ("GET", "/secret", {}),
    )

    assert "secret" not in text
    assert samples(text)["shopkeeper_request_seconds_count", (("route", "/v1/predict"), ("status", "200"))] == 3


def test_two_services_in_one_process_count_apart(load: Callable[..., Predictor]) -> None:
    first, second = make_app(load()), make_app(load("repeat"))

    scrape_after(first, ("POST", "/v1/predict", {"json": {"events": []}}))

    assert samples(scrape_after(second))["shopkeeper_history_steps_count", ()] == 0
