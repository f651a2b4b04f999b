"""Pictures of outcomes: skill by steps seen, and how often what was said came true."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.charts import COLOURS, MARKERS, draw_bands, new_figure
from shopkeeper.evaluate.outcomes import outcome_rows
from shopkeeper.models.classifiers import PRIOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def skill_figure(metrics: Mapping[str, Any], *, outcome: str) -> "Figure":
    """Skill of strangers over the prior by steps seen, a line with its 95% band per model."""
    figure, axes = new_figure(xlabel="steps seen (k)", ylabel="skill over the prior, 95% interval")
    parts = {k: outcome_rows(metrics, outcome, s.STRANGERS, part=f"k={k}") for k in metrics["protocol"]["ks"]}
    values = {
        k: {r["model"]: r["metrics"]["skill"] for r in rows if r["model"] != PRIOR} for k, rows in parts.items() if rows
    }
    axes.axhline(0.0, color="#888888", linewidth=1)
    draw_bands(axes, values, subject=metrics["subject"])
    return figure


def reliability_figure(metrics: Mapping[str, Any], *, outcome: str) -> "Figure":
    """How often it came true by what was said, over all k of strangers, a line per model; the diagonal is right."""
    figure, axes = new_figure(xlabel="said probability", ylabel="came true")
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1)
    curves = metrics["outcomes"][outcome]["reliability"]
    for number, (model, points) in enumerate(curves.items()):
        axes.plot(
            [point["said"] for point in points],
            [point["true"] for point in points],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=2.6 if model == metrics["subject"] else 1.0,
            label=model,
        )
    axes.legend(frameon=False)
    return figure
