import json
from collections.abc import Callable, Iterator
from typing import Any

from starlette.routing import Route

from shopkeeper_serving.app import make_app
from shopkeeper_serving.openapi import describe
from shopkeeper_serving.predictor import Predictor


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def test_the_routes_described_are_those_served(load: Callable[..., Predictor]) -> None:
    served = {
        (route.path, method.lower())
        for route in make_app(load()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert {(path, method) for path, item in describe("1")["paths"].items() for method in item} == served


def test_every_reference_leads_somewhere() -> None:
    document = describe("1")

    assert {r.removeprefix("#/components/schemas/") for r in references(document)} <= set(
        document["components"]["schemas"]
    )


def test_schemas_are_those_of_the_types() -> None:
    schemas = describe("1")["components"]["schemas"]

    assert schemas["PredictRequest"]["required"] == ["events"]
    assert schemas["PredictRequest"]["additionalProperties"] is False
    assert (schemas["PredictRequest"]["properties"]["k"]["minimum"]) == 1
    assert (schemas["PredictRequest"]["properties"]["k"]["maximum"]) == 100
    assert schemas["BatchRequest"]["properties"]["requests"]["maxItems"] == 64
    assert "field" in schemas["ProblemDetails"]["properties"]
    assert schemas["PredictRequest"]["properties"]["explain"]["default"] is False
    assert {"segments", "intent", "phase", "depth", "explanation"} <= schemas["Prediction"]["properties"].keys()
    assert "leave-one-out" in schemas["Influence"]["description"]


def test_it_is_json_and_names_its_version() -> None:
    document = json.loads(json.dumps(describe("run1")))

    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "run1"
