"""What the page of an audit shows of each check: a picture where there is one, and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from shopkeeper.data import schema as s
from shopkeeper.evaluate import audit_charts as charts
from shopkeeper.evaluate import order, sanity, told
from shopkeeper.evaluate.charts import to_svg
from shopkeeper.evaluate.checks import Check
from shopkeeper.evaluate.intervals import Interval

Table = dict[str, Any]


def section(check: Check[Any]) -> dict[str, Any]:
    """A section of the page: the check's line, picture (None: there is none), caption and tables."""
    picture, caption = drawn(check)
    return {
        "anchor": check.name.replace(" ", "-"),
        "name": check.name,
        "status": check.status,
        "says": check.says,
        "picture": to_svg(picture) if picture is not None else None,
        "caption": caption,
        "tables": tables(check.figures),
    }


def drawn(check: Check[Any]) -> tuple[Any, str]:
    """The check's picture and what it shows."""
    figures = check.figures
    match figures:
        case sanity.Sizes():
            return charts.timeline_figure(figures), "Events over time. Evaluation sees the last two stretches only."
        case sanity.Lengths():
            return charts.lengths_figure(figures), "Sessions by their number of events, as shares of their split."
        case sanity.Overlap():
            return charts.overlap_figure(
                figures
            ), "Share of the row's items and visitors that the column's split has too."
        case sanity.PhaseFlow():
            return charts.phase_figure(figures), "From one event of a visitor to the next, as shares of the row."
        case [sanity.Conversion(), *_]:
            return charts.conversion_figure(
                figures
            ), "Sessions of train and validation; the dotted line is all of them."
        case [sanity.Drift(), *_]:
            return charts.drift_figure(figures), "0 bits: the same popularity as in train; 1 bit: no item in common."
        case [order.ShuffleTest(), *_]:
            caption = (
                "Predictions of a Markov chain from the last step of a history, and from a random earlier one: where "
                "the bars are alike, a model that reads the order has little to win."
            )
            return charts.shuffle_figure(figures, ylabel=check.says.partition(":")[0]), caption
    return None, ""


def tables(figures: Any) -> list[Table]:
    """The figures as tables; each has a caption, columns, and lines with a name and cells."""
    match figures:
        case sanity.Share():
            return [table("Events", ["count", "of", "share"], {"found": [figures.count, figures.of, str(figures)]})]
        case sanity.Sizes():
            columns = ["events", "sessions", "visitors"]
            cells = zip(figures.events, figures.sessions, figures.visitors, strict=True)
            return [table("Splits, by session", columns, dict(zip(s.SPLITS, cells, strict=True)))]
        case sanity.Lengths():
            return [lengths_table(figures)]
        case sanity.Overlap():
            return [
                table(f"{name} in both splits", s.SPLITS, dict(zip(s.SPLITS, counts, strict=True)))
                for name, counts in (("Items", figures.items), ("Visitors", figures.visitors))
            ]
        case sanity.PhaseFlow():
            named = dict(zip(s.PHASES, figures.flow, strict=True))
            events = {phase: [count] for phase, count in zip(s.PHASES, figures.events, strict=True)}
            return [table("Events of each phase", ["events"], events), table("From (row) to (column)", s.PHASES, named)]
        case [sanity.Conversion(), *_]:
            return [conversion_table(figures)]
        case [sanity.Drift(), *_]:
            columns = ["events on unseen items", "share", "divergence", "by chance"]
            cells_of = {d.split: [d.unseen.count, str(d.unseen), d.divergence, d.by_chance] for d in figures}
            return [table("Against the training events", columns, cells_of)]
        case [order.ShuffleTest(), *_]:
            return [shuffle_table(figures)]
        case [told.Told(), *_]:
            columns = ["visitors", "values", "right by class alone", "right by the value", "share told"]
            lines = {f"{t.segment} by {t.column}": [t.visitors, t.values, t.prior, t.right, t.told] for t in figures}
            return [table("The largest class of the other visitors with the same value", columns, lines)]
        case dict():
            return [dict_table(figures)]
    return []


def lengths_table(lengths: sanity.Lengths) -> Table:
    quantiles = [f"{100 * q:g}%" for q in sanity.QUANTILES]
    columns = ["mean", *quantiles, "longest"] + (["bounces"] if lengths.bounces else [])
    lines = {}
    for i, split in enumerate(s.SPLITS):
        bounces = [str(lengths.bounces[i])] if lengths.bounces else []
        found = [f"{value:g}" for value in lengths.quantiles[i]]
        lines[split] = [f"{lengths.mean[i]:.2f}", *found, lengths.longest[i], *bounces]
    return table("Events of a session", columns, lines)


def conversion_table(rows: Sequence[sanity.Conversion]) -> Table:
    lines = {
        full_label(row): [
            row.sessions,
            row.buyers,
            f"{100 * row.rate:.2f}%",
            f"[{100 * row.low:.2f}, {100 * row.high:.2f}]",
        ]
        for row in rows
    }
    caption = "Sessions that buy, with the 95% score interval of Wilson (1927), sessions taken as independent"
    return table(caption, ["sessions", "buyers", "rate", "interval"], lines)


def full_label(row: sanity.Conversion) -> str:
    return f"{row.column}: {row.value}" if row.column else row.value


def shuffle_table(tests: Sequence[order.ShuffleTest]) -> Table:
    columns = ["in order", "shuffled", "difference", "", "predictions", "visitors", "not sampled"]
    lines = {
        t.population: [
            *(interval_text(interval) for interval in (t.in_order, t.shuffled, t.difference)),
            t.verdict,
            t.difference.examples,
            t.difference.visitors,
            t.not_sampled,
        ]
        for t in tests
    }
    return table("Hit rates on validation, with 95% intervals by bootstrap over visitors", columns, lines)


def interval_text(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def dict_table(figures: Mapping[str, Any]) -> Table:
    """Names with a number or text each, or with the same few numbers each."""
    nested = [value for value in figures.values() if isinstance(value, Mapping)]
    if nested:
        return table("By column", list(nested[0]), {name: list(values.values()) for name, values in figures.items()})
    return table("What was counted", ["found"], {name: [value] for name, value in figures.items()})


def table(caption: str, columns: Sequence[str], lines: Mapping[str, Sequence[Any]]) -> Table:
    """Cells as text: whole numbers with their thousands, others with four digits after the point."""
    written = {name: [cell(value) for value in values] for name, values in lines.items()}
    return {"caption": caption, "columns": list(columns), "lines": written}


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
