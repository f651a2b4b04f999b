"""A bundle of every model family on both made-up shops."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.export.bundle import Origin, write_bundle
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData, SessionModel

CONTENT = {"levels": 2, "tiers": 2, "title_tokens": 2, "buckets": 100, "id_dropout": 0.2, "cold_items": True}
SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"embed_dim": 8, "num_layers": 1},
    "gru4rec": {"embed_dim": 8, "num_layers": 1},
    "ligr": {
        "embed_dim": 8,
        "num_layers": 1,
        "attention": "pointwise",
        "tie": False,
        "scale": {"next": 4.0},
        "content": CONTENT,
    },
}
ORIGIN = Origin(
    run_id="run-1", refit_of=None, metrics={"val/primary": 0.25, "train/loss_purchase": 9.5, "val_epoch/mean": 0.3}
)


def make_model(prepared: Prepared, family: str) -> SessionModel:
    """Fitted; where gradients would train it, with random weights that tell items apart."""
    window, vocabulary = train_window(prepared), Vocabulary.of(prepared, refit=False)
    values = yaml.safe_load(files("shopkeeper.configs").joinpath(f"model/{family}.yaml").read_text())
    torch.manual_seed(0)
    model = build_model(
        values | SMALL.get(family, {}),
        vocabulary=vocabulary,
        tasks=supported_tasks(prepared, window)[0],
        max_len=6,
        facts={"purchase_code": prepared.purchase_code},
    )
    model.fit(FitData(prepared, window, vocabulary))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def build() -> Callable[[Prepared, str], SessionModel]:
    return make_model


@pytest.fixture(scope="session")
def models(shops: dict[str, Prepared]) -> Callable[[str, str], SessionModel]:
    """`models(shop, family)`, each made once."""
    made: dict[tuple[str, str], SessionModel] = {}

    def get(shop: str, family: str) -> SessionModel:
        if (shop, family) not in made:
            made[shop, family] = make_model(shops[shop], family)
        return made[shop, family]

    return get


@pytest.fixture(scope="session")
def changed(logs: dict[str, Path], compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """`clicks` with items, an event and a channel that come up after the train cut, and rows without an item."""
    folder = tmp_path_factory.mktemp("changed")
    frame = pd.read_parquet(logs["clicks"])
    row = np.arange(len(frame))
    late = row >= 0.65 * len(frame)  # train ends at 0.6
    frame.loc[late & (row % 4 == 0), "item_id"] = "item new " + pd.Series(row % 3).astype(str)
    frame.loc[late & (row % 5 == 0), "event"] = "wish"
    frame.loc[late & (row % 3 == 0), "channel"] = "kiosk"
    frame.loc[row % 11 == 0, "item_id"] = None
    frame.loc[row % 13 == 0, "channel"] = None
    frame.to_parquet(folder / "log.parquet", index=False)
    overrides = [f"data.events={folder / 'log.parquet'}", f"output={folder / 'shop'}", "threads=1"]
    overrides += ["data.split.val_share=0.2", "data.split.test_share=0.2"]
    return prepare(compose("prepare", PrepareConfig, "data=events", *overrides), say=lambda text: None)


@pytest.fixture(scope="session")
def bundles(
    shops: dict[str, Prepared],
    models: Callable[[str, str], SessionModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Path]:
    """`bundles(shop, family)`: the folder, written once."""
    folder = tmp_path_factory.mktemp("bundles")

    def get(shop: str, family: str) -> Path:
        place = folder / f"{shop}-{family}"
        if not place.exists():
            write_bundle(models(shop, family), shops[shop], place, origin=ORIGIN, golden=32, seed=0)
        return place

    return get


@pytest.fixture(params=["clicks", "orders"])
def shop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["popularity", "repeat", "item_knn", "vmis_knn", "sasrec", "gru4rec", "ligr"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
