"""What would make every later number too good: the checks of an audit that end in exit code 1.

Each looks at what `prepare` wrote and works the truth out anew from times and held-out marks; none trusts a stored
number. `Prepared` is read as memory-mapped arrays, and a check holds a few arrays of their length at most.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.data.windows import known_window, strangers, train_window
from shopkeeper.data.writer import content_hash
from shopkeeper.evaluate.checks import Check, leak_when, not_applicable, percent

BoolArray = npt.NDArray[np.bool_]

MIN_SESSIONS = 20
"""Buyers and non-buyers each that a context column is judged on: with fewer, 99% right says little."""

GIVEN_AWAY = 0.99
"""Share of buyers and of non-buyers that a column must tell on its own to count as the outcome in disguise."""

MIN_ROWS = 3
"""Different rows that two sessions must share before they count as one session under two names."""

COARSE = 15 * 60 * 1_000_000
"""Quarter of an hour in microseconds: whole days of any time zone are multiples of it."""


def train_rows(prepared: Prepared) -> BoolArray:
    """Rows a training run may see (rows,): before the train cut, of visitors who are not held out."""
    regular = np.asarray(prepared.visitors["held_out"]) == s.TRAIN
    return np.asarray((prepared.rows["time"] < prepared.cut("val_start")) & regular[prepared.rows["visitor"]])


def split_by_time(prepared: Prepared, time: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """The split that each time falls in by the cuts of the manifest; a time at a cut is after it."""
    cuts = [prepared.cut("val_start"), prepared.cut("test_start")]
    return np.searchsorted(cuts, np.asarray(time), side="right").astype(np.int8)


def sessions_across_cuts(prepared: Prepared) -> Check[dict[str, int]]:
    """A session lies in the split of its first event, whole; training sees no row at or after the train cut.

    The rows of a session that goes on after a cut are counted besides: evaluation sets them aside, so they leak
    nothing. A session may begin before its first row, with a `session_start`, and never after it.
    """
    name = "sessions across a cut"
    time, begins = prepared.rows["time"], np.asarray(prepared.sessions["time"])
    first = np.full(len(begins), np.iinfo(np.int64).max)
    np.minimum.at(first, prepared.rows["session"], time)
    window = training(prepared)
    seen = ragged_ranges(window.start, window.end)
    after = np.asarray(split_by_time(prepared, time) > prepared.row_split)
    figures = {
        "sessions": len(begins),
        "sessions in the wrong split": int((split_by_time(prepared, begins) != prepared.sessions["split"]).sum()),
        "sessions said to begin after their first event": int((begins > first).sum()),
        "training rows at or after the train cut": int((time[seen] >= prepared.cut("val_start")).sum()),
        "sessions that go on after a cut": len(np.unique(prepared.rows["session"][after])),
        "their rows after the cut": int(after.sum()),
    }
    wrong = sum(list(figures.values())[1:4])
    if wrong:
        return leak_when(name, True, tell(figures, skip=("sessions",)), figures)
    straddling, rows = figures["sessions that go on after a cut"], figures["their rows after the cut"]
    says = f"none of {len(begins):,} lies in two splits; {straddling:,} go on after a cut, {rows:,} rows set aside"
    return leak_when(name, False, says, figures)


def training(prepared: Prepared) -> Window:
    """`train_window`, possibly of nobody."""
    try:
        return train_window(prepared)
    except UserError:
        nobody = np.empty(0, np.int64)
        return Window(nobody, nobody, nobody)


def tell(figures: dict[str, int], *, skip: tuple[str, ...] = ()) -> str:
    """The figures that are not zero, as words."""
    return "; ".join(f"{value:,} {name}" for name, value in figures.items() if value and name not in skip)


def training_artifacts(prepared: Prepared) -> Check[dict[str, int]]:
    """Counts and vocabularies that models start from rest on training rows alone.

    Compared are the items' `train_events`, which items are known (those with a training row and those that the items
    table lists), and the known words of the events and of every context column (those of a training row, or, for a
    context, of a session that a training visitor began before the cut).
    """
    fitted = train_rows(prepared)
    catalogue = prepared.items_frame()
    events = np.bincount(prepared.rows["item"][fitted], minlength=len(catalogue) + 1)[1:]
    known = np.arange(len(catalogue)) < prepared.num_items()
    figures = {
        "items": len(catalogue),
        "items with another count of training events": int((events != catalogue["train_events"].to_numpy()).sum()),
        "items known without a training event or a listing": int(
            (known & (events == 0) & ~catalogue["listed"].to_numpy(bool)).sum()
        ),
    }
    words = {s.EVENT: prepared.rows["event"][fitted]} | {
        c: np.append(prepared.rows[f"context_{c}"][fitted], entries(prepared, c)) for c in prepared.context_columns
    }
    for column, codes in words.items():
        unseen = np.setdiff1d(np.arange(1, len(prepared.vocabulary(column)) + 1), codes)
        allowed = [s.ENTRY_EVENT] if column == s.EVENT else []
        figures[f"values of {column} known without a training row"] = len(np.setdiff1d(unseen, allowed))
    says = (
        tell(figures, skip=("items",))
        or f"{len(catalogue):,} items, and the words of {', '.join(words)}, rest on train alone"
    )
    return leak_when("training artifacts", any(list(figures.values())[1:]), says, figures)


def entries(prepared: Prepared, column: str) -> npt.NDArray[np.int32]:
    """Codes of a context column on entry to the sessions that training may see."""
    regular = np.asarray(prepared.visitors["held_out"]) == s.TRAIN
    fitted = (prepared.sessions["time"] < prepared.cut("val_start")) & regular[prepared.sessions["visitor"]]
    return np.asarray(prepared.sessions[f"context_{column}"][fitted])


def users_apart(prepared: Prepared) -> Check[dict[str, int]]:
    """Strangers are in no training row, never known users of their split as well, and strangers once only.

    Visitors are compared by the key they were made from, so that a user who was numbered twice is found.
    """
    key = pd.factorize(pd.read_parquet(prepared.path / "visitors.parquet", columns=["visitor_key"])["visitor_key"])[0]
    train = key[training(prepared).visitor]
    new = {split: key[strangers(prepared, split).visitor] for split in (s.VAL, s.TEST)}
    figures = {f"strangers of {s.SPLITS[split]}": len(visitors) for split, visitors in new.items()}
    for split, visitors in new.items():
        name, known = s.SPLITS[split], key[known_window(prepared, split).visitor]
        figures[f"strangers of {name} with rows in train"] = len(np.intersect1d(visitors, train))
        figures[f"strangers of {name} who are its known users too"] = len(np.intersect1d(visitors, known))
    figures["strangers of val who are strangers of test too"] = len(np.intersect1d(new[s.VAL], new[s.TEST]))
    figures["visitors numbered twice"] = len(key) - len(np.unique(key))
    counts = " and ".join(f"{len(visitors):,} of {s.SPLITS[split]}" for split, visitors in new.items())
    says = tell(dict(list(figures.items())[2:])) or f"strangers {counts} have no row in train and overlap with nobody"
    return leak_when("users across strangers and known", any(list(figures.values())[2:]), says, figures)


def same_history_twice(prepared: Prepared) -> Check[dict[str, int]]:
    """Nobody is a stranger under one name and known under another.

    A session of a stranger (all of its sessions, also those of a held-out user before its split) must not be, row by
    row (time, event, item), a session of another visitor who has rows in train. Sessions with fewer than three
    different rows are passed over, and so are logs whose times are no finer than a quarter of an hour: there equal
    sessions happen by chance.
    """
    name = "the same history under another name"
    time = prepared.rows["time"]
    if not (time % COARSE).any():
        return not_applicable(name, "the times are no finer than a quarter of an hour")
    owner = np.asarray(prepared.sessions["visitor"])
    is_new, in_train = (np.zeros(len(prepared.visitors["held_out"]), bool) for _ in range(2))
    for split in (s.VAL, s.TEST):
        is_new[strangers(prepared, split).visitor] = True
    in_train[training(prepared).visitor] = True
    sessions = Sessions.of(prepared)
    long = sessions.different >= MIN_ROWS
    asked, known = np.flatnonzero(long & is_new[owner]), np.flatnonzero(long & in_train[owner])
    left, right = equal_pairs(sessions.hashes, asked, known)
    left, right = sessions.verified(prepared, left, right, owner[left] != owner[right])
    early = split_by_time(prepared, prepared.sessions["time"][right]) == s.TRAIN
    figures = {
        "sessions of strangers compared": len(asked),
        "sessions of strangers found under another name": len(np.unique(left)),
        "strangers found under another name": len(np.unique(owner[left])),
        "of these sessions in train": len(np.unique(left[early])),
    }
    found = figures["sessions of strangers found under another name"]
    says = (
        f"{found:,} of {len(asked):,} sessions of strangers ({percent(found, len(asked))}) are sessions of a visitor "
        f"in train too, {figures['of these sessions in train']:,} of them before the cut"
        if found
        else f"none of {len(asked):,} sessions of strangers is a session of a visitor in train"
    )
    return leak_when(name, bool(found), says, figures)


@dataclass(frozen=True)
class Sessions:
    """Rows session by session, those of one session by their hash: tied times have no order to compare."""

    order: IntArray  # (rows,) rows of the prepared dataset
    offsets: IntArray  # (sessions + 1,) into `order`
    hashes: npt.NDArray[np.uint64]  # (sessions,) of all rows of a session
    different: IntArray  # (sessions,) rows that differ from each other

    @classmethod
    def of(cls, prepared: Prepared) -> "Sessions":
        session, rows = np.asarray(prepared.rows["session"]), hashed_rows(prepared)
        order = np.lexsort([rows, session])
        rows, session = rows[order], session[order]
        sizes = np.bincount(session, minlength=len(prepared.sessions["time"]))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(rows)])  # wraps around, and so does the difference
        again = (rows[1:] == rows[:-1]) & (session[1:] == session[:-1])
        different = sizes - np.bincount(session[1:][again], minlength=len(sizes))
        return cls(order, offsets, total[offsets[1:]] - total[offsets[:-1]], different)

    def verified(
        self, prepared: Prepared, left: IntArray, right: IntArray, chosen: BoolArray
    ) -> tuple[IntArray, IntArray]:
        """The chosen pairs of sessions whose rows are equal indeed, and not just their hashes."""
        sizes = np.diff(self.offsets)
        chosen = chosen & (sizes[left] == sizes[right])
        left, right = left[chosen], right[chosen]
        ours, theirs = (self.order[ragged_ranges(self.offsets[p], self.offsets[p + 1])] for p in (left, right))
        pair = np.repeat(np.arange(len(left)), sizes[left])
        equal = np.ones(len(left), bool)
        for column in ("time", "event", "item"):
            equal[pair[prepared.rows[column][ours] != prepared.rows[column][theirs]]] = False
        return left[equal], right[equal]


def hashed_rows(prepared: Prepared) -> npt.NDArray[np.uint64]:
    """A hash of each row's time, event and item (rows,)."""
    hashes = mixed(np.asarray(prepared.rows["time"]).astype(np.uint64))
    for column in ("event", "item"):
        hashes = mixed(hashes ^ np.asarray(prepared.rows[column]).astype(np.uint64))
    return hashes


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One step of splitmix64: every bit of the value moves every bit of the result.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators",
    https://doi.org/10.1145/2660193.2660195.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def equal_pairs(hashes: npt.NDArray[np.uint64], asked: IntArray, known: IntArray) -> tuple[IntArray, IntArray]:
    """Pairs (asked, known) of sessions with the same hash."""
    known = known[np.argsort(hashes[known], kind="stable")]
    first, last = (np.searchsorted(hashes[known], hashes[asked], side=side) for side in ("left", "right"))
    return np.repeat(asked, last - first), known[ragged_ranges(first, last)]


def content_unchanged(prepared: Prepared) -> Check[dict[str, str]]:
    """The arrays are those that `prepare` wrote: they still hash to the manifest's content hash."""
    found = content_hash(prepared.path)
    figures = {"manifest": prepared.content_hash, "arrays": found}
    changed = found != prepared.content_hash
    says = f"the arrays hash to {found[:12]}, " + (
        f"the manifest says {prepared.content_hash[:12]}: prepare the dataset again"
        if changed
        else "as the manifest says"
    )
    return leak_when("content hash", changed, says, figures)


def telling_context(prepared: Prepared) -> Check[dict[str, dict[str, float]]]:
    """No context value, known on entry, gives away whether the session will buy.

    A column predicts that a session buys when most training sessions of its value did; a value that training has not
    seen (so that an id of its own per session explains nothing) takes the majority of all. It gives the outcome away
    when on validation sessions it is right for at least 99% of the buyers and of the non-buyers both, with 20 of each:
    a guess by the base rate is right for all of one and none of the other. An absent value is a value as well.
    """
    name = "context that gives the outcome away"
    if prepared.order_only:
        return not_applicable(name, "every session of an order-only log buys")
    if not prepared.context_columns:
        return not_applicable(name, "the log has no context columns")
    split, bought = np.asarray(prepared.sessions["split"]), buying_sessions(prepared)
    regular = np.asarray(prepared.visitors["held_out"])[prepared.sessions["visitor"]] == s.TRAIN
    train, val = (split == s.TRAIN) & regular, split == s.VAL
    buyers, others = int(bought[val].sum()), int((~bought[val]).sum())
    if min(buyers, others) < MIN_SESSIONS or not train.any():
        return not_applicable(
            name, f"validation has {buyers:,} buying and {others:,} other sessions, under {MIN_SESSIONS}"
        )
    figures = {}
    for column in prepared.context_columns:
        codes = np.asarray(prepared.sessions[f"context_{column}"])
        right = majority(codes[train], bought[train], codes[val]) == bought[val]
        figures[column] = {
            "values in train": len(np.unique(codes[train])),
            "buyers told": float(right[bought[val]].mean()),
            "others told": float(right[~bought[val]].mean()),
        }
    told = [c for c, f in figures.items() if min(f["buyers told"], f["others told"]) >= GIVEN_AWAY]
    shown = told or figures
    parts = [
        f"{c} {100 * shares['buyers told']:.1f}% of buyers, {100 * shares['others told']:.1f}% of others"
        for c, shares in figures.items()
        if c in shown
    ]
    says = (
        "told in validation by "
        + "; by ".join(parts)
        + (f": leave {', '.join(told)} out of data.context" if told else "")
    )
    return leak_when(name, bool(told), says, figures)


def buying_sessions(prepared: Prepared) -> BoolArray:
    """Whether each session holds a purchase (sessions,)."""
    found = np.zeros(len(prepared.sessions["time"]), bool)
    found[prepared.rows["session"][prepared.rows["order"] >= 0]] = True
    return found


def majority(codes: IntArray, outcome: BoolArray, asked: IntArray) -> BoolArray:
    """Whether most of the training sessions of each asked value bought (n,); of all, for a value they have not."""
    sizes = np.bincount(codes, minlength=int(asked.max(initial=0)) + 1)
    buys = np.bincount(codes, outcome, minlength=len(sizes))
    return np.asarray(np.where(sizes[asked] > 0, 2 * buys[asked] > sizes[asked], 2 * outcome.sum() > len(outcome)))
