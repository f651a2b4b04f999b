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

IDS: Final = (ITEM, USER, SESSION, ORDER)
PROPERTIES: Final = (PRICE, QUANTITY, DISCOUNT)
DEFAULT_CONTEXT: Final = ("channel", "device", "country")
CATEGORY: Final = "category"
BRAND: Final = "brand"
TITLE: Final = "title"
ITEM_COLUMNS: Final = (TITLE, CATEGORY, BRAND, PRICE)

ROW: Final = "source_row"
"""Position of a row in its source, from 0: breaks ties between equal times, and makes order canonical."""

SESSION_START: Final = "session_start"
PURCHASE: Final = "purchase"

TASK_PURCHASE: Final = "purchase"
TASK_NEXT: Final = "next"
TASKS: Final = (TASK_PURCHASE, TASK_NEXT)

TRAIN: Final = 0
VAL: Final = 1
TEST: Final = 2
SPLITS: Final = ("train", "val", "test")

PAD: Final = 0
"""Code of padding, of an absent value and of an unknown one: an item, event or context value never seen in training."""

ENTRY_EVENT: Final = 1
"""Event code of `session_start`, the context token a history opens with: first in every event vocabulary."""
