from collections.abc import Callable

import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.histories import Histories, Names
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.rules import (
    EXCLUDED,
    Bins,
    Customers,
    NotFitted,
    Rule,
    Top,
    bin_names,
    fit_bins,
    fit_cross,
    fit_top,
)
from shopkeeper.data.settings import SegmentConfig
from shopkeeper.data.windows import train_window

FOOD, HOME, OTHER = 0, 1, 2


def customers(prepared: Prepared) -> Customers:
    return Customers(prepared, Names(prepared), train_window(prepared))


def labels(prepared: Prepared, rule: Rule) -> list[int]:
    """Before ann's three trips, bob's two and cid's one, up to the train cut."""
    found = customers(prepared)
    return [int(n) for n in rule.labels(Histories(prepared, found.names, found.window, steps=True))]


def test_the_top_is_what_most_is_spent_on_in_the_trips_to_come(grocer: Prepared) -> None:
    rule = fit_top(SegmentConfig(top="category", among=["FOOD", "HOME"]), customers(grocer))

    # ann: 9 on food and 5 on the soap; 5 and 5, where the first class wins; 5 and 0. bob: 1 and 10; then food alone
    assert labels(grocer, rule) == [FOOD, FOOD, FOOD, HOME, FOOD, FOOD]


def test_too_little_ahead_is_masked(grocer: Prepared) -> None:
    config = SegmentConfig(top="category", among=["FOOD", "HOME"], at_least={"orders": 2})

    assert labels(grocer, fit_top(config, customers(grocer))) == [FOOD, FOOD, s.MASKED, HOME, s.MASKED, s.MASKED]


def test_excluded_values_do_not_compete_and_others_share_a_class(grocer: Prepared) -> None:
    config = SegmentConfig(top="category", exclude=["FOOD"], among=["TOYS"], other="OTHER")

    rule = fit_top(config, customers(grocer))

    assert rule.classes == ["TOYS", "OTHER"]
    assert dict(zip(rule.groups, rule.label, strict=False)) == {"FOOD": EXCLUDED, "TOYS": 0, "HOME": 1}
    assert labels(grocer, rule) == [1, 1, s.MASKED, 1, s.MASKED, s.MASKED]


def test_orders_and_events_count_otherwise_than_spend(grocer: Prepared) -> None:
    def by(what: str) -> Top:
        return fit_top(SegmentConfig(top="category", level=2, by=what), customers(grocer))

    orders, events = by("orders"), by("events")

    assert orders.classes == ["FOOD > BAKERY", "FOOD > DAIRY", "HOME > SOAP"][: len(orders.classes)]
    # ann buys bread and milk twice each, soap once: a tie goes to the commonest in train, which is bread
    assert orders.classes[labels(grocer, orders)[0]] == "FOOD > BAKERY"
    assert events.classes[labels(grocer, events)[0]] == "FOOD > BAKERY"


def test_without_among_the_commonest_tops_are_the_classes(grocer: Prepared) -> None:
    rule = fit_top(SegmentConfig(top="category"), customers(grocer))

    assert rule.classes == ["FOOD", "HOME"]
    assert rule.label == [0, 1, s.MASKED]  # any later category wins without a class


def test_bins_take_in_their_lower_edge(grocer: Prepared) -> None:
    rule = fit_bins(SegmentConfig(measure="spend", edges=[5, 11]), customers(grocer))

    assert rule.classes == ["<5", "5-11", "11+"]
    assert labels(grocer, rule) == [2, 1, 1, 2, 0, 0]  # spend 14, 10, 5, 11, 1, 4


def test_quantiles_are_of_train_customers_with_enough_history(grocer: Prepared) -> None:
    # in train ann spent 14, bob 11 and cid 4; what comes after the cut would change it: ann's 81 and 81, eve's 1
    every = fit_bins(SegmentConfig(measure="spend", quantiles=[0.5]), customers(grocer))
    few = fit_bins(SegmentConfig(measure="spend", quantiles=[0.5], at_least={"orders": 2}), customers(grocer))

    assert (every.edges, few.edges) == ([11.0], [12.5])
    with pytest.raises(NotFitted, match="no train customer has enough history"):
        fit_bins(SegmentConfig(measure="spend", quantiles=[0.5], at_least={"orders": 9}), customers(grocer))


def test_a_cross_is_masked_where_any_part_is(grocer: Prepared) -> None:
    often = fit_bins(SegmentConfig(measure="orders", edges=[2], names=["new", "regular"]), customers(grocer))
    spend = fit_bins(SegmentConfig(measure="spend", edges=[5], at_least={"spend": 2}), customers(grocer))

    rule = fit_cross(
        "cell", SegmentConfig(cross=["often", "spend"]), customers(grocer), {"often": often, "spend": spend}
    )

    assert rule.classes == ["new / <5", "new / 5+", "regular / <5", "regular / 5+"]
    assert labels(grocer, rule) == [3, 3, 1, 3, s.MASKED, 0]


def test_a_cross_of_what_is_left_out_is_left_out(grocer: Prepared) -> None:
    with pytest.raises(NotFitted, match="often is left out"):
        fit_cross("cell", SegmentConfig(cross=["often"]), customers(grocer), {})


def test_a_cross_with_too_many_classes_is_refused(grocer: Prepared) -> None:
    wide = fit_bins(SegmentConfig(measure="spend", edges=[float(n) for n in range(11)]), customers(grocer))

    with pytest.raises(UserError, match=r"data\.segments\.cell\.cross has 144 classes: at most 100"):
        fit_cross("cell", SegmentConfig(cross=["a", "b"]), customers(grocer), {"a": wide, "b": wide})


def test_a_rule_says_what_it_lacks(grocer: Prepared) -> None:
    with pytest.raises(NotFitted, match="the log has no channel"):
        fit_top(SegmentConfig(top="channel"), customers(grocer))


def test_names_of_bins() -> None:
    assert bin_names([0.5]) == ["<0.5", "0.5+"]
    assert Bins.kind == "measure"


def test_a_log_without_prices_has_no_spend(prepare_log: Callable[..., Prepared]) -> None:
    bare = prepare_log(
        "02T10:00 ann a purchase bread o1\n 12T10:00 bob b purchase bread o2\n 31T00:00 cid c view_item x -"
    )

    with pytest.raises(NotFitted, match="train has no price"):
        fit_bins(SegmentConfig(measure="spend", edges=[1]), customers(bare))
