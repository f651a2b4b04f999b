"""Codes -> the numbers of a prepared dataset: what train knows comes first, so that what it may know is a prefix."""

from pathlib import Path
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis import _
from numpy.lib.format import open_memmap

from shopkeeper.data import schema as s
from shopkeeper.data.coding import VISITOR_KEY, Coded
from shopkeeper.data.engines import Engine
from shopkeeper.data.shelving import ROWS_AT_ONCE, Shelved
from shopkeeper.data.sources import Source
from shopkeeper.data.split import HELD_OUT, Cuts
from shopkeeper.data.writer import read_part, write_columns, write_offsets, write_table

Counts = npt.NDArray[np.int64]


class Uses(NamedTuple):
    """How often each code occurs in the rows a training run may see, and in all (both from code 0)."""

    train: Counts
    all: Counts


def count_uses(folder: Path, name: str, size: int, cut: int, held_out: npt.NDArray[np.int8]) -> Uses:
    """Count the codes 0..size of an array of rows or sessions; train is before `cut` and without held-out users."""
    train, every = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    total = len(np.load(folder / "time.npy", mmap_mode="r"))
    for begin in range(0, total, ROWS_AT_ONCE):
        code, time, visitor = (
            read_part(folder / f"{n}.npy", begin, begin + ROWS_AT_ONCE) for n in (name, "time", "visitor")
        )
        fitted = (time < cut) & (held_out[visitor] == s.TRAIN)
        train += np.bincount(code[fitted], minlength=size + 1)
        every += np.bincount(code, minlength=size + 1)
    return Uses(train, every)


def renumber(file: Path, number: npt.NDArray[np.integer]) -> None:
    """Replace each code of an array by its number, in place."""
    array = open_memmap(file, mode="r+")
    for begin in range(0, len(array), ROWS_AT_ONCE):
        array[begin : begin + ROWS_AT_ONCE] = number[array[begin : begin + ROWS_AT_ONCE]]
    array.flush()


def known_first(values: list[str], uses: Uses, *, fixed: int = 0) -> tuple[list[str], int, npt.NDArray[np.int64]]:
    """Order values by whether train has them, then by name; return them, how many train has, and code -> number.

    Values come in the order of their codes, which is that of their names. The first `fixed` keep their place; others
    that are not used at all are left out.
    """
    codes = np.arange(1, len(values) + 1)
    known = (uses.train[1:] > 0) | (codes <= fixed)
    used = (uses.all[1:] > 0) | (codes <= fixed)
    order = np.concatenate([codes[known], codes[used & ~known]])
    number = np.zeros(len(values) + 1, np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return [values[code - 1] for code in order], int(known.sum()), number


def number_items(engine: Engine, codes: ir.Table, uses: Uses, source: Source) -> tuple[ir.Table, npt.NDArray[np.int64]]:
    """The catalogue, numbered from 1: first every item known at the train cut, then those that came later.

    Known is every item of a training row, and every row of `source.items` where these are listed: sold or not. That
    the known items are a prefix lets one numbering serve the evaluated model (the prefix) and the refitted one (all).
    Returns the catalogue and code -> number.
    """
    counts = pa.table(
        {"code": np.arange(len(uses.all), dtype=np.int32), "train_events": uses.train, "events": uses.all}
    )
    seen = codes.join(engine.put("item_counts", counts), "code").filter(_.events > 0)
    texts = {c: ibis.null("string") for c in s.ITEM_TEXTS}
    if source.items is None:
        joined = seen.mutate(listed=ibis.literal(False), **texts, price=ibis.null("float64"))
    else:
        side = source.items.mutate(listed=ibis.literal(source.items_are_listed))
        side = side.mutate(**{c: null for c, null in texts.items() if c not in side.columns})
        side = side if s.PRICE in side.columns else side.mutate(price=ibis.null("float64"))
        joined = seen.outer_join(side.select(s.ITEM, *s.ITEM_COLUMNS, "listed"), s.ITEM)
        joined = joined.mutate(item_id=ibis.coalesce(joined.item_id, joined.item_id_right)).drop("item_id_right")
        joined = joined.mutate(
            train_events=_.train_events.fill_null(0), events=_.events.fill_null(0), listed=_.listed.fill_null(False)
        )
        joined = joined.filter(_.listed | (_.events > 0))
    known = joined.mutate(known=_.listed | (_.train_events > 0))
    order = ibis.window(order_by=[ibis.desc("known"), s.ITEM])
    items = engine.store("items", known.mutate(item=(ibis.row_number().over(order) + 1).cast("int32")))
    sold = items.filter(_.code.notnull()).select("code", "item").execute()
    number = np.zeros(len(uses.all), np.int64)
    number[sold["code"].to_numpy(np.int64)] = sold["item"].to_numpy()
    return items, number


def kept_visitors(engine: Engine, coded: Coded, shelved: Shelved) -> ir.Table:
    """Visitors under their final numbers, which have no gaps where all rows of one were dropped."""
    kept = np.concatenate(shelved.visitors)
    if len(kept) == int(coded.visitors.count().execute()):
        return coded.visitors
    numbers = pa.table({"visitor": kept.astype(np.int32), "number": np.arange(len(kept), dtype=np.int32)})
    joined = coded.visitors.join(engine.put("kept_visitors", numbers), "visitor")
    return joined.select(VISITOR_KEY, visitor=_.number)


def write_visitors(engine: Engine, visitors: ir.Table, users: ir.Table | None, folder: Path) -> npt.NDArray[np.int8]:
    """Write who is held out, where a visitor's rows begin, and ids with segments; return the former (V,)."""
    ordered = visitors.order_by("visitor").select(**{HELD_OUT: _[HELD_OUT].cast("int8")})
    count = int(visitors.count().execute())
    write_columns(engine, ordered, folder / "visitors", count=count)
    write_offsets(folder / "rows" / "visitor.npy", folder / "visitors" / "row_offsets.npy", count=count)
    user = ibis.ifelse(_[VISITOR_KEY].startswith("u:"), _[VISITOR_KEY].substr(2), ibis.null("string"))
    named = visitors.select(VISITOR_KEY, "visitor", **{s.USER: user})
    if users is not None:
        named = named.left_join(users, s.USER).drop("user_id_right")
    write_table(engine, named.order_by("visitor"), folder / "visitors.parquet")
    held_out: npt.NDArray[np.int8] = np.load(folder / "visitors" / f"{HELD_OUT}.npy")
    return held_out


def write_items(
    engine: Engine, coded: Coded, source: Source, folder: Path, cuts: Cuts, held_out: npt.NDArray[np.int8]
) -> dict[str, int]:
    """Write the catalogue, give the rows its numbers, and return how many items there are and how many are known."""
    size = int(coded.items.count().execute())
    uses = count_uses(folder / "rows", "item", size, cuts.val_start, held_out)
    items, number = number_items(engine, coded.items, uses, source)
    renumber(folder / "rows" / "item.npy", number)
    columns = ["item", s.ITEM, s.TITLE, s.CATEGORY, s.BRAND, s.PRICE, "train_events", "listed"]
    write_table(engine, items.order_by("item").select(*columns), folder / "items.parquet")
    facts = items.aggregate(items=_.count(), known=_.known.cast("int64").sum()).execute().iloc[0]
    return {"items": int(facts["items"]), "items_known": int(facts["known"] or 0)}


def write_codes(
    folder: Path, column: str, values: list[str], cuts: Cuts, held_out: npt.NDArray[np.int8]
) -> tuple[list[str], int]:
    """Give the rows, and of context the visits, the final codes of a vocabulary; return it and how many train knows."""
    name = column if column == s.EVENT else f"context_{column}"
    kinds = ("rows",) if column == s.EVENT else ("rows", "sessions")
    found = [count_uses(folder / kind, name, len(values), cuts.val_start, held_out) for kind in kinds]
    uses = Uses(np.sum([u.train for u in found], axis=0), np.sum([u.all for u in found], axis=0))
    ordered, known, number = known_first(values, uses, fixed=int(column == s.EVENT))
    for kind in kinds:
        renumber(folder / kind / f"{name}.npy", number)
    return ordered, known
