"""A bundle of every model family on both made-up shops."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.export.bundle import Origin, write_bundle
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData, SessionModel

SMALL: dict[str, dict[str, Any]] = {"sasrec": {"embed_dim": 8, "num_layers": 1}}
ORIGIN = Origin(run_id="run-1", refit_of=None, metrics={"val/primary": 0.25})


@pytest.fixture(scope="session")
def models(shops: dict[str, Prepared]) -> Callable[[str, str], SessionModel]:
    """`models(shop, family)`: fitted; where gradients would train it, with random weights that tell items apart."""
    made: dict[tuple[str, str], SessionModel] = {}

    def make(shop: str, family: str) -> SessionModel:
        prepared = shops[shop]
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

    def get(shop: str, family: str) -> SessionModel:
        if (shop, family) not in made:
            made[shop, family] = make(shop, family)
        return made[shop, family]

    return get


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


@pytest.fixture(params=["popularity", "repeat", "item_knn", "sasrec"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
