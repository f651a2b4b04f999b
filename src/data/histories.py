"""What visitors do from a row on: sums over the rows that lie ahead, up to a limit, for every step at once.

A sum over the rows [r, limit) of a visitor is C[r] with C the sums cumulated from its limit backwards, so that one pass
answers every moment of a history, and no row before r and none from `limit` on plays a part. What is summed are whole
numbers (money and logarithms in millionths): sums are exact in float64 below 2^53, and the same in any order.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MILLION = 1e6
DAY = 86_400_000_000
HOUR = 3_600_000_000
"""Microseconds."""
ROWS_AT_ONCE = 200_000


class Names:
    """What the codes of items and context columns are called, and which of these names count together."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.codes: dict[tuple[str, int | None, tuple[str, ...]], IntArray] = {}
        self.names: dict[tuple[str, int | None], list[str]] = {}

    @cached_property
    def items(self) -> dict[str, npt.NDArray[np.object_]]:
        """Category and brand of every item, by its number; None for 0 and where there is none."""
        frame = self.prepared.items_frame()
        return {
            name: np.array([None, *frame[name].astype(object).where(frame[name].notna(), None)], object)
            for name in (s.CATEGORY, s.BRAND)
        }

    def knows(self, what: str) -> bool:
        """Whether rows can be told apart by it: `category`, `brand` or a context column, with a value at least."""
        if what in self.prepared.context_columns:
            return bool(self.prepared.vocabulary(what))
        return what in self.items and any(self.items[what])

    def of(self, what: str, level: int | None) -> npt.NDArray[np.object_]:
        """Name of each code; of categories the path down to `level` (None: whole)."""
        if what in self.prepared.context_columns:
            return np.array([None, *self.prepared.manifest["vocab"][what]["values"]], object)
        names = self.items[what]
        if what != s.CATEGORY or level is None:
            return names
        return np.array([None if name is None else s.PATH.join(name.split(s.PATH)[:level]) for name in names], object)

    def distinct(self, what: str, level: int | None) -> list[str]:
        """The names there are, in order."""
        key = (what, level)
        if key not in self.names:
            self.names[key] = sorted({name for name in self.of(what, level) if name is not None})
        return self.names[key]

    def grouped(self, what: str, level: int | None, groups: list[str]) -> IntArray:
        """Place in `groups` of each code; len(groups) for any other name, -1 for none."""
        key = (what, level, tuple(groups))
        if key not in self.codes:
            place = {name: number for number, name in enumerate(groups)}
            names = self.of(what, level)
            self.codes[key] = np.array([-1 if n is None else place.get(n, len(groups)) for n in names], np.int64)
        return self.codes[key]


class Histories:
    """Rows [start, limit) of some visitors, end to end, and what lies ahead of some of them.

    Asked are the rows at which a step begins or, unless `steps`, the first of each visitor alone; `at` (m,) are their
    places, `whose` (m,) the visitors they belong to. Arrays over all rows are (n,).
    """

    def __init__(self, prepared: Prepared, names: Names, window: Window, *, steps: bool) -> None:
        assert (window.end > window.start).all(), "a history without rows"
        self.prepared, self.names, self.window = prepared, names, window
        self.row = ragged_ranges(window.start, window.end)
        sizes = window.end - window.start
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        self.owner = np.repeat(np.arange(len(window)), sizes)
        asked = self.first[:-1]
        if steps:
            begins = np.zeros(len(self.row), bool)
            begins[asked] = True
            begins |= np.isin(self.row, step_starts(prepared, window))
            asked = np.flatnonzero(begins)
        self.at = asked
        self.whose = self.owner[asked]
        self.columns: dict[str, npt.NDArray[Any]] = {}
        self.sums: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        return len(self.row)

    def column(self, name: str) -> npt.NDArray[Any]:
        """An array of the rows (n,)."""
        if name not in self.columns:
            self.columns[name] = np.asarray(self.prepared.rows[name])[self.row]
        return self.columns[name]

    def ahead(self, values: npt.NDArray[Any]) -> FloatArray:
        """Sums over each row that is asked and all after it of its visitor (m,), of values of every row (n,)."""
        total = np.zeros(len(self.at) + 1)
        np.cumsum(np.add.reduceat(values, self.at, dtype=np.float64)[::-1], out=total[-2::-1])
        behind = total[np.searchsorted(self.at, self.first[1:])]  # of the visitors that come after
        return np.asarray(total[:-1] - behind[self.whose])

    def sum(self, name: str) -> FloatArray:
        """Sum ahead, where it is asked (m,), of what a property of this name says of each row."""
        if name not in self.sums:
            self.sums[name] = self.ahead(getattr(self, name))
        return self.sums[name]

    @cached_property
    def rows(self) -> FloatArray:
        return np.ones(len(self))

    @cached_property
    def bought(self) -> BoolArray:
        return np.asarray(self.column("order") >= 0)

    @cached_property
    def orders(self) -> BoolArray:
        """Where an order ends: ahead of a row, these count the orders with a row ahead."""
        return self.last_of(self.column("order").astype(np.int64)) & self.bought

    @cached_property
    def sessions(self) -> BoolArray:
        return self.last_of(self.column("session").astype(np.int64))

    @cached_property
    def spend(self) -> FloatArray:
        """Price times quantity (1 where it is not told) of what was bought."""
        price, quantity = self.column(s.PRICE), self.column(s.QUANTITY)
        return self.money(price * np.where(np.isnan(quantity), 1.0, quantity))

    @cached_property
    def saved(self) -> FloatArray:
        """Discount and coupon of what was bought."""
        return self.money(np.nan_to_num(self.column(s.DISCOUNT)) + np.nan_to_num(self.column(s.COUPON)))

    def money(self, amount: FloatArray) -> FloatArray:
        return np.asarray(np.rint(np.where(self.bought, np.nan_to_num(amount), 0.0) * MILLION))

    @cached_property
    def priced(self) -> BoolArray:
        """Rows that name an item at a price above zero."""
        return np.asarray((self.column("item") > 0) & (np.nan_to_num(self.column(s.PRICE)) > 0))

    @cached_property
    def log_price(self) -> FloatArray:
        """Logarithm of the price; 0 where there is none."""
        return np.rint(np.log(np.where(self.priced, self.column(s.PRICE), 1.0)) * MILLION)

    @cached_property
    def compared(self) -> BoolArray:
        """Rows with a brand after which the visitor comes back, at another time, for a brand of the same category."""
        return self._next_brand[0]

    @cached_property
    def stayed(self) -> BoolArray:
        """Those of `compared` after which the brand is the same."""
        return self._next_brand[0] & self._next_brand[1]

    @cached_property
    def _next_brand(self) -> tuple[BoolArray, BoolArray]:
        """For each row, whether the visitor's next one of its category is at another time, and is of its brand."""
        brand, category = (self.whole(what) for what in (s.BRAND, s.CATEGORY))
        named = np.flatnonzero((brand >= 0) & (category >= 0))
        key = self.owner[named] * (category.max(initial=0) + 1) + category[named]
        order = named[np.argsort(key, kind="stable")]
        again = np.diff(np.sort(key)) == 0
        time = self.column("time")
        found, same = np.zeros(len(self), bool), np.zeros(len(self), bool)
        found[order[:-1]] = again & (np.diff(time[order]) > 0)
        same[order[:-1]] = np.diff(brand[order]) == 0
        return found, same

    def whole(self, what: str) -> IntArray:
        """Number of each row's brand or whole category (n,); -1 where it has none."""
        return self.groups(what, None, self.names.distinct(what, None))

    def groups(self, what: str, level: int | None, groups: list[str]) -> IntArray:
        """Group of each row (n,), as `Names.grouped` numbers them."""
        code = self.column(f"context_{what}" if what in self.prepared.context_columns else "item")
        found: IntArray = self.names.grouped(what, level, groups)[code]
        return found

    def last_of(self, key: IntArray) -> BoolArray:
        """Whether each row is the last one with its key (n,); keys of different visitors differ."""
        last = np.zeros(len(self), bool)
        last[len(self) - 1 - np.unique(key[::-1], return_index=True)[1]] = True
        return last

    @cached_property
    def until(self) -> IntArray:
        """When the time of each visitor's rows ends (visitors,): at the first cut after the last of them."""
        cuts = np.array([self.prepared.cut(name) for name in ("val_start", "test_start", "end")])
        last = self.column("time")[self.first[1:] - 1]
        return np.asarray(cuts[np.minimum(np.searchsorted(cuts, last, side="right"), 2)])

    def days_since(self, happens: BoolArray) -> FloatArray:
        """Days from the last row where something happens until the end (m,); NaN where none is ahead."""
        last = np.full(len(self.window), -1)
        rows = np.flatnonzero(happens)
        last[self.owner[rows]] = rows  # the last assignment wins
        days = (self.until - self.column("time")[last]) / DAY
        return np.where(last[self.whose] >= self.at, days[self.whose], np.nan)


def step_starts(prepared: Prepared, window: Window) -> IntArray:
    """Rows at which a step of the window's visitors begins."""
    offsets = prepared.step_offsets
    first, last = (np.searchsorted(offsets, rows) for rows in (window.start, window.end))
    return offsets[ragged_ranges(first, last)]


def parts(
    prepared: Prepared, names: Names, window: Window, *, steps: bool, rows: int = ROWS_AT_ONCE
) -> Iterator[Histories]:
    """The histories of a window, some visitors at a time, so that a part has `rows` at most (one visitor at least)."""
    done = np.cumsum(window.end - window.start)
    begin = 0
    while begin < len(window):
        before = done[begin - 1] if begin else 0
        end = max(int(np.searchsorted(done, before + rows, side="right")), begin + 1)
        yield Histories(prepared, names, Window(*(a[begin:end] for a in vars(window).values())), steps=steps)
        begin = end
