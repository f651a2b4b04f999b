"""Each made-up shop once through train, evaluate and export: what the commands' tests look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import EvaluateConfig, ExportConfig, TrainConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.stages import evaluate, export
from shopkeeper.train.fit import train
from shopkeeper.train.tracking import TrackedRun

SMALL = (
    "model.embed_dim=8",
    "model.num_layers=1",
    "batches.max_len=10",
    "batches.tokens=512",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)

JUDGED = (
    "protocol.resamples=50",
    "classifiers.max_moments=800",
    "classifiers.rounds=20",
    "classifiers.leaves=[4]",
    "classifiers.inverse_penalties=[0.001,0.01]",
)


@dataclass(frozen=True)
class Flow:
    """A prepared shop, its runs by model, and where report and bundle lie."""

    prepared: Prepared
    runs: dict[str, TrackedRun]
    report: Path
    bundle: Path
    store: list[str]  # overrides that name the tracking store
    judged: list[str]  # overrides of `evaluate` that make it quick


@pytest.fixture(scope="session")
def flows(
    shops: dict[str, Prepared], compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Flow]:
    def flow(prepared: Prepared) -> Flow:
        folder = tmp_path_factory.mktemp("flow")
        store = [
            f"tracking.uri=sqlite:///{folder / 'mlruns.db'}",
            f"tracking.artifacts={folder / 'artifacts'}",
            f"tracking.runs_dir={folder / 'runs'}",
        ]
        where = [f"prepared={prepared.path}", *store]
        runs = {
            "popularity": train(compose("train", TrainConfig, *where, "model=popularity"), say=lambda text: None),
            "sasrec": train(compose("train", TrainConfig, *where, *SMALL), say=lambda text: None),
        }
        chosen = f"run={runs['sasrec'].run_id}"
        judged = [*where, chosen, f"output={folder / 'report'}", *JUDGED]
        evaluate.run(compose("evaluate", EvaluateConfig, *judged))
        export.run(compose("export", ExportConfig, *where, chosen, f"output={folder / 'bundle'}"))
        return Flow(prepared, runs, folder / "report", folder / "bundle", store, list(JUDGED))

    return {name: flow(prepared) for name, prepared in shops.items()}
