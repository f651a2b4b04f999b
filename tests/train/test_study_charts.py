from typing import Any

import numpy as np
import pytest

from shopkeeper.train.study_charts import (
    complete,
    history_figure,
    importance_figure,
    parallel_figure,
    place,
    short,
    time_figure,
)

Facts = dict[str, Any]


def heights(line: Any) -> list[float]:
    return [round(float(y), 6) for y in line.get_ydata()]


def test_history_shows_the_best_so_far(facts: Facts) -> None:
    (axes,) = history_figure(facts).axes

    assert heights(axes.lines[0]) == [0.2, 0.3, 0.3]  # of 0.2, 0.3, 0.25
    pruned = axes.collections[1].get_offsets()
    assert np.asarray(pruned).tolist() == [[2.0, 0.15]]  # its best epoch


def test_lines_run_through_the_values_between_lowest_and_highest(facts: Facts) -> None:
    (axes,) = parallel_figure(facts).axes

    # in the order of their value: trials 0, 3 and 1; lr 0.001, 0.01, 0.1 on a scale of logarithms; dim 32, 32, 64
    assert [heights(line) for line in axes.lines] == [[0.0, 0.0], [0.5, 0.0], [1.0, 1.0]]
    assert axes.lines[2].get_label() == "best trial"


def test_a_value_that_never_changes_lies_in_the_middle(facts: Facts) -> None:
    facts["trials"][1]["params"]["dim"] = 32

    assert [heights(line)[1] for line in parallel_figure(facts).axes[0].lines] == [0.5, 0.5, 0.5]


def test_the_most_important_stands_on_top(facts: Facts) -> None:
    (axes,) = importance_figure(facts).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == ["dim", "lr"]


def test_every_end_has_its_colour(facts: Facts) -> None:
    (axes,) = time_figure(facts).axes
    bars = {container.get_label(): [bar.get_height() for bar in container] for container in axes.containers}

    assert bars == {"complete": [10.0, 12.0, 11.0], "pruned": [4.0], "failed": [1.0]}


def test_only_trials_with_a_value_are_complete(facts: Facts) -> None:
    assert [trial["number"] for trial in complete(facts)] == [0, 1, 3]


def test_places_and_numbers() -> None:
    assert place({"a": "y"}, {"key": "a", "type": "choice", "values": ("x", "y"), "log": False}) == 1.0
    assert place({"a": 1.0}, {"key": "a", "type": "float", "values": (), "log": True}) == pytest.approx(0.0)
    assert (short(0.123456), short(64), short("relu")) == ("0.123", "64", "relu")
