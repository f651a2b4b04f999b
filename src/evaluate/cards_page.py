"""The cards of segments as a part of an HTML page: a table and a picture for each segment."""

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from shopkeeper.evaluate.cards import Card, Lift, SegmentCards
from shopkeeper.evaluate.charts import COLOURS, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 12
"""Features of a picture."""
SHARES = ("conversion", "share lapsed")


def render_cards(cards: Sequence[SegmentCards]) -> str:
    """The part of a page, to stand inside it as it is; empty without cards. All text is escaped."""
    from jinja2 import Environment, StrictUndefined

    if not cards:
        return ""
    source = files("shopkeeper.evaluate").joinpath("cards.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    return template.render(segments=[section(segment) for segment in cards])


def section(segment: SegmentCards) -> dict[str, Any]:
    """What the page shows of one segment."""
    columns = list(segment.cards[0].figures)
    return {
        "name": segment.name,
        "kind": segment.kind,
        "labelled": segment.labelled,
        "customers": segment.customers,
        "columns": columns,
        "lines": [line(card, columns) for card in segment.cards],
        "says": [card.says for card in segment.cards],
        "chart": to_svg(lift_figure(segment)),
        "alt": "; ".join(card.says for card in segment.cards),
    }


def line(card: Card, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "name": card.name,
        "cells": [f"{card.customers:,}", f"{card.share:.1%}", *(cell(name, card.figures[name]) for name in columns)],
    }


def cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in SHARES else f"{value:,.2f}"


def lift_figure(segment: SegmentCards) -> "Figure":
    """What sets each class apart: the features that do most, in standard deviations from all customers."""
    strongest: dict[str, float] = {}
    for lift in (lift for card in segment.cards for lift in card.apart):
        strongest[lift.feature] = max(abs(lift.deviations), strongest.get(lift.feature, 0.0))
    features = sorted(strongest, key=lambda feature: -strongest[feature])[:ROWS]
    figure, axes = new_figure(xlabel="standard deviations from the mean of all customers", ylabel="")
    figure.set_size_inches(7.2, 1.6 + 0.35 * len(features))
    places, height = np.arange(len(features)), 0.8 / len(segment.cards)
    for number, card in enumerate(segment.cards):
        found = {lift.feature: lift for lift in card.apart}
        widths = [deviations(found.get(feature)) for feature in features]
        shift = height * (number - (len(segment.cards) - 1) / 2)
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(places + shift, widths, height, color=colour, label=plain(card.name))
    axes.axvline(0, color="#888888", linewidth=1)
    axes.set_yticks(places, [plain(feature) for feature in features])
    axes.invert_yaxis()
    if len(segment.cards) <= len(COLOURS):
        figure.legend(frameon=False, ncols=2, loc="outside upper left")
    return figure


def deviations(lift: Lift | None) -> float:
    return 0.0 if lift is None else lift.deviations


def plain(text: str) -> str:
    """Safe against the mathematics that matplotlib reads between dollar signs, and not too long."""
    return (text if len(text) <= 36 else f"{text[:35]}…").replace("$", r"\$")
