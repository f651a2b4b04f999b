from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate import sanity
from shopkeeper.evaluate.checks import NOT_APPLICABLE, OK, WARN
from shopkeeper.evaluate.sanity import Conversion, Overlap, PhaseFlow, Share

PrepareCsv = Callable[..., Prepared]

TIED = """
    timestamp,user_id,event,item_id,order_id
    2026-01-02T10:00,ann,view_item,tea,
    2026-01-02T10:00,ann,view_item,jam,
    2026-01-02T10:00,ann,view_item,tea,
    2026-01-02T10:00,ann,add_to_cart,tea,
    2026-01-02T10:00,bob,view_item,tea,
    2026-01-02T10:01,bob,purchase,tea,o1
    2026-01-02T10:01,bob,purchase,tea,o2
    2026-01-02T10:01,bob,purchase,tea,o2
    2026-01-02T10:02,bob,purchase,tea,o2
    2026-01-31T00:00,cid,view_item,tea,
"""


@pytest.fixture(scope="module")
def tied(prepare_csv: PrepareCsv) -> Prepared:
    return prepare_csv(TIED)


@pytest.fixture(scope="module")
def no_items(prepare_csv: PrepareCsv) -> Prepared:
    return prepare_csv("timestamp,user_id,event\n2026-01-02T10:00,ann,search\n2026-01-31T00:00,ann,search")


def test_sizes_are_of_sessions_in_their_split(shop: Prepared) -> None:
    sizes = sanity.sizes(shop).figures

    assert sizes is not None
    assert (sizes.events, sizes.sessions, sizes.visitors) == ([4, 4, 3], [2, 2, 2], [2, 2, 2])
    assert (sizes.start, sizes.days) == ("2026-01-02", 1)
    # a bar a day from the 2nd to the 31st
    assert [len(bars) for bars in sizes.timeline] == [30, 30, 30]
    assert [{day + 2: n for day, n in enumerate(bars) if n} for bars in sizes.timeline] == [
        {2: 3, 3: 1},
        {12: 3, 13: 1},
        {22: 2, 31: 1},
    ]


def test_a_split_without_events_is_worth_a_look(tied: Prepared, shop: Prepared) -> None:
    assert sanity.sizes(shop).status == OK
    assert sanity.sizes(tied).status == WARN  # nothing happened between the 2nd and the 31st


def test_a_long_log_has_bars_of_several_days(prepare_csv: PrepareCsv) -> None:
    rows = ["2025-01-01T00:00,a,search", "2025-12-15T00:00,a,search", "2025-12-31T00:00,a,search"]
    sizes = sanity.sizes(prepare_csv("\n".join(["timestamp,user_id,event", *rows]))).figures

    assert sizes is not None
    # 365 days: 364 // 100 + 1 days a bar, 364 // 4 + 1 bars; the 15th of December is day 348, and 348 // 4 = 87
    assert (sizes.days, len(sizes.timeline[0])) == (4, 92)
    assert [int(np.argmax(bars)) for bars in sizes.timeline if any(bars)] == [0, 87, 91]


def test_duplicates_are_the_same_in_all_that_counts(tied: Prepared) -> None:
    # ann's second view of tea (jam lies between), bob's second line of o2; other times, orders and events are not
    check = sanity.duplicate_events(tied, warn_above=0.1)

    assert check.figures == Share(2, 10)
    assert check.status == WARN
    assert sanity.duplicate_events(tied, warn_above=0.2).status == OK


def test_a_log_without_ties_has_no_duplicates(shop: Prepared) -> None:
    assert sanity.duplicate_events(shop, warn_above=0.0).figures == Share(0, 11)


def test_ties_are_with_the_row_before_of_the_same_visitor(tied: Prepared) -> None:
    # three of ann's four, two of bob's; bob's first has ann's time, and is another visitor's
    check = sanity.tied_times(tied, warn_above=0.4)

    assert check.figures == Share(5, 10)
    assert check.figures.share == 0.5
    assert check.status == WARN
    assert sanity.tied_times(tied, warn_above=0.5).status == OK


def test_ties_within_trips_are_no_warning(shops: dict[str, Prepared]) -> None:
    check = sanity.tied_times(shops["orders"], warn_above=0.0)

    assert check.figures is not None
    assert check.figures.count > 0
    assert check.status == OK


def test_overlap_counts_what_two_splits_share(shop: Prepared) -> None:
    # items: bread milk tea | jam milk tea | honey bread tea; visitors: ann cid | bob ann | eve bob
    assert sanity.overlap(shop).figures == Overlap(
        items=[[3, 2, 2], [2, 3, 1], [2, 1, 3]], visitors=[[2, 1, 0], [1, 2, 1], [0, 1, 2]]
    )


def test_overlap_of_a_log_without_items_is_of_visitors_alone(no_items: Prepared) -> None:
    overlap = sanity.overlap(no_items).figures

    assert overlap is not None
    assert overlap.items == [[0] * 3] * 3
    assert overlap.visitors == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


def test_lengths_of_sessions(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    empty = "2026-01-04T09:00,dan,d1,session_start,,,app"
    lengths = sanity.events_per_session(prepare_csv(shop_csv + empty)).figures

    assert lengths is not None
    # train: 3 events, 1 and none; validation 3 and 1; test 2 and 1
    assert lengths.mean == pytest.approx([4 / 3, 2, 1.5])
    assert [quantiles[0] for quantiles in lengths.quantiles] == [1, 2, 1.5]
    assert lengths.longest == [3, 3, 2]
    assert [bars[:5] for bars in lengths.bars] == [[1, 1, 0, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 0, 0]]
    assert lengths.bounces == [Share(2, 3), Share(1, 2), Share(1, 2)]


def test_each_bar_begins_at_its_length(prepare_csv: PrepareCsv) -> None:
    rows = [
        f"2026-01-{day}T10:{n:02},v{day},view_item"
        for day, count in (("02", 5), ("03", 6), ("31", 1))
        for n in range(count)
    ]
    lengths = sanity.events_per_session(prepare_csv("\n".join(["timestamp,session_id,event", *rows]))).figures

    assert lengths is not None
    assert sanity.LENGTHS[4:6] == (4, 6)  # 4 and 5 stand together, 6 begins the next
    assert lengths.bars[0][4:6] == [1, 1]


def test_a_trip_does_not_bounce(shops: dict[str, Prepared]) -> None:
    check = sanity.events_per_session(shops["orders"])

    assert check.figures is not None
    assert check.figures.bounces == []
    assert "bounce" not in check.says


def test_conversion_is_of_sessions_before_the_test_split(shop: Prepared) -> None:
    figures = sanity.conversion(shop, values=5).figures

    assert figures is not None
    # ann's first buys, her second not; bob's first buys, cid's not; tv and bob's second are of test
    counts = [(row.column, row.value, row.sessions, row.buyers, row.rate) for row in figures]
    assert counts == [("", "all", 4, 2, 0.5), ("channel", "app", 2, 1, 0.5), ("channel", "web", 2, 1, 0.5)]


def test_rare_values_are_one_line(shop: Prepared) -> None:
    figures = sanity.conversion(shop, values=1).figures

    assert figures is not None
    assert [(row.value, row.sessions) for row in figures] == [("all", 4), ("app", 2), ("(1 others)", 2)]


def test_conversion_without_context_is_of_all(tied: Prepared) -> None:
    figures = sanity.conversion(tied, values=5).figures

    # ann's session and bob's
    low, high = sanity.wilson(1, 2)
    assert figures == [Conversion("", "all", 2, 1, 0.5, low, high)]


def test_conversion_does_not_apply_without_purchases_or_with_nothing_else(
    no_items: Prepared, shops: dict[str, Prepared]
) -> None:
    assert sanity.conversion(no_items, values=5).says == "not applicable: the log has no purchases"
    assert "order-only" in sanity.conversion(shops["orders"], values=5).says


def test_wilsons_interval() -> None:
    # z^2/n = 0.384146; (0.5 + 0.192073 -+ sqrt(0.25 * 0.384146 + 0.384146^2 / 4)) / 1.384146
    assert sanity.wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    # from 0 to (z^2/n) / (1 + z^2/n)
    assert sanity.wilson(0, 10) == pytest.approx((0.0, 0.384146 / 1.384146), abs=1e-6)
    assert sanity.wilson(0, 0) == (0.0, 1.0)


def test_drift_is_measured_against_training_events(shop: Prepared) -> None:
    check = sanity.drift(shop, warn_above=0.3, seed=1)

    assert check.figures is not None
    val, test = check.figures
    # train: bread 1, milk 2, tea 1; validation: jam 1, milk 2, tea 1; test: honey, bread, tea
    assert (val.unseen, test.unseen) == (Share(1, 4), Share(1, 3))
    # the mean holds jam 1/8, bread 1/8, tea 1/4, milk 1/2: 0.375 + 0.375 + 0.5 + 0.5 bits, each of the two 1.5
    assert val.divergence == pytest.approx(1.75 - 1.5)
    assert check.status == WARN
    assert sanity.drift(shop, warn_above=0.34, seed=1).status == OK


def test_divergence_is_nothing_for_the_same_and_a_bit_for_strangers() -> None:
    assert sanity.jensen_shannon(np.array([2, 4]), np.array([1, 2])) == pytest.approx(0)
    assert sanity.jensen_shannon(np.array([3, 0]), np.array([0, 7])) == pytest.approx(1)


def test_chance_alone_gives_less_than_a_change_of_the_catalogue(prepare_csv: PrepareCsv) -> None:
    # six items, ten times each in train and in validation; in test three of them are gone, and three new
    days = {2: 0, 12: 0, 25: 3}
    rows = [
        f"2026-01-{day:02}T10:{n:02},u{n},view_item,i{n % 6 + shift}" for day, shift in days.items() for n in range(60)
    ]
    log = "\n".join(["timestamp,user_id,event,item_id", *rows, "2026-01-31T00:00,u0,search,"])
    figures = sanity.drift(prepare_csv(log), warn_above=1, seed=1).figures

    assert figures is not None
    val, test = figures
    assert val.divergence == pytest.approx(0)
    assert test.divergence == pytest.approx(0.5)  # (log2 12 + log2 6) / 2 - log2 6: half of each is its own
    assert test.divergence > test.by_chance > 0


def test_drift_needs_items(no_items: Prepared) -> None:
    assert sanity.drift(no_items, warn_above=0.5, seed=1).status == NOT_APPLICABLE


def test_the_flow_of_phases_is_between_a_visitors_neighbours() -> None:
    # ann: discovery, discovery, purchase; bob: engagement, none, purchase, fulfilment
    phase = np.array([1, 1, 3, 2, 0, 3, 4], np.int8)

    found = sanity.flow_of(phase, np.array([0, 0, 0, 1, 1, 1, 1]))

    flow = np.zeros((5, 5), int)
    flow[0, 0] = flow[0, 2] = flow[2, 3] = 1
    assert found == PhaseFlow(events=[2, 1, 2, 1, 0], flow=flow.tolist())


def test_phases_are_read_where_the_dataset_has_them(shop: Prepared) -> None:
    with_phases = Prepared(shop.path, shop.manifest)
    with_phases.rows["phase"] = np.array([1, 2, 3, 1, 5, 1, 1, 3, 1, 1, 3], np.int8)  # ann 4, bob 4, cid, eve 2

    check = sanity.phase_flow(with_phases)

    assert check.status == OK
    assert check.figures is not None
    assert check.figures.events == [6, 1, 3, 0, 1]
    assert check.figures.flow[s.PHASES.index("discovery")] == [1, 1, 2, 0, 0]


def test_events_without_a_phase_are_worth_a_look(shop: Prepared) -> None:
    with_phases = Prepared(shop.path, shop.manifest)
    with_phases.rows["phase"] = np.array([0] + [1] * 10, np.int8)

    check = sanity.phase_flow(with_phases)

    assert check.status == WARN
    assert check.says.endswith("; 1 events have no phase")


def test_all_figures_of_the_made_up_shops_add_up(shops: dict[str, Prepared]) -> None:
    for prepared in shops.values():
        sizes, lengths = sanity.sizes(prepared).figures, sanity.events_per_session(prepared).figures
        assert sizes is not None
        assert lengths is not None
        assert sum(sizes.events) == np.sum(sizes.timeline) == len(prepared.rows["time"])
        assert [sum(bars) for bars in lengths.bars] == sizes.sessions
        frame = pd.DataFrame({"split": prepared.row_split, "session": prepared.rows["session"]})
        assert lengths.mean == pytest.approx(frame.groupby("split")["session"].agg(lambda of: len(of) / of.nunique()))
