"""A bundle of every model family on both made-up shops, whose customers have segments here."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.config import TrainConfig, configure
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.export.bundle import write_bundle
from shopkeeper.export.card import Origin
from shopkeeper.models.blend import Blend
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData, SessionModel

CONTENT = {"levels": 2, "tiers": 2, "title_tokens": 2, "buckets": 100, "id_dropout": 0.2}
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
FAMILIES = (
    "popularity",
    "context_popularity",
    "session_popularity",
    "repeat",
    "markov",
    "sequential_rules",
    "item_knn",
    "ease",
    "vmis_knn",
    "vs_knn",
    "stan",
    "tifu_knn",
    "sasrec",
    "gru4rec",
    "ligr",
    "blend",
)
ORIGIN = Origin(
    run_id="run-1", refit_of=None, metrics={"val/primary": 0.25, "train/loss_purchase": 9.5, "val_epoch/mean": 0.3}
)


@cache
def model_config(family: str) -> dict[str, Any]:
    """The YAML of a family, made small, and that of the parts of a blend."""
    values = configure("train", TrainConfig, "prepared=none", f"model={family}").model | SMALL.get(family, {})
    parts = {name: part | SMALL.get(name, {}) for name, part in values.get("parts", {}).items()}
    return values | ({"parts": parts} if parts else {})


@pytest.fixture(scope="session")
def shops(
    logs: dict[str, Path], compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Prepared]:
    """Both shops, with an income known of most customers and a region of all."""
    folder = tmp_path_factory.mktemp("shops-with-users")
    number = np.arange(150)
    users = pd.DataFrame({"user_id": [f"user {n}" for n in number], "region": np.where(number % 2, "north", "south")})
    users["income"] = pd.Series(np.array(["low", "middle", "high"])[number % 3]).where(number % 5 > 0)
    users.to_parquet(folder / "users.parquet", index=False)

    def prepared(name: str) -> Prepared:
        overrides = [f"data.events={logs[name]}", f"data.users={folder / 'users.parquet'}", f"output={folder / name}"]
        overrides += ["threads=1", "data.split.val_share=0.25", "data.split.test_share=0.25"]
        return prepare(compose("prepare", PrepareConfig, "data=events", *overrides), say=lambda text: None)

    return {name: prepared(name) for name in logs}


def made_up_calibration(model: SessionModel) -> Calibration:
    """Of every number another one per bucket, and thresholds in the middle of what random weights answer."""
    rng, ks = np.random.default_rng(0), [0, 1, 2, 3, 5, 10]
    limits = {"segment:income": 0.6, "segment:region": None}
    return Calibration(
        ks=ks,
        scales={outcome.name: rng.uniform(0, 1.5, len(ks)).tolist() for outcome in model.outcomes},
        temperature={task: rng.uniform(0.3, 1.5, len(ks)).tolist() for task in model.tasks},
        sets={task: rng.uniform(0.8, 0.99, len(ks)).tolist() for task in model.tasks},
        depth=DepthThresholds({o.name: limits[o.name] for o in model.outcomes if o.name in limits}, one_to_one=0.999),
    )


def make_model(prepared: Prepared, family: str) -> SessionModel:
    """Fitted; where gradients would train it, with random weights that tell items apart.

    SASRec and the blend are calibrated, GRU4Rec is not, so that it answers in its own words.
    """
    window, vocabulary = train_window(prepared), Vocabulary.of(prepared, refit=False)
    torch.manual_seed(0)
    model = build_model(
        model_config(family),
        vocabulary=vocabulary,
        tasks=supported_tasks(prepared, window)[0],
        max_len=6,
        facts={"purchase_code": prepared.purchase_code},
        outcomes=supported_outcomes(prepared, window)[0],
    )
    model.fit(FitData(prepared, window, vocabulary))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    if isinstance(model, Blend):
        model.weights.uniform_(0.2, 1.0)
    if family in ("sasrec", "blend"):
        model.calibration = made_up_calibration(model)
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


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
