from math import log

import numpy as np
import pytest

from shopkeeper.data.histories import Histories, Names
from shopkeeper.data.measures import MONTH, Gauge, missing, usual_prices
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window

HALF_A_DAY = 14 / 24
"""From 10:00 to midnight."""


@pytest.fixture(scope="module")
def trips(grocer: Prepared) -> Histories:
    """Before ann's three trips, bob's two and cid's one, up to the train cut."""
    return Histories(grocer, Names(grocer), train_window(grocer), steps=True)


def values(name: str, histories: Histories, **given: float) -> list[float | None]:
    prices = usual_prices(histories.prepared, histories.names, histories.window, 1)
    found = Gauge(given, prices, 1).measure(name, histories)
    return [None if np.isnan(value) else round(float(value), 4) for value in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("events", [5, 3, 2, 2, 1, 1]),
        ("orders", [3, 2, 1, 2, 1, 1]),
        ("items", [5, 3, 2, 2, 1, 1]),
        ("spend", [14, 10, 5, 11, 1, 4]),
        ("order_value", [round(14 / 3, 4), 5, 5, 5.5, 1, 4]),
        ("basket_size", [round(5 / 3, 4), 1.5, 2, 1, 1, 1]),
        # of what a full price would have been: 3 of 17, 2 of 12, 2 of 7; cid saved half
        ("discount_share", [0.1765, 0.1667, 0.2857, 0, 0, 0.5]),
        ("days", [8.5833, 6.5833, 4.5833, 2.5833, 1.5833, 0.0833]),
        ("days_since_order", [4.5833, 4.5833, 4.5833, 1.5833, 1.5833, 0.0833]),
        ("brand_loyalty", [1, None, None, None, None, None]),
    ],
)
def test_a_measure_is_of_what_lies_ahead(trips: Histories, name: str, expected: list[float | None]) -> None:
    assert values(name, trips) == expected


def test_a_rate_is_over_a_day_at_least(trips: Histories) -> None:
    expected = [3 / (8 + HALF_A_DAY), 2 / (6 + HALF_A_DAY), 1 / (4 + HALF_A_DAY), 2 / (2 + HALF_A_DAY)]
    expected += [1 / (1 + HALF_A_DAY), 1 / 1]

    assert values("orders_per_month", trips) == [round(MONTH * rate, 4) for rate in expected]


def test_prices_are_compared_within_their_category(trips: Histories) -> None:
    # food in train cost 2, 1, 1, 4, 1, 4: the mean logarithm is that of 32^(1/6)
    food = log(32) / 6
    prices = usual_prices(trips.prepared, trips.names, trips.window, 1)

    assert prices == pytest.approx({"FOOD": food, "HOME": log(5)}, abs=2e-6)  # logarithms are taken in millionths
    ann = (log(2) + log(1) + log(1) + log(4) - 4 * food + 0) / 5
    assert values("relative_price", trips)[0] == round(ann, 4)
    assert values("relative_price", trips)[5] == round(log(4) - food, 4)


def test_every_least_measure_has_to_be_reached(trips: Histories) -> None:
    assert Gauge({"orders": 2, "spend": 11}, {}, 1).enough(trips).tolist() == [True, False, False, True, False, False]
    assert Gauge({"brand_loyalty": 0}, {}, 1).enough(trips).tolist() == [True] + [False] * 5  # what is not known is not


def test_what_a_log_lacks_is_said(clicks: Prepared, grocer: Prepared) -> None:
    def why(prepared: Prepared, name: str) -> str | None:
        return missing(name, prepared, Names(prepared), train_window(prepared))

    assert why(grocer, "brand_loyalty") is None
    assert why(clicks, "orders") is None
    assert why(clicks, "discount_share") == "train has no discount"
    assert why(clicks, "relative_price") == "the items have no category"
