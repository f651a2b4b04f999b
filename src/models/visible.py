"""What is visible at a moment as plain numbers: what a regression or a boosted tree can be given instead of a history.

Of every history, cut to its last steps as neural models read it: how often each event, phase, category and context
value occurred, the entry's context, the last event, the clock, how long it has gone on, and how dear it is.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.data import schema as s
from shopkeeper.data.batches import entry, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import IntArray, Prepared, ragged_ranges
from shopkeeper.models.contract import FitData

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

EXAMPLES_AT_ONCE = 4096
SECOND = 1_000_000


@dataclass(frozen=True)
class Visible:
    """Turns moments into numbers; what is worth a column was learned from the train window alone.

    Attributes:
        kinds: (V + 1, N) 1 where the item belongs to a category that is counted, or is itself counted.
        kind_names: (N,) what is counted.
        list_price: (V + 1,) of the catalogue, for rows without a price; 0 where unknown.
        price_level: (V + 1,) mean log price of the item's kind; a price is dear or cheap beside it.
        context: per context column the codes that are counted.
    """

    prepared: Prepared
    max_len: int
    events: int
    kinds: sp.csr_array
    kind_names: list[str]
    list_price: npt.NDArray[np.float64]
    price_level: npt.NDArray[np.float64]
    context: dict[str, IntArray]

    @classmethod
    def of(cls, data: FitData, *, max_len: int, columns: int) -> "Visible":
        """Choose the `columns` most frequent categories (items where there are none), and as many context values."""
        kinds, names = item_kinds(data, columns)
        listed = list_prices(data)
        return cls(
            prepared=data.prepared,
            max_len=max_len,
            events=data.vocabulary.num_events,
            kinds=kinds,
            kind_names=names,
            list_price=listed,
            price_level=price_levels(data, kinds, listed),
            context=frequent_context(data, columns),
        )

    def names(self) -> list[str]:
        """Of the columns, in order."""
        prepared = self.prepared
        events = prepared.vocabulary(s.EVENT)[: self.events]
        phases = [f"phase {phase}" for phase in s.PHASES]
        return [
            *(f"{name}: {what}" for name in ("count", "share") for what in [*events, *phases, *self.kind_names]),
            *(f"last event: {event}" for event in events),
            *(
                f"{name}: {column} {prepared.vocabulary(column)[code - 1]}"
                for name in ("count", "entry")
                for column, codes in self.context.items()
                for code in codes
            ),
            *CLOCK,
            *LENGTHS,
        ]

    def at(self, examples: Examples, *, without: str | None = None) -> FloatArray:
        """Columns (n, F) of each moment; zero those of the context column `without`, as where it is not known."""
        begins = range(0, len(examples), EXAMPLES_AT_ONCE)
        chunks = [np.arange(b, min(b + EXAMPLES_AT_ONCE, len(examples))) for b in begins]
        blocks = [self.block(examples.only(chunk), without) for chunk in chunks]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.names())), np.float32)

    def block(self, examples: Examples, without: str | None) -> FloatArray:
        prepared, count = self.prepared, len(examples)
        pieces = example_pieces(examples, self.max_len)
        start = prepared.step_offsets[pieces.first]
        end = np.maximum(np.minimum(prepared.step_offsets[pieces.last], pieces.limit), start)
        rows, size = ragged_ranges(start, end), end - start
        owner = np.repeat(np.arange(count), size)
        counts = np.concatenate(
            [
                tally(owner, np.asarray(prepared.rows[s.EVENT])[rows], count, self.events),
                tally(owner, np.asarray(prepared.rows["phase"])[rows], count, len(s.PHASES)),
                self.kinds_seen(owner, np.asarray(prepared.rows["item"])[rows], count),
            ],
            axis=1,
        )
        time, context = entry(prepared, pieces)
        seen_context = prepared.context(prepared.rows, rows)
        for place, column in enumerate(self.context):
            if column == without:
                context[:, place] = seen_context[:, place] = s.PAD
        chosen = list(enumerate(self.context.values()))
        during = [tally_of(owner, seen_context[:, place], count, codes) for place, codes in chosen]
        at_entry = [context[:, place, None] == codes for place, codes in chosen]
        last = np.where(size > 0, np.asarray(prepared.rows[s.EVENT])[np.maximum(end - 1, 0)], s.PAD)
        columns = [
            np.log1p(counts),
            counts / np.maximum(size, 1)[:, None],
            last[:, None] == np.arange(1, self.events + 1),
            *map(np.log1p, during),
            *at_entry,
            clock(time),
            self.lengths(pieces.last - pieces.first, start, end, owner, rows, time),
        ]
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def kinds_seen(self, owner: IntArray, item: IntArray, count: int) -> npt.NDArray[np.float64]:
        known = np.where(item < self.kinds.shape[0], item, s.PAD)
        seen = sp.csr_array((np.ones(len(owner)), (owner, known)), shape=(count, self.kinds.shape[0]))
        return np.asarray((seen @ self.kinds).toarray())

    def lengths(
        self, steps: IntArray, start: IntArray, end: IntArray, owner: IntArray, rows: IntArray, entered: IntArray
    ) -> npt.NDArray[np.float64]:
        """Steps, rows and distinct items so far, seconds since the start and the row before, relative prices (n, 7)."""
        prepared, count = self.prepared, len(steps)
        time = np.asarray(prepared.rows["time"])
        latest = np.where(end > start, time[np.maximum(end - 1, 0)] // SECOND, entered)
        before = np.where(end - start > 1, time[np.maximum(end - 2, 0)] // SECOND, latest)
        item = np.asarray(prepared.rows["item"])[rows]
        named = np.unique(owner[item > 0] * np.int64(2**32) + item[item > 0]) >> 32
        item = np.where(item < len(self.list_price), item, s.PAD)
        price = price_of(item, np.asarray(prepared.rows[s.PRICE])[rows], self.list_price)
        priced = price > 0
        dear = np.log(np.where(priced, price, 1.0)) - self.price_level[item]
        known = np.bincount(owner[priced], minlength=count)
        columns = [
            np.log1p(steps),
            np.log1p(end - start),
            np.log1p(np.bincount(named, minlength=count)),
            np.log1p(np.maximum(latest - entered, 0)),
            np.log1p(np.maximum(latest - before, 0)),
            np.bincount(owner[priced], dear[priced], minlength=count) / np.maximum(known, 1),
            np.log1p(known),
        ]
        return np.stack(columns, axis=1)


LENGTHS = ("steps", "rows", "items", "seconds", "seconds since the row before", "relative price", "rows with a price")
CLOCK = ("sin hour", "cos hour", *(f"weekday {day}" for day in range(7)))


def clock(time: IntArray) -> npt.NDArray[np.float64]:
    """Hour on a circle and weekday (n, 9) of the entry, in UTC; Monday is 0."""
    angle = 2 * np.pi * (time % 86_400) / 86_400
    weekday = (time // 86_400 + 3) % 7  # 1970-01-01 was a Thursday
    return np.column_stack([np.sin(angle), np.cos(angle), weekday[:, None] == np.arange(7)])


def tally(owner: IntArray, code: IntArray, count: int, codes: int) -> npt.NDArray[np.float64]:
    """How often each code from 1 to `codes` occurs for each owner (count, codes); others are passed over."""
    return tally_of(owner, code, count, np.arange(1, codes + 1))


def tally_of(owner: IntArray, code: IntArray, count: int, codes: IntArray) -> npt.NDArray[np.float64]:
    """How often each of the ascending `codes` occurs for each owner (count, len(codes))."""
    place = np.minimum(np.searchsorted(codes, code), max(len(codes) - 1, 0))
    kept = codes[place] == code if len(codes) else np.zeros(len(code), bool)
    cell = owner[kept] * len(codes) + place[kept]
    return np.bincount(cell, minlength=count * len(codes)).reshape(count, len(codes)).astype(np.float64)


def item_kinds(data: FitData, columns: int) -> tuple[sp.csr_array, list[str]]:
    """What items are counted by (V + 1, N) and its names: the most frequent of all levels of the category paths.

    Without categories the most frequent items stand for themselves.
    """
    frame, known = data.prepared.items_frame(), data.vocabulary.num_items
    item = np.asarray(data.prepared.rows["item"])[data.rows()]
    times = np.bincount(item[(item > 0) & (item <= known)], minlength=known + 1)
    if s.CATEGORY in frame and frame[s.CATEGORY].iloc[:known].notna().any():
        paths: list[Any] = frame[s.CATEGORY].iloc[:known].tolist()
        names = [levels(path) for path in paths]
    else:
        names = [[name] for name in frame[s.ITEM].iloc[:known].tolist()]
    weight: Counter[str] = Counter()
    for one, often in zip(names, times[1:].tolist(), strict=True):
        weight.update(dict.fromkeys(one, often))
    chosen = [name for name, often in weight.most_common(columns) if often > 0]
    place = {name: number for number, name in enumerate(chosen)}
    pairs = [(i, place[name]) for i, one in enumerate(names, start=1) for name in one if name in place]
    index = np.array(pairs, np.int64).reshape(-1, 2).T
    table = sp.csr_array((np.ones(len(pairs)), (index[0], index[1])), shape=(known + 1, len(chosen)))
    return table, chosen


def levels(path: Any) -> list[str]:
    """levels("a > b > c") -> ["a", "a > b", "a > b > c"]."""
    parts = path.split(s.PATH) if isinstance(path, str) else []
    return [s.PATH.join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def list_prices(data: FitData) -> npt.NDArray[np.float64]:
    """Price of each known item in the catalogue (V + 1,); 0 where it is unknown."""
    frame, known = data.prepared.items_frame(), data.vocabulary.num_items
    listed = frame[s.PRICE].iloc[:known].to_numpy(np.float64) if s.PRICE in frame else np.zeros(known)
    return np.append(0.0, np.nan_to_num(listed))


def price_of(
    item: IntArray, price: npt.NDArray[np.float64], listed: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The row's price, else the catalogue's (n,); 0 where neither is known or no item is named."""
    return np.where(item > 0, np.where(price > 0, price, listed[item]), 0.0)


def price_levels(data: FitData, kinds: sp.csr_array, listed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean log price of the rows of each item's finest counted kind (V + 1,); of all rows where it has none."""
    rows, size = data.rows(), len(listed)
    item = np.asarray(data.prepared.rows["item"])[rows]
    item = np.where(item < size, item, s.PAD)
    price = price_of(item, np.asarray(data.prepared.rows[s.PRICE])[rows], listed)
    item, logs = item[price > 0], np.log(price[price > 0])
    everywhere = float(logs.mean()) if len(logs) else 0.0
    often = np.asarray(kinds.T @ np.bincount(item, minlength=size))
    sums = np.asarray(kinds.T @ np.bincount(item, logs, minlength=size))
    level = np.full(size, everywhere)
    for kind in np.argsort(-often, kind="stable"):  # a finer kind lies in a coarser one, and so comes later
        if often[kind]:
            level[kinds[:, [kind]].tocoo().coords[0]] = sums[kind] / often[kind]
    return level


def frequent_context(data: FitData, columns: int) -> dict[str, IntArray]:
    """The `columns` most frequent known codes of each context column over the window's rows, ascending."""
    prepared, rows = data.prepared, data.rows()
    found = {}
    for column, known in zip(prepared.context_columns, data.vocabulary.context, strict=True):
        times = np.bincount(np.asarray(prepared.rows[f"context_{column}"])[rows], minlength=known + 1)[: known + 1]
        times[s.PAD] = 0
        best = np.argsort(-times, kind="stable")[:columns]
        found[column] = np.sort(best[times[best] > 0]).astype(np.int64)
    return found
