import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopkeeper.evaluate.charts import curve_figure, to_svg, trade_off_figure, warm_up_figure
from shopkeeper.evaluate.tables import Judged, tabulate


def test_warm_up_has_a_line_per_model_with_its_means(metrics: dict[str, Any]) -> None:
    (axes,) = warm_up_figure(metrics, task="purchase").axes

    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert set(lines) == {"own", "good", "poor"}
    assert list(lines["own"].get_ydata()) == pytest.approx([0.5, 1.0])  # type: ignore[arg-type]
    assert lines["own"].get_linewidth() > lines["good"].get_linewidth()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]


def test_curves_start_at_epoch_one() -> None:
    (axes,) = curve_figure({"ndcg": [0.1, 0.2]}).axes

    assert list(axes.get_lines()[0].get_xdata()) == [1, 2]  # type: ignore[arg-type]


def test_svg_is_one_element_and_the_same_each_time(metrics: dict[str, Any]) -> None:
    first, again = (to_svg(warm_up_figure(metrics, task="purchase")) for _ in range(2))

    assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    assert first == again


def test_the_trade_off_is_a_point_per_model(metrics: dict[str, Any]) -> None:
    figure = trade_off_figure(metrics, task="purchase")

    assert figure is not None
    (axes,) = figure.axes
    points = {str(c.get_label()): c.lines[0].get_xydata()[0].tolist() for c in axes.containers}  # type: ignore[attr-defined]
    # every target of k >= 1 is first for `own` and second for `good`, repeat or new
    assert points["own"] == [1.0, 1.0]
    assert points["good"] == pytest.approx([0.6309, 0.6309], abs=1e-4)


def test_without_new_targets_there_is_no_trade_off(judgements: list[Judged]) -> None:
    repeats = [replace(j, repeat=np.ones(len(j.ranks), bool)) for j in judgements]
    table = tabulate(repeats, ks=[0, 1], cutoff=20, resamples=5, seed=0, subject="own")

    assert trade_off_figure(table, task="purchase") is None
