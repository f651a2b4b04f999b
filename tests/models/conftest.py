"""Models of every family, fitted on the made-up shops, and batches of their strangers."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.config import TrainConfig, configure
from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary, collate, example_pieces
from shopkeeper.data.examples import Examples, stranger_examples
from shopkeeper.data.outcomes import supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.models.blend import Blend
from shopkeeper.models.checkpoint import build_model, model_class
from shopkeeper.models.contract import FitData, SessionModel

MAX_LEN = 4
CONTENT = {"levels": 2, "tiers": 2, "title_tokens": 2, "buckets": 100, "id_dropout": 0.2}
SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"embed_dim": 8, "num_layers": 2},
    "gru4rec": {"embed_dim": 8, "num_layers": 1},
    "ligr": {"embed_dim": 8, "num_layers": 1, "tie": False, "scale": {"next": 4.0}, "content": CONTENT},
}


@cache
def model_config(family: str) -> dict[str, Any]:
    """The YAML of a family, made small, and that of the parts of a blend."""
    values = configure("train", TrainConfig, "prepared=none", f"model={family}").model | SMALL.get(family, {})
    parts = {name: part | SMALL.get(name, {}) for name, part in values.get("parts", {}).items()}
    return values | ({"parts": parts} if parts else {})


def make_model(prepared: Prepared, family: str, *, seed: int = 0) -> SessionModel:
    """A model as training builds it; one that needs gradients gets random weights in place of them."""
    window = train_window(prepared)
    vocabulary = Vocabulary.of(prepared, refit=False)
    torch.manual_seed(seed)
    trained = model_class(model_config(family)).trained_by_gradient
    model = build_model(
        model_config(family),
        vocabulary=vocabulary,
        tasks=supported_tasks(prepared, window)[0],
        max_len=MAX_LEN,
        facts={"purchase_code": prepared.purchase_code},
        outcomes=supported_outcomes(prepared, window)[0] if trained else (),
    )
    model.fit(FitData(prepared, window, vocabulary))
    if model.trained_by_gradient:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    if isinstance(model, Blend):
        model.weights.uniform_(0.2, 1.0)
    return model.eval()


@pytest.fixture(scope="session")
def build() -> Callable[..., SessionModel]:
    return make_model


@pytest.fixture(scope="session")
def examples(shops: dict[str, Prepared]) -> dict[str, Examples]:
    """Test strangers of each shop after 0 to 6 steps."""
    return {name: stranger_examples(shop, s.TEST, list(range(7))) for name, shop in shops.items()}


@pytest.fixture(scope="session")
def batch_of(shops: dict[str, Prepared]) -> Callable[..., Batch]:
    """`batch_of(shop, examples)`: the batch that judging builds of them."""

    def build(shop: str, examples: Examples, *, max_len: int = MAX_LEN) -> Batch:
        prepared = shops[shop]
        return collate(prepared, example_pieces(examples, max_len), Vocabulary.of(prepared, refit=False))

    return build


@pytest.fixture
def prepare_frame(compose: Callable[..., Any], tmp_path: Path) -> Callable[..., Prepared]:
    """`prepare_frame(events, items)`: a log given as frames, prepared; its last quarters are validation and test."""

    def run(events: pd.DataFrame, items: pd.DataFrame | None = None) -> Prepared:
        events.to_parquet(tmp_path / "events.parquet", index=False)
        overrides = [f"data.events={tmp_path / 'events.parquet'}", f"output={tmp_path / 'prepared'}", "threads=1"]
        if items is not None:
            items.to_parquet(tmp_path / "items.parquet", index=False)
            overrides.append(f"data.items={tmp_path / 'items.parquet'}")
        shares = ["data.split.val_share=0.25", "data.split.test_share=0.25"]
        return prepare(compose("prepare", PrepareConfig, "data=events", *overrides, *shares), say=lambda text: None)

    return run


@pytest.fixture(scope="session")
def config() -> Callable[[str], dict[str, Any]]:
    """The YAML of a family, made small."""
    return model_config


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- shops small enough to work numbers out by hand ----

# Train is January; the rows of March to May only make the other splits.
TRIPS = {
    "2026-01-01": ["bread", "milk"],
    "2026-01-05": ["bread", "milk"],
    "2026-01-20": ["bread", "tea"],
    "2026-01-29": ["tea"],
    "2026-01-30": ["jam", "tea"],
    "2026-03-30": ["jam"],
    "2026-05-30": ["jam"],
}


Row = tuple[str, str, str]
"""Day, event and item."""


@pytest.fixture(scope="session")
def learn(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> Callable[..., FitData]:
    """`learn(rows, **columns)`: what a model may learn of; a visitor for each day, unless `user_id` says otherwise."""

    def make(rows: list[Row], **columns: list[str]) -> FitData:
        folder = tmp_path_factory.mktemp("log")
        frame = pd.DataFrame(rows, columns=["timestamp", "event", "item_id"])
        frame["user_id"] = "u" + frame["timestamp"]
        clicks = (frame["event"] != "purchase").any()
        seconds = pd.to_timedelta(range(len(rows)), unit="s") if clicks else pd.Timedelta(0)
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True) + seconds
        frame.assign(**columns).to_parquet(folder / "log.parquet")
        split = ["val_share=null", "test_share=null", "val_days=60", "test_days=30", "holdout_share=0"]
        overrides = [f"data.events={folder / 'log.parquet'}", f"output={folder / 'shop'}", "threads=1"]
        overrides += [f"data.split.{s}" for s in split]
        shop = prepare(compose("prepare", PrepareConfig, "data=events", *overrides), say=lambda text: None)
        assert shop.item_ids() == ["bread", "jam", "milk", "tea"]
        return FitData(shop, train_window(shop), Vocabulary.of(shop, refit=False))

    return make


@pytest.fixture(scope="session")
def data(learn: Callable[..., FitData]) -> FitData:
    """Five trips of five visitors."""
    return learn([(day, "purchase", item) for day, items in TRIPS.items() for item in items])


@pytest.fixture(scope="session")
def looks(learn: Callable[..., FitData]) -> FitData:
    """Three sessions of views and purchases."""
    sessions = {
        "2026-01-01": [("view_item", "bread"), ("view_item", "bread"), ("purchase", "milk")],
        "2026-01-02": [("view_item", "bread"), ("view_item", "tea"), ("purchase", "tea")],
        "2026-01-03": [("view_item", "bread"), ("view_item", "jam")],
        "2026-03-30": [("view_item", "jam")],
        "2026-05-30": [("view_item", "jam")],
    }
    return learn([(day, event, item) for day, steps in sessions.items() for event, item in steps])


def history_of(*steps: list[int]) -> Batch:
    """One visitor's trips as a batch."""
    items = [item for step in steps for item in step]
    cells = [t for t, step in enumerate(steps, start=1) for _ in step]
    seen = sorted(set(items)) or [0]
    width = len(steps) + 1
    return Batch(
        event=torch.tensor([[1] + [2] * len(steps)]),
        context=torch.zeros((1, width, 0), dtype=torch.int64),
        time=torch.arange(width)[None] * 86400,
        length=torch.tensor([width]),
        bag_item=torch.tensor(items, dtype=torch.int64),
        bag_cell=torch.tensor(cells, dtype=torch.int64),
        bag_slot=torch.tensor([seen.index(item) for item in items], dtype=torch.int64),
        seen=torch.tensor([seen]),
        last_item=torch.tensor(items[-1:] or [0]),
        targets=(),
    )


@pytest.fixture(scope="session")
def history() -> Callable[..., Batch]:
    """`history([1, 2], [3])`: the batch of a visitor with these items in its steps."""
    return history_of


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Any]:
    """`fitted(family, data, *tasks, **values)`: the family's model with these values of its YAML."""

    def make(family: str, data: FitData, *tasks: str, **values: Any) -> SessionModel:
        model = build_model(
            model_config(family) | values,
            vocabulary=data.vocabulary,
            tasks=list(tasks) or ["purchase"],
            max_len=12,
            facts={},
        )
        model.fit(data)
        return model

    return make
