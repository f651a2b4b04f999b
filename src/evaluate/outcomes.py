"""From what models said of outcomes to the table: log-loss, skill, accuracy, AUROC and calibration on every slice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shopkeeper.data import schema as s
from shopkeeper.data.outcomes import Outcome
from shopkeeper.evaluate.intervals import Interval, Resampled, resample, verdict
from shopkeeper.evaluate.likelihood import gap_list
from shopkeeper.evaluate.probabilities import auroc, hits, log_losses, reliability
from shopkeeper.evaluate.tables import ALL, OPTIMUM, as_dict
from shopkeeper.models.classifiers import PRIOR

EVERY_K: Final = "all k"

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Told:
    """What one model said of an outcome at n moments of which the truth is known; models share the moments."""

    model: str
    outcome: Outcome
    population: str
    visitor: IntArray  # (n,)
    k: IntArray  # (n,) steps seen
    label: IntArray  # (n,) the true class
    log_probabilities: Array  # (n, C)
    baseline: bool
    left_out: dict[str, int] = field(default_factory=dict)  # moments not among these, by reason

    def only(self, chosen: BoolArray) -> "Told":
        parts = {name: getattr(self, name)[chosen] for name in ("visitor", "k", "label", "log_probabilities")}
        return Told(self.model, self.outcome, self.population, **parts, baseline=self.baseline, left_out=self.left_out)


def tabulate_outcomes(
    told: Sequence[Told], *, ks: Sequence[int], resamples: int, seed: int, subject: str
) -> dict[str, Any]:
    """`outcomes` of metrics.json: by outcome its classes, counts per population, rows and reliability.

    A row is a model on a slice: each k and all k of strangers, all moments of known users. Its `metrics` map
    "log_loss", "accuracy", "skill" (1 - log-loss / that of the prior) and, of two classes, "auroc" to mean, low and
    high; `ece` is a number. Rows of the subject carry `differences`: the log-loss that it saves beside each
    baseline, with a verdict; `best_baseline` names the one with the lowest log-loss on the slice. Where the optimum is
    known, `gap` holds a row's log-loss less the optimum's, and over it as `ratio`.
    """
    table: dict[str, Any] = {}
    for name in dict.fromkeys(t.outcome.name for t in told):
        section: dict[str, Any] = {"rows": [], "counts": {}, "reliability": {}}
        for population in s.POPULATIONS:
            group = [t for t in told if t.outcome.name == name and t.population == population]
            if not group or not len(group[0].k):
                continue
            section |= {"classes": list(group[0].outcome.classes)}
            section["counts"][population] = count(group[0])
            for part, chosen in slices(group[0], ks):
                parts = [t.only(chosen) for t in group]
                section["rows"] += slice_rows(parts, part, resamples=resamples, seed=seed, subject=subject)
            if population == s.STRANGERS:
                section["reliability"] = {t.model: curve(t) for t in group}
        if section["rows"]:
            table[name] = section
    return table


def count(told: Told) -> dict[str, int]:
    """What the population was judged on; the truth of every other moment is not known."""
    times = np.bincount(told.label, minlength=len(told.outcome.classes))
    classes = {f"truly {name}": int(number) for name, number in zip(told.outcome.classes, times, strict=True)}
    return {"examples": len(told.k), "visitors": len(np.unique(told.visitor))} | told.left_out | classes


def slices(told: Told, ks: Sequence[int]) -> Iterator[tuple[str, BoolArray]]:
    """Slices that hold an example, and which (n,)."""
    if told.population == s.STRANGERS:
        yield from ((f"k={k}", told.k == k) for k in sorted(ks) if (told.k == k).any())
    yield EVERY_K if told.population == s.STRANGERS else ALL, np.ones(len(told.k), bool)


def slice_rows(group: Sequence[Told], part: str, *, resamples: int, seed: int, subject: str) -> list[dict[str, Any]]:
    """A row per model, all resampled together."""
    models = [t.model for t in group]
    losses = [log_losses(t.log_probabilities, t.label) for t in group]
    right = [hits(t.log_probabilities, t.label) for t in group]
    found = resample(np.stack([*losses, *right], axis=1), group[0].visitor, resamples=resamples, seed=seed)
    rows = []
    for place, told in enumerate(group):
        metrics = {"log_loss": found.mean(place), "accuracy": found.mean(len(models) + place)}
        if PRIOR in models:
            metrics["skill"] = skill(found.ratio(place, models.index(PRIOR)))
        rows.append(
            {
                "model": told.model,
                "baseline": told.baseline,
                "population": told.population,
                "slice": part,
                "examples": found.examples,
                "visitors": found.visitors,
                "metrics": {name: as_dict(interval) for name, interval in metrics.items()}
                | area_of(told, resamples=resamples, seed=seed),
                "ece": reliability(told.log_probabilities, told.label).ece,
            }
            | comparisons(found, models, place, [t.baseline for t in group], subject)
        )
    return rows


def skill(ratio: Interval) -> Interval:
    """1 - ratio: the share of the prior's log-loss that is saved."""
    return ratio._replace(mean=1 - ratio.mean, low=1 - ratio.high, high=1 - ratio.low)


def area_of(told: Told, *, resamples: int, seed: int) -> dict[str, Any]:
    """AUROC of two classes, where the examples know both."""
    if len(told.outcome.classes) != 2:
        return {}
    found = auroc(told.log_probabilities[:, 1], told.label == 1, told.visitor, resamples=resamples, seed=seed)
    return {"auroc": as_dict(found)} if found else {}


def comparisons(
    found: Resampled, models: Sequence[str], place: int, baseline: Sequence[bool], subject: str
) -> dict[str, Any]:
    """Of the model at `place`; the columns of `found` begin with the losses of all models."""
    best = min((i for i, b in enumerate(baseline) if b and i != place), key=lambda i: found.means[i], default=None)
    compared = models[place] == subject
    content: dict[str, Any] = {
        "best_baseline": models[best] if compared and best is not None else None,
        "differences": {
            models[i]: as_dict(saved) | {"metric": "log_loss", "verdict": verdict(saved)}
            for i, b in enumerate(baseline)
            if compared and b and i != place
            for saved in [found.difference(i, place)]
        },
    }
    if OPTIMUM in models and models[place] != OPTIMUM:
        optimum = models.index(OPTIMUM)
        content["gap"] = as_dict(found.difference(place, optimum)) | {"ratio": as_dict(found.ratio(place, optimum))}
    return content


def curve(told: Told) -> list[dict[str, float]]:
    """The reliability curve over all k, a point per bin."""
    found = reliability(told.log_probabilities, told.label)
    columns = (found.said.tolist(), found.true.tolist(), found.examples.tolist())
    return [{"said": said, "true": true, "examples": examples} for said, true, examples in zip(*columns, strict=True)]


def outcome_rows(metrics: Mapping[str, Any], name: str, population: str, *, part: str) -> list[dict[str, Any]]:
    """The rows of one slice, a model each."""
    rows: list[dict[str, Any]] = metrics["outcomes"][name]["rows"]
    return [r for r in rows if r["population"] == population and r["slice"] == part]


def row_of(rows: Sequence[dict[str, Any]], model: str) -> dict[str, Any] | None:
    return next((row for row in rows if row["model"] == model), None)


# --- in words --------------------------------------------------------------------------------------------------------


def skill_text(metrics: Mapping[str, Any]) -> str:
    """A line per outcome: the subject's skill by k and over all, and how it compares with the best baseline."""
    parts = [f"k={k}" for k in metrics["protocol"]["ks"]]
    names = [
        n for n in metrics["outcomes"] if row_of(outcome_rows(metrics, n, s.STRANGERS, part=EVERY_K), subject(metrics))
    ]
    if not names:
        return ""
    width = max(len(name) for name in [*names, "outcome"])
    lines = [f"{'outcome':<{width}}" + "".join(f"{part:>8}" for part in parts) + f"   {EVERY_K} [95% interval]"]
    for name in names:
        found = [row_of(outcome_rows(metrics, name, s.STRANGERS, part=p), subject(metrics)) for p in [*parts, EVERY_K]]
        cells = "".join(f"{row['metrics']['skill']['mean']:>8.4f}" if row else f"{'':>8}" for row in found[:-1])
        pooled = found[-1]
        assert pooled is not None
        lines.append(f"{name:<{width}}{cells}   {shown(pooled['metrics']['skill'])}  {against(pooled)}")
    return "\n".join(lines)


def subject(metrics: Mapping[str, Any]) -> str:
    return str(metrics["subject"])


def shown(value: Mapping[str, float], *, sign: str = "") -> str:
    return f"{value['mean']:{sign}.4f} [{value['low']:{sign}.4f}, {value['high']:{sign}.4f}]"


def against(row: Mapping[str, Any]) -> str:
    """How a row compares with the best baseline, in log-loss."""
    best = row["best_baseline"]
    if best is None:
        return "nothing to compare with"
    found = row["differences"][best]
    words = {"better": f"better than {best}", "worse": f"worse than {best}"}
    judgement = words.get(found["verdict"], f"{found['verdict']} from {best}")
    return f"{judgement}: {shown(found, sign='+')} log-loss"


def sentences(metrics: Mapping[str, Any], name: str) -> list[str]:
    """The verdicts on one outcome: skill over the prior, against each baseline, by population; gaps to the optimum."""
    said = []
    for population, part, words in ((s.STRANGERS, EVERY_K, "all k, strangers"), (s.KNOWN_USERS, ALL, "known users")):
        row = row_of(outcome_rows(metrics, name, population, part=part), subject(metrics))
        if row is None:
            continue
        said.append(f"{subject(metrics)}, {words}: {skill_words(row)}")
        ordered = sorted(row["differences"], key=lambda other: other != row["best_baseline"])
        said += [difference_words(row, other, words) for other in ordered if other != PRIOR]
    return said + gap_sentences(metrics, name)


def gap_text(metrics: Mapping[str, Any]) -> list[str]:
    """The gaps to the optimum of every outcome, a line per k; of a simulated shop."""
    return [f"{name}: {line}" for name in metrics["outcomes"] for line in gap_sentences(metrics, name)]


def skill_words(row: Mapping[str, Any]) -> str:
    found = row["metrics"]["skill"]
    if found["low"] > 0:
        return f"skill over the prior {shown(found)}"
    if found["high"] < 0:
        return f"worse than the prior: {shown(found)}"
    return f"no skill over the prior: interval crosses zero, {shown(found)}"


def difference_words(row: Mapping[str, Any], other: str, words: str) -> str:
    found = row["differences"][other]
    judgement = {"better": "beats", "worse": "loses to"}.get(found["verdict"])
    name = f"{other}{', the best baseline' if other == row['best_baseline'] else ''}"
    numbers = f"log-loss lower by {shown(found, sign='+')}"
    if judgement is None:
        return f"{row['model']} against {name}, {words}: {found['verdict']}, {numbers}"
    return f"{row['model']} {judgement} {name}, {words}: {numbers}"


def gap_sentences(metrics: Mapping[str, Any], name: str) -> list[str]:
    """How far every model is from the optimum, by k; of a simulated shop."""
    said = []
    for k in metrics["protocol"]["ks"]:
        rows = outcome_rows(metrics, name, s.STRANGERS, part=f"k={k}")
        if any("gap" in row for row in rows):
            said.append(f"gap to the optimum's log-loss at k={k}: {gap_list(rows, f'k={k}')}")
    return said
