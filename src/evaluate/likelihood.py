"""How likely the next items were by the softmax over the catalogue: log-loss, and how far it is from the optimum's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.evaluate.intervals import resample
from shopkeeper.evaluate.tables import ALL, OPTIMUM, POOLED, as_dict

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def example_losses(log_probability: Array, offsets: IntArray) -> Array:
    """Mean over each example's targets inside the catalogue of -log p, NaN where there is none (n,).

    Args:
        log_probability: of the targets (M,), NaN outside the catalogue.
        offsets: (n + 1,) into the targets.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    known = ~np.isnan(log_probability)
    times = np.bincount(owner[known], minlength=len(offsets) - 1)
    sums = np.bincount(owner[known], -log_probability[known], minlength=len(offsets) - 1)
    return np.where(times > 0, sums / np.maximum(times, 1), np.nan)


def likelihood_rows(
    losses: Mapping[str, Array],
    *,
    visitor: IntArray,
    k: IntArray,
    population: str,
    ks: Sequence[int],
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """A row per slice and model of those whose scores are logits: `log_loss`, and `gap` to the optimum as in outcomes.

    Args:
        losses: by model (n,), NaN where no target is inside the catalogue, which is the same for all.
    """
    if not losses:
        return []
    models, columns = list(losses), np.stack(list(losses.values()), axis=1)
    known = ~np.isnan(columns).any(axis=1)
    strangers = population == s.STRANGERS
    parts = [(f"k={number}", k == number) for number in sorted(ks) if strangers]
    parts.append((POOLED, k >= 1) if strangers else (ALL, np.ones(len(k), bool)))
    rows = []
    for part, chosen in parts:
        judged = chosen & known
        if not judged.any():
            continue
        found = resample(columns[judged], visitor[judged], resamples=resamples, seed=seed)
        for place, model in enumerate(models):
            row = {
                "model": model,
                "population": population,
                "slice": part,
                "examples": found.examples,
                "visitors": found.visitors,
                "outside the catalogue": int((chosen & ~known).sum()),
                "log_loss": as_dict(found.mean(place)),
            }
            if OPTIMUM in models and model != OPTIMUM:
                best = models.index(OPTIMUM)
                row["gap"] = as_dict(found.difference(place, best)) | {"ratio": as_dict(found.ratio(place, best))}
            rows.append(row)
    return rows


def likelihood_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How far each model's log-loss is from the optimum's, by k, of a simulated shop's strangers."""
    parts = dict.fromkeys(r["slice"] for r in rows if r["population"] == s.STRANGERS and "gap" in r)
    return [f"gap to the optimum's log-loss at {part}: {gap_list(rows, part)}" for part in parts]


def gap_list(rows: Sequence[Mapping[str, Any]], part: str) -> str:
    """gap_list(rows, "k=1") -> "sasrec 0.0120 (1.030 times)"."""
    return ", ".join(
        f"{r['model']} {r['gap']['mean']:.4f} ({r['gap']['ratio']['mean']:.3f} times)"
        for r in rows
        if r["population"] == s.STRANGERS and r["slice"] == part and "gap" in r
    )
