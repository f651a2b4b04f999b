"""Take a person out of a prepared dataset, as if they had never come; what was learned from them is another matter."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.identities import PERSON
from shopkeeper.data.prepare import finish, replace_folder
from shopkeeper.data.prepared import IDENTITIES, Prepared
from shopkeeper.data.privacy import pseudonym_of, secret_of
from shopkeeper.data.settings import PrivacyConfig
from shopkeeper.data.windows import train_window

FORMER_HASHES = "former_hashes"
"""Key of the manifest: what the dataset was before somebody was taken out, by which older runs know it."""
FORGOTTEN = "forgotten on request"


class Forgotten(NamedTuple):
    """What went, under which hashes runs know the dataset, and whether training rows were among what went."""

    rows: int
    sessions: int
    hashes: list[str]
    in_train: bool


def forget(path: str | Path, user: str) -> Forgotten:
    """Remove a person's events, sessions, segments and aliases; the folder is replaced whole or not at all.

    `user` is the id as the log has it, or any alias of it. Items stay, as they are no personal data; the rules of
    segments are fitted anew on the customers who are left.

    Raises:
        UserError: when the dataset knows no such person, or is made of nobody else.
    """
    prepared = Prepared.read(path)
    visitor = find_visitor(prepared, user)
    offsets = np.asarray(prepared.visitors["row_offsets"])
    if len(offsets) == 2:
        raise UserError(f"prepared={path} holds nobody else: remove the folder")
    rows = (int(offsets[visitor]), int(offsets[visitor + 1]))
    sessions = tuple(np.searchsorted(prepared.sessions["visitor"], [visitor, visitor + 1]).tolist())
    held_out = prepared.visitors["held_out"][visitor] != s.TRAIN
    fitted = np.zeros(0, int) if held_out else train_items(prepared, *rows)
    in_train = visitor in train_window(prepared).visitor
    folder = prepared.path.with_name(f"{prepared.path.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    copy_without(prepared, folder, visitor, rows, sessions, fitted)
    manifest = prepared.manifest
    manifest[FORMER_HASHES] = [*manifest.get(FORMER_HASHES, []), prepared.content_hash]
    taken = account(prepared, rows)
    counts, dropped = manifest["counts"], manifest["dropped"]
    counts |= {name: counts[name] - taken[name] for name in ("events", "purchases")}
    counts |= {"sessions": counts["sessions"] - (sessions[1] - sessions[0]), "visitors": counts["visitors"] - 1}
    counts["rows_dropped"] += taken["events"]
    dropped[FORGOTTEN] = dropped.get(FORGOTTEN, 0) + taken["events"]
    finish(folder, manifest)
    replace_folder(folder, prepared.path)
    return Forgotten(taken["events"], sessions[1] - sessions[0], manifest[FORMER_HASHES], in_train)


def find_visitor(prepared: Prepared, user: str) -> int:
    """Number of the visitor that an id belongs to, by way of pseudonyms and aliases where the dataset has them."""
    privacy = PrivacyConfig(**prepared.manifest["config"]["privacy"])
    secret = secret_of(privacy)
    name = user if secret is None else pseudonym_of(user, secret)
    if (prepared.path / IDENTITIES).exists():
        aliases = pd.read_parquet(prepared.path / IDENTITIES).set_index(s.ALIAS)[PERSON]
        name = str(aliases.get(name, name))
    visitors = prepared.visitors_frame()
    found = visitors.index[visitors["visitor_key"] == f"u:{name}"]
    if not len(found):
        raise UserError(f"user={user}: prepared={prepared.path} holds no such person")
    return int(found[0])


def train_items(prepared: Prepared, begin: int, end: int) -> np.ndarray:
    """Items of the rows [begin, end) that count as training rows."""
    before = prepared.rows["time"][begin:end] < prepared.cut("val_start")
    items = prepared.rows["item"][begin:end][before]
    return np.asarray(items[items > 0])


def account(prepared: Prepared, rows: tuple[int, int]) -> dict[str, int]:
    order = prepared.rows["order"][rows[0] : rows[1]]
    return {"events": rows[1] - rows[0], "purchases": int((order >= 0).sum())}


def copy_without(
    prepared: Prepared,
    folder: Path,
    visitor: int,
    rows: tuple[int, int],
    sessions: tuple[int, ...],
    fitted: np.ndarray,
) -> None:
    """Write all of a dataset but one visitor; visitors, sessions and orders after theirs move up."""
    orders = np.unique(prepared.rows["order"][rows[0] : rows[1]])
    orders = orders[orders >= 0]
    moves = {"visitor": (visitor, 1), "session": (sessions[0], sessions[1] - sessions[0])}
    moves["order"] = (int(orders[0]), len(orders)) if len(orders) else (0, 0)
    kinds: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
        "rows": (prepared.rows, rows),
        "sessions": (prepared.sessions, sessions),
        "visitors": ({"held_out": prepared.visitors["held_out"]}, (visitor, visitor + 1)),
    }
    for kind, (arrays, (begin, end)) in kinds.items():
        (folder / kind).mkdir(parents=True)
        for name, array in arrays.items():
            kept = np.concatenate([array[:begin], array[end:]])
            first, by = moves.get(name, (0, 0))
            np.save(folder / kind / f"{name}.npy", np.where(kept > first, kept - by, kept) if by else kept)
    offsets = np.asarray(prepared.visitors["row_offsets"])
    kept = np.concatenate([offsets[: visitor + 1], offsets[visitor + 2 :] - (rows[1] - rows[0])])
    np.save(folder / "visitors" / "row_offsets.npy", kept)
    copy_tables(prepared, folder, visitor, fitted)


def copy_tables(prepared: Prepared, folder: Path, visitor: int, fitted: np.ndarray) -> None:
    """Write the side tables without a visitor; what items sold in training is told without them."""
    visitors = pq.read_table(prepared.path / "visitors.parquet")
    number = visitors["visitor"]
    person = visitors.filter(pc.equal(number, visitor))[s.USER][0].as_py()
    moved = pc.subtract(number, pc.cast(pc.greater(number, visitor), pa.int32()))
    kept = visitors.set_column(visitors.schema.get_field_index("visitor"), "visitor", moved)
    pq.write_table(kept.filter(pc.not_equal(number, visitor)), folder / "visitors.parquet")
    items = pq.read_table(prepared.path / "items.parquet")
    left = items["train_events"].to_numpy() - np.bincount(fitted, minlength=len(items) + 1)[1:]
    place = items.schema.get_field_index("train_events")
    pq.write_table(items.set_column(place, "train_events", pa.array(left)), folder / "items.parquet")
    if (prepared.path / IDENTITIES).exists():
        aliases = pq.read_table(prepared.path / IDENTITIES)
        pq.write_table(aliases.filter(pc.not_equal(aliases[PERSON], person)), folder / IDENTITIES)
