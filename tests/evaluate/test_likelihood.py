import math
from typing import Any

import numpy as np
import pytest

from shopkeeper.evaluate.likelihood import example_losses, likelihood_rows, likelihood_sentences

RULES: dict[str, Any] = {"ks": [0, 1], "resamples": 20, "seed": 0}


def test_an_order_s_loss_is_the_mean_over_its_items() -> None:
    # two items of probability 1/2 and 1/8; one of 1/4 beside one outside the catalogue; one outside alone
    told = np.array([math.log(1 / 2), math.log(1 / 8), math.log(1 / 4), np.nan, np.nan])
    losses = example_losses(told, np.array([0, 2, 4, 5]))

    assert losses[:2] == pytest.approx([2 * math.log(2), 2 * math.log(2)])
    assert np.isnan(losses[2])


def test_gaps_to_the_optimum_are_differences_and_ratios() -> None:
    losses = {"own": np.array([3.0, 2.0, 2.0, np.nan]), "optimum": np.array([2.0, 1.0, 1.0, np.nan])}
    k = np.array([0, 1, 1, 1])
    rows = likelihood_rows(losses, visitor=np.arange(4), k=k, population="strangers", **RULES)

    own = {r["slice"]: r for r in rows if r["model"] == "own"}
    assert [own[part]["log_loss"]["mean"] for part in ("k=0", "k=1", "k>=1")] == [3.0, 2.0, 2.0]
    assert (own["k=0"]["gap"]["mean"], own["k=0"]["gap"]["ratio"]["mean"]) == (1.0, 1.5)
    assert own["k=1"]["outside the catalogue"] == 1
    assert all("gap" not in r for r in rows if r["model"] == "optimum")
    assert likelihood_sentences(rows)[0] == "gap to the optimum's log-loss at k=0: own 1.0000 (1.500 times)"


def test_known_users_are_one_slice_and_without_an_optimum_there_is_no_gap() -> None:
    rows = likelihood_rows(
        {"own": np.array([1.0, 2.0])}, visitor=np.arange(2), k=np.array([0, 3]), population="known", **RULES
    )

    assert [(r["slice"], r["log_loss"]["mean"]) for r in rows] == [("all", 1.5)]
    assert likelihood_sentences(rows) == []


def test_where_no_scores_are_logits_there_are_no_rows() -> None:
    assert likelihood_rows({}, visitor=np.arange(0), k=np.arange(0), population="strangers", **RULES) == []
