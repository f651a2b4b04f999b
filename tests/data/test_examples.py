from collections.abc import Callable

import numpy as np
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.examples import (
    Examples,
    is_repeat,
    judged_examples,
    known_examples,
    rank_within,
    stranger_examples,
    visible_items,
    window_steps,
    with_targets,
)
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Ragged, Targets
from shopkeeper.data.windows import stranger_window, train_window

PrepareLog = Callable[..., Prepared]
KS = [0, 1, 2, 3, 5, 10]
EVERYONE = 100


def named(prepared: Prepared, examples: Examples) -> list[tuple[str, int]]:
    names = prepared.visitors_frame()["visitor_key"].tolist()
    return [(names[visitor], int(k)) for visitor, k in zip(examples.visitor, examples.k, strict=True)]


def judged(
    prepared: Prepared, task: str, population: str, split: int, at_most: int = EVERYONE
) -> list[tuple[str, int, list[str]]]:
    """Visitor, k and target items of each judged example."""
    examples, found, _ = judged_examples(prepared, Targets(prepared), task, population, split, ks=KS, at_most=at_most)
    items = np.array([None, *prepared.item_ids()], dtype=object)[found.items]
    parts = np.split(items, found.offsets[1:-1])
    return [(*who, part.tolist()) for who, part in zip(named(prepared, examples), parts, strict=True)]


def test_a_stranger_is_judged_after_each_k_as_far_as_its_history_goes(clicks: Prepared) -> None:
    examples = stranger_examples(clicks, s.VAL, [3, 0, 1, 10])

    assert named(clicks, examples) == [("s:w1", 0), ("s:w1", 1), ("u:bob", 0), ("u:bob", 1), ("u:bob", 3)]
    assert examples.first.tolist() == [0, 0, 12, 12, 12]
    assert examples.last.tolist() == [0, 1, 12, 13, 15]
    assert examples.limit.tolist() == [2, 2, 15, 15, 15]


def test_a_known_user_is_judged_within_each_session_and_sees_the_past(clicks: Prepared) -> None:
    examples = known_examples(clicks, s.VAL, KS)

    assert named(clicks, examples) == [("u:ann", 0), ("u:ann", 1)]
    assert examples.first.tolist() == [4, 4]
    assert examples.last.tolist() == [9, 10]
    assert named(clicks, known_examples(clicks, s.TEST, KS)) == [("u:ann", 0), ("u:bob", 0)]


def test_k_counts_trips_on_an_order_only_log(trips: Prepared) -> None:
    assert judged(trips, s.TASK_PURCHASE, "strangers", s.VAL) == [
        ("u:bob", 0, ["milk"]),
        ("u:bob", 1, ["milk", "honey"]),
        ("u:bob", 2, ["bread"]),
    ]
    assert judged(trips, s.TASK_PURCHASE, "known", s.VAL) == [("u:ann", 0, ["bread", "tea"])]
    assert judged(trips, s.TASK_PURCHASE, "strangers", s.TEST) == [
        ("u:eve", 0, ["jam", "tea"]),
        ("u:eve", 1, ["milk"]),
    ]


def test_the_visible_rows_of_a_trip_are_all_of_it(trips: Prepared) -> None:
    examples = stranger_examples(trips, s.VAL, [1, 2])

    moments = examples.moments(trips)

    # bob: milk | honey milk | bread, at rows 7 to 10
    assert list(zip(moments.start.tolist(), moments.end.tolist(), strict=True)) == [(7, 8), (7, 10)]


def test_only_examples_with_a_target_are_judged(clicks: Prepared) -> None:
    assert judged(clicks, s.TASK_PURCHASE, "strangers", s.VAL) == [
        ("u:bob", 0, ["milk"]),
        ("u:bob", 1, ["milk"]),
        ("u:bob", 2, ["milk"]),
    ]
    assert judged(clicks, s.TASK_NEXT, "strangers", s.VAL) == [
        ("s:w1", 0, ["bread"]),
        ("s:w1", 1, ["tea"]),
        ("u:bob", 0, ["jam"]),
        ("u:bob", 1, ["milk"]),
    ]


def test_a_held_out_users_first_step_is_k_zero(prepare_log: PrepareLog) -> None:
    # eve is held out for validation; what she did in train is not visible
    prepared = prepare_log(
        """
        02T10:00 eve e1 view_item bread -
        03T10:00 zoe z1 view_item bread -
        12T10:00 eve e2 view_item milk  -
        13T10:00 eve e3 view_item tea   -
        31T00:00 zoe z2 view_item tea   -
        """,
        split={"holdout_share": 0.2, "holdout_when_new_below": 1.1},
    )

    assert judged(prepared, s.TASK_NEXT, "strangers", s.VAL) == [("u:eve", 0, ["milk"]), ("u:eve", 1, ["tea"])]


def test_a_sample_is_part_of_the_whole_and_always_the_same(clicks: Prepared) -> None:
    whole = judged(clicks, s.TASK_NEXT, "strangers", s.VAL)

    sample = judged(clicks, s.TASK_NEXT, "strangers", s.VAL, at_most=2)

    assert len(sample) == 2
    assert [example for example in whole if example in sample] == sample
    assert judged(clicks, s.TASK_NEXT, "strangers", s.VAL, at_most=2) == sample


@pytest.mark.parametrize("task", s.TASKS)
@pytest.mark.parametrize("population", ["strangers", "known"])
def test_what_happens_after_validation_changes_nothing_in_it(
    clicks: Prepared, longer: Prepared, task: str, population: str
) -> None:
    assert len(longer.rows["time"]) == len(clicks.rows["time"]) + 4
    assert judged(longer, task, population, s.VAL) == judged(clicks, task, population, s.VAL)


def test_what_happens_after_train_teaches_no_word(clicks: Prepared, longer: Prepared) -> None:
    assert longer.num_items() == clicks.num_items()
    assert longer.vocabulary("event") == clicks.vocabulary("event")
    assert longer.vocabulary("channel") == clicks.vocabulary("channel")


def test_a_repeat_is_a_target_that_was_seen_before(clicks: Prepared, trips: Prepared) -> None:
    def repeats(prepared: Prepared, task: str, population: str) -> list[bool]:
        found = judged_examples(prepared, Targets(prepared), task, population, s.VAL, ks=KS, at_most=EVERYONE)
        return [bool(repeat) for repeat in is_repeat(prepared, visible_items(prepared, found.examples), found.targets)]

    # bob: nothing | jam | jam milk, each before milk
    assert repeats(clicks, s.TASK_PURCHASE, "strangers") == [False, False, True]
    # ann bought bread and tea in train
    assert repeats(trips, s.TASK_PURCHASE, "known") == [True, True]
    # bob: milk | after milk: milk, honey | after honey and milk: bread
    assert repeats(trips, s.TASK_PURCHASE, "strangers") == [False, True, False, False]


def test_nothing_is_a_repeat_where_nothing_was_seen(clicks: Prepared) -> None:
    examples = stranger_examples(clicks, s.VAL, [0])

    assert is_repeat(
        clicks, visible_items(clicks, examples), Ragged(np.array([0, 1, 2]), np.array([1, 2]))
    ).tolist() == [False, False]


def test_with_targets_keeps_the_lists_of_the_examples_it_keeps(clicks: Prepared) -> None:
    examples = stranger_examples(clicks, s.VAL, [0, 1])

    kept, lists = with_targets(examples, Ragged(np.array([0, 0, 2, 2, 3]), np.array([7, 8, 9])))

    assert named(clicks, kept) == [("s:w1", 1), ("u:bob", 1)]
    assert (lists.offsets.tolist(), lists.items.tolist()) == ([0, 2, 3], [7, 8, 9])


def test_window_steps_counts_a_trip_that_a_cut_divides(prepare_log: PrepareLog) -> None:
    # ann's trip runs over the cut at the 11th, 00:00: its first receipt is in train
    prepared = prepare_log("""
        02T10:00 ann a1 purchase bread -
        10T23:50 ann a2 purchase milk  -
        11T00:10 ann a3 purchase tea   -
        12T00:00 bob b1 purchase bread -
        31T00:00 ann a4 purchase milk  -
    """)

    first, count = window_steps(prepared, train_window(prepared))
    assert (first.tolist(), count.tolist()) == ([0], [2])
    first, count = window_steps(prepared, stranger_window(prepared, s.VAL))
    assert (first.tolist(), count.tolist()) == ([3], [1])


def test_rank_within_counts_the_earlier_of_the_same_group() -> None:
    assert rank_within([7, 7, 3, 7, 3]).tolist() == [0, 1, 0, 2, 1]


def test_what_is_not_judged_is_counted(clicks: Prepared) -> None:
    def left_out(at_most: int) -> dict[str, int]:
        found = judged_examples(
            clicks, Targets(clicks), s.TASK_PURCHASE, "strangers", s.VAL, ks=[3, 0, 1, 10], at_most=at_most
        )
        assert len(found.examples) + sum(found.left_out.values()) == 5
        return found.left_out

    # of w1 twice and bob three times: w1 buys nothing, and bob nothing more after three steps
    assert left_out(EVERYONE) == {"without a target": 3, "not sampled": 0}
    assert left_out(1) == {"without a target": 3, "not sampled": 1}
