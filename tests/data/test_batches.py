from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.data import schema as s
from shopkeeper.data.batches import (
    Batch,
    Pieces,
    TokenBatches,
    TrainingPieces,
    Vocabulary,
    collate,
    distinct_items,
    example_pieces,
    find_slots,
    split_by_budget,
)
from shopkeeper.data.examples import known_examples, stranger_examples
from shopkeeper.data.outcomes import MASKED, Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window

PrepareLog = Callable[..., Prepared]
BREAD, MILK, TEA = 1, 2, 3
START, PURCHASE, SEARCH, VIEW = 1, 2, 3, 4
APP, WEB = 1, 2
MAX_LEN = 10


def seconds(moment: str) -> int:
    return int(pd.Timestamp(f"2026-01-{moment}").timestamp())


def strangers(prepared: Prepared, *ks: int, split: int = s.VAL, max_len: int = MAX_LEN) -> Batch:
    pieces = example_pieces(stranger_examples(prepared, split, list(ks)), max_len)
    return collate(prepared, pieces, Vocabulary.of(prepared, refit=False))


def training(prepared: Prepared, *tasks: str, max_len: int = MAX_LEN, refit: bool = False) -> TrainingPieces:
    window, vocabulary = train_window(prepared, refit=refit), Vocabulary.of(prepared, refit=refit)
    return TrainingPieces(prepared, window, vocabulary, list(tasks), max_len=max_len, seed=1)


def bags(batch: Batch, history: int, length: int) -> list[list[int]]:
    """Items of each of the first tokens of a history; also checks what each entry says of its slot."""
    width = batch.event.shape[1]
    assert batch.seen[batch.bag_cell // width, batch.bag_slot].tolist() == batch.bag_item.tolist()
    return [batch.bag_item[batch.bag_cell == history * width + token].tolist() for token in range(length)]


def test_a_model_knows_the_words_of_train_and_a_refit_all(clicks: Prepared) -> None:
    assert Vocabulary.of(clicks, refit=False) == Vocabulary(3, 4, (2,))
    assert Vocabulary.of(clicks, refit=True) == Vocabulary(5, 4, (3,))


def test_a_history_is_its_entry_and_then_its_steps(clicks: Prepared) -> None:
    # bob: session_start 08:00, jam (never seen in train) 08:01, milk 08:02, purchase of milk 08:03
    batch = strangers(clicks, 3)

    assert batch.event.tolist() == [[START, VIEW, VIEW, PURCHASE]]
    assert batch.context.tolist() == [[[APP]] * 4]
    assert batch.time.tolist() == [[seconds(f"12T08:0{minute}") for minute in range(4)]]
    assert batch.length.tolist() == [4]
    assert bags(batch, 0, 4) == [[], [], [MILK], [MILK]]
    assert batch.seen.tolist() == [[MILK]]
    assert batch.targets == ()


def test_a_stranger_who_has_done_nothing_is_their_entry_alone(clicks: Prepared) -> None:
    # the session w1, then bob
    batch = strangers(clicks, 0)

    assert batch.event.tolist() == [[START], [START]]
    assert batch.context.tolist() == [[[WEB]], [[APP]]]
    assert batch.time.tolist() == [[seconds("14T07:00")], [seconds("12T08:00")]]
    assert batch.length.tolist() == [1, 1]
    assert batch.bag_item.tolist() == []
    assert batch.seen.tolist() == [[0], [0]]


def test_context_never_seen_in_train_is_unknown(clicks: Prepared) -> None:
    assert strangers(clicks, 2, split=s.TEST).context.unique().tolist() == [0]


def test_a_history_that_is_cut_opens_with_its_first_step(clicks: Prepared) -> None:
    batch = strangers(clicks, 3, max_len=2)

    assert batch.event.tolist() == [[START, VIEW, PURCHASE]]
    assert batch.time.tolist() == [[seconds("12T08:02"), seconds("12T08:02"), seconds("12T08:03")]]


def test_a_known_user_opens_with_the_first_visit(clicks: Prepared) -> None:
    examples = known_examples(clicks, s.VAL, [1])

    batch = collate(clicks, example_pieces(examples, MAX_LEN), Vocabulary.of(clicks, refit=False))

    assert batch.time[0, 0] == seconds("02T10:00")
    assert batch.event.tolist() == [[START, VIEW, VIEW, VIEW, PURCHASE, PURCHASE, VIEW]]
    assert bags(batch, 0, 7) == [[], [BREAD], [BREAD], [MILK], [BREAD], [MILK], [TEA]]
    assert batch.seen.tolist() == [[BREAD, MILK, TEA]]


def test_a_trip_is_one_token_with_all_its_items(trips: Prepared) -> None:
    # items: bread jam milk tea; bob: milk | honey (never seen in train) milk
    batch = strangers(trips, 2)

    assert batch.event.tolist() == [[START, PURCHASE, PURCHASE]]
    assert batch.context.shape == (1, 3, 0)
    assert bags(batch, 0, 3) == [[], [3], [3]]
    assert bags(strangers(trips, 1, split=s.TEST), 0, 2) == [[], [4, 2]]


def test_the_last_item_is_that_of_the_last_row_that_names_one_if_it_is_known(clicks: Prepared) -> None:
    examples = stranger_examples(clicks, s.VAL, [0, 1, 2, 3])
    vocabulary = Vocabulary.of(clicks, refit=True)
    every = collate(clicks, example_pieces(examples, MAX_LEN), vocabulary)
    known = int(every.last_item.max()) - 1
    fewer = collate(clicks, example_pieces(examples, MAX_LEN), vocabulary._replace(num_items=known))

    lists = [bags(every, b, every.event.shape[1]) for b in range(len(examples))]
    latest = [[item for bag in history for item in bag] for history in lists]
    assert every.last_item.tolist() == [items[-1] if items else 0 for items in latest]
    assert fewer.last_item.tolist() == [item if item <= known else 0 for item in every.last_item.tolist()]


def test_padding_changes_nothing(clicks: Prepared) -> None:
    data = training(clicks, *s.TASKS, refit=True)
    together = data[np.arange(len(data))]
    width = together.event.shape[1]
    for number in range(len(data)):
        alone = data[np.array([number])]
        length = int(alone.length[0])
        assert together.length[number] == length
        for whole, part, pad in zip(together[:3], alone[:3], (0, 0, -1), strict=True):
            assert isinstance(whole, torch.Tensor)
            assert isinstance(part, torch.Tensor)
            assert torch.equal(whole[number, :length], part[0])
            assert (whole[number, length:] == pad).all()
        assert bags(together, number, width) == bags(alone, 0, length) + [[]] * (width - length)
        assert together.seen[number][together.seen[number] > 0].tolist() == alone.seen[alone.seen > 0].tolist()
        for many, one in zip(together.targets, alone.targets, strict=True):
            own = many.cell // width == number
            assert (many.cell[own] % width).tolist() == one.cell.tolist()
            assert [column[own].tolist() for column in many[1:]] == [column.tolist() for column in one[1:]]


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_later_step_changes_nothing_before_it(clicks: Prepared, k: int) -> None:
    # the last example is bob's after k steps, and his after all three
    early, late = strangers(clicks, k), strangers(clicks, 3)
    bob, length = len(early.event) - 1, k + 1

    assert torch.equal(early.event[bob, :length], late.event[0, :length])
    assert torch.equal(early.context[bob, :length], late.context[0, :length])
    assert torch.equal(early.time[bob, :length], late.time[0, :length])
    assert bags(early, bob, length) == bags(late, 0, length)


def test_what_happens_after_validation_changes_no_tensor_of_it(clicks: Prepared, longer: Prepared) -> None:
    for before, after in zip(strangers(clicks, 0, 1, 2, 3), strangers(longer, 0, 1, 2, 3), strict=True):
        assert torch.equal(torch.as_tensor(before), torch.as_tensor(after))
    data, more = training(clicks, *s.TASKS), training(longer, *s.TASKS)
    one, two = data[np.arange(len(data))], more[np.arange(len(more))]
    assert all(torch.equal(a, b) for a, b in zip(one[:-2], two[:-2], strict=True))  # all but targets and labels
    for first, second in zip(one.targets, two.targets, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def targets_of(batch: Batch, number: int, history: int) -> list[list[tuple[int, float]]]:
    """(item, weight) at each token of a history."""
    found, width = batch.targets[number], batch.event.shape[1]
    entries = list(zip(found.cell.tolist(), found.item.tolist(), found.weight.tolist(), strict=True))
    tokens = range(int(batch.length[history]))
    return [[(item, weight) for cell, item, weight in entries if cell == history * width + t] for t in tokens]


def test_every_position_of_training_has_its_targets(clicks: Prepared) -> None:
    # the session w2: tea, search; ann: bread bread milk, an order of bread and milk in two rows
    data = training(clicks, s.TASK_NEXT, s.TASK_PURCHASE)
    batch = data[np.arange(2)]

    assert targets_of(batch, 0, 0) == [[(TEA, 1)], [], []]
    assert targets_of(batch, 0, 1) == [[(BREAD, 1)], [(MILK, 1)], [(MILK, 1)], [(BREAD, 1)], [(MILK, 1)], []]
    assert targets_of(batch, 1, 0) == [[], [], []]
    # the order's second row is never predicted from its first
    assert targets_of(batch, 1, 1) == [[(BREAD, 0.5), (MILK, 0.5)]] * 4 + [[], []]


def test_every_position_of_training_has_its_labels(clicks: Prepared) -> None:
    outcomes = [Outcome(s.INTENT, ("none", "purchase")), Outcome(s.PHASE, ("discovery", "engagement", "purchase"))]
    window, vocabulary = train_window(clicks), Vocabulary.of(clicks, refit=False)
    data = TrainingPieces(clicks, window, vocabulary, [s.TASK_NEXT], outcomes, max_len=MAX_LEN, seed=1)

    intent, phase = data[np.arange(2)].labels

    # the session w2: tea, search; ann: bread bread milk, an order of bread and milk in two rows
    none, buys, out = 0, 1, MASKED
    assert intent.tolist() == [[none, none, none, out, out, out], [buys, buys, buys, buys, buys, none]]
    assert phase[0].tolist()[2:] == [out] * 4  # nothing follows the search
    assert phase[1].tolist()[3:] == [2, 2, out]


def test_a_target_points_at_its_place_among_the_items_of_the_history(clicks: Prepared) -> None:
    batch = training(clicks, s.TASK_PURCHASE)[np.arange(2)]
    found = batch.targets[0]

    assert batch.seen.tolist() == [[TEA, 0], [BREAD, MILK]]
    assert found.slot.tolist() == [0, 1] * 4


def test_a_target_that_is_not_in_the_piece_has_no_place(trips: Prepared) -> None:
    # cid's only trip is a piece of its own; ann's pieces hold one trip each
    data = training(trips, s.TASK_PURCHASE, max_len=1)
    batch = data[np.array([0])]

    # bread jam milk, then tea, which lies in the next piece
    assert batch.seen.tolist() == [[1, 2, 3]]
    assert batch.targets[0].item.tolist() == [1, 2, 3, 4]
    assert batch.targets[0].slot.tolist() == [0, 1, 2, -1]


def test_no_row_of_a_divided_trip_passes_the_cut(prepare_log: PrepareLog) -> None:
    # the trip of the 10th runs over the cut: jam is of validation
    prepared = prepare_log("""
        02T10:00 ann a1 purchase bread -
        10T23:50 ann a2 purchase milk  -
        11T00:10 ann a2 purchase jam   -
        12T00:00 bob b1 purchase bread -
        31T00:00 ann a4 purchase milk  -
    """)
    batch = training(prepared, s.TASK_PURCHASE)[np.array([0])]

    assert bags(batch, 0, 3) == [[], [BREAD], [MILK]]
    assert targets_of(batch, 0, 0) == [[(BREAD, 1)], [(MILK, 1)], []]


@pytest.mark.parametrize("max_len", [1, 2, 3, 10])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_the_pieces_of_an_epoch_hold_every_step_once(clicks: Prepared, max_len: int, epoch: int) -> None:
    data = training(clicks, max_len=max_len, refit=True)
    data.begin_epoch(epoch)

    steps = [
        step for first, last in zip(data.pieces.first, data.pieces.last, strict=True) for step in range(first, last)
    ]

    assert steps == list(range(19))
    assert (data.pieces.last - data.pieces.first).max() <= max_len


def test_the_borders_of_an_epoch_depend_on_nothing_else(clicks: Prepared) -> None:
    data, other = training(clicks, max_len=3, refit=True), training(clicks, max_len=3, refit=True)
    drawn = []
    for epoch in range(8):
        data.begin_epoch(epoch)
        drawn.append(data.pieces.first.tolist())
    other.begin_epoch(5)

    assert other.pieces.first.tolist() == drawn[5]
    assert len({tuple(first) for first in drawn}) > 1


def test_a_piece_opens_a_visit_only_where_its_session_begins(clicks: Prepared) -> None:
    data = training(clicks, max_len=1, refit=True)

    # the first rows of w1, w2, ann's three visits, bob's two, eve's
    assert np.flatnonzero(data.pieces.opens).tolist() == [0, 2, 4, 9, 11, 12, 15, 16]


@pytest.mark.parametrize("tokens", [1, 4, 7, 100])
def test_batches_hold_every_piece_once_within_the_budget(clicks: Prepared, tokens: int) -> None:
    data = training(clicks, max_len=3, refit=True)
    sampler = TokenBatches(data, tokens=tokens, seed=2)
    sampler.set_epoch(3)

    batches = list(sampler)

    assert sorted(np.concatenate(batches).tolist()) == list(range(len(data)))
    for batch in batches:
        assert len(batch) == 1 or data[batch].event.numel() <= tokens


def test_the_batches_of_an_epoch_are_the_same_whatever_ran_before(clicks: Prepared) -> None:
    def epoch(sampler: TokenBatches, number: int) -> list[list[int]]:
        sampler.set_epoch(number)
        return [batch.tolist() for batch in sampler]

    used = TokenBatches(training(clicks, max_len=2, refit=True), tokens=8, seed=2)
    fresh = TokenBatches(training(clicks, max_len=2, refit=True), tokens=8, seed=2)
    first, second = epoch(used, 0), epoch(used, 1)

    assert epoch(fresh, 1) == second
    assert first != second
    assert used.count() == len(first)


def test_batches_end_where_the_next_piece_would_pass_the_budget() -> None:
    order, length = np.array([4, 0, 3, 1, 2]), np.array([1, 2, 2, 5, 9])

    # three pieces of at most 2 are 6 tokens; the last is over the budget by itself
    assert [batch.tolist() for batch in split_by_budget(order, length, 6)] == [[4, 0, 3], [1], [2]]
    assert [batch.tolist() for batch in split_by_budget(order, length, 5)] == [[4, 0], [3], [1], [2]]


def test_distinct_items_are_ascending_and_padded() -> None:
    seen, place = distinct_items(np.array([0, 0, 1, 0]), np.array([5, 2, 3, 5]), 3, 5)

    assert seen.tolist() == [[2, 5], [3, 0], [0, 0]]
    assert place.tolist() == [1, 0, 0, 1]


def test_slots_are_places_among_the_distinct_items() -> None:
    seen = np.array([[2, 5, 0], [3, 0, 0]])

    assert find_slots(seen, np.array([0, 0, 1, 1]), np.array([5, 3, 3, 2])).tolist() == [1, -1, 0, -1]
    assert find_slots(np.zeros((1, 1), np.int64), np.array([0]), np.array([4])).tolist() == [-1]


def test_no_histories_make_an_empty_batch(clicks: Prepared) -> None:
    none = np.empty(0, np.int64)

    batch = collate(clicks, Pieces(none, none, none, none.astype(bool)), Vocabulary.of(clicks, refit=False))

    assert (batch.event.shape, batch.context.shape, batch.seen.shape) == ((0, 1), (0, 1, 1), (0, 1))
