"""Requests and answers: what goes over the wire, and what `Predictor` takes and gives."""

import datetime as dt
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from shopkeeper_serving.bundle import Bundle

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
    """One visitor: events oldest first, how many items to name per task, and whether to explain the segments."""

    events: list[Event]
    k: Annotated[int, Meta(ge=1, le=100)] = 20
    tasks: list[str] | None = None
    exclude_seen: bool = False
    explain: bool = False


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


class Influence(Struct, frozen=True):
    """What the probability of a segment's most probable class gains (or loses, below 0) by one event or one column.

    It is that probability, less what the same request gets without the event (its place in `events`, from 0), or with
    the column of `context` blank in all events: leave-one-out, computed by the model itself.
    """

    change: float
    event: int | None
    context: str | None


class Explanation(Struct, frozen=True):
    """The five strongest influences on a segment's most probable class, the strongest first.

    Tried are the latest 50 events besides `session_start`, and every column of context with a known value.
    """

    most_probable: str
    influences: list[Influence]


class Prediction(Struct, frozen=True):
    """The answer for one visitor: per task the ranked items, how many steps were seen, and how cold the start was.

    Where the model tells them: per segment the probability of each class; `intent`, the probability of a purchase in
    the rest of the session; `phase`, the probability of each phase for the next event; `sets`, how many of a task's
    best items hold the target with probability 90%; and `depth`, how personal the shop may get without guessing, with
    the segments, and the class of each, that the visitor may be addressed by.
    """

    model: ModelInfo
    items: dict[str, list[ScoredItem]]
    steps: int
    cold_start: ColdStart
    segments: dict[str, dict[str, float]] = field(default_factory=dict)
    intent: float | None = None
    phase: dict[str, float] | None = None
    sets: dict[str, int] = field(default_factory=dict)
    depth: Literal["welcome", "segment", "one_to_one"] | None = None
    address_as: dict[str, str] = field(default_factory=dict)
    explanation: dict[str, Explanation] | None = None


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    requests: Annotated[list[PredictRequest], Meta(min_length=1, max_length=64)]


class BatchPrediction(Struct, frozen=True):
    """Answers in the order of the requests."""

    predictions: list[Prediction]


class OutcomeDescription(Struct, frozen=True):
    """`intent`, `phase` or `segment:<name>`, and the classes of which one is true."""

    name: str
    classes: list[str]


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
    outcomes: list[OutcomeDescription]

    @classmethod
    def of(cls, bundle: Bundle) -> "ModelDescription":
        told = bundle.outcomes.outcomes if bundle.outcomes else []
        outcomes = [OutcomeDescription(name=outcome.name, classes=outcome.classes) for outcome in told]
        names = [name for name in cls.__struct_fields__ if name != "outcomes"]
        return cls(outcomes=outcomes, **{name: getattr(bundle.manifest, name) for name in names})


class ProblemDetails(Struct, frozen=True):
    """RFC 9457; `field` is the path of what was wrong, e.g. `events[0].timestamp`."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
