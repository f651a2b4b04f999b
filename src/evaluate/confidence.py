"""Whether confidence holds: how often the 90% sets cover, and how often a visitor is addressed as what they are not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.outcomes import MASKED, Outcome
from shopkeeper.evaluate.classified import Classified
from shopkeeper.evaluate.intervals import clustered_intervals
from shopkeeper.evaluate.judgements import Sets
from shopkeeper.evaluate.outcomes import EVERY_K
from shopkeeper.evaluate.tables import as_dict

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def by_k(k: IntArray, ks: Sequence[int]) -> Iterator[tuple[str, BoolArray]]:
    """Slices that hold an example: each k, and all of them."""
    yield from ((f"k={number}", k == number) for number in sorted(ks) if (k == number).any())
    if len(k):
        yield EVERY_K, np.ones(len(k), bool)


def set_rows(
    sets: Sets,
    *,
    visitor: IntArray,
    k: IntArray,
    known: BoolArray,
    segments: Mapping[str, tuple[Outcome, IntArray]],
    ks: Sequence[int],
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """A row per k, and per class of every segment over all k.

    Coverage is the share of examples whose set holds one of their targets. `known` (n,) says which examples have a
    target inside the catalogue; the others, which no set can cover, are counted apart. `segments` hold the true
    class (n,) at each example.
    """
    parts = list(by_k(k, ks))
    for name, (outcome, label) in segments.items():
        parts += [(f"{name} = {c}", label == code) for code, c in enumerate(outcome.classes) if (label == code).any()]
    rows = []
    for part, chosen in parts:
        inside = chosen & known
        if not inside.any():
            continue
        columns = np.stack([sets.covers[inside], sets.size[inside]], axis=1).astype(np.float64)
        coverage, size = clustered_intervals(columns, visitor[inside], resamples=resamples, seed=seed)
        rows.append(
            {
                "slice": part,
                "examples": coverage.examples,
                "visitors": coverage.visitors,
                "outside the catalogue": int((chosen & ~known).sum()),
                "coverage": as_dict(coverage),
                "mean size": as_dict(size),
                "median size": float(np.median(sets.size[inside])),
            }
        )
    return rows


def depth_rows(
    found: Classified,
    labels: Mapping[str, IntArray],
    *,
    visitor: IntArray,
    k: IntArray,
    ks: Sequence[int],
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """A row per k: the share of moments at each depth, and of those addressed as a segment the share wrongly so.

    `segments` of a row map each segment to its `addressed` share, how many of these have a known class (`judged`), and
    their `error` with its interval, null where there is none to judge. A moment counts for a segment when it may be
    addressed as it, whether the answer is more personal still or not.
    """
    assert found.depth is not None
    rows = []
    for part, chosen in by_k(k, ks):
        shares = [(found.depth[chosen] == place).mean() for place in range(len(s.DEPTHS))]
        segments = {}
        for name, addressed in found.addressed.items():
            judged = chosen & addressed & (labels[name] != MASKED)
            wrong = found.log_probabilities[name].argmax(axis=1) != labels[name]
            error = None
            if judged.any():
                column = wrong[judged, None].astype(np.float64)
                error = as_dict(clustered_intervals(column, visitor[judged], resamples=resamples, seed=seed)[0])
            segments[name] = {
                "addressed": float(addressed[chosen].mean()),
                "judged": int(judged.sum()),
                "error": error,
            }
        rows.append(
            {
                "slice": part,
                "examples": int(chosen.sum()),
                "visitors": len(np.unique(visitor[chosen])),
                "share": {name: float(share) for name, share in zip(s.DEPTHS, shares, strict=True)},
                "segments": segments,
            }
        )
    return rows
