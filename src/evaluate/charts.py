"""Pictures of the report as inline SVG; matplotlib's Figure alone, no pyplot and no global state."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate.tables import NEW, REPEAT, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Told apart with colour blindness (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""
MARKERS = "osD^vPX"


def warm_up_figure(metrics: Mapping[str, Any], *, task: str) -> "Figure":
    """ndcg of strangers by steps seen, a line with its 95% band per model; the subject is drawn thicker."""
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    figure, axes = new_figure(xlabel="steps seen (k)", ylabel=f"{main}, 95% interval")
    parts = {k: rows_of(metrics, task, s.STRANGERS, part=f"k={k}") for k in metrics["protocol"]["ks"]}
    values = {k: {r["model"]: r["metrics"][main] for r in rows} for k, rows in parts.items() if rows}
    draw_bands(axes, values, subject=metrics["subject"])
    axes.set_ylim(bottom=0)
    return figure


def draw_bands(axes: "Axes", values: Mapping[int, Mapping[str, Mapping[str, float]]], *, subject: str) -> None:
    """By k and model a mean between low and high: a line with its band per model, the subject's thicker."""
    ks = list(values)
    for number, model in enumerate(values[ks[0]] if ks else []):
        style = COLOURS[number % len(COLOURS)]
        places = range(len(ks))  # evenly spaced: most happens in the first steps
        low, mean, high = ([values[k][model][end] for k in ks] for end in ("low", "mean", "high"))
        axes.fill_between(places, low, high, color=style, alpha=0.12, linewidth=0)
        axes.plot(
            places,
            mean,
            color=style,
            marker=MARKERS[number % len(MARKERS)],
            linewidth=2.6 if model == subject else 1.4,
            label=model,
        )
    axes.set_xticks(range(len(ks)), [str(k) for k in ks])
    axes.legend(frameon=False)


def trade_off_figure(metrics: Mapping[str, Any], *, task: str) -> "Figure | None":
    """ndcg of strangers on repeat targets against that on new ones, a point with its 95% cross per model.

    None where one of the two was never judged.
    """
    main = f"ndcg@{metrics['protocol']['cutoff']}"
    repeat, new = (rows_of(metrics, task, s.STRANGERS, part=part) for part in (REPEAT, NEW))
    if not repeat or not new:
        return None
    figure, axes = new_figure(xlabel=f"{main} on repeat targets", ylabel=f"{main} on new targets")
    for number, (bought, fresh) in enumerate(zip(repeat, new, strict=True)):
        x, y = bought["metrics"][main], fresh["metrics"][main]
        axes.errorbar(
            x["mean"],
            y["mean"],
            xerr=[[x["mean"] - x["low"]], [x["high"] - x["mean"]]],
            yerr=[[y["mean"] - y["low"]], [y["high"] - y["mean"]]],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=9 if bought["model"] == metrics["subject"] else 6,
            linewidth=1,
            label=bought["model"],
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def curve_figure(curves: Mapping[str, Sequence[float]]) -> "Figure":
    """A training curve per metric, by epoch from 1."""
    figure, axes = new_figure(xlabel="epoch", ylabel="value")
    for number, (name, values) in enumerate(curves.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        axes.plot(range(1, len(values) + 1), list(values), label=name, **style)  # type: ignore[arg-type]
    axes.legend(frameon=False)
    return figure


def new_figure(*, xlabel: str, ylabel: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_svg(figure: "Figure") -> str:
    """The figure as an SVG element to stand inside HTML; the same figure gives the same text."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "shopkeeper", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
