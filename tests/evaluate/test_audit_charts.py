import numpy as np

from shopkeeper.evaluate import audit_charts as charts
from shopkeeper.evaluate.intervals import Interval
from shopkeeper.evaluate.order import ShuffleTest
from shopkeeper.evaluate.sanity import LENGTHS, Conversion, Drift, Lengths, Overlap, PhaseFlow, Share, Sizes


def test_the_timeline_stacks_the_splits() -> None:
    sizes = Sizes([3, 2, 1], [1, 1, 1], [1, 1, 1], "2026-01-30", 2, [[3, 0, 0], [0, 2, 0], [0, 1, 1]])
    (axes,) = charts.timeline_figure(sizes).axes

    heights = [[(bar.get_y(), bar.get_height()) for bar in group] for group in axes.containers]
    assert [bars[1] for bars in heights] == [(0, 0), (0, 2), (2, 1)]
    assert axes.get_ylabel() == "events per 2 days"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["01-30", "02-01", "02-03"]


def test_lengths_are_shares_of_their_split() -> None:
    bars = [[0] * len(LENGTHS) for _ in range(3)]
    bars[0][1:3] = [3, 1]
    (axes,) = charts.lengths_figure(Lengths([0.0] * 3, [[0.0] * 3] * 3, [0] * 3, bars, [])).axes

    assert [bar.get_height() for bar in axes.containers[0]][:4] == [0, 0.75, 0.25, 0]
    assert not any(bar.get_height() for bar in axes.containers[1])


def test_each_length_has_its_words() -> None:
    assert charts.length_labels() == ["0", "1", "2", "3", "4-5", "6-10", "11-20", "21-50", "51-100", "101+"]


def test_the_shuffle_test_has_two_bars_for_each_population() -> None:
    high, low = Interval(0.4, 0.3, 0.5, 9, 9), Interval(0.2, 0.1, 0.3, 9, 9)
    (axes,) = charts.shuffle_figure([ShuffleTest("known", high, low, high, "order matters", 0)], ylabel="hits").axes

    bars = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
    assert bars == [0.4, 0.2]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["known: order matters"]


def test_conversion_has_a_line_for_each_value() -> None:
    rows = [Conversion("", "all", 10, 5, 0.5, 0.2, 0.8), Conversion("device", "$1 phone", 10, 0, 0.0, 0.0, 0.3)]
    (axes,) = charts.conversion_figure(rows).axes

    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["all", r"device: \$1 phone"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is at the top


def test_a_long_value_is_cut_short() -> None:
    row = Conversion("channel", "x" * 90, 1, 0, 0.0, 0.0, 1.0)

    assert charts.label(row) == "channel: " + "x" * 22 + "…"


def test_drift_stands_beside_chance() -> None:
    (axes,) = charts.drift_figure([Drift("val", Share(1, 4), 0.25, 0.1)]).axes

    assert [patch.get_height() for patch in axes.patches] == [0.25, 0.1]  # type: ignore[attr-defined]


def test_overlap_is_in_shares_of_the_row() -> None:
    items, _ = charts.overlap_figure(Overlap([[4, 2, 0], [2, 8, 1], [0, 1, 0]], [[0] * 3] * 3)).axes

    assert [text.get_text() for text in items.texts][:6] == ["100.0%", "50.0%", "0.0%", "25.0%", "100.0%", "12.5%"]


def test_the_flow_is_in_shares_of_the_phase_it_comes_from() -> None:
    flow = np.zeros((5, 5), int)
    flow[0] = [1, 3, 0, 0, 0]
    (axes,) = charts.phase_figure(PhaseFlow([0] * 5, flow.tolist())).axes

    assert [text.get_text() for text in axes.texts][:6] == ["25.0%", "75.0%", "0.0%", "0.0%", "0.0%", "0.0%"]
