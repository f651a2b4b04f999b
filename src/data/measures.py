"""What can be measured of the rows that lie ahead, by name; NaN where a history does not tell.

- `events`, `sessions`, `orders`, `items` (rows that were bought): how many; `spend`: the sum of price times quantity;
- `days`: from the row to the end of what is known; `days_since_event`, `days_since_order`: from the last of them;
- `events_per_month`, `orders_per_month`, `spend_per_month`: over `days`, which count as one at least;
- `order_value` = spend / orders, `basket_size` = items / orders;
- `discount_share` = (discount + coupon) / (spend + discount + coupon);
- `relative_price`: mean of log(price / geometric mean price of the item's category in train), over rows with a price;
- `brand_loyalty`: of the times a visitor comes back to a category, how often to the brand of the time before.
"""

from dataclasses import dataclass

import numpy as np

from shopkeeper.data import schema as s
from shopkeeper.data.histories import DAY, MILLION, BoolArray, FloatArray, Histories, Names, parts
from shopkeeper.data.prepared import Prepared, Window
from shopkeeper.data.writer import rounded

MONTH = 365.25 / 12
"""Days."""
PRICE_LEVEL = 2
"""Level of the categories within which prices are compared, unless a segment says another."""

COUNTS = {"events": "rows", "sessions": "sessions", "orders": "orders", "items": "bought"}
RATIOS = {
    "order_value": ("spend", "orders"),
    "basket_size": ("bought", "orders"),
    "brand_loyalty": ("stayed", "compared"),
}
NEEDS = {
    "spend": s.PRICE,
    "spend_per_month": s.PRICE,
    "order_value": s.PRICE,
    "discount_share": s.DISCOUNT,
    "relative_price": s.PRICE,
}
"""The column without which a measure says nothing."""
OF_ORDERS = (
    *("orders", "items", "days_since_order", "orders_per_month", "basket_size"),
    *("spend", "spend_per_month", "order_value", "discount_share"),
)


@dataclass(frozen=True)
class Gauge:
    """How measures are taken, and the least ones that make a history tell anything.

    `prices` are the mean logarithms of prices by category, at a level of the path; only relative prices need them.
    """

    at_least: dict[str, float]
    prices: dict[str, float]
    level: int

    def enough(self, histories: Histories) -> BoolArray:
        """Whether what lies ahead reaches every least measure (m,)."""
        found = np.ones(len(histories.at), bool)
        for name, least in self.at_least.items():
            found &= self.measure(name, histories) >= least
        return found

    def measure(self, name: str, histories: Histories) -> FloatArray:
        """A measure of what lies ahead of each row that is asked (m,)."""
        if name in COUNTS:
            return histories.sum(COUNTS[name])
        if name == "spend":
            return histories.sum("spend") / MILLION
        if name == "days":
            begins = histories.column("time")[histories.at]
            return np.asarray((histories.until[histories.whose] - begins) / DAY)
        if name.startswith("days_since_"):
            return histories.days_since(histories.bought if name.endswith("order") else histories.rows > 0)
        if name.endswith("_per_month"):
            months = np.maximum(self.measure("days", histories), 1.0) / MONTH
            return self.measure(name.removesuffix("_per_month"), histories) / months
        if name in RATIOS:
            above, below = (histories.sum(part) for part in RATIOS[name])
            return ratio(above / MILLION if name == "order_value" else above, below)
        if name == "discount_share":
            return ratio(histories.sum("saved"), histories.sum("saved") + histories.sum("spend"))
        assert name == "relative_price", name
        return self.relative_price(histories)

    def relative_price(self, histories: Histories) -> FloatArray:
        """Mean, over the rows ahead whose category has a price, of the log price less that of the category (m,)."""
        names = sorted(self.prices)
        usual = np.append(np.rint(np.array([self.prices[name] for name in names]) * MILLION), [0.0, 0.0])
        group = histories.groups(s.CATEGORY, self.level, names)
        known = histories.priced & (group >= 0) & (group < len(names))
        above = histories.ahead(np.where(known, histories.log_price - usual[group], 0.0))
        return ratio(above / MILLION, histories.ahead(known))


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """NaN where the lower part is zero."""
    found: FloatArray = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found


def missing(name: str, prepared: Prepared, names: Names, window: Window) -> str | None:
    """Why a measure cannot be taken of a log; None where it can. What the train rows lack, the log lacks."""
    if name in OF_ORDERS and not any(part.bought.any() for part in parts(prepared, names, window, steps=False)):
        return "train has no purchases"
    column = NEEDS.get(name)
    if column and not any(
        np.nan_to_num(part.column(column)).any() for part in parts(prepared, names, window, steps=False)
    ):
        return f"train has no {column}"
    if name in ("relative_price", "brand_loyalty") and not names.knows(s.CATEGORY):
        return "the items have no category"
    if name == "brand_loyalty" and not names.knows(s.BRAND):
        return "the items have no brand"
    return None


def usual_prices(prepared: Prepared, names: Names, window: Window, level: int) -> dict[str, float]:
    """Mean logarithm of the prices of each category in the window's rows, to six digits."""
    if not names.knows(s.CATEGORY):
        return {}
    found = names.distinct(s.CATEGORY, level)
    total, count = np.zeros(len(found)), np.zeros(len(found))
    for part in parts(prepared, names, window, steps=False):
        group = part.groups(s.CATEGORY, level, found)
        here = part.priced & (group >= 0)
        total += np.bincount(group[here], part.log_price[here], minlength=len(found))
        count += np.bincount(group[here], minlength=len(found))
    sold = np.flatnonzero(count)
    means = rounded(total[sold] / count[sold] / MILLION)
    return {found[i]: float(mean) for i, mean in zip(sold, means, strict=True)}
