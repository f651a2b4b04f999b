"""The Diginetica split of the papers on session data (SR-GNN, GCE-GNN, ...) as logs that shopkeeper reads.

Its training file holds sessions in time order without their times (the share of a tenth's items in the test week grows
from tenth to tenth), so each gets a day: the training sessions spread evenly over the 145 days before the test week.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

FIRST_DAY = pd.Timestamp("2016-01-01T12:00:00Z")
TRAIN_DAYS = 145


class Prefixes(NamedTuple):
    """What the papers judge: prefix i is item[offsets[i]:offsets[i + 1]], target[i] comes next; item ids."""

    offsets: np.ndarray
    item: np.ndarray
    target: np.ndarray


def training_events(folder: Path) -> pd.DataFrame:
    """The training clicks as an event table: session_id, timestamp, event, item_id."""
    train = pd.read_parquet(folder / "train.parquet").sort_values(["session", "pos"], kind="stable")
    day = train["session"] * TRAIN_DAYS // (train["session"].max() + 1)
    return pd.DataFrame(
        {
            "session_id": train["session"].astype(str),
            "timestamp": FIRST_DAY + pd.to_timedelta(day, unit="D") + pd.to_timedelta(train["pos"], unit="s"),
            "event": "view_item",
            "item_id": train["item"].astype(str),
        }
    )


def test_prefixes(folder: Path) -> Prefixes:
    """All 60,858 of them, in the file's order."""
    prefix = pd.read_parquet(folder / "test_prefix.parquet")
    number = prefix.iloc[:, 0].to_numpy()
    offsets = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(number)]])
    target = pd.read_parquet(folder / "test_target.parquet")["target"].to_numpy()
    if len(target) != len(offsets) - 1:
        raise ValueError(f"{folder}: {len(offsets) - 1} prefixes, {len(target)} targets")
    return Prefixes(offsets, prefix["item"].to_numpy(), target)
