import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopkeeper.evaluate.tables import Judged, rows_of, tabulate, warm_up_text


def row(metrics: dict[str, Any], part: str, model: str, population: str = "strangers") -> dict[str, Any]:
    (found,) = [r for r in rows_of(metrics, "purchase", population, part=part) if r["model"] == model]
    return found


def test_each_k_is_a_slice_and_zero_is_outside_the_pool(metrics: dict[str, Any]) -> None:
    assert row(metrics, "k=0", "own")["metrics"]["ndcg@20"]["mean"] == pytest.approx(0.5)  # 1 / log2(1 + 3)
    assert row(metrics, "k=1", "own")["metrics"]["ndcg@20"]["mean"] == 1.0
    assert row(metrics, "k>=1", "own")["metrics"]["ndcg@20"]["mean"] == 1.0
    assert row(metrics, "k>=1", "own")["examples"] == row(metrics, "k>=1", "own")["visitors"] == 12
    assert rows_of(metrics, "purchase", "strangers", part="k=2") == []  # nobody goes that far


def test_differences_are_paired_and_name_the_best_baseline(metrics: dict[str, Any]) -> None:
    pooled = row(metrics, "k>=1", "own")

    assert pooled["best_baseline"] == "good"
    expected = 1 - 1 / math.log2(3)
    assert pooled["differences"]["good"] == {
        "mean": pytest.approx(expected),
        "low": pytest.approx(expected),
        "high": pytest.approx(expected),
        "metric": "ndcg@20",
        "verdict": "better",
    }
    assert pooled["differences"]["poor"]["mean"] == 1.0


def test_the_best_baseline_may_differ_by_slice_and_may_win(metrics: dict[str, Any]) -> None:
    first = row(metrics, "k=0", "own")

    assert first["best_baseline"] == "poor"
    assert first["differences"]["poor"]["verdict"] == "worse"
    assert first["differences"]["good"]["verdict"] == "no difference"  # equal everywhere: [0, 0] touches zero


def test_baselines_are_compared_only_when_they_are_the_subject(judgements: list[Judged]) -> None:
    table = tabulate(judgements, ks=[0, 1], cutoff=20, resamples=20, seed=0, subject="poor")

    assert set(row(table, "k>=1", "poor")["differences"]) == {"good"}
    assert row(table, "k>=1", "good")["differences"] == {}
    assert set(row(table, "k>=1", "own")["differences"]) == {"good", "poor"}


def test_kinds_of_targets_take_only_these_targets() -> None:
    # one example, targets at ranks 1 (repeat) and 5 (new): on repeat targets ndcg is 1, on new ones 1 / log2(6)
    one = Judged(
        model="own",
        task="purchase",
        population="strangers",
        visitor=np.array([0]),
        k=np.array([1]),
        offsets=np.array([0, 2]),
        ranks=np.array([1, 5]),
        repeat=np.array([True, False]),
        cold=np.array([False, True]),
        missing=np.array([False, False]),
        baseline=False,
    )
    table = tabulate([one], ks=[1], cutoff=20, resamples=10, seed=0, subject="own")

    assert row(table, "repeat targets", "own")["metrics"]["ndcg@20"]["mean"] == 1.0
    assert row(table, "new targets", "own")["metrics"]["ndcg@20"]["mean"] == pytest.approx(1 / math.log2(6))
    assert row(table, "cold targets", "own")["metrics"]["mrr@20"]["mean"] == 0.2


def test_a_slice_without_targets_has_no_row(metrics: dict[str, Any]) -> None:
    assert rows_of(metrics, "purchase", "strangers", part="cold targets") == []


def test_known_users_are_apart(judgements: list[Judged]) -> None:
    known = [replace(j, population="known") for j in judgements]
    table = tabulate([*judgements, *known], ks=[0, 1], cutoff=20, resamples=10, seed=0, subject="own")

    assert row(table, "all", "own", "known")["examples"] == 24
    assert rows_of(table, "purchase", "known", part="k=0") == []
    assert table["tasks"]["purchase"]["counts"]["known"]["targets"] == 24


def test_counts_say_what_was_judged(metrics: dict[str, Any]) -> None:
    assert metrics["tasks"]["purchase"]["counts"]["strangers"] == {
        "examples": 24,
        "visitors": 12,
        "targets": 24,
        "repeat targets": 12,
        "targets never seen in training": 0,
        "targets outside the catalogue": 0,
    }


def test_the_table_is_json_without_nan(metrics: dict[str, Any]) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_warm_up_text_has_a_line_per_model_and_the_verdicts(metrics: dict[str, Any]) -> None:
    assert warm_up_text(metrics, task="purchase").splitlines() == [
        "model         k=0     k=1   k>=1 [95% interval]",
        "own        0.5000  1.0000   1.0000 [1.0000, 1.0000]",
        "good       0.5000  0.6309   0.6309 [0.6309, 0.6309]",
        "poor       1.0000  0.0000   0.0000 [0.0000, 0.0000]",
        "strangers      12      12",
        "own beats good, the best baseline at k>=1: +0.3691 [+0.3691, +0.3691] ndcg@20",
        "own beats poor at k>=1: +1.0000 [+1.0000, +1.0000] ndcg@20",
    ]


def test_new_targets_are_judged_on_lists_without_what_was_seen_as_well(judgements: list[Judged]) -> None:
    # `good` ranks every target second: behind one item that was seen, it is first without it
    unseen = [replace(j, unseen_ranks=np.maximum(j.ranks - 1, 1)) for j in judgements]
    table = tabulate(unseen, ks=[0, 1], cutoff=20, resamples=5, seed=0, subject="own")

    assert row(table, "new targets", "good")["metrics"]["mrr@20"]["mean"] == 0.5
    assert row(table, "new targets, seen excluded", "good")["metrics"]["mrr@20"]["mean"] == 1.0
    assert row(table, "new targets, seen excluded", "good")["visitors"] == 6  # every second target is new
