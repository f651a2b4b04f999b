import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shopkeeper.config import ClassifierConfig, EvaluateConfig, ProtocolConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate import judge_outcomes as module
from shopkeeper.evaluate.judge_outcomes import judge_outcomes
from shopkeeper.evaluate.outcomes import outcome_rows
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.contract import SessionModel

Rules = tuple[ProtocolConfig, ClassifierConfig]


@pytest.fixture(scope="module")
def rules(compose: Callable[..., Any]) -> Rules:
    config = compose("evaluate", EvaluateConfig, "prepared=x", "output=y", "protocol.resamples=20")
    small = replace(config.classifiers, max_moments=600, rounds=10, inverse_penalties=[0.01], leaves=[4])
    return config.protocol, small


@pytest.fixture(scope="module")
def metrics(shops: dict[str, Prepared], heads: Callable[..., SessionModel], rules: Rules) -> dict[str, Any]:
    prepared = shops["clicks"]
    return judge_outcomes(prepared, {"sasrec": heads(prepared, calibrated=True)}, *rules)


def test_every_outcome_is_judged_beside_every_baseline_on_the_same_moments(metrics: dict[str, Any]) -> None:
    assert set(metrics["outcomes"]) == {"intent", "phase", "segment:card"}
    for name in metrics["outcomes"]:
        for population, part in (("strangers", "all k"), ("known", "all")):
            rows = outcome_rows(metrics, name, population, part=part)
            assert [row["model"] for row in rows] == ["sasrec", "prior", "logistic", "boosting"]
            assert len({(row["examples"], row["visitors"]) for row in rows}) == 1


def test_what_nobody_knows_is_counted(metrics: dict[str, Any]) -> None:
    counts = metrics["outcomes"]["phase"]["counts"]["strangers"]

    # no phase follows the last event of a history
    assert counts["of unknown truth"] > 0
    every = metrics["outcomes"]["intent"]["counts"]["strangers"]["examples"]
    assert counts["examples"] + counts["of unknown truth"] == every


def test_depth_is_that_of_strangers(metrics: dict[str, Any]) -> None:
    shares = {row["slice"]: row["share"] for row in metrics["depth"]}

    assert shares["k=0"] == {"welcome": 1.0, "segment": 0.0, "one_to_one": 0.0}
    assert shares["k=1"]["one_to_one"] == 1.0


def test_it_is_json(metrics: dict[str, Any]) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_an_outcome_that_a_column_gives_away_is_judged_once_more_without_it(
    shops: dict[str, Prepared], heads: Callable[..., SessionModel], rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = shops["clicks"]
    monkeypatch.setattr(module, "telling_columns", lambda *given: {"intent": "channel"})
    found = judge_outcomes(prepared, {"sasrec": heads(prepared)}, *rules)

    assert set(found["outcomes"]) == {"intent", "phase", "segment:card", "intent without channel"}
    with_it, without = (
        outcome_rows(found, name, "strangers", part="k=0") for name in ("intent", "intent without channel")
    )
    losses = [[row["metrics"]["log_loss"]["mean"] for row in rows] for rows in (with_it, without)]
    assert losses[0][0] != losses[1][0]
    assert losses[0][1] == losses[1][1]  # the prior knows no context


def test_a_model_that_ranks_alone_has_no_outcomes(shops: dict[str, Prepared], rules: Rules, heads: Any) -> None:
    prepared = shops["clicks"]
    ranks = Popularity(vocabulary=heads(prepared).vocabulary, tasks=["purchase"], max_len=5, window_days=None)

    assert judge_outcomes(prepared, {"popularity": ranks}, *rules) == {"outcomes": {}, "depth": []}


def test_a_sample_is_told(
    shops: dict[str, Prepared], heads: Any, rules: Rules, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = shops["clicks"]
    protocol = replace(rules[0], max_examples=30)
    found = judge_outcomes(prepared, {"sasrec": heads(prepared)}, protocol, rules[1])

    counts = found["outcomes"]["intent"]["counts"]["strangers"]
    assert counts["examples"] == 30
    every = 30 + counts["not sampled"]
    assert f"outcomes, strangers: judged on a seeded sample of 30 of {every} moments" in capsys.readouterr().out
