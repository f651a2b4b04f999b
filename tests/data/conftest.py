"""Small made-up logs, written as files and run through the real preparation.

A log is text, one row a line: day of January 2026 and time, user, session, event, item, order, and any further columns
as name=value; "-" is null. The columns that no row mentions are absent.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from shopkeeper.config import configure, parse
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import (
    DataConfig,
    PersonasConfig,
    PrepareConfig,
    SegmentConfig,
    SparkConfig,
    SplitConfig,
)

EVENTS_YAML = Path(__file__).parents[2] / "configs" / "data" / "events.yaml"
PREPARE_YAML = EVENTS_YAML.parents[1] / "prepare.yaml"
COLUMNS = ("timestamp", "user_id", "session_id", "event", "item_id", "order_id")

# Cuts at the 11th and the 21st, 00:00, because the last event is on the 31st at 00:00.
# ann: known, shops in every split; bob: new in val; eve: new in test, and anonymous but for her session;
# the anonymous session w1 is new in val, w2 in train.
CLICKS = """
    02T10:00 ann a1 session_start -      -  channel=web
    02T10:01 ann a1 view_item     bread  -  channel=web
    02T10:02 ann a1 view_item     bread  -  channel=web
    02T10:03 ann a1 view_item     milk   -  channel=web
    02T10:05 ann a1 purchase      bread  o1 channel=web price=2.5 quantity=1
    02T10:05 ann a1 purchase      milk   o1 channel=web price=1.25 quantity=2
    03T09:00 -   w2 view_item     tea    -  channel=app
    03T09:01 -   w2 search        -      -  channel=app
    12T08:00 bob b1 session_start -      -  channel=app
    12T08:01 bob b1 view_item     jam    -  channel=app
    12T08:02 bob b1 view_item     milk   -  channel=app
    12T08:03 bob b1 purchase      milk   o2 channel=app price=1.25 quantity=1
    13T08:00 ann a2 view_item     tea    -  channel=web
    13T08:01 ann a2 purchase      tea    o3 channel=web price=4 quantity=1
    14T07:00 -   w1 view_item     bread  -  channel=web
    14T07:01 -   w1 view_item     tea    -  channel=web
    22T06:00 eve e1 view_item     honey  -  channel=tv
    22T06:01 -   e1 view_item     bread  -  channel=tv
    22T06:02 eve e1 purchase      bread  o4 channel=tv price=2.5 quantity=3
    23T06:00 ann a3 view_item     jam    -  channel=web
    31T00:00 bob b2 view_item     tea    -  channel=app
"""

# Order-only: receipts less than 60 minutes apart are one trip. Cuts as above.
TRIPS = """
    02T10:00 ann r1 purchase bread r1
    02T10:00 ann r1 purchase milk  r1
    02T10:59 ann r2 purchase jam   r2
    02T11:59 ann r3 purchase tea   r3
    05T09:00 cid r4 purchase milk  r4
    12T09:00 ann r5 purchase bread r5
    12T09:00 ann r5 purchase tea   r5
    13T09:00 bob r6 purchase milk  r6
    14T09:00 bob r7 purchase honey r7
    14T09:30 bob r8 purchase milk  r8
    15T09:00 bob r9 purchase bread r9
    22T09:00 eve ra purchase tea   ra
    22T09:00 eve ra purchase jam   ra
    24T09:00 eve rb purchase milk  rb
    31T00:00 ann rc purchase milk  rc
"""


def parse_log(text: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for line in text.strip().splitlines():
        words = line.split()
        row: dict[str, Any] = {
            name: None if word == "-" else word for name, word in zip(COLUMNS, words[:6], strict=True)
        }
        row |= dict(word.split("=") for word in words[6:])
        row["timestamp"] = pd.Timestamp(f"2026-01-{row['timestamp']}", tz="UTC")
        rows.append(row)
    frame = pd.DataFrame(rows)
    numbers = [c for c in ("price", "quantity", "discount") if c in frame]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def make_config(**changes: Any) -> DataConfig:
    """The configuration of an event log, cut at the 11th and the 21st, nobody held out; `split` takes a dict."""
    split: dict[str, Any] = {
        "val_days": 10.0,
        "test_days": 10.0,
        "val_share": None,
        "test_share": None,
        "holdout_share": 0.0,
        "holdout_when_new_below": 0.5,
        "holdout_key": "shopkeeper",
    }
    split |= changes.pop("split", {})
    return replace(
        parse(DataConfig, cast(DictConfig, OmegaConf.load(EVENTS_YAML))), **changes, split=SplitConfig(**split)
    )


def make_settings(data: DataConfig, output: Path, **changes: Any) -> PrepareConfig:
    """The configuration of the command, with this data and on one thread."""
    cfg = cast(DictConfig, OmegaConf.load(PREPARE_YAML))
    plain = {key: cfg[key] for key in ("engine", "spark", "memory_limit")}
    spark = parse(SparkConfig, plain.pop("spark"))
    return PrepareConfig(**{"data": data, "output": str(output), "threads": 1, "spark": spark, **plain, **changes})


@pytest.fixture(scope="session")
def prepare_settings() -> Callable[..., PrepareConfig]:
    return make_settings


@pytest.fixture(scope="session")
def log() -> Callable[[str], pd.DataFrame]:
    return parse_log


@pytest.fixture(scope="session")
def data_config() -> Callable[..., DataConfig]:
    return make_config


@pytest.fixture(scope="session")
def prepare_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """Prepare a log given as text, as a frame or as a path; frames given as `items` and `users` are written too."""

    def run(events: str | pd.DataFrame | Path, *, items: Any = None, users: Any = None, **changes: Any) -> Prepared:
        folder = tmp_path_factory.mktemp("shop")
        tables: dict[str, Any] = {"items": items, "users": users}
        tables["events"] = parse_log(events) if isinstance(events, str) else events
        for name, table in tables.items():
            if isinstance(table, pd.DataFrame):
                tables[name] = folder / f"{name}.parquet"
                table.to_parquet(tables[name], index=False)
        paths = {name: str(table) if table is not None else None for name, table in tables.items()}
        return prepare(make_settings(make_config(**paths, **changes), folder / "prepared"), say=lambda text: None)

    return run


@pytest.fixture(scope="session")
def prepare_as(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """`prepare_as("otto", "data.events=F", ...)`: prepare a log in a named format as the command would."""

    def run(name: str, *overrides: str) -> Prepared:
        output = tmp_path_factory.mktemp(name) / "prepared"
        few = ["threads=1", "data.split.val_share=0.25", "data.split.test_share=0.25"]
        config = configure("prepare", PrepareConfig, f"data={name}", f"output={output}", *few, *overrides)
        return prepare(config, say=lambda text: None)

    return run


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The place of a real file that lies beside the repository, or where SHOPKEEPER_SHARED_DATA says; else skips."""

    def find(name: str) -> Path:
        beside = Path(__file__).parents[3] / "shared" / "data"
        place = Path(os.environ.get("SHOPKEEPER_SHARED_DATA", beside)) / name
        if not place.exists():
            pytest.skip(f"{place} is not there: set SHOPKEEPER_SHARED_DATA to the folder that holds {name}")
        return place

    return find


@pytest.fixture(scope="session")
def clicks_log() -> str:
    return CLICKS


@pytest.fixture(scope="session")
def trips_log() -> str:
    return TRIPS


@pytest.fixture(scope="session")
def clicks(prepare_log: Callable[..., Prepared]) -> Prepared:
    return prepare_log(CLICKS)


@pytest.fixture(scope="session")
def trips(prepare_log: Callable[..., Prepared]) -> Prepared:
    return prepare_log(TRIPS)


@pytest.fixture(scope="session")
def longer(prepare_log: Callable[..., Prepared]) -> Prepared:
    """The shop with clicks, and more in its test split: known and new visitors, items, events and context."""
    later = parse_log("""
        21T00:00 bob b3 purchase  cocoa o8 channel=zeppelin
        21T00:00 -   w1 view_item apple -  channel=zeppelin
        21T00:00 ann a9 refund    bread -  channel=web
        21T00:00 zoe z1 purchase  milk  o9 channel=web
    """)
    return prepare_log(pd.concat([parse_log(CLICKS), later]))


GROCER = """
    02T10:00 ann r1 purchase bread o1 price=2 quantity=1 discount=0
    02T10:00 ann r1 purchase milk  o1 price=1 quantity=2 discount=1
    04T10:00 ann r2 purchase soap  o2 price=5 quantity=1 discount=0
    06T10:00 ann r3 purchase milk  o3 price=1 quantity=1 discount=0
    06T10:00 ann r3 purchase bread o3 price=4 quantity=1 discount=2
    08T10:00 bob r4 purchase soap  o4 price=5 quantity=2 discount=0
    09T10:00 bob r5 purchase bread o5 price=1 quantity=1 discount=0
    10T22:00 cid r6 purchase milk  o6 price=4 quantity=1 discount=4
    12T10:00 ann r7 purchase soap  o7 price=9 quantity=9 discount=0
    22T10:00 eve r8 purchase milk  o8 price=1 quantity=1 discount=0
    31T00:00 ann r9 purchase soap  o9 price=9 quantity=9 discount=0
"""
"""Order-only, so that a trip is a step. In train: ann's rows 0-4 in three trips, bob's rows 7 and 8, cid's row 9."""


@pytest.fixture(scope="session")
def shelves() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": ["bread", "milk", "soap"],
            "category": ["FOOD > BAKERY", "FOOD > DAIRY", "HOME > SOAP"],
            "brand": ["own", "own", "other"],
        }
    )


@pytest.fixture(scope="session")
def prepare_grocer(prepare_log: Callable[..., Prepared], shelves: pd.DataFrame) -> Callable[..., Prepared]:
    """`prepare_grocer(name={...}, ...)`: the grocer's log, with these segments."""

    def run(**segments: dict[str, Any]) -> Prepared:
        defined = {name: SegmentConfig(**values) for name, values in segments.items()}
        return prepare_log(GROCER, items=shelves, segments=defined)

    return run


@pytest.fixture(scope="session")
def grocer(prepare_grocer: Callable[..., Prepared]) -> Prepared:
    return prepare_grocer()


def two_kinds(customers: int = 60) -> pd.DataFrame:
    """Half the customers buy much food in the mornings on the web, the others a toy in the evenings in the app."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for customer in range(customers):
        food = customer % 2 == 0
        for day in np.sort(rng.choice(np.arange(30), 8, replace=False)):
            hour = int(rng.integers(7, 11)) + (0 if food else 11)
            trip = {
                "timestamp": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=int(day), hours=hour),
                "user_id": f"c{customer:03d}",
                "event": "purchase",
                "order_id": f"{customer} {day}",
                "channel": "web" if food else "app",
            }
            for _ in range(int(rng.integers(3, 6)) if food else 1):
                kind = "food" if food == (rng.random() < 0.9) else "toys"
                price = float(rng.integers(1, 9))
                rows.append(trip | {"item_id": f"{kind} {rng.integers(5)}", "price": price, "quantity": 1.0})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def kinds(prepare_log: Callable[..., Prepared]) -> Prepared:
    """The shop of the two kinds of customers, with a rule of every sort."""
    items = pd.DataFrame({"item_id": [f"{kind} {n}" for kind in ("food", "toys") for n in range(5)]})
    items["category"] = items["item_id"].str[:4].str.upper()
    items["brand"] = ["b1", "b2", "b3", "b1", "b2"] * 2
    least = {"orders": 2.0}
    segments = {
        "top": SegmentConfig(top="category", at_least=least),
        "often": SegmentConfig(measure="orders_per_month", quantiles=[0.5], names=["seldom", "often"], at_least=least),
        "dear": SegmentConfig(measure="relative_price", edges=[0.0], at_least=least),
        "cell": SegmentConfig(cross=["often", "dear"]),
        "recent": SegmentConfig(measure="days_since_order", edges=[4.0]),
        "loyal": SegmentConfig(measure="brand_loyalty", edges=[0.4]),
        "personas": SegmentConfig(personas=PersonasConfig(clusters=[2, 4], resamples=4, apart=0.9), at_least=least),
    }
    return prepare_log(two_kinds(), items=items, segments=segments)
