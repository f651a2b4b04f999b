"""What tests of judgements and audits share.

Judged ranks small enough to check by hand: 12 strangers at k = 0 and 1, one target each, three models. A shop of
eleven events, and ways to prepare and to tamper with it.
"""

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import Outcome, supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import supported_tasks
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.classified import Classified
from shopkeeper.evaluate.confidence import depth_rows, set_rows
from shopkeeper.evaluate.judgements import Sets
from shopkeeper.evaluate.likelihood import likelihood_rows
from shopkeeper.evaluate.outcomes import Told, tabulate_outcomes
from shopkeeper.evaluate.ranks import MISS
from shopkeeper.evaluate.tables import Judged, tabulate
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData, SessionModel

VISITORS = 12


def judged(model: str, ranks: list[int], *, baseline: bool, population: str = "strangers") -> Judged:
    """Ranks at k = 0 of all visitors, then at k = 1; every second visitor's target is a repeat."""
    count = len(ranks)
    visitor = np.arange(count) % VISITORS
    return Judged(
        model=model,
        task="purchase",
        population=population,
        visitor=visitor,
        k=np.arange(count) // VISITORS,
        offsets=np.arange(count + 1),
        ranks=np.array(ranks, np.int64),
        repeat=visitor % 2 == 0,
        cold=np.zeros(count, bool),
        missing=np.array(ranks) == MISS,
        baseline=baseline,
    )


@pytest.fixture
def judgements() -> list[Judged]:
    """At k = 1 `own` ranks every target first, `good` second, `poor` misses all; `poor` is the best at k = 0."""
    return [
        judged("own", [3] * VISITORS + [1] * VISITORS, baseline=False),
        judged("good", [3] * VISITORS + [2] * VISITORS, baseline=True),
        judged("poor", [1] * VISITORS + [MISS] * VISITORS, baseline=True),
    ]


TIER = Outcome("segment:tier", ("gold", "tin"))


def told_by(model: str, first: float, later: float, *, baseline: bool) -> Told:
    """What a model says of the truth at k = 0 and at k = 1; every second visitor is tin."""
    visitor = np.arange(2 * VISITORS) % VISITORS
    label = visitor % 2
    truth = np.where(np.arange(2 * VISITORS) < VISITORS, first, later)
    said = np.where(label[:, None] == np.arange(2), truth[:, None], 1 - truth[:, None])
    return Told(
        model=model,
        outcome=TIER,
        population="strangers",
        visitor=visitor,
        k=np.arange(2 * VISITORS) // VISITORS,
        label=label,
        log_probabilities=np.log(said),
        baseline=baseline,
        left_out={"of unknown truth": 7},
    )


@pytest.fixture
def told() -> list[Told]:
    """At k = 0 nobody knows more than the prior; at k = 1 `own` gives the truth 4/5, logistic regression 2/3."""
    return [
        told_by("own", 0.5, 0.8, baseline=False),
        told_by("prior", 0.5, 0.5, baseline=True),
        told_by("logistic", 0.5, 2 / 3, baseline=True),
    ]


@pytest.fixture
def metrics(judgements: list[Judged], told: list[Told]) -> dict[str, Any]:
    """The content of metrics.json: the ranks of `judgements`, a set and a log-loss of each, and what was told."""
    rules: dict[str, Any] = {"ks": [0, 1, 2], "resamples": 50, "seed": 0}
    visitor, k = judgements[0].visitor, judgements[0].k
    table = tabulate(judgements, **rules, cutoff=20, subject="own")
    losses = {"own": np.where(k == 0, 2.0, 1.0)}
    sets = Sets(np.where(k == 0, 9, 4), np.arange(len(k)) % 2 == 0)
    everyone = np.ones(len(k), bool)
    table["tasks"]["purchase"] |= {
        "likelihood": likelihood_rows(losses, visitor=visitor, k=k, population="strangers", **rules),
        "sets": set_rows(sets, visitor=visitor, k=k, known=everyone, segments={}, **rules),
    }
    said = Classified({TIER.name: told[0].log_probabilities}, k, {TIER.name: k == 1})
    depth = depth_rows(said, {TIER.name: told[0].label}, visitor=visitor, k=k, **rules)
    return table | {"outcomes": tabulate_outcomes(told, **rules, subject="own"), "depth": depth}


SHOP = """
    timestamp,user_id,session_id,event,item_id,order_id,channel
    2026-01-02T10:00,ann,a1,view_item,bread,,web
    2026-01-02T10:01,ann,a1,view_item,milk,,web
    2026-01-02T10:02,ann,a1,purchase,milk,o1,web
    2026-01-03T09:00,cid,c1,view_item,tea,,app
    2026-01-12T08:00,bob,b1,view_item,jam,,app
    2026-01-12T08:01,bob,b1,view_item,milk,,app
    2026-01-12T08:02,bob,b1,purchase,milk,o2,app
    2026-01-13T08:00,ann,a2,view_item,tea,,web
    2026-01-22T06:00,eve,e1,view_item,honey,,tv
    2026-01-22T06:01,eve,e1,purchase,bread,o3,tv
    2026-01-31T00:00,bob,b2,view_item,tea,,app
"""
"""Cut on the 11th and the 21st. Visitors by number: ann 0, bob 1, cid 2, eve 3; sessions: a1 0, a2 1, b1 2, b2 3, c1 4,
e1 5. Ann and cid are in train; bob is a stranger of validation, eve of test."""

CUTS = ("val_share=null", "test_share=null", "val_days=10", "test_days=10", "holdout_share=0")


@pytest.fixture(scope="session")
def prepare_csv(compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """`prepare_csv(text, *overrides)`: prepare a log written as CSV, cut ten and twenty days before its end."""

    def run(text: str, *overrides: str) -> Prepared:
        folder = tmp_path_factory.mktemp("shop")
        (folder / "log.csv").write_text("\n".join(line.strip() for line in text.strip().splitlines()))
        where = ["data=events", f"data.events={folder / 'log.csv'}", f"output={folder / 'prepared'}", "threads=1"]
        cuts = [f"data.split.{cut}" for cut in CUTS]
        return prepare(compose("prepare", PrepareConfig, *where, *cuts, *overrides), say=lambda text: None)

    return run


@pytest.fixture(scope="session")
def shop_csv() -> str:
    return SHOP


@pytest.fixture(scope="session")
def shop(prepare_csv: Callable[..., Prepared]) -> Prepared:
    return prepare_csv(SHOP)


@pytest.fixture
def tampered(shop: Prepared, tmp_path: Path) -> Callable[..., Prepared]:
    """`tampered("rows/time", at, value)`: the shop with one number of an array changed behind the manifest's back."""

    def change(array: str, at: int, value: Any) -> Prepared:
        folder = shutil.copytree(shop.path, tmp_path / "tampered")
        values = np.load(folder / f"{array}.npy")
        values[at] = value
        np.save(folder / f"{array}.npy", values)
        return Prepared.read(folder)

    return change


@pytest.fixture(scope="session")
def heads() -> Callable[..., SessionModel]:
    """`heads(prepared)`: a SASRec with every outcome and random weights; `calibrated=True`: one that is sure of all."""

    def build(prepared: Prepared, *, calibrated: bool = False) -> SessionModel:
        window, vocabulary = train_window(prepared), Vocabulary.of(prepared, refit=False)
        text = files("shopkeeper.configs").joinpath("model/sasrec.yaml").read_text()
        torch.manual_seed(0)
        model = build_model(
            yaml.safe_load(text) | {"embed_dim": 8, "num_layers": 1},
            vocabulary=vocabulary,
            tasks=supported_tasks(prepared, window)[0],
            max_len=10,
            facts={"purchase_code": prepared.purchase_code},
            outcomes=supported_outcomes(prepared, window)[0],
        )
        model.fit(FitData(prepared, window, vocabulary))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if calibrated:
            model.calibration = Calibration(
                ks=[0, 2],
                scales={outcome.name: [0.5, 1.0] for outcome in model.outcomes},
                temperature={task: [1.0, 2.0] for task in model.tasks},
                sets={task: [0.9, 0.8] for task in model.tasks},
                depth=DepthThresholds({}, 0.0),
            )
        return model.eval()

    return build
