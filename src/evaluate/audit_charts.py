"""Pictures of the audit; matplotlib's Figure alone, as in the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shopkeeper.data import schema as s
from shopkeeper.evaluate.charts import COLOURS, new_figure
from shopkeeper.evaluate.order import ShuffleTest
from shopkeeper.evaluate.sanity import LENGTHS, Conversion, Drift, Lengths, Overlap, PhaseFlow, Sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def timeline_figure(sizes: Sizes) -> "Figure":
    """Events over time, a bar per stretch of days, coloured by the split they fall in."""
    unit = "day" if sizes.days == 1 else f"{sizes.days} days"
    figure, axes = new_figure(xlabel=f"from {sizes.start} (UTC)", ylabel=f"events per {unit}")
    starts = np.datetime64(sizes.start) + sizes.days * np.arange(len(sizes.timeline[0]))
    below = np.zeros(len(starts))
    for name, colour, events in zip(s.SPLITS, COLOURS, sizes.timeline, strict=False):
        axes.bar(np.arange(len(starts)), events, bottom=below, width=1.0, color=colour, label=name)
        below += events
    marks = np.unique(np.linspace(0, len(starts) - 1, 6).astype(int))
    axes.set_xticks(marks, [str(starts[mark])[5:] for mark in marks])
    legend_above(axes)
    return figure


def lengths_figure(lengths: Lengths) -> "Figure":
    """Share of the sessions of each split by their number of events."""
    figure, axes = new_figure(xlabel="events in the session", ylabel="share of sessions")
    places = np.arange(len(LENGTHS))
    for number, (name, bars) in enumerate(zip(s.SPLITS, lengths.bars, strict=True)):
        axes.bar(
            places + 0.27 * (number - 1), np.array(bars) / max(sum(bars), 1), 0.27, label=name, color=COLOURS[number]
        )
    axes.set_xticks(places, length_labels())
    legend_above(axes)
    return figure


def length_labels() -> list[str]:
    """`1`, `4-5`, ..., `101+`: what each bar of the histogram takes."""
    ends = [end - 1 for end in LENGTHS[1:]]
    return [str(a) if a == b else f"{a}-{b}" for a, b in zip(LENGTHS, ends, strict=False)] + [f"{LENGTHS[-1]}+"]


def shuffle_figure(tests: Sequence[ShuffleTest], *, ylabel: str) -> "Figure":
    """Hit rates with their intervals: in order beside shuffled, for each population."""
    figure, axes = new_figure(xlabel="population", ylabel=ylabel)
    for number, (name, label) in enumerate((("in_order", "history in order"), ("shuffled", "history shuffled"))):
        found = [getattr(test, name) for test in tests]
        means = [interval.mean for interval in found]
        reach = [[i.mean - i.low for i in found], [i.high - i.mean for i in found]]
        places = np.arange(len(tests)) + 0.3 * (number - 0.5)
        axes.bar(places, means, 0.3, yerr=np.maximum(reach, 0), capsize=4, color=COLOURS[number], label=label)
    axes.set_xticks(range(len(tests)), [f"{test.population}: {test.verdict}" for test in tests])
    legend_above(axes)
    return figure


def conversion_figure(rows: Sequence[Conversion]) -> "Figure":
    """Share of sessions that buy, a dot with its interval per value, the columns apart by colour."""
    figure, axes = new_figure(xlabel="share of sessions that buy, 95% interval", ylabel="")
    figure.set_size_inches(7.2, 1.4 + 0.28 * len(rows))
    columns = list(dict.fromkeys(row.column for row in rows))
    for place, row in enumerate(rows):
        reach = [[max(row.rate - row.low, 0)], [max(row.high - row.rate, 0)]]
        colour = COLOURS[columns.index(row.column) % len(COLOURS)]
        axes.errorbar([row.rate], [place], xerr=reach, fmt="o", color=colour, capsize=3)
    axes.axvline(rows[0].rate, color="#888888", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    return figure


def label(row: Conversion) -> str:
    """A value with its column, safe against the mathematics that matplotlib reads between dollar signs."""
    text = f"{row.column}: {row.value}" if row.column else row.value
    return (text if len(text) <= 32 else f"{text[:31]}…").replace("$", r"\$")


def drift_figure(drifts: Sequence[Drift]) -> "Figure":
    """Divergence of each split's item popularity from train's, beside what chance alone gives."""
    figure, axes = new_figure(xlabel="split", ylabel="Jensen-Shannon divergence from train, bits")
    for number, (name, text) in enumerate((("divergence", "found"), ("by_chance", "by chance alone"))):
        places = np.arange(len(drifts)) + 0.3 * (number - 0.5)
        axes.bar(places, [getattr(drift, name) for drift in drifts], 0.3, color=COLOURS[number], label=text)
    axes.set_xticks(range(len(drifts)), [drift.split for drift in drifts])
    legend_above(axes)
    return figure


def overlap_figure(overlap: Overlap) -> "Figure":
    """Two maps: what share of a split's items and visitors (row) another split (column) holds too."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    for number, (name, counts) in enumerate((("items", overlap.items), ("visitors", overlap.visitors))):
        axes = figure.add_subplot(1, 2, number + 1)
        axes.set_title(name)
        own = np.maximum(np.diag(counts), 1)[:, None]
        heat_map(axes, np.array(counts) / own, s.SPLITS)
    return figure


def phase_figure(flow: PhaseFlow) -> "Figure":
    """Where a visitor goes from a phase (row) with the next event (column): shares of the row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("to")
    axes.set_ylabel("from")
    counts = np.array(flow.flow)
    heat_map(axes, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), s.PHASES)
    return figure


def legend_above(axes: "Axes") -> None:
    """The legend in a line over the axes, where no bar can reach."""
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))


def heat_map(axes: "Axes", shares: np.ndarray, names: Sequence[str]) -> None:
    """Draw a square of shares with each number written in its cell."""
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=25)
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(*shares.shape):
        share = float(shares[row, column])
        text = f"{100 * share:.1f}%"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
