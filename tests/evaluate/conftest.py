"""Judged ranks small enough to check by hand: 12 strangers at k = 0 and 1, one target each, three models."""

from typing import Any

import numpy as np
import pytest

from shopkeeper.evaluate.ranks import MISS
from shopkeeper.evaluate.tables import Judged, tabulate

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


@pytest.fixture
def metrics(judgements: list[Judged]) -> dict[str, Any]:
    return tabulate(judgements, ks=[0, 1, 2], cutoff=20, resamples=50, seed=0, subject="own")
