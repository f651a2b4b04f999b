import json
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.config import TrackingConfig, UserError
from shopkeeper.train.registry import JUDGED_RUN, Registry, Version, as_pyfunc
from shopkeeper.train.tracking import DATASET_HASH, Store, TrackedRun


@pytest.fixture
def store(tracking: TrackingConfig) -> Store:
    return Store(tracking)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Stands for a bundle: the registry takes any folder with a manifest."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    np.save(folder / "prior.npy", np.zeros(3))
    return folder


def run_of(store: Store) -> TrackedRun:
    run = store.start(name="r", tags={})
    run.finish()
    return run


def test_a_version_keeps_the_bundle_its_run_and_its_lineage(store: Store, bundle: Path, tmp_path: Path) -> None:
    registry, run = Registry(store, "shop"), run_of(store)

    number = registry.register(bundle, run, tags={JUDGED_RUN: "j", "test/next/ndcg_at_20": "0.1 [0.0, 0.2]"})

    found = store.client.get_model_version("shop", number)
    assert (number, found.run_id) == ("1", run.run_id)
    assert found.tags["test/next/ndcg_at_20"] == "0.1 [0.0, 0.2]"
    kept = [file.path for file in store.client.list_artifacts(run.run_id, "bundles")]
    (data,) = [f.path for f in store.client.list_artifacts(run.run_id, kept[0]) if f.path.endswith("data")]
    assert [f.path.split("/")[-1] for f in store.client.list_artifacts(run.run_id, data)] == ["bundle"]


def test_versions_count_up_and_the_alias_goes_where_it_is_sent(store: Store, bundle: Path) -> None:
    registry = Registry(store, "shop")
    assert registry.champion() is None
    first, second = (
        registry.register(bundle, run_of(store), tags={JUDGED_RUN: run, DATASET_HASH: "d1"}) for run in ("j1", "j2")
    )
    assert registry.champion() is None

    registry.crown(second)

    assert (first, second) == ("1", "2")
    assert registry.champion() == Version("2", "j2", "d1")
    registry.crown(first)
    assert registry.champion() == Version("1", "j1", "d1")


def test_a_name_the_registry_refuses_is_one_line(store: Store, bundle: Path) -> None:
    with pytest.raises(UserError, match=r"^register=a/b: [^\n]+$"):
        Registry(store, "a/b").register(bundle, run_of(store), tags={})


def test_nothing_is_pickled_and_the_loader_is_named(bundle: Path, tmp_path: Path) -> None:
    folder = as_pyfunc(bundle, tmp_path / "model")

    described = (folder / "MLmodel").read_text()
    assert "loader_module: shopkeeper_serving.pyfunc" in described
    assert json.loads((folder / "data" / "bundle" / "manifest.json").read_text()) == {}
    assert "shopkeeper-serving==" in (folder / "requirements.txt").read_text()
    assert [file.name for file in folder.rglob("*.pkl")] == []
    assert "cloudpickle" not in (folder / "requirements.txt").read_text()
