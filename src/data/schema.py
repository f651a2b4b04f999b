"""The vocabulary: names of columns, events and files that more than one module speaks."""

from typing import Final

TIMESTAMP: Final = "timestamp"
EVENT: Final = "event"
ITEM: Final = "item_id"
USER: Final = "user_id"
SESSION: Final = "session_id"
ORDER: Final = "order_id"
PRICE: Final = "price"
QUANTITY: Final = "quantity"
DISCOUNT: Final = "discount"
COUPON: Final = "coupon"

IDS: Final = (ITEM, USER, SESSION, ORDER)
PROPERTIES: Final = (PRICE, QUANTITY, DISCOUNT, COUPON)
DEFAULT_CONTEXT: Final = ("channel", "device", "country")
CATEGORY: Final = "category"
BRAND: Final = "brand"
TITLE: Final = "title"
PATH: Final = " > "
"""Between the levels of a category, from coarse to fine."""
ITEM_TEXTS: Final = (TITLE, CATEGORY, BRAND)
ITEM_COLUMNS: Final = (*ITEM_TEXTS, PRICE)

ROW: Final = "source_row"
"""Position of a row in its source, from 0: breaks ties between equal times, and makes order canonical."""

RESERVED: Final = frozenset(
    [
        "visitor",
        "visitor_key",
        "session",
        "session_key",
        "session_time",
        "session_row",
        "order",
        "order_key",
        "order_time",
        "order_row",
        "item",
        "time",
        "event_code",
        "held_out",
        "first_session",
        "fitted",
        "known",
        "listed",
        "reason",
        "again",
        "owner",
        "has_id",
        "opens",
        "cut",
        "split",
        "n",
        "entry_rows",
        "train_events",
        "bad",
        "person",
        "phase",
        "events",
    ]
) | {ROW}
"""Names of columns that preparation adds; a context or segment column of the same name has to be renamed."""

ALIAS: Final = "alias"

PHASES: Final = ("discovery", "engagement", "purchase", "fulfilment", "re-engagement")
"""The journey; an event's phase is stored as the position in this tuple plus one."""

SESSION_START: Final = "session_start"
PURCHASE: Final = "purchase"

TASK_PURCHASE: Final = "purchase"
TASK_NEXT: Final = "next"
TASK_NEXT_ANY: Final = "next_any"
TASKS: Final = (TASK_PURCHASE, TASK_NEXT)
"""What is predicted unless something else is asked for; `next_any` stands in for `next` where repeats count."""

INTENT: Final = "intent"
PHASE: Final = "phase"
SEGMENT_PREFIX: Final = "segment:"
"""Names of outcomes: a purchase in the rest of the session, the phase of the next event, `segment:<name>`."""

DEPTHS: Final = ("welcome", "segment", "one_to_one")
"""How personal an answer may be, the least first."""
SHORTLIST: Final = 20
"""Best items among which a visitor served one to one should find the next choice."""


MASKED: Final = -1
"""Label of a moment of which the truth is not known."""

TOP_BY: Final = ("spend", "orders", "events")
MEASURES: Final = (
    "events",
    "sessions",
    "orders",
    "items",
    "spend",
    "days",
    "days_since_event",
    "days_since_order",
    "events_per_month",
    "orders_per_month",
    "spend_per_month",
    "order_value",
    "basket_size",
    "discount_share",
    "relative_price",
    "brand_loyalty",
)
"""What can be measured of a history; `data/measures.py` says how."""

TRAIN: Final = 0
VAL: Final = 1
TEST: Final = 2
SPLITS: Final = ("train", "val", "test")

STRANGERS: Final = "strangers"
KNOWN_USERS: Final = "known"
POPULATIONS: Final = (STRANGERS, KNOWN_USERS)
"""Who is judged: strangers, and apart from them users with a past in train."""

PAD: Final = 0
"""Code of padding, of an absent value and of an unknown one: an item, event or context value never seen in training."""

ENTRY_EVENT: Final = 1
"""Event code of `session_start`, the context token a history opens with: first in every event vocabulary."""
