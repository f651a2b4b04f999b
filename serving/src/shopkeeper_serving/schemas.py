"""Requests and answers: what goes over the wire, and what `Predictor` takes and gives."""

import datetime as dt
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from shopkeeper_serving.bundle import Manifest

Milliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
"""Since 1970, until the year 9999."""


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a visitor's history. `timestamp` is RFC 3339, or epoch milliseconds; ids are strings."""

    event: str
    timestamp: dt.datetime | Milliseconds | None = None
    item_id: str | None = None
    session_id: str | None = None
    order_id: str | None = None
    user_id: str | None = None
    price: float | None = None
    quantity: float | None = None
    context: dict[str, str | None] = field(default_factory=dict)


class PredictRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One visitor: events oldest first, and how many items to name per task."""

    events: list[Event]
    k: Annotated[int, Meta(ge=1, le=100)] = 20
    tasks: list[str] | None = None
    exclude_seen: bool = False


class ScoredItem(Struct, frozen=True):
    item_id: str
    score: float
    rank: int


class ColdStart(Struct, frozen=True):
    """How little was known: `used` says that this was a cold start, `reason` which kind."""

    used: bool
    reason: Literal["empty_history", "unknown_history", "context_only"] | None
    known_items: int
    unknown_items: int
    unknown_context: int


class ModelInfo(Struct, frozen=True):
    name: str
    version: str
    family: str
    created: str


class Prediction(Struct, frozen=True):
    """The answer for one visitor: per task the ranked items, how many steps were seen, and how cold the start was."""

    model: ModelInfo
    items: dict[str, list[ScoredItem]]
    steps: int
    cold_start: ColdStart


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    requests: Annotated[list[PredictRequest], Meta(min_length=1, max_length=64)]


class BatchPrediction(Struct, frozen=True):
    """Answers in the order of the requests."""

    predictions: list[Prediction]


class ModelDescription(Struct, frozen=True):
    """What answers: the bundle's identity, what it predicts, and what it reads of a visitor."""

    name: str
    version: str
    family: str
    created: str
    tasks: list[str]
    context: list[str]
    num_items: int
    max_len: int
    run_id: str
    refit_of: str | None
    dataset_hash: str

    @classmethod
    def of(cls, manifest: Manifest) -> "ModelDescription":
        return cls(**{name: getattr(manifest, name) for name in cls.__struct_fields__})


class ProblemDetails(Struct, frozen=True):
    """RFC 9457; `field` is the path of what was wrong, e.g. `events[0].timestamp`."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
