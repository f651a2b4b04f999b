import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopkeeper.data.outcomes import Outcome
from shopkeeper.evaluate.outcomes import (
    Told,
    gap_text,
    outcome_rows,
    row_of,
    sentences,
    skill_text,
    tabulate_outcomes,
)

HALF, QUARTER = math.log(2), math.log(4)


def row(metrics: dict[str, Any], part: str, model: str, population: str = "strangers") -> dict[str, Any]:
    found = row_of(outcome_rows(metrics, "segment:tier", population, part=part), model)
    assert found is not None
    return found


def test_log_loss_skill_and_accuracy_of_each_k(metrics: dict[str, Any]) -> None:
    # of the truth `own` says 1/2 at k = 0 and 4/5 at k = 1; the prior 1/2 for gold and 1/2 for tin
    first, later = row(metrics, "k=0", "own"), row(metrics, "k=1", "own")

    assert first["metrics"]["log_loss"]["mean"] == pytest.approx(HALF)
    assert first["metrics"]["skill"]["mean"] == pytest.approx(0.0)
    assert later["metrics"]["log_loss"]["mean"] == pytest.approx(math.log(5 / 4))
    assert later["metrics"]["skill"]["mean"] == pytest.approx(1 - math.log(5 / 4) / HALF)
    assert later["metrics"]["accuracy"]["mean"] == 1.0
    assert later["metrics"]["auroc"]["mean"] == 1.0
    assert later["ece"] == pytest.approx(0.2)  # says 0.8 and 0.2 where 1 and 0 come true
    assert (later["examples"], later["visitors"]) == (12, 12)


def test_all_k_are_pooled_and_k_zero_is_among_them(metrics: dict[str, Any]) -> None:
    pooled = row(metrics, "all k", "own")

    assert pooled["examples"] == 24
    assert pooled["metrics"]["log_loss"]["mean"] == pytest.approx((HALF + math.log(5 / 4)) / 2)
    assert outcome_rows(metrics, "segment:tier", "strangers", part="k=2") == []


def test_the_subject_is_compared_with_every_baseline(metrics: dict[str, Any]) -> None:
    later = row(metrics, "k=1", "own")

    # logistic says 2/3 of the truth: own saves log(3/2) - log(5/4) = log(6/5)
    assert later["best_baseline"] == "logistic"
    assert later["differences"]["logistic"] == {
        "mean": pytest.approx(math.log(6 / 5)),
        "low": pytest.approx(math.log(6 / 5)),
        "high": pytest.approx(math.log(6 / 5)),
        "metric": "log_loss",
        "verdict": "better",
    }
    assert row(metrics, "k=1", "logistic")["differences"] == {}
    assert row(metrics, "k=1", "logistic")["best_baseline"] is None


def test_counts_say_what_was_judged_and_what_is_not_known(metrics: dict[str, Any]) -> None:
    assert metrics["outcomes"]["segment:tier"]["counts"]["strangers"] == {
        "examples": 24,
        "visitors": 12,
        "of unknown truth": 7,
        "truly gold": 12,
        "truly tin": 12,
    }


def test_reliability_has_a_curve_per_model(metrics: dict[str, Any]) -> None:
    curves = metrics["outcomes"]["segment:tier"]["reliability"]

    assert set(curves) == {"own", "prior", "logistic"}
    assert curves["own"] == [
        {"said": pytest.approx(0.2), "true": 0.0, "examples": 6},
        {"said": pytest.approx(0.5), "true": 0.5, "examples": 12},
        {"said": pytest.approx(0.8), "true": 1.0, "examples": 6},
    ]


def test_known_users_are_apart(told: list[Told]) -> None:
    known = [replace(t, population="known") for t in told]
    table = {
        "outcomes": tabulate_outcomes([*told, *known], ks=[0, 1], resamples=20, seed=0, subject="own"),
    }

    assert row(table, "all", "own", "known")["examples"] == 24
    assert outcome_rows(table, "segment:tier", "known", part="k=0") == []


def test_the_gap_to_the_optimum_is_a_difference_and_a_ratio(told: list[Told]) -> None:
    best = replace(told[0], model="optimum", log_probabilities=np.log(np.full((24, 2), 0.0) + 0.5))
    table = {
        "outcomes": tabulate_outcomes([*told, best], ks=[0, 1], resamples=20, seed=0, subject="own"),
        "protocol": {"ks": [0, 1]},
        "subject": "own",
    }

    gap = row(table, "k=1", "logistic")["gap"]
    assert gap["mean"] == pytest.approx(math.log(3 / 2) - HALF)
    assert gap["ratio"]["mean"] == pytest.approx(math.log(3 / 2) / HALF)
    assert "gap" not in row(table, "k=1", "optimum")
    assert gap_text(table)[0] == (
        "segment:tier: gap to the optimum's log-loss at k=0: "
        "own 0.0000 (1.000 times), prior 0.0000 (1.000 times), logistic 0.0000 (1.000 times)"
    )


def test_three_classes_have_no_auroc(told: list[Told]) -> None:
    three = [
        replace(t, outcome=Outcome("phase", ("a", "b", "c")), log_probabilities=np.log(np.full((24, 3), 1 / 3)))
        for t in told
    ]
    table = {"outcomes": tabulate_outcomes(three, ks=[0, 1], resamples=20, seed=0, subject="own")}

    (found,) = (r for r in outcome_rows(table, "phase", "strangers", part="all k") if r["model"] == "own")
    assert set(found["metrics"]) == {"log_loss", "skill", "accuracy"}


def test_the_text_has_a_line_per_outcome(metrics: dict[str, Any]) -> None:
    skill = 1 - math.log(5 / 4) / HALF
    lines = skill_text(metrics).splitlines()

    assert lines[0] == "outcome          k=0     k=1     k=2   all k [95% interval]"
    assert lines[1].startswith(f"segment:tier  0.0000  {skill:.4f}           {skill / 2:.4f} [")
    assert "better than logistic: +0.0912 [" in lines[1]  # log(6/5) / 2


def test_without_skill_the_page_says_so(told: list[Told]) -> None:
    alike = [replace(t, log_probabilities=told[1].log_probabilities) for t in told]
    metrics = {
        "outcomes": tabulate_outcomes(alike, ks=[0, 1], resamples=20, seed=0, subject="own"),
        "protocol": {"ks": [0, 1]},
        "subject": "own",
    }

    assert sentences(metrics, "segment:tier")[0].startswith(
        "own, all k, strangers: no skill over the prior: interval crosses zero, 0.0000 ["
    )


def test_the_table_is_json_without_nan(metrics: dict[str, Any]) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
