import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shopkeeper.config import EvaluateConfig, ProtocolConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.judge_tasks import judge_tasks
from shopkeeper.evaluate.tables import NEW, NEW_ALONE, rows_of
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.contract import FitData, SessionModel


@pytest.fixture(scope="module")
def protocol(compose: Callable[..., Any]) -> ProtocolConfig:
    asked = ["prepared=x", "output=y", "protocol.resamples=20", "protocol.max_examples=200"]
    found: ProtocolConfig = compose("evaluate", EvaluateConfig, *asked).protocol
    return found


@pytest.fixture(scope="module")
def metrics(shops: dict[str, Prepared], heads: Callable[..., SessionModel], protocol: ProtocolConfig) -> dict[str, Any]:
    prepared = shops["clicks"]
    subject = heads(prepared, calibrated=True)
    popularity = Popularity(vocabulary=subject.vocabulary, tasks=["purchase"], max_len=10, window_days=None)
    popularity.fit(FitData(prepared, train_window(prepared), subject.vocabulary))
    return judge_tasks(prepared, {"sasrec": subject, "popularity": popularity}, protocol, ["popularity"])


def test_every_model_that_has_the_task_is_judged(metrics: dict[str, Any]) -> None:
    models = {
        task: {r["model"] for r in rows_of(metrics, task, "strangers", part="k>=1")} for task in ("purchase", "next")
    }

    assert models == {"purchase": {"sasrec", "popularity"}, "next": {"sasrec"}}


def test_without_what_was_seen_new_targets_rank_higher(metrics: dict[str, Any]) -> None:
    for population in ("strangers", "known"):
        listed, alone = (rows_of(metrics, "purchase", population, part=part) for part in (NEW, NEW_ALONE))
        assert [row["examples"] for row in listed] == [row["examples"] for row in alone]
        for before, after in zip(listed, alone, strict=True):
            assert after["metrics"]["mrr@20"]["mean"] > before["metrics"]["mrr@20"]["mean"]


def test_only_scores_that_are_logits_have_a_likelihood(metrics: dict[str, Any]) -> None:
    rows = metrics["tasks"]["purchase"]["likelihood"]

    assert {row["model"] for row in rows} == {"sasrec"}
    assert {"k=0", "k=1", "k>=1", "all"} <= {row["slice"] for row in rows}
    assert all(0 < row["log_loss"]["mean"] < 10 * np.log(24) for row in rows)


def test_the_subject_s_sets_are_looked_at_for_strangers(metrics: dict[str, Any]) -> None:
    rows = {row["slice"]: row for row in metrics["tasks"]["purchase"]["sets"]}

    assert {"k=0", "k=1", "all k"} <= set(rows)
    assert all(0 <= row["coverage"]["mean"] <= 1 and 1 <= row["median size"] <= 24 for row in rows.values())


def test_it_is_json(metrics: dict[str, Any]) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
