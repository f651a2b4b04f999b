"""Requests and answers: what goes over the wire, and what `Predictor` takes and gives."""

import datetime as dt
from typing import Annotated, Literal

from msgspec import Meta, Struct, field


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a visitor's history. `timestamp` is RFC 3339, or epoch milliseconds; ids are strings."""

    event: str
    timestamp: dt.datetime | int | None = None
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
