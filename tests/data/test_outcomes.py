from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.outcomes import MASKED, Labels, Outcome, supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.targets import Moments
from shopkeeper.data.windows import train_window

DAY = pd.Timedelta(days=1)
ANN, BOB, LATE = 0, 1, 2
"""Visitors, in the order of their ids."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> Prepared:
    """Ann looks twice, buys, looks again, and comes back to look; Bob looks once; a late visitor fills val and test."""
    folder = tmp_path_factory.mktemp("outcomes")
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = [
        ("ann", "a1", "view_item", 0.0),
        ("ann", "a1", "view_item", 0.001),
        ("ann", "a1", "purchase", 0.002),
        ("ann", "a1", "view_item", 0.003),
        ("ann", "a2", "view_item", 1.0),
        ("bob", "b1", "view_item", 1.0),
        *(("late", f"l{n}", "view_item", 2.0 + n) for n in range(8)),
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "session_id", "event", "days"])
    frame["timestamp"] = start + frame.pop("days") * DAY
    frame["item_id"] = "x"
    frame["order_id"] = frame.event.map({"purchase": "o1"})
    frame.to_parquet(folder / "log.parquet")
    users = pd.DataFrame({"user_id": ["ann", "bob", "late"], "tier": ["gold", "tin", None], "age": [None, "40", None]})
    users.to_parquet(folder / "users.parquet")
    overrides = [
        "data=events",
        f"data.events={folder / 'log.parquet'}",
        f"data.users={folder / 'users.parquet'}",
        f"output={folder / 'shop'}",
        "data.split.val_share=null",
        "data.split.test_share=null",
        "data.split.val_days=2",
        "data.split.test_days=2",
        "data.split.holdout_share=0",
    ]
    return prepare(compose("prepare", PrepareConfig, *overrides), say=lambda text: None)


def after(shop: Prepared, visitor: int) -> Moments:
    """The moments after 0, 1, ..., n rows of a visitor."""
    start, limit = (int(n) for n in shop.visitors["row_offsets"][visitor : visitor + 2])
    end = np.arange(start, limit + 1)
    return Moments(np.full(len(end), start), end, np.full(len(end), limit))


def test_intent_asks_for_an_order_in_the_rest_of_the_session(shop: Prepared) -> None:
    labels = Labels(shop, [Outcome(s.INTENT, ("none", "purchase"))])

    assert labels.of(s.INTENT, after(shop, ANN)).tolist() == [1, 1, 1, 0, 0, 0]
    assert labels.of(s.INTENT, after(shop, BOB)).tolist() == [0, 0]


def test_an_order_beyond_the_window_is_none(shop: Prepared) -> None:
    labels = Labels(shop, [Outcome(s.INTENT, ("none", "purchase"))])

    assert labels.of(s.INTENT, Moments(np.array([0]), np.array([1]), np.array([2]))).tolist() == [0]


def test_next_phase_is_masked_after_the_last_event(shop: Prepared) -> None:
    labels = Labels(shop, [Outcome(s.PHASE, ("discovery", "purchase", "re-engagement"))])

    # the fourth event follows three of its session: engagement, which is no class here; a2 follows a purchase
    assert labels.of(s.PHASE, after(shop, ANN)).tolist() == [0, 0, 1, MASKED, 2, MASKED]
    assert labels.of(s.PHASE, after(shop, BOB)).tolist() == [0, MASKED]


def test_a_segment_is_the_same_at_every_moment_and_masked_where_unknown(shop: Prepared) -> None:
    labels = Labels(shop, [Outcome("segment:tier", ("gold", "tin"))])

    assert labels.of("segment:tier", after(shop, BOB)).tolist() == [1, 1]
    assert set(labels.of("segment:tier", after(shop, LATE)).tolist()) == {MASKED}


def test_an_outcome_needs_two_classes_in_train(shop: Prepared) -> None:
    outcomes, left_out = supported_outcomes(shop, train_window(shop))

    assert Outcome("segment:tier", ("gold", "tin")) in outcomes
    assert Outcome(s.INTENT, ("none", "purchase")) in outcomes
    assert left_out == {"segment:age": "train knows no class but '40'"}


def test_where_every_session_buys_there_is_no_intent(shops: dict[str, Prepared]) -> None:
    _, left_out = supported_outcomes(shops["orders"], train_window(shops["orders"]))

    assert left_out[s.INTENT] == "every session of the log buys"


def test_a_rule_labels_a_moment_by_what_follows_it(prepare_grocer: Callable[..., Prepared]) -> None:
    shop = prepare_grocer(top={"top": "category", "among": ["FOOD", "HOME"], "at_least": {"orders": 2.0}})
    outcomes, left_out = supported_outcomes(shop, train_window(shop))
    assert Outcome("segment:top", ("FOOD", "HOME")) in outcomes
    # ann's rows until the train cut are 0 to 4, in trips from rows 0, 2 and 3
    moments = Moments(np.zeros(4, int), np.array([0, 2, 3, 5]), np.full(4, 5))

    assert Labels(shop, outcomes).of("segment:top", moments).tolist() == [0, 0, MASKED, MASKED]
    assert "segment:top" not in left_out


def test_a_class_that_an_outcome_lacks_is_masked(prepare_grocer: Callable[..., Prepared]) -> None:
    shop = prepare_grocer(spend={"measure": "spend", "edges": [4.5, 11.0], "names": ["low", "mid", "high"]})
    moments = Moments(np.zeros(3, int), np.array([0, 2, 3]), np.full(3, 5))  # ann spends 14, 10, 5

    assert Labels(shop, [Outcome("segment:spend", ("high", "low"))]).of("segment:spend", moments).tolist() == [
        0,
        MASKED,
        MASKED,
    ]


def test_a_rule_needs_two_classes_in_train_and_says_what_it_lacks(prepare_grocer: Callable[..., Prepared]) -> None:
    shop = prepare_grocer(
        rich={"measure": "spend", "edges": [100.0]}, channel={"top": "channel"}, age={"column": "age"}
    )

    outcomes, left_out = supported_outcomes(shop, train_window(shop))

    assert not any(outcome.name.startswith(s.SEGMENT_PREFIX) for outcome in outcomes)
    assert left_out["segment:rich"] == "train knows no class but '<100'"
    assert left_out["segment:channel"] == "the log has no channel"
    assert left_out["segment:age"] == "the log has no table of users"
