from typing import Any

import pytest

from shopkeeper.evaluate.audit_page import section, tables
from shopkeeper.evaluate.checks import leak_when, warn_when
from shopkeeper.evaluate.intervals import Interval
from shopkeeper.evaluate.order import ShuffleTest
from shopkeeper.evaluate.sanity import LENGTHS, Conversion, Drift, Lengths, Overlap, PhaseFlow, Share, Sizes

HALF = Interval(0.5, 0.25, 0.75, 1200, 30)
DRAWN = {
    "sizes": Sizes([3, 2, 1], [2, 1, 1], [1, 1, 1], "2026-01-30", 1, [[3], [2], [1]]),
    "lengths": Lengths([1.5, 0.0, 0.0], [[1.0, 2.0, 2.0]] * 3, [2, 0, 0], [[1] * len(LENGTHS)] * 3, []),
    "overlap": Overlap([[4, 2, 0], [2, 8, 1], [0, 1, 3]], [[1] * 3] * 3),
    "phases": PhaseFlow([1000, 2, 3, 4, 5], [[1] * 5] * 5),
    "conversion": [Conversion("", "all", 2000, 50, 0.025, 0.02, 0.03)],
    "drift": [Drift("val", Share(1, 4), 0.25, 0.1)],
    "shuffle": [ShuffleTest("strangers", HALF, HALF, HALF, "order matters", 7)],
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_and_tabled(name: str) -> None:
    part = section(warn_when(f"the {name}", False, f"{name}: as they are", DRAWN[name]))

    assert part["picture"].startswith("<svg")
    assert part["caption"].endswith(".")
    assert part["anchor"] == f"the-{name}"
    assert all(len(cells) == len(t["columns"]) for t in part["tables"] for cells in t["lines"].values())
    assert part["tables"]


def test_a_leak_check_is_a_table_of_what_was_counted() -> None:
    part = section(leak_when("users", True, "2 users", {"users": 1234, "hash": "ab"}))

    assert (part["picture"], part["status"]) == (None, "LEAK")
    assert part["tables"][0]["lines"] == {"users": ["1,234"], "hash": ["ab"]}


def test_figures_of_columns_are_a_line_each() -> None:
    (table,) = tables({"device": {"values": 3, "buyers told": 0.5}, "channel": {"values": 2, "buyers told": 0.25}})

    assert table["columns"] == ["values", "buyers told"]
    assert table["lines"] == {"device": ["3", "0.5000"], "channel": ["2", "0.2500"]}


@pytest.mark.parametrize(
    ("name", "line", "cells"),
    [
        ("sizes", "train", ["3", "2", "1"]),
        ("lengths", "train", ["1.50", "1", "2", "2", "2"]),
        ("overlap", "val", ["2", "8", "1"]),
        ("phases", "discovery", ["1,000"]),
        ("conversion", "all", ["2,000", "50", "2.50%", "[2.00, 3.00]"]),
        ("drift", "val", ["1", "25.0%", "0.2500", "0.1000"]),
        (
            "shuffle",
            "strangers",
            [*["0.5000 [0.2500, 0.7500]"] * 3, "order matters", "1,200", "30", "7"],
        ),
    ],
)
def test_cells_hold_the_figures(name: str, line: str, cells: list[str]) -> None:
    assert tables(DRAWN[name])[0]["lines"][line] == cells


def test_a_share_is_counted_of_a_whole() -> None:
    (table,) = tables(Share(5, 2000))

    assert table["lines"] == {"found": ["5", "2,000", "0.25%"]}


def test_bounces_are_shown_where_there_are_any() -> None:
    lengths: Any = Lengths([1.0] * 3, [[1.0] * 3] * 3, [2] * 3, [[1] * len(LENGTHS)] * 3, [Share(1, 2)] * 3)

    (table,) = tables(lengths)

    assert table["columns"][-1] == "bounces"
    assert table["lines"]["test"][-1] == "50.0%"
