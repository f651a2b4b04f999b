import json
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import shopkeeper
from shopkeeper.config import UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.bundle import write_bundle
from shopkeeper.export.card import Origin
from shopkeeper.models.contract import SessionModel
from shopkeeper.train.registry import as_pyfunc
from shopkeeper_serving.bundle import BundleError, model_files, read_manifest
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event

Models = Callable[[str, str], SessionModel]
Bundles = Callable[[str, str], Path]


def manifest_of(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "manifest.json").read_text())
    return content


def test_the_manifest_lists_every_file_with_size_and_hash(bundles: Bundles, shop: str, family: str) -> None:
    folder = bundles(shop, family)
    files = {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "manifest.json"}

    assert manifest_of(folder)["files"] == {
        name: {"size": len(content), "sha256": sha256(content).hexdigest()} for name, content in files.items()
    }
    assert {"golden.jsonl", "item_ids.json", "vocabulary.json", "MODEL_CARD.md"} <= files.keys()
    graphs = [name for name in files if name.endswith(".onnx")]
    wanted = {
        "sasrec": ["encoder.onnx"],
        "gru4rec": ["encoder.onnx"],
        "ligr": ["encoder.onnx"],
        "blend": ["sasrec.encoder.onnx"],
    }
    assert graphs == wanted.get(family, [])


def test_it_holds_data_alone(bundles: Bundles, shop: str, family: str) -> None:
    folder = bundles(shop, family)

    assert {f.suffix for f in folder.iterdir()} <= {".json", ".jsonl", ".npy", ".md", ".onnx"}
    for file in folder.iterdir():
        content = file.read_bytes()
        assert not content.startswith((b"PK", b"\x80"))  # no zip, no pickle under another name
        if file.suffix == ".npy":
            assert np.load(file, allow_pickle=False).dtype.kind in "fi"


def test_it_tells_nothing_of_the_machine_it_was_made_on(bundles: Bundles, shop: str, family: str) -> None:
    folder = bundles(shop, family)
    places = [folder.parent, Path.home(), Path(sys.prefix), Path(shopkeeper.__file__).parents[1]]

    for file in (f for f in folder.iterdir() if f.suffix != ".onnx"):
        content = file.read_bytes()
        assert [str(place) for place in places if f"{place}/".encode() in content] == []


def test_serving_knows_the_files_of_every_family(bundles: Bundles, shop: str, family: str) -> None:
    folder = bundles(shop, family)
    files = {f.name for f in folder.iterdir() if f.suffix in (".npy", ".onnx")}

    assert files == set(model_files(read_manifest(folder)))


def test_a_changed_byte_in_any_file_is_found_and_named(
    bundles: Bundles, shop: str, family: str, tmp_path: Path
) -> None:
    copy, rng = tmp_path / "copy", np.random.default_rng(0)
    shutil.copytree(bundles(shop, family), copy)
    for file in sorted(f for f in copy.iterdir() if f.name != "manifest.json"):
        whole = file.read_bytes()
        for place in (0, len(whole) - 1, *rng.integers(len(whole), size=3)):
            content = bytearray(whole)
            content[place] ^= 1 << rng.integers(8)
            file.write_bytes(content)
            with pytest.raises(BundleError, match=f"{re.escape(str(file))} does not have the hash"):
                Predictor.load(copy)
        file.write_bytes(whole)
    Predictor.load(copy)


def test_a_missing_or_shorter_file_is_named(bundles: Bundles, family: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundles("clicks", family), copy)
    for file in sorted(copy.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with pytest.raises(BundleError, match=re.escape(str(file))):
            Predictor.load(copy)
        file.unlink()
        with pytest.raises(BundleError, match=re.escape(str(file))):
            Predictor.load(copy)
        file.write_bytes(whole)


def test_the_card_says_what_it_is_and_what_it_is_not(bundles: Bundles, shop: str) -> None:
    card = (bundles(shop, "sasrec") / "MODEL_CARD.md").read_text()

    assert "| val/primary | 0.2500 |" in card
    assert "never uplift" in card
    assert "loss_purchase" not in card  # only what was measured on validation strangers, in the end
    assert "val_epoch" not in card


def test_it_replaces_a_bundle_but_no_other_folder(shops: dict[str, Prepared], models: Models, tmp_path: Path) -> None:
    model, prepared = models("orders", "popularity"), shops["orders"]
    for run in ("first", "second"):
        write_bundle(model, prepared, tmp_path / "b", origin=Origin(run, None, {}), golden=32, seed=0)
    assert manifest_of(tmp_path / "b")["run_id"] == "second"

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not a bundle"):
        write_bundle(model, prepared, tmp_path / "mine", origin=Origin("r", None, {}), golden=32, seed=0)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_bundle_that_answers_otherwise_is_not_written(
    shops: dict[str, Prepared], models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopkeeper_serving.counted.TableScorer.score", lambda self, inputs: self.prior[None] * 2)

    with pytest.raises((UserError, BundleError)):
        write_bundle(
            models("orders", "repeat"), shops["orders"], tmp_path / "b", origin=Origin("r", None, {}), golden=32, seed=0
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java on the path")
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")  # ends with a pyspark made for pandas 3
def test_a_bundle_answers_on_spark_as_it_does_alone(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = pytest.importorskip("pyspark.sql", reason='pyspark is not installed: pip install "shopkeeper[spark]"')
    pyfunc = pytest.importorskip("mlflow.pyfunc")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    folder = bundles("clicks", "sasrec")
    request = json.dumps({"events": [{"event": "view_item", "item_id": "item 3"}], "k": 3})
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        answer = pyfunc.spark_udf(spark, str(as_pyfunc(folder, tmp_path)), result_type="string", env_manager="local")
        (row,) = spark.createDataFrame([(request,)], ["request"]).select(answer("request").alias("answer")).collect()
    finally:
        spark.stop()

    alone = Predictor.load(folder).predict([Event(event="view_item", item_id="item 3")], k=3)
    told = {task: [item["item_id"] for item in items] for task, items in json.loads(row.answer)["items"].items()}
    assert told == {task: [item.item_id for item in items] for task, items in alone.items.items()}
