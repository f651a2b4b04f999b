"""The parts of the report about outcomes, sets and depth, as the template takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.charts import to_svg
from shopkeeper.evaluate.outcome_charts import reliability_figure, skill_figure
from shopkeeper.evaluate.outcomes import EVERY_K, outcome_rows, sentences
from shopkeeper.evaluate.page import as_table, cell, plain_table
from shopkeeper.evaluate.tables import ALL

MEANING = {
    s.INTENT: "an order in the rest of the visit",
    s.PHASE: "the journey phase of the next event, given that there is one",
}
NAMES = {"log_loss": "log-loss", "skill": "skill", "accuracy": "accuracy", "auroc": "AUROC"}


def outcome_section(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = metrics["outcomes"][name]
    pooled = outcome_rows(metrics, name, s.STRANGERS, part=EVERY_K)
    return {
        "name": name,
        "anchor": name.replace(":", "-").replace(" ", "-"),
        "meaning": MEANING.get(name, "the class of the visitor: " + ", ".join(section["classes"])),
        "verdicts": sentences(metrics, name),
        "skill": to_svg(skill_figure(metrics, outcome=name)) if pooled else None,
        "skill_alt": "Skill by steps seen; "
        + "; ".join(f"{r['model']} {r['metrics']['skill']['mean']:.4f} over all k" for r in pooled),
        "reliability": to_svg(reliability_figure(metrics, outcome=name)) if pooled else None,
        "reliability_alt": "Reliability; " + "; ".join(f"ECE of {r['model']} {r['ece']:.4f}" for r in pooled),
        "tables": [table for table in outcome_tables(metrics, name) if table["lines"]],
        "counts": section["counts"],
        "count_names": list(next(iter(section["counts"].values()))),
    }


def outcome_tables(metrics: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Skill by k, paired verdicts by k, and every metric of strangers and of known users."""
    parts = [f"k={k}" for k in metrics["protocol"]["ks"]] + [EVERY_K]
    found = {part: outcome_rows(metrics, name, s.STRANGERS, part=part) for part in parts}
    found = {part: rows for part, rows in found.items() if rows}
    columns = [f"{part} ({rows[0]['visitors']:,} visitors)" for part, rows in found.items()]
    return [
        by_slice(metrics, found, columns, "skill", "Strangers by steps seen: skill over the prior"),
        by_slice(metrics, found, columns, "log_loss", "Strangers by steps seen: log-loss"),
        verdicts(metrics, found, columns),
        every_metric(metrics, name, s.STRANGERS, EVERY_K, "Strangers, all k: every metric"),
        every_metric(metrics, name, s.KNOWN_USERS, ALL, "Known users, their past visible: every metric"),
    ]


def by_slice(
    metrics: Mapping[str, Any], found: Mapping[str, list[Any]], columns: Sequence[str], metric: str, caption: str
) -> dict[str, Any]:
    models = [row["model"] for row in next(iter(found.values()), [])]
    cells = {m: [cell(rows[i]["metrics"][metric]) for rows in found.values()] for i, m in enumerate(models)}
    return as_table(metrics, caption, columns, cells)


def verdicts(metrics: Mapping[str, Any], found: Mapping[str, list[Any]], columns: Sequence[str]) -> dict[str, Any]:
    """A line per baseline: whether the subject says it better, in log-loss saved."""
    own = [next(row for row in rows if row["model"] == metrics["subject"]) for rows in found.values()]
    others = list(own[0]["differences"]) if own else []
    cells = {
        other: [
            {"mean": row["differences"][other]["verdict"], "range": cell(row["differences"][other])["range"]}
            for row in own
        ]
        for other in others
    }
    return as_table(metrics, f"{metrics['subject']} beside each baseline: log-loss saved, paired", columns, cells)


def every_metric(metrics: Mapping[str, Any], name: str, population: str, part: str, caption: str) -> dict[str, Any]:
    rows = outcome_rows(metrics, name, population, part=part)
    shown = [metric for metric in NAMES if rows and metric in rows[0]["metrics"]]
    cells = {
        r["model"]: [cell(r["metrics"][m]) for m in shown] + [{"mean": f"{r['ece']:.4f}", "range": ""}] for r in rows
    }
    return as_table(metrics, caption, [NAMES[metric] for metric in shown] + ["ECE"], cells)


# --- confidence ------------------------------------------------------------------------------------------------------


def sets_table(metrics: Mapping[str, Any], task: str) -> dict[str, Any]:
    """How often the 90% sets of the subject hold a target, and how long they are."""
    lines = {
        row["slice"]: [
            cell(row["coverage"]),
            {"mean": f"{row['mean size']['mean']:,.0f}", "range": ""},
            {"mean": f"{row['median size']:,.0f}", "range": ""},
            {"mean": f"{row['examples']:,}", "range": ""},
            {"mean": f"{row['outside the catalogue']:,}", "range": ""},
        ]
        for row in metrics["tasks"][task]["sets"]
    }
    columns = ["coverage", "mean size", "median size", "examples", "targets outside the catalogue"]
    return plain_table(f"Sets of {metrics['subject']} that should hold a target nine times out of ten", columns, lines)


def likelihood_table(metrics: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Log-loss of the softmax over the catalogue, and times the optimum's where that is known."""
    rows = [r for r in metrics["tasks"][task]["likelihood"] if r["population"] == s.STRANGERS]
    parts = list(dict.fromkeys(row["slice"] for row in rows))
    cells: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        ratio = (
            f"{row['gap']['ratio']['mean']:.3f} times the optimum's" if "gap" in row else cell(row["log_loss"])["range"]
        )
        cells.setdefault(row["model"], []).append({"mean": f"{row['log_loss']['mean']:.4f}", "range": ratio})
    return as_table(metrics, "Log-loss of the targets by the softmax over the catalogue", parts, cells)


def depth_table(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The share of moments at each depth by k, and how many of those addressed as a segment are not in it."""
    rows = metrics["depth"]
    lines = {}
    for row in rows:
        shares = [{"mean": f"{100 * row['share'][name]:.1f}%", "range": ""} for name in s.DEPTHS]
        lines[row["slice"]] = shares + [segment_cell(found) for found in row["segments"].values()]
    names = [f"{name}: wrongly addressed" for name in (rows[0]["segments"] if rows else [])]
    caption = "How personal the answers are by steps seen; of those who may be addressed as a segment, who is not in it"
    return plain_table(caption, [*s.DEPTHS, *names], lines)


def segment_cell(found: Mapping[str, Any]) -> dict[str, str]:
    share = f"{100 * found['addressed']:.1f}% addressed"
    if found["error"] is None:
        return {"mean": "-", "range": share}
    error = found["error"]
    interval = f"[{100 * error['low']:.1f}, {100 * error['high']:.1f}]"
    return {"mean": f"{100 * error['mean']:.1f}%", "range": f"{interval} of {found['judged']:,}; {share}"}
