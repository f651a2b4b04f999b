import xml.etree.ElementTree as ET
from typing import Any

import pytest

from shopkeeper.evaluate.charts import curve_figure, to_svg, warm_up_figure


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
