from typing import Any

import numpy as np

from shopkeeper.evaluate.comparison import comparison_text, difference_of, pairs
from shopkeeper.evaluate.tables import Judged, tabulate

VISITORS = 12


def judged(model: str, ranks: list[int], *, baseline: bool) -> Judged:
    """A model's rank of the one target of each of twelve visitors at k = 1."""
    none = np.zeros(VISITORS, bool)
    return Judged(
        model=model,
        task="purchase",
        population="strangers",
        visitor=np.arange(VISITORS),
        k=np.ones(VISITORS, np.int64),
        offsets=np.arange(VISITORS + 1),
        ranks=np.array(ranks),
        repeat=none,
        cold=none,
        missing=none,
        baseline=baseline,
    )


def metrics(first: list[int], second: list[int]) -> dict[str, Any]:
    models = [judged("a", first, baseline=False), judged("b", second, baseline=True)]
    found: dict[str, Any] = tabulate(models, ks=[0, 1], cutoff=20, resamples=100, seed=0, subject="a")
    return found


def test_always_first_against_always_third_is_a_win() -> None:
    found = metrics([1] * VISITORS, [3] * VISITORS)  # ndcg 1 and 1 / log2(4) = 0.5 for every visitor

    text = comparison_text(found, "a", "b", task="purchase")

    assert "strangers, k=1                     12      1.0000      0.5000  +0.5000 [+0.5000, +0.5000] better" in text
    assert text.splitlines()[-1] == "a beats b at k>=1, strangers: +0.5000 [+0.5000, +0.5000] ndcg@20"


def test_where_it_cannot_tell_it_says_so() -> None:
    found = metrics([1, 3] * 6, [3, 1] * 6)

    assert comparison_text(found, "a", "b", task="purchase").count("no difference") >= 3
    difference = difference_of(found, "a", "b", task="purchase")
    assert difference is not None
    assert difference["low"] < 0 < difference["high"]
    assert difference["mean"] == 0


def test_every_slice_with_examples_is_a_line() -> None:
    found = metrics([1] * VISITORS, [1] * VISITORS)

    assert [first["slice"] for first, _ in pairs(found, "a", "b", task="purchase")] == ["k=1", "k>=1", "new targets"]


def test_a_rival_that_was_not_judged_has_no_difference() -> None:
    assert difference_of(metrics([1] * VISITORS, [1] * VISITORS), "a", "c", task="purchase") is None
