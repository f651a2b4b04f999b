from math import log, sqrt

import numpy as np

from shopkeeper.data.histories import Histories, Names
from shopkeeper.data.measures import Gauge
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.profiles import Profile, as_text, fit_profile, words
from shopkeeper.data.rules import Customers
from shopkeeper.data.windows import train_window

PLAIN = Gauge({}, {}, 1)


def customers(prepared: Prepared) -> Customers:
    return Customers(prepared, Names(prepared), train_window(prepared))


def test_a_profile_has_what_the_log_supports(grocer: Prepared, clicks: Prepared) -> None:
    full = fit_profile(customers(grocer), ["category", "brand", "channel"], 20, {})
    bare = fit_profile(customers(clicks), ["category", "brand", "channel"], 20, {})

    assert full.groups == {"category": ["FOOD", "HOME"], "brand": ["other", "own"]}
    assert full.scalars == [
        "relative_price",
        "discount_share",
        "basket_size",
        "order_value",
        "orders_per_month",
        "brand_loyalty",
    ]
    assert bare.groups == {"channel": ["app", "web"]}
    assert bare.scalars == ["basket_size", "orders_per_month"] or "discount_share" not in bare.scalars


def test_shares_and_rhythm_are_of_the_rows_ahead(grocer: Prepared) -> None:
    profile = Profile({"category": ["FOOD", "HOME"]}, ["basket_size"], PLAIN)
    found = customers(grocer)

    features = profile.of(Histories(grocer, found.names, found.window, steps=False))

    assert profile.features[:2] == ["category: FOOD", "category: HOME"]
    assert features[:2].T.round(3).tolist() == [[0.8, 0.2], [0.5, 0.5], [1.0, 0.0]]
    morning, evening, weekend = (profile.features.index(n) for n in ("hour: morning", "hour: evening", "weekend"))
    assert features[morning].tolist() == [1, 1, 0]  # 10:00 but for cid, who comes at 22:00
    assert features[evening].tolist() == [0, 0, 1]
    # 2026-01-04 and -10 are a Sunday and a Saturday: ann's row of soap, and cid
    assert features[weekend].tolist() == [0.2, 0, 1]


def test_shares_are_compared_by_roots_and_skewed_measures_by_logarithms() -> None:
    profile = Profile({"category": ["A", "B"]}, ["basket_size", "relative_price"], PLAIN)
    features = np.array([[0.25], [0.75], *[[0.0]] * 5, [3.0], [-0.5]])

    found = profile.comparable(features)[:, 0]

    assert found.round(6).tolist() == [0.5, round(sqrt(0.75), 6), 0, 0, 0, 0, 0, round(log(4), 6), -0.5]
    # both categories are one column: their step is the root of the mean square of 3 and 4
    assert profile.spread(np.array([3.0, 4.0, *[1.0] * 7]))[:2].round(6).tolist() == [round(sqrt(12.5), 6)] * 2


def test_what_stands_out_has_words() -> None:
    assert words("category: FUEL", much=True) == "FUEL"
    assert words("channel: app", much=True) == "channel app"
    assert words("hour: night", much=True) == "at night"
    assert words("weekend", much=False) == "on weekdays"
    assert words("category: FUEL", much=False) is None
    assert as_text({"category: FUEL": -3.0, "weekend": -2.0, "discount_share": 1.0}, count=2) == [
        "on weekdays",
        "on discount",
    ]
