"""Models of every family, fitted on the made-up shops, and batches of their strangers."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary, collate, example_pieces
from shopkeeper.data.examples import Examples, stranger_examples
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData, SessionModel

FAMILIES = ("popularity", "repeat", "item_knn", "vmis_knn", "sasrec", "gru4rec", "ligr")
MAX_LEN = 4
CONTENT = {"levels": 2, "tiers": 2, "title_tokens": 2, "buckets": 100, "id_dropout": 0.2, "cold_items": True}
SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"embed_dim": 8, "num_layers": 2},
    "gru4rec": {"embed_dim": 8, "num_layers": 1},
    "ligr": {"embed_dim": 8, "num_layers": 1, "tie": False, "scale": {"next": 4.0}, "content": CONTENT},
}


def model_config(family: str) -> dict[str, Any]:
    text = files("shopkeeper.configs").joinpath(f"model/{family}.yaml").read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    return values | SMALL.get(family, {})


def make_model(prepared: Prepared, family: str, *, seed: int = 0) -> SessionModel:
    """A model as training builds it; one that needs gradients gets random weights in place of them."""
    window = train_window(prepared)
    vocabulary = Vocabulary.of(prepared, refit=False)
    torch.manual_seed(seed)
    model = build_model(
        model_config(family),
        vocabulary=vocabulary,
        tasks=supported_tasks(prepared, window)[0],
        max_len=MAX_LEN,
        facts={"purchase_code": prepared.purchase_code},
    )
    model.fit(FitData(prepared, window, vocabulary))
    if model.trained_by_gradient:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
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
