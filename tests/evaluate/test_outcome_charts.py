from typing import Any

import pytest

from shopkeeper.evaluate.outcome_charts import reliability_figure, skill_figure


def test_skill_has_a_line_per_model_besides_the_prior(metrics: dict[str, Any]) -> None:
    (axes,) = skill_figure(metrics, outcome="segment:tier").axes

    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert {"own", "logistic"} <= set(lines)
    assert "prior" not in lines
    assert list(lines["own"].get_ydata()) == pytest.approx([0.0, 0.6781], abs=1e-4)  # type: ignore[arg-type]


def test_reliability_shows_what_was_said_and_what_came_true(metrics: dict[str, Any]) -> None:
    (axes,) = reliability_figure(metrics, outcome="segment:tier").axes

    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines["own"].get_xdata()) == pytest.approx([0.2, 0.5, 0.8])  # type: ignore[arg-type]
    assert list(lines["own"].get_ydata()) == pytest.approx([0.0, 0.5, 1.0])  # type: ignore[arg-type]
