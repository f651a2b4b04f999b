import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from shopkeeper.config import UserError
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData
from shopkeeper.models.session_knn import (
    SessionNeighbours,
    first_of_groups,
    latest_of_rows,
    session_places,
    sessions_by_time,
)

Config = Callable[[str], dict[str, Any]]

SESSIONS = [[1, 2], [2, 3], [1, 3, 4], [5]]
"""Items of four sessions, the earliest first, each in the order of its steps; they end a day apart."""


def built(config: Config, family: str = "vmis_knn", **values: Any) -> SessionNeighbours:
    """A model that knows the sessions above."""
    model = build_model(
        config(family) | values,
        vocabulary=Vocabulary(num_items=5, num_events=2, context=()),
        tasks=["next"],
        max_len=12,
        facts={},
    )
    assert isinstance(model, SessionNeighbours)
    size = np.array([len(items) for items in SESSIONS])
    place = np.concatenate([np.arange(len(items)) for items in SESSIONS])
    table = sp.csr_array((place, np.concatenate(SESSIONS) - 1, np.append(0, np.cumsum(size))), shape=(4, 5))
    idf = np.log(4 / np.array([2, 2, 2, 1, 1]))
    worth = model.weigh_sessions(size.astype(float), np.array([3.0, 2.0, 1.0, 0.0]))
    model.keep_sparse("sessions_{}", latest_of_rows(sp.csr_array(table.T), model.most_recent))
    model.keep_sparse("{}_0", table)
    vectors = {"sessions_worth": worth, "item_weight": model.weigh_items(idf), "prior": np.zeros((1, 5))}
    model.set_tables({name: torch.from_numpy(vector.astype(np.float32)) for name, vector in vectors.items()})
    return model


def history(*items: int) -> Batch:
    """One visitor who looked at the items, one a step."""
    steps, seen = len(items), sorted(set(items))
    return Batch(
        event=torch.tensor([[1, *[2] * steps]]),
        context=torch.zeros((1, steps + 1, 0), dtype=torch.int64),
        time=torch.arange(steps + 1)[None],
        length=torch.tensor([steps + 1]),
        bag_item=torch.tensor(items),
        bag_cell=torch.arange(1, steps + 1),
        bag_slot=torch.tensor([seen.index(item) for item in items]),
        seen=torch.tensor([seen]),
        last_item=torch.tensor([items[-1]]),
        targets=(),
    )


def added(model: SessionNeighbours, batch: Batch) -> torch.Tensor:
    """What the neighbours add to the score of each item, before it is divided by their number."""
    return model.score(batch)[0, 0] * model.neighbours


def test_scores_are_those_of_the_definition(config: Config) -> None:
    """The history 2, 1: item 1 weighs 1, item 2 half.

    Session 1 2 shares both, r = 1.5, the latest match one step ago: 1.5 * 0.9. Session 2 3 shares item 2 alone, two
    steps ago: 0.5 * 0.8. Session 1 3 4 shares item 1: 1 * 0.9. An idf is log 2 of the items 1, 2, 3 and log 4 of 4.
    """
    found = added(built(config), history(2, 1))

    first, second, third = 1.5 * 0.9, 0.5 * 0.8, 1.0 * 0.9
    expected = [first + third, first + second, second + third, 2 * third, 0.0]
    torch.testing.assert_close(found, math.log(2) * torch.tensor(expected))


def test_an_item_met_again_counts_at_its_latest_place_alone(config: Config) -> None:
    """1, 2, 1: item 1 one step ago weighs 1, item 2 two thirds."""
    found = added(built(config), history(1, 2, 1))

    assert found[3].item() == pytest.approx(1.0 * 0.9 * math.log(4), rel=1e-5)
    assert found[1].item() == pytest.approx(((1 + 2 / 3) * 0.9 + 2 / 3 * 0.8) * math.log(2), rel=1e-5)


def test_only_the_most_recent_sessions_are_compared(config: Config) -> None:
    found = added(built(config, most_recent=1), history(2, 1))  # of item 2: session 2 3; of 1: session 1 3 4

    torch.testing.assert_close(found, 0.9 * math.log(2) * torch.tensor([1.0, 0.0, 1.0, 2.0, 0.0]))


def test_only_the_most_alike_neighbours_count(config: Config) -> None:
    found = added(built(config, neighbours=1), history(2, 1))

    torch.testing.assert_close(found, 1.5 * 0.9 * math.log(2) * torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]))


def test_what_lies_further_back_than_the_query_is_not_read(config: Config) -> None:
    model = built(config, max_query=1)

    torch.testing.assert_close(model.score(history(2, 1)), model.score(history(1)))


def test_after_ten_steps_a_match_is_worth_nothing(config: Config) -> None:
    found = added(built(config, max_query=12), history(2, *[5] * 10))

    assert found[:4].tolist() == [0.0] * 4
    assert found[4].item() == pytest.approx(0.9 * math.log(4), rel=1e-5)


def test_vs_knn_by_hand(config: Config) -> None:
    """The history 2, 1: item 1 weighs 1, item 2 a quarter; a match two steps ago is worth half.

    Session 1 2: 1.25. Session 2 3: 0.25 * 0.5. Session 1 3 4: 1. An item counts 1 + 0.5 * its idf.
    """
    found = added(built(config, "vs_knn", query_power=2.0, match_power=1.0, idf_weight=0.5), history(2, 1))

    first, second, third = 1.25, 0.125, 1.0
    common, rare = 1 + 0.5 * math.log(2), 1 + 0.5 * math.log(4)
    expected = [(first + third) * common, (first + second) * common, (second + third) * common, third * rare, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_stan_by_hand(config: Config) -> None:
    """The history 2, 1 with every rate such that one unit halves: item 1 weighs 1, item 2 half.

    Session 1 2, of two items, three days before the end: 1.5 / sqrt 2 / 8; its latest shared item is 1, at the start,
    so 2 is worth half. Session 2 3, two days: 0.5 / sqrt 2 / 4; 2 is shared, 3 is worth half. Session 1 3 4, a day:
    1 / sqrt 3 / 2; 1 is shared, 3 is worth half, 4 a quarter.
    """
    half = 1 / math.log(2)
    found = added(built(config, "stan", query_steps=half, session_days=half, place_steps=half), history(2, 1))

    first, second, third = 1.5 / math.sqrt(2) / 8, 0.5 / math.sqrt(2) / 4, 1 / math.sqrt(3) / 2
    expected = [first + third, first / 2 + second, second / 2 + third / 2, third / 4, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_items_stand_at_their_latest_step_of_the_session(looks: FitData) -> None:
    """bread bread milk; bread tea tea; bread jam: codes bread 1, jam 2, milk 3, tea 4."""
    seen, bought = session_places(looks, None).toarray()[:3], session_places(looks, "purchase")

    assert seen.tolist() == [[1, 0, 2, 0], [0, 0, 0, 2], [0, 1, 0, 0]]
    assert session_places(looks, None).nnz == 6  # a zero is an entry where the item opens the session
    assert (bought.toarray()[:3].tolist(), bought.nnz) == ([[0, 0, 2, 0], [0, 0, 0, 2], [0] * 4], 2)


def test_items_of_a_trip_stand_in_one_place(data: FitData) -> None:
    assert session_places(data, None).data.tolist() == [0] * 9


def test_sessions_come_in_the_order_of_their_ends(shops: dict[str, Prepared]) -> None:
    prepared = shops["clicks"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    (order, ended), rows = sessions_by_time(data), data.rows()
    named = rows[np.asarray(prepared.rows["item"])[rows] > 0]
    ends = [prepared.rows["time"][named[prepared.rows["session"][named] == session]].max() for session in order]

    assert ended.tolist() == ends == sorted(ends)
    assert set(order.tolist()) == set(np.asarray(prepared.rows["session"])[named].tolist())


def test_the_first_of_each_group_by_key_then_tie() -> None:
    group, key, tie = np.array([1, 0, 1, 1, 0]), np.array([2, 5, 1, 1, 4]), np.array([0, 0, 7, 6, 0])

    assert first_of_groups(group, key, 1, tie).tolist() == [4, 3]
    assert first_of_groups(group, key, 2, tie).tolist() == [4, 1, 3, 2]


def test_no_neighbour_at_all_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match="neighbours=0 must be at least 1"):
        built(config, neighbours=0)


def test_a_scale_of_nothing_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match=r"place_steps=0\.0 must be above 0"):
        built(config, "stan", place_steps=0.0)
