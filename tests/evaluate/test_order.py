from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate import order
from shopkeeper.evaluate.checks import NOT_APPLICABLE, OK, WARN, Check

PrepareCsv = Callable[..., Prepared]

SETTINGS: dict[str, Any] = {"moments": 100, "transitions": 1000, "neighbours": 10, "resamples": 100, "seed": 1}


def walks(*days_and_items: tuple[str, str, int], event: str = "view_item") -> str:
    """A log of sessions: on a day, a view of each letter in turn, that many times by as many visitors."""
    lines = ["timestamp,session_id,event,item_id"]
    for part, (day, items, times) in enumerate(days_and_items):
        for visit in range(times):
            lines += [f"2026-01-{day}T{visit:02}:{n:02},{part}-{visit},{event},{item}" for n, item in enumerate(items)]
    return "\n".join([*lines, f"2026-01-31T00:00,last,{event},a"])


# Counted are a -> b and b -> c, three times each; d is the most popular. Validation goes a, b, c as well.
IN_ORDER = (("02", "abc", 3), ("03", "d", 9), ("12", "abc", 12))


def only(check: Check[list[order.ShuffleTest]]) -> order.ShuffleTest:
    assert check.figures is not None
    (test,) = check.figures
    return test


def test_where_the_last_item_tells_the_next_order_matters(prepare_csv: PrepareCsv) -> None:
    check = order.shuffle_test(prepare_csv(walks(*IN_ORDER)), cutoff=1, **SETTINGS)

    test = only(check)
    # the twelve strangers have seen a, b. After b comes c, ranked first. After a comes b, which is no news, and then d
    # by its popularity: c is second
    assert test.population == "strangers"
    assert (test.in_order.mean, test.shuffled.mean) == (1.0, 0.0)
    assert (test.difference.mean, test.difference.low, test.difference.examples) == (1.0, 1.0, 12)
    assert (test.verdict, check.status) == ("order matters", OK)


def test_where_both_hit_there_is_no_difference_and_a_warning(prepare_csv: PrepareCsv) -> None:
    check = order.shuffle_test(prepare_csv(walks(*IN_ORDER)), cutoff=2, **SETTINGS)

    test = only(check)
    assert (test.in_order.mean, test.shuffled.mean, test.verdict) == (1.0, 1.0, "no difference")
    assert check.status == WARN


def test_what_a_history_holds_is_not_ranked(prepare_csv: PrepareCsv) -> None:
    # after b comes a six times and c three times, and whoever is asked for c has seen a
    prepared = prepare_csv(walks(("02", "abc", 3), ("03", "ba", 6), ("12", "abc", 12)))

    assert only(order.shuffle_test(prepared, cutoff=1, **SETTINGS)).in_order.mean == 1.0


def test_few_visitors_give_no_verdict(prepare_csv: PrepareCsv) -> None:
    few = (*IN_ORDER[:2], ("12", "abc", 9))

    assert only(order.shuffle_test(prepare_csv(walks(*few)), cutoff=1, **SETTINGS)).verdict == "too few visitors"


def test_an_item_that_train_has_not_seen_is_a_miss(prepare_csv: PrepareCsv) -> None:
    # x is new in validation: no rank is good enough, though the catalogue has five items
    prepared = prepare_csv(walks(*IN_ORDER[:2], ("12", "abx", 12)))

    test = only(order.shuffle_test(prepared, cutoff=20, **SETTINGS))

    assert (test.in_order.mean, test.shuffled.mean) == (0.0, 0.0)


def test_known_users_are_asked_apart_with_their_past(prepare_csv: PrepareCsv) -> None:
    # each known user has seen a, d, b by the cut, in two sessions: after it only c is new
    lines = ["timestamp,user_id,event,item_id"]
    for n in range(12):
        lines += [f"2026-01-02T{n:02}:{m:02},u{n},view_item,{item}" for m, item in enumerate("adb")]
        lines += [f"2026-01-12T{n:02}:{m:02},u{n},view_item,{item}" for m, item in enumerate("aac")]
    lines += [f"2026-01-03T10:{n:02},g{n % 2},view_item,{item}" for n, item in enumerate("acaeaceeeeee")]
    prepared = prepare_csv("\n".join([*lines, "2026-01-31T00:00,u0,view_item,a"]))

    test = only(order.shuffle_test(prepared, cutoff=1, **SETTINGS))

    # g0 goes a, e and g1 c, e, c, e: after a came d (no news) and e, never c, the least popular, second to e
    assert test.population == "known"
    assert (test.difference.examples, test.in_order.mean) == (12, 0.0)
    assert only(order.shuffle_test(prepared, cutoff=2, **SETTINGS)).in_order.mean == 1.0


def test_a_sample_is_seeded_and_told(prepare_csv: PrepareCsv) -> None:
    prepared = prepare_csv(walks(*IN_ORDER))
    few = SETTINGS | {"moments": 5}

    test = only(order.shuffle_test(prepared, cutoff=1, **few))

    assert (test.difference.examples, test.not_sampled) == (5, 7)
    assert only(order.shuffle_test(prepared, cutoff=1, **few)) == test


def test_steps_are_runs_of_one_item(prepare_csv: PrepareCsv) -> None:
    steps = order.item_steps(prepare_csv(walks(("02", "aabba", 2), ("12", "a", 1))))

    # visitors by name: 0-0 and 0-1 (a a b b a), 1-0 (a), last (a)
    assert steps.first.tolist() == [0, 2, 4, 5, 7, 9, 10, 11, 12]
    assert steps.visitor.tolist() == [0, 0, 0, 1, 1, 1, 2, 3]
    assert steps.step.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 6, 7]


def test_steps_are_trips_where_a_log_has_orders_only(prepare_csv: PrepareCsv) -> None:
    lines = ["timestamp,user_id,event,item_id"]
    for n in range(12):
        for day in ("0", "1"):  # trips on the 2nd, 3rd and 4th, and ten days later by others
            user = f"u{day}{n}"
            lines += [f"2026-01-{day}2T{n:02}:00,{user},purchase,{item}" for item in "ab"]
            lines += [f"2026-01-{day}3T{n:02}:00,{user},purchase,{item}" for item in "cd"]
            lines += [f"2026-01-{day}4T{n:02}:00,{user},purchase,{item}" for item in "ef"]
    prepared = prepare_csv("\n".join([*lines, "2026-01-31T00:00,u00,purchase,a"]))

    steps = order.item_steps(prepared)
    check = order.shuffle_test(prepared, cutoff=2, **SETTINGS)

    assert steps.first.tolist()[:5] == [0, 2, 4, 6, 7]  # u00 comes a fourth time
    # after c d come e and f; after a b come c and d, no news, and then e and f as the only items left
    assert only(check).in_order.mean == 1.0
    assert only(check).difference.examples == 24


def test_an_item_does_not_follow_itself(prepare_csv: PrepareCsv) -> None:
    # two trips for a and b each: b follows a and a follows b
    trips = [f"2026-01-0{day}T10:00,u,purchase,{item}" for day in (2, 3) for item in "ab"]
    prepared = prepare_csv("\n".join(["timestamp,user_id,event,item_id", *trips, "2026-01-31T00:00,u,purchase,a"]))

    model = order.fit(
        prepared, order.item_steps(prepared), transitions=100, neighbours=9, generator=np.random.default_rng(1)
    )

    assert model.follows.toarray().tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_the_strongest_successors_are_kept_as_shares_of_all() -> None:
    row, column = np.array([1, 1, 1, 2]), np.array([2, 3, 4, 1])
    count, place = np.array([2.0, 2.0, 4.0, 5.0]), np.array([9, 1, 3, 2, 4])

    kept = order.strongest(row, column, count, place, keep=2)

    # of 1: item 4 with half, then item 3, which ties with 2 and is more popular
    assert kept.toarray().tolist()[1] == [0, 0, 0, 0.25, 0.5]
    assert kept.toarray().tolist()[2] == [0, 1, 0, 0, 0]


def test_transitions_are_counted_up_to_a_bound(prepare_csv: PrepareCsv) -> None:
    prepared = prepare_csv(walks(*IN_ORDER))
    steps = order.item_steps(prepared)

    def pairs(bound: int) -> int:
        model = order.fit(prepared, steps, transitions=bound, neighbours=9, generator=np.random.default_rng(1))
        return int(model.follows.nnz)

    assert (pairs(6), pairs(1), pairs(0)) == (2, 1, 0)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("timestamp,user_id,event\n2026-01-02T10:00,a,search\n2026-01-31T00:00,a,search", "no event names an item"),
        (walks(("02", "a", 3), ("12", "abc", 3)), "no two items follow each other in train"),
        (walks(("02", "abc", 3), ("12", "ab", 3)), "no history of validation has two items in a row before a new one"),
    ],
)
def test_logs_it_says_nothing_of(prepare_csv: PrepareCsv, log: str, reason: str) -> None:
    check = order.shuffle_test(prepare_csv(log), cutoff=1, **SETTINGS)

    assert (check.status, check.says) == (NOT_APPLICABLE, f"not applicable: {reason}")
