"""Transitions counted by hand in three sessions: bread bread milk(bought), bread tea tea(bought), bread jam."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from shopkeeper.config import UserError
from shopkeeper.data.batches import Batch
from shopkeeper.models.contract import FitData
from shopkeeper.models.rules import Rules, conditional

Fitted = Callable[..., Rules]
BREAD, JAM, MILK, TEA = range(4)


def rules_of(model: Rules, item: int) -> list[float]:
    """Rules from an item to bread, jam, milk and tea."""
    row: list[float] = model.table_of(0).toarray()[item].tolist()
    return row


def test_transitions_lead_to_the_next_other_item(looks: FitData, fitted: Fitted) -> None:
    model = fitted("markov", looks, "next", shrink=1.0)

    # four moments after bread: twice milk follows (after either view of bread), once tea, once jam
    assert rules_of(model, BREAD) == pytest.approx([0, 1 / 5, 2 / 5, 1 / 5])
    assert rules_of(model, TEA) == [0.0] * 4  # nothing but tea follows tea


def test_transitions_lead_to_what_is_bought_next(looks: FitData, fitted: Fitted) -> None:
    model = fitted("markov", looks, "purchase", shrink=1.0)

    # moments with an order to come: three after bread (milk, milk, tea), one after tea (tea)
    assert rules_of(model, BREAD) == pytest.approx([0, 0, 2 / 4, 1 / 4])
    assert rules_of(model, TEA) == pytest.approx([0, 0, 0, 1 / 2])


def test_rules_reach_further_back_with_less_weight(looks: FitData, fitted: Fitted) -> None:
    model = fitted("sequential_rules", looks, "purchase", reach=2, shrink=1.0)

    # bread before milk: 1, then 1 and 1/2; before tea: 1, then 1/2 (two steps back); tea before tea: 1
    assert rules_of(model, BREAD) == pytest.approx([0, 0, 2.5 / 5, 1.5 / 5])
    assert rules_of(model, TEA) == pytest.approx([0, 0, 0, 1 / 2])


def test_transitions_of_trips_lead_from_each_item_to_each(learn: Callable[..., FitData], fitted: Fitted) -> None:
    trips = {"2026-01-01": ["bread", "milk"], "2026-01-05": ["tea"], "2026-01-09": ["jam", "tea"]}
    trips |= {"2026-03-30": ["jam"], "2026-05-30": ["jam"]}
    rows = [(day, "purchase", item) for day, items in trips.items() for item in items]
    model = fitted("markov", learn(rows, user_id=["ann"] * 5 + ["bob", "cat"]), shrink=0.0)

    assert rules_of(model, BREAD) == rules_of(model, MILK) == [0, 0, 0, 1]
    assert rules_of(model, TEA) == [0, 1, 0, 1]
    assert rules_of(model, JAM) == [0, 0, 0, 0]  # Ann came no more, and what Bob did is another's


def test_a_history_is_scored_by_its_latest_step_and_less_by_those_before(
    looks: FitData, fitted: Fitted, history: Callable[..., Batch]
) -> None:
    for decay in (0.0, 0.5):
        model = fitted("markov", looks, "purchase", shrink=1.0, decay=decay)
        found = model.score(history([BREAD + 1], [TEA + 1]))[0, 0] - 1e-3 * model.prior_scores()[0]

        expected = np.array(rules_of(model, TEA)) + decay * np.array(rules_of(model, BREAD))
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("block", [1, 2, 100])
def test_blocks_change_nothing_and_the_strongest_rules_are_kept(block: int) -> None:
    cues = sp.csr_array(np.array([[1.0, 0, 1], [1, 0, 0], [1, 1, 0]]))
    targets = sp.csr_array(np.array([[0, 1.0, 0], [0, 1, 1], [1, 0, 0]]))

    found = conditional(cues, targets, shrink=1.0, keep=1, block=block)

    assert found.toarray().tolist() == [[0, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0]]


def test_rules_that_reach_nowhere_are_refused(looks: FitData, fitted: Fitted) -> None:
    with pytest.raises(UserError, match="reach=0 must be at least 1"):
        fitted("sequential_rules", looks, reach=0)
