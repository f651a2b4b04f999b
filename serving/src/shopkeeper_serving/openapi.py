"""The service described in OpenAPI 3.1, from the same types that decode requests and encode answers."""

from typing import Any

import msgspec

from shopkeeper_serving import schemas as m
from shopkeeper_serving.problems import MEDIA_TYPE

TYPES = (m.PredictRequest, m.BatchRequest, m.Prediction, m.BatchPrediction, m.ModelDescription, m.ProblemDetails)
REF = "#/components/schemas/{name}"


def describe(version: str) -> dict[str, Any]:
    """The whole document; `version` is the bundle's."""
    _, components = msgspec.json.schema_components(TYPES, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shopkeeper",
            "version": version,
            "description": "What a visitor will buy next, from the first events on.",
        },
        "paths": {
            "/v1/predict": {"post": operation("Predict for one visitor", "Prediction", asks="PredictRequest")},
            "/v1/predict:batch": {"post": operation("Predict for many", "BatchPrediction", asks="BatchRequest")},
            "/v1/model": {"get": operation("The model that answers", "ModelDescription")},
            "/healthz": {"get": plain("The process answers")},
            "/readyz": {"get": plain("The bundle is loaded and answers as the trained model did")},
            "/metrics": {"get": plain("Prometheus metrics")},
            "/openapi.json": {"get": plain("This document", media_type="application/json")},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def operation(summary: str, answers: str, *, asks: str | None = None) -> dict[str, Any]:
    """An operation with JSON in and out; every failure is a problem document."""
    described: dict[str, Any] = {
        "summary": summary,
        "security": [{}, {"token": []}],
        "responses": {
            "200": {"description": "The answer", "content": content(answers)},
            "default": {"description": "A problem", "content": content("ProblemDetails", media_type=MEDIA_TYPE)},
        },
    }
    if asks:
        described["requestBody"] = {"required": True, "content": content(asks)}
    return described


def content(name: str, *, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": REF.format(name=name)}}}


def plain(summary: str, *, media_type: str = "text/plain") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "The answer", "content": {media_type: {}}}}}
