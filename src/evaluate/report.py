"""metrics.json and one self-contained HTML page: the verdict in words, pictures, tables, what was left out."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.charts import curve_figure, to_svg, trade_off_figure, warm_up_figure
from shopkeeper.evaluate.likelihood import likelihood_sentences
from shopkeeper.evaluate.outcome_page import depth_table, likelihood_table, outcome_section, sets_table
from shopkeeper.evaluate.page import as_table, cell
from shopkeeper.evaluate.tables import ALL, NEW, NEW_ALONE, POOLED, REPEAT, rows_of, verdict_sentences

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"
MEANING = {
    s.TASK_PURCHASE: "the items of the next order",
    s.TASK_NEXT: "the item of the next event that differs from the last one",
    s.TASK_NEXT_ANY: "the item of the next event",
}


def write_report(
    metrics: Mapping[str, Any],
    output: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    drops: Sequence[tuple[str, str, int]],
    curves: Mapping[str, Sequence[float]],
    segments: str = "",
) -> tuple[Path, Path]:
    """Write `metrics.json` and `report.html` into `output`, each whole or not at all; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "facts": dict(facts), **metrics, "left_out": drops, "curves": curves}
    page = render(metrics, title=title, facts=facts, drops=drops, curves=curves, segments=segments)
    return (
        write_whole(output / METRICS_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n"),
        write_whole(output / REPORT_FILE, page),
    )


def write_whole(file: Path, text: str) -> Path:
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(file)


def render(
    metrics: Mapping[str, Any],
    *,
    title: str,
    facts: Mapping[str, str],
    drops: Sequence[tuple[str, str, int]],
    curves: Mapping[str, Sequence[float]],
    segments: str = "",
) -> str:
    """The page; all text is escaped, and it loads nothing. `segments` is the part that shows them, as HTML."""
    from jinja2 import Environment, StrictUndefined

    source = files("shopkeeper.evaluate").joinpath("report.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    shown = {name: values for name, values in curves.items() if len(values) > 1}
    return template.render(
        title=title,
        main=f"ndcg@{metrics['protocol']['cutoff']}",
        tasks=[task_section(metrics, task) for task in metrics["tasks"]],
        outcomes=[outcome_section(metrics, name) for name in metrics["outcomes"]],
        depth=depth_table(metrics),
        curve=to_svg(curve_figure(shown)) if shown else None,
        curve_alt="; ".join(f"{name} over {len(v)} epochs, best {max(v):.4f}" for name, v in shown.items()),
        segments=segments,
        drops=drops,
        facts=facts,
    )


def task_section(metrics: Mapping[str, Any], task: str) -> dict[str, Any]:
    counts = metrics["tasks"][task]["counts"]
    pooled = rows_of(metrics, task, s.STRANGERS, part=POOLED)
    known = rows_of(metrics, task, s.KNOWN_USERS, part=ALL)
    trade_off = trade_off_figure(metrics, task=task)
    return {
        "name": task,
        "meaning": MEANING.get(task, ""),
        "verdicts": [line for row in pooled for line in verdict_sentences(row, part=f"{POOLED}, strangers")]
        + [line for row in known for line in verdict_sentences(row, part="any k, known users")]
        + likelihood_sentences(metrics["tasks"][task]["likelihood"]),
        "chart": to_svg(warm_up_figure(metrics, task=task)),
        "alt": "Warm-up curve; " + "; ".join(f"{r['model']} {mean_of(r, metrics)} pooled over k >= 1" for r in pooled),
        "trade_off": to_svg(trade_off) if trade_off else None,
        "tables": [table for table in tables(metrics, task) if table["lines"]],
        "counts": counts,
        "count_names": list(next(iter(counts.values()), {})),
    }


def mean_of(row: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    return f"{row['metrics'][main]['mean']:.4f}"


def tables(metrics: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """Warm-up, pooled metrics, kinds of targets, known users, likelihood and sets."""
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    by_k = [f"k={k}" for k in metrics["protocol"]["ks"]] + [POOLED]
    kinds = [REPEAT, NEW, NEW_ALONE, "cold targets"]
    return [
        slice_table(metrics, task, s.STRANGERS, by_k, main, f"Strangers by steps seen: {main}"),
        metric_table(metrics, task, s.STRANGERS, POOLED, "Strangers, all k >= 1: every metric"),
        slice_table(metrics, task, s.STRANGERS, kinds, main, f"Strangers, k >= 1, on some targets alone: {main}"),
        metric_table(metrics, task, s.KNOWN_USERS, ALL, "Known users, their past visible: every metric"),
        slice_table(metrics, task, s.KNOWN_USERS, kinds, main, f"Known users, on some targets alone: {main}"),
        likelihood_table(metrics, task),
        sets_table(metrics, task),
    ]


def slice_table(
    metrics: Mapping[str, Any], task: str, population: str, parts: Sequence[str], main: str, caption: str
) -> dict[str, Any]:
    """A column per slice that has examples, a line per model."""
    found = {part: rows_of(metrics, task, population, part=part) for part in parts}
    found = {part: rows for part, rows in found.items() if rows}
    models = [row["model"] for row in next(iter(found.values()), [])]
    cells = {model: [cell(rows[i]["metrics"][main]) for rows in found.values()] for i, model in enumerate(models)}
    columns = [f"{part} ({rows[0]['visitors']:,} visitors)" for part, rows in found.items()]
    return as_table(metrics, caption, columns, cells)


def metric_table(metrics: Mapping[str, Any], task: str, population: str, part: str, caption: str) -> dict[str, Any]:
    """A column per metric, a line per model."""
    rows = rows_of(metrics, task, population, part=part)
    columns = list(rows[0]["metrics"]) if rows else []
    return as_table(metrics, caption, columns, {r["model"]: [cell(r["metrics"][c]) for c in columns] for r in rows})
