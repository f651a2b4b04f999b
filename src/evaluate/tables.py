"""From judged ranks to the table: every model on every slice, with intervals and paired differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.evaluate.intervals import Interval, clustered_intervals, verdict
from shopkeeper.evaluate.metrics import METRICS, per_example

POOLED = "k>=1"
ALL = "all"
REPEAT, NEW, NEW_ALONE = "repeat targets", "new targets", "new targets, seen excluded"
OPTIMUM = "optimum"
"""Family of the model that knows the truth of a simulated shop: a bound, no baseline."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One model's ranks on n examples with M targets; models of a task and population share the examples."""

    model: str
    task: str
    population: str
    visitor: IntArray  # (n,)
    k: IntArray  # (n,) steps seen
    offsets: IntArray  # (n + 1,) into the targets
    ranks: IntArray  # (M,)
    repeat: BoolArray  # (M,) the target stood in the visible history
    cold: BoolArray  # (M,) the target never occurred in training
    missing: BoolArray  # (M,) the target is outside the model's catalogue
    baseline: bool
    unseen_ranks: IntArray | None = None  # (M,) where what the history names is taken off the list
    left_out: dict[str, int] = field(default_factory=dict)  # prediction moments not among the examples, by reason


@dataclass(frozen=True)
class Slice:
    """A name, the examples it takes (n,), and, where it looks at some targets only, those (M,).

    `unseen` takes the ranks among the items that the history does not name.
    """

    name: str
    examples: BoolArray
    targets: BoolArray | None = None
    unseen: bool = False


def tabulate(
    judged: Sequence[Judged], *, ks: Sequence[int], cutoff: int, resamples: int, seed: int, subject: str
) -> dict[str, Any]:
    """The content of metrics.json: a row for every task, population, slice and model.

    A row's `metrics` maps e.g. "ndcg@20" to mean, low and high. Rows of the subject and of every model that is no
    baseline carry `differences`: their paired ndcg difference to each baseline, with a verdict; `best_baseline` names
    the one with the highest mean ndcg on the slice.
    """
    tasks = list(dict.fromkeys(j.task for j in judged))
    table: dict[str, Any] = {
        "protocol": {"ks": sorted(ks), "cutoff": cutoff, "resamples": resamples, "seed": seed, "level": 0.95},
        "subject": subject,
        "tasks": {task: {"rows": [], "counts": {}} for task in tasks},
    }
    for task in tasks:
        for population in s.POPULATIONS:
            group = [j for j in judged if j.task == task and j.population == population]
            if not group or not len(group[0].k):
                continue
            table["tasks"][task]["counts"][population] = count(group[0])
            for part in slices(group[0], ks):
                rows = slice_rows(group, part, cutoff=cutoff, resamples=resamples, seed=seed, subject=subject)
                table["tasks"][task]["rows"] += rows
    return table


def count(judged: Judged) -> dict[str, int]:
    """What the population was judged on; targets outside the catalogue are misses, and cold ones nearly always."""
    return {
        "examples": len(judged.k),
        "visitors": len(np.unique(judged.visitor)),
        "targets": len(judged.ranks),
        "repeat targets": int(judged.repeat.sum()),
        "targets never seen in training": int(judged.cold.sum()),
        "targets outside the catalogue": int(judged.missing.sum()),
    } | judged.left_out


def slices(judged: Judged, ks: Sequence[int]) -> Iterator[Slice]:
    """Strangers: each k, all k >= 1, and of these by kind of target. Known users: all, and by kind of target.

    New targets are judged once more on lists without the items seen, as a shop shows them that shows what is new.
    """
    if judged.population == s.STRANGERS:
        yield from (Slice(f"k={k}", judged.k == k) for k in sorted(ks))
    pooled = judged.k >= 1 if judged.population == s.STRANGERS else np.ones(len(judged.k), bool)
    yield Slice(POOLED if judged.population == s.STRANGERS else ALL, pooled)
    yield Slice(REPEAT, pooled, judged.repeat)
    yield Slice(NEW, pooled, ~judged.repeat)
    if judged.unseen_ranks is not None:
        yield Slice(NEW_ALONE, pooled, ~judged.repeat, unseen=True)
    yield Slice("cold targets", pooled, judged.cold)


def slice_rows(
    group: Sequence[Judged], part: Slice, *, cutoff: int, resamples: int, seed: int, subject: str
) -> list[dict[str, Any]]:
    """A row per model, all resampled together; none where the slice holds no example with a target."""
    names = [f"{metric}@{cutoff}" for metric in METRICS]
    values = {j.model: sliced_values(j, part, cutoff) for j in group}
    kept = ~np.isnan(values[group[0].model][names[0]])
    if not kept.any():
        return []
    main = f"ndcg@{cutoff}"
    baselines = [j.model for j in group if j.baseline]
    pairs = [(j.model, b) for j in group if not j.baseline or j.model == subject for b in baselines if b != j.model]
    pairs += [(subject, OPTIMUM) for j in group if j.model == OPTIMUM]
    columns = [values[j.model][name] for j in group for name in names]
    columns += [values[model][main] - values[other][main] for model, other in pairs]
    visitor = group[0].visitor
    found = clustered_intervals(np.stack(columns, axis=1)[kept], visitor[kept], resamples=resamples, seed=seed)
    intervals = {j.model: dict(zip(names, found[i * len(names) :], strict=False)) for i, j in enumerate(group)}
    differences = dict(zip(pairs, found[len(group) * len(names) :], strict=True))
    return [row(j, part, intervals, differences, main) for j in group]


def sliced_values(judged: Judged, part: Slice, cutoff: int) -> dict[str, npt.NDArray[np.float64]]:
    """Metrics (n,) of the examples in the slice on the targets it looks at; NaN elsewhere."""
    ranks, offsets = judged.ranks, judged.offsets
    if part.unseen:
        assert judged.unseen_ranks is not None
        ranks = judged.unseen_ranks
    if part.targets is not None:
        offsets = np.concatenate([[0], np.cumsum(part.targets)])[offsets]
        ranks = ranks[part.targets]
    values = per_example(ranks, offsets, cutoff)
    return {name: np.where(part.examples, value, np.nan) for name, value in values.items()}


def row(
    judged: Judged,
    part: Slice,
    intervals: Mapping[str, Mapping[str, Interval]],
    differences: Mapping[tuple[str, str], Interval],
    main: str,
) -> dict[str, Any]:
    own = {other: difference for (model, other), difference in differences.items() if model == judged.model}
    examples = intervals[judged.model][main]
    return {
        "model": judged.model,
        "baseline": judged.baseline,
        "population": judged.population,
        "slice": part.name,
        "examples": examples.examples,
        "visitors": examples.visitors,
        "metrics": {name: as_dict(interval) for name, interval in intervals[judged.model].items()},
        "best_baseline": max(set(own) - {OPTIMUM}, key=lambda other: intervals[other][main].mean, default=None),
        "differences": {o: as_dict(d) | {"metric": main, "verdict": verdict(d)} for o, d in own.items()},
    }


def as_dict(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def rows_of(metrics: Mapping[str, Any], task: str, population: str, *, part: str) -> list[dict[str, Any]]:
    """The rows of one slice, a model each."""
    rows: list[dict[str, Any]] = metrics["tasks"][task]["rows"]
    return [r for r in rows if r["population"] == population and r["slice"] == part]


def warm_up_text(metrics: Mapping[str, Any], *, task: str) -> str:
    """The warm-up curve as plain text: a line per model, a column per k, and the pooled mean with its interval."""
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    parts = [f"k={k}" for k in metrics["protocol"]["ks"]]
    parts = [part for part in parts if rows_of(metrics, task, s.STRANGERS, part=part)]
    cells = {(r["model"], p): r["metrics"][main] for p in parts for r in rows_of(metrics, task, s.STRANGERS, part=p)}
    pooled = rows_of(metrics, task, s.STRANGERS, part=POOLED)
    width = max(len(s.STRANGERS), *(len(r["model"]) for r in pooled))
    lines = [f"{'model':<{width}}" + "".join(f"{p:>8}" for p in parts) + f"   {POOLED} [95% interval]"]
    for r in pooled:
        value = r["metrics"][main]
        means = "".join(f"{cells[r['model'], p]['mean']:>8.4f}" for p in parts)
        lines.append(f"{r['model']:<{width}}{means}   {value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]")
    counts = {p: rows_of(metrics, task, s.STRANGERS, part=p)[0]["visitors"] for p in parts}
    lines.append(f"{'strangers':<{width}}" + "".join(f"{counts[p]:>8,}" for p in parts))
    lines += [sentence for r in pooled for sentence in verdict_sentences(r, part=POOLED)]
    return "\n".join(lines)


def verdict_sentences(pooled: Mapping[str, Any], *, part: str) -> list[str]:
    """The comparisons of one row in words, the best baseline first."""
    best = pooled["best_baseline"]
    others = sorted(pooled["differences"], key=lambda other: other != best)
    return [
        difference_sentence(pooled["model"], o, pooled["differences"][o], best=o == best, part=part) for o in others
    ]


def difference_sentence(model: str, other: str, found: Mapping[str, Any], *, best: bool, part: str) -> str:
    if other == OPTIMUM:
        numbers = f"{-found['mean']:.4f} [{-found['high']:.4f}, {-found['low']:.4f}] {found['metric']}"
        return f"gap of {model} to the optimum at {part}: {numbers}"
    judgement = {"better": "beats", "worse": "loses to"}.get(found["verdict"])
    name = f"{other}{', the best baseline' if best else ''}"
    numbers = f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] {found['metric']}"
    if judgement is None:
        return f"{model} against {name}: {found['verdict']} at {part}: {numbers}"
    return f"{model} {judgement} {name} at {part}: {numbers}"
