"""Prometheus metrics of one service; labels hold routes and reasons, never ids."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shopkeeper_serving.bundle import Manifest
from shopkeeper_serving.schemas import Prediction

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
STEPS = (0, 1, 2, 3, 5, 10, 20, 50, 100)


class Metrics:
    """Counters in a registry of their own, so that two services in one process do not collide."""

    def __init__(self, manifest: Manifest) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "shopkeeper_request_seconds",
            "Time from the head of the request, its body's reading included, to the whole answer.",
            ["route", "status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("shopkeeper_in_flight", "Requests being answered.", registry=self.registry)
        self.steps = Histogram(
            "shopkeeper_history_steps", "Steps of the histories asked about.", buckets=STEPS, registry=self.registry
        )
        self.cold = Counter("shopkeeper_cold_starts", "Cold starts by reason.", ["reason"], registry=self.registry)
        self.depth = Counter(
            "shopkeeper_answers", "Answers by how personal they may be.", ["depth"], registry=self.registry
        )
        self.unknown = Counter(
            "shopkeeper_unknown_items", "Items in requests that the bundle does not know.", registry=self.registry
        )
        bundle = Gauge(
            "shopkeeper_bundle_info", "The bundle served.", ["name", "version", "family"], registry=self.registry
        )
        bundle.labels(manifest.name, manifest.version, manifest.family).set(1)

    def observe(self, predictions: Sequence[Prediction]) -> None:
        """Count what kind of visitors were answered."""
        for prediction in predictions:
            self.steps.observe(prediction.steps)
            self.unknown.inc(prediction.cold_start.unknown_items)
            if prediction.cold_start.reason is not None:
                self.cold.labels(prediction.cold_start.reason).inc()
            if prediction.depth is not None:
                self.depth.labels(prediction.depth).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
