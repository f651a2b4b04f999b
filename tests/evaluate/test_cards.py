from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.cards import Card, Lift, SegmentCards, figures_of, lift_in_words, segment_cards

LOG = """
    timestamp,user_id,session_id,event,item_id,order_id,price,channel
    2026-01-01T00:00,ann,a1,view_item,bread,,,web
    2026-01-01T00:01,ann,a1,purchase,bread,o1,4,web
    2026-01-06T00:00,ann,a2,view_item,bread,,,web
    2026-01-01T00:00,bob,b1,view_item,soap,,,app
    2026-01-09T00:00,cid,c1,purchase,soap,o2,10,app
    2026-01-31T00:00,eve,e1,view_item,soap,,,app
"""


@pytest.fixture
def cards(prepare_csv: Callable[..., Prepared], tmp_path: Path) -> SegmentCards:
    users = pd.DataFrame({"user_id": ["ann", "bob", "cid", "eve"], "tier": ["gold", "tin", "tin", "gold"]})
    users.to_parquet(tmp_path / "users.parquet")
    prepared = prepare_csv(LOG, f"data.users={tmp_path / 'users.parquet'}")
    (found,) = segment_cards(prepared, lapsed_days=9.5)
    return found


def card(cards: SegmentCards, name: str) -> Card:
    return next(card for card in cards.cards if card.name == name)


def test_a_card_is_of_the_train_customers(cards: SegmentCards) -> None:
    # cut on the 11th: eve comes later
    assert (cards.name, cards.kind, cards.labelled, cards.customers) == ("tier", "column", 3, 3)
    assert [(c.name, c.customers, round(c.share, 4)) for c in cards.cards] == [("gold", 1, 0.3333), ("tin", 2, 0.6667)]


def test_its_figures_are_totals_over_the_customers_time(cards: SegmentCards) -> None:
    # gold: one of ann's two sessions buys, one order of 4 in ten days. tin: one of two, an order of 10 in ten and two
    # days; bob was last seen ten days before the cut
    month, year = 365.25 / 12, 365.25
    gold, tin = card(cards, "gold").figures, card(cards, "tin").figures

    assert gold == pytest.approx(
        {
            "conversion": 0.5,
            "average order value": 4,
            "orders per month": month / 10,
            "spend per year": 4 * year / 10,
            "share lapsed": 0,
        }
    )
    assert tin["orders per month"] == pytest.approx(month / 12)
    assert tin["spend per year"] == pytest.approx(10 * year / 12)
    assert (tin["conversion"], tin["average order value"], tin["share lapsed"]) == (0.5, 10, 0.5)


def test_what_sets_a_class_apart_comes_first(cards: SegmentCards) -> None:
    web = next(lift for lift in card(cards, "gold").apart if lift.feature == "channel: web")

    # ann is all web, the others all app: 1 against a mean of 1/3, whose deviation is sqrt(2)/3
    assert (web.mean, round(web.overall, 4), round(web.deviations, 4)) == (1, 0.3333, round(2**0.5, 4))
    assert web.lift == pytest.approx(3)
    assert card(cards, "gold").says.startswith("gold: 33% of the customers; ")


def test_what_is_not_told_is_none() -> None:
    total = {"customers": 4.0, "sessions": 9.0, "buying": 0.0, "orders": 0.0, "spend": 0.0, "days": 40.0, "lapsed": 1.0}

    assert {name for name, value in figures_of(total).items() if value is None} == {
        "conversion",
        "average order value",
        "orders per month",
        "spend per year",
    }
    every = figures_of(total | {"buying": 9.0, "orders": 9.0, "spend": 1.0})
    assert every["conversion"] is None  # every session buys


@pytest.mark.parametrize(
    ("lift", "said"),
    [
        (Lift("category: FUEL", 0.36, 0.2, 1.0), "FUEL 1.8 times as often"),
        (Lift("category: FUEL", 0.1, 0.2, -1.0), "FUEL 0.5 times as often"),
        (Lift("category: FUEL", 0.004, 0.2, -1.0), "FUEL hardly ever"),
        (Lift("category: FUEL", 0.204, 0.2, 0.2), None),
        (Lift("hour: night", 0.4, 0.2, 1.0), "at night 2.0 times as often"),
        (Lift("weekend", 0.1, 0.2, -1.0), "on weekdays"),
        (Lift("basket_size", 9.0, 4.0, 1.0), "large baskets"),
        (Lift("basket_size", 4.1, 4.0, 0.05), None),
    ],
)
def test_lifts_in_words(lift: Lift, said: Any) -> None:
    assert lift_in_words(lift) == said


def test_a_log_without_segments_has_no_cards(shop: Prepared) -> None:
    assert segment_cards(shop) == []
