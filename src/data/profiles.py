"""The profile of a history: what is bought, how dear, in what baskets, when, where, and how loyal to brands.

Shares of the events ahead by category, brand, channel and device (those there are), by part of the day and on weekends
(UTC), and the measures of `SCALARS` that the log supports; NaN where a history does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shopkeeper.data import schema as s
from shopkeeper.data.histories import DAY, HOUR, FloatArray, Histories
from shopkeeper.data.measures import PRICE_LEVEL, Gauge, ratio, usual_prices
from shopkeeper.data.rules import Customers, NotFitted, commonest

DAYPARTS = ("night", "morning", "afternoon", "evening")
"""Of six hours each."""
WEEKEND = "weekend"
RHYTHM = "hour"
SCALARS = {
    "relative_price": ("dear products", "cheap products"),
    "discount_share": ("on discount", "at full price"),
    "basket_size": ("large baskets", "small baskets"),
    "order_value": ("high bills", "low bills"),
    "orders_per_month": ("often here", "seldom here"),
    "brand_loyalty": ("loyal to brands", "changing brands"),
}
"""Measures of a profile, and what much and little of each is called."""
SKEWED = ("basket_size", "order_value", "orders_per_month")
"""Compared by their logarithms; shares are by their square roots."""
BLOCKS = {
    **dict.fromkeys(("relative_price", "discount_share"), "price"),
    **dict.fromkeys(("basket_size", "order_value", "orders_per_month"), "size"),
    "brand_loyalty": s.BRAND,
    WEEKEND: RHYTHM,
}
"""What a feature is an aspect of, besides the shares of one column, which are each other's."""
WORDS = {WEEKEND: ("on weekends", "on weekdays")} | SCALARS


@dataclass(frozen=True)
class Profile:
    """Which features make a profile: shares by the groups of each column, the rhythm, and scalars."""

    groups: dict[str, list[str]]
    scalars: list[str]
    gauge: Gauge

    @property
    def features(self) -> list[str]:
        """Names, in order; a share's is its column and its value."""
        shares = [f"{what}: {name}" for what, names in self.groups.items() for name in names]
        return [*shares, *(f"{RHYTHM}: {part}" for part in DAYPARTS), WEEKEND, *self.scalars]

    @property
    def blocks(self) -> list[str]:
        """What each feature is an aspect of."""
        return [BLOCKS.get(feature, feature.partition(": ")[0]) for feature in self.features]

    def comparable(self, features: FloatArray) -> FloatArray:
        """The features (F, n) on scales on which differences mean the same everywhere."""
        skewed = np.isin(self.features, SKEWED)[:, None]
        share = ~np.isin(self.features, list(SCALARS))[:, None]
        found = np.where(skewed, np.log1p(np.where(skewed, features, 0.0)), features)
        return np.where(share, np.sqrt(np.where(share, features, 0.0)), found)

    def spread(self, deviation: FloatArray) -> FloatArray:
        """What counts as one step of each feature (F,): its deviation; of a share, the mean one of its column."""
        column = np.array([feature.partition(": ")[0] for feature in self.features])
        _, group, size = np.unique(column, return_inverse=True, return_counts=True)
        return np.asarray(np.sqrt(np.bincount(group, deviation**2) / size)[group])

    def of(self, histories: Histories) -> FloatArray:
        """Features of what lies ahead (F, m)."""
        shares = [self.shares(histories, what, names) for what, names in self.groups.items()]
        scalars = [self.gauge.measure(name, histories) for name in self.scalars]
        return np.concatenate([*shares, rhythm(histories), *(values[None] for values in scalars)])

    def shares(self, histories: Histories, what: str, names: list[str]) -> FloatArray:
        """Share of each group in the rows ahead that have any value (groups, m)."""
        group = histories.groups(what, 1 if what == s.CATEGORY else None, names)
        known = histories.ahead(group >= 0)
        return np.stack([ratio(histories.ahead(group == number), known) for number in range(len(names))])


def rhythm(histories: Histories) -> FloatArray:
    """Shares of the rows ahead by part of the day, and of those on a weekend (parts + 1, m)."""
    time, rows = histories.column("time"), histories.sum("rows")
    part = time % DAY // (6 * HOUR)
    weekend = (time // DAY + 3) % 7 >= 5  # 1970 began on a Thursday
    kinds = [*(part == number for number in range(len(DAYPARTS))), weekend]
    return np.stack([histories.ahead(kind) / rows for kind in kinds])


def fit_profile(customers: Customers, shares: list[str], most: int, at_least: dict[str, float]) -> Profile:
    """The features that the train rows of this log support."""
    groups = {}
    for what in shares:
        if customers.names.knows(what):
            found = commonest(what, 1 if what == s.CATEGORY else None, customers)[:most]
            if len(found) > 1:
                groups[what] = sorted(found)
    prices = usual_prices(customers.prepared, customers.names, customers.window, PRICE_LEVEL)
    gauge = Gauge(at_least, prices, PRICE_LEVEL)
    return Profile(groups, [name for name in SCALARS if supported(name, customers)], gauge)


def supported(name: str, customers: Customers) -> bool:
    try:
        customers.require(name)
    except NotFitted:
        return False
    return True


def words(feature: str, *, much: bool) -> str | None:
    """What much or little of a feature is called; None where little of it is not worth a word."""
    if feature in WORDS:
        return WORDS[feature][0 if much else 1]
    what, _, value = feature.partition(": ")
    if what == RHYTHM:
        value = "at night" if value == "night" else f"in the {value}"
    named = value if what in (RHYTHM, s.CATEGORY) else f"{what} {value}"
    return named if much else None


def as_text(lifts: Mapping[str, float], *, count: int) -> list[str]:
    """Words for the features that stand out most, by how many standard deviations."""
    strongest = sorted(lifts, key=lambda feature: -abs(lifts[feature]))
    found = [words(feature, much=lifts[feature] > 0) for feature in strongest]
    return [word for word in found if word is not None][:count]
