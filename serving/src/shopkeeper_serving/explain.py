"""Why a visitor looks like a segment, by leaving out: the answer is computed again without each event and without each
column of context, exactly as if the request had come without it; what the probability of the segment's most probable
class loses by that is what the event or value brought. Nothing is approximated.

Left out are the latest `EXPLAINED_EVENTS` events besides `session_start`, one at a time; older ones count as given.
N events of one history, M versions of it.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from shopkeeper_serving.history import ENTRY_EVENT, Histories
from shopkeeper_serving.schemas import Influence

EXPLAINED_EVENTS: Final = 50
SHOWN: Final = 5
"""Influences named per segment, strongest first."""
NOISE: Final = 1e-6
"""Changes up to this are the rounding of another batch."""

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


def versions(history: Histories) -> tuple[Histories, IntArray, IntArray]:
    """One history whole, then without each of its latest events, then without each known column of context.

    Also the places (from 0) of the events and the columns that were left out.
    """
    events = np.flatnonzero(history.event != ENTRY_EVENT)[-EXPLAINED_EVENTS:]
    columns = np.flatnonzero((history.context > 0).any(axis=0))
    kept = np.ones((1 + len(events) + len(columns), len(history.event)), bool)  # (M, N)
    kept[1 + np.arange(len(events)), events] = False
    version, row = np.nonzero(kept)
    rows = {name: getattr(history, name)[row] for name in Histories._fields if name != "offsets"}
    blanked = np.concatenate([np.full(1 + len(events), -1), columns])[version]
    hidden = np.arange(history.context.shape[1]) == blanked[:, None]
    rows["context"] = np.where(hidden, 0, rows["context"])
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return Histories(offsets=offsets, **rows), events, columns


def influences(probability: FloatArray, events: IntArray, columns: list[str]) -> list[Influence]:
    """The strongest of one class, from its probability in every version (M,)."""
    change = probability[0] - probability[1:]
    strongest = np.argsort(-np.abs(change), kind="stable")[:SHOWN]
    count = len(events)
    return [
        Influence(
            change=float(change[place]),
            event=int(events[place]) if place < count else None,
            context=columns[place - count] if place >= count else None,
        )
        for place in strongest
        if abs(change[place]) > NOISE
    ]
