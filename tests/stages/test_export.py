import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import ExportConfig, TrainConfig
from shopkeeper.stages import export
from shopkeeper.train.fit import train
from shopkeeper_serving.bundle import read_bundle
from shopkeeper_serving.predictor import Predictor

Flows = dict[str, Any]
Compose = Callable[..., Any]


@pytest.mark.parametrize("shop", ["clicks", "orders"])
def test_the_bundle_is_of_the_run_and_answers(flows: Flows, shop: str) -> None:
    flow = flows[shop]
    predictor = Predictor.load(flow.bundle)

    assert predictor.manifest.run_id == flow.runs["sasrec"].run_id
    assert predictor.manifest.dataset_hash == flow.prepared.content_hash
    assert len(predictor.predict([]).items["purchase"]) == 20


def test_the_best_run_is_shipped_as_its_refit_where_there_is_one(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = flows["clicks"]
    where = [f"prepared={flow.prepared.path}", *flow.store]
    chosen = f"run={flow.runs['popularity'].run_id}"
    refit = train(
        compose("train", TrainConfig, *where, f"refit={flow.runs['popularity'].run_id}"), say=lambda text: None
    )

    for name, overrides in {"refit": [], "evaluated": ["refit=false"]}.items():
        export.run(compose("export", ExportConfig, *where, chosen, f"output={tmp_path / name}", *overrides))
    shipped, evaluated = (read_bundle(tmp_path / name).manifest for name in ("refit", "evaluated"))

    assert (shipped.run_id, shipped.refit_of) == (refit.run_id, flow.runs["popularity"].run_id)
    assert (evaluated.run_id, evaluated.refit_of) == (flow.runs["popularity"].run_id, None)
    assert shipped.num_items == flow.prepared.num_items(refit=True)
    assert capsys.readouterr().out.splitlines()[-1] == f"bundle: {tmp_path / 'evaluated'}"


def test_a_registered_bundle_is_champion_until_a_better_one_comes(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow
    import pandas as pd

    flow = flows["orders"]
    run = flow.runs["popularity"]
    asked = [f"prepared={flow.prepared.path}", *flow.store, f"run={run.run_id}", f"output={tmp_path / 'bundle'}"]
    for _ in range(2):
        export.run(compose("export", ExportConfig, *asked, "register=shop", "protocol.resamples=10", "refit=false"))

    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("registered", "champion"))]
    assert said == [
        "registered: version 1 of shop",
        "champion: version 1 of shop: there was none",
        "registered: version 2 of shop",
        "champion: version 1 stays: version 1 is of the same run; champion=force moves it",
    ]
    version = run.store.client.get_model_version_by_alias("shop", "champion")
    assert version.tags["shopkeeper.judged_run"] == run.run_id
    assert version.tags["shopkeeper.dataset_hash"] == flow.prepared.content_hash
    assert "[" in version.tags["test/purchase/ndcg_at_20"]
    model = mlflow.pyfunc.load_model(run.store.client.get_model_version_download_uri("shop", "1"))
    (answer,) = model.predict(pd.DataFrame({"request": ['{"events": [], "k": 3}']}))
    assert len(json.loads(answer)["items"]["purchase"]) == 3
