"""Counts and similarities worked out by hand on four items and five sessions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from shopkeeper.data.batches import Batch
from shopkeeper.models.baselines import CountedModel, ItemKNN, Popularity, Repeat, similarity, top_of_rows
from shopkeeper.models.contract import FitData

History = Callable[..., Batch]
Fitted = Callable[..., CountedModel]

BREAD, JAM, MILK, TEA = 1, 2, 3, 4


def sizes(data: FitData) -> dict[str, Any]:
    return {"vocabulary": data.vocabulary, "tasks": ["purchase"], "max_len": 10}


def ranking(scores: torch.Tensor) -> list[int]:
    return (torch.argsort(scores[0, 0], descending=True, stable=True) + 1).tolist()


def test_popularity_counts_what_was_bought(data: FitData) -> None:
    model = Popularity(**sizes(data), window_days=None)
    model.fit(data)

    # bread 3, tea 3, milk 2, jam 1 of all; the score is (n + n/4) / (max + max/4 + 1)
    assert model.prior_scores()[0].numpy() == pytest.approx(np.array([3.75, 1.25, 2.5, 3.75]) / 4.75)


def test_popularity_of_late_breaks_ties_by_popularity_ever(data: FitData, history: History) -> None:
    model = Popularity(**sizes(data), window_days=11)
    model.fit(data)

    # from the 19th on: tea 3, bread 1, jam 1, milk 0; bread was bought more often ever than jam
    assert ranking(model.score(history())) == [TEA, BREAD, JAM, MILK]


def test_repeat_puts_own_items_first(data: FitData, history: History) -> None:
    model = Repeat(**sizes(data), window_days=None, decay=1.0)
    model.fit(data)
    prior = model.prior_scores()[0]

    scores = model.score(history([JAM, MILK], [JAM]))[0, 0]

    assert scores.numpy() == pytest.approx((prior + torch.tensor([0.0, 2.0, 1.0, 0.0])).numpy())


def test_repeat_may_forget(data: FitData, history: History) -> None:
    model = Repeat(**sizes(data), window_days=None, decay=0.5)
    model.fit(data)
    prior = model.prior_scores()[0]

    scores = model.score(history([JAM], [JAM], [MILK]))[0, 0]

    # jam two and one trips ago: 1/4 + 1/2
    assert scores.numpy() == pytest.approx((prior + torch.tensor([0.0, 0.75, 1.0, 0.0])).numpy())


def test_similarity_is_a_shrunk_cosine_over_sessions(data: FitData) -> None:
    model = ItemKNN(**sizes(data), neighbours=4, shrink=1.0, decay=1.0, window_days=None)
    model.fit(data)

    near = model.table_of(0).toarray()
    # sessions: bread in 3, jam in 1, milk in 2, tea in 3; together: bread-milk 2, bread-tea 1, jam-tea 1
    assert near[BREAD - 1, MILK - 1] == pytest.approx(2 / (math.sqrt(3 * 2) + 1))
    assert near[BREAD - 1, TEA - 1] == pytest.approx(1 / (3 + 1))
    assert near[JAM - 1, TEA - 1] == pytest.approx(1 / (math.sqrt(3) + 1))
    assert near[JAM - 1, MILK - 1] == 0.0
    assert near[TEA - 1, TEA - 1] == pytest.approx(3 / (3 + 1))  # its own neighbour


def test_item_knn_sums_over_the_history(data: FitData, history: History) -> None:
    model = ItemKNN(**sizes(data), neighbours=4, shrink=1.0, decay=0.5, window_days=None)
    model.fit(data)
    near, prior = model.table_of(0).toarray(), model.prior_scores()[0].numpy()

    scores = model.score(history([MILK], [JAM]))[0, 0].numpy()

    assert scores == pytest.approx(0.5 * near[MILK - 1] + near[JAM - 1] + 1e-3 * prior, rel=1e-5)


def test_only_the_nearest_neighbours_are_kept(data: FitData) -> None:
    model = ItemKNN(**sizes(data), neighbours=2, shrink=1.0, decay=1.0, window_days=None)
    model.fit(data)

    near = model.table_of(0).toarray()
    # itself and: bread-milk 0.58 over bread-tea 0.25; jam-tea 0.37 over bread-tea 0.25
    kept = {BREAD: {BREAD, MILK}, JAM: {JAM, TEA}, MILK: {BREAD, MILK}, TEA: {JAM, TEA}}
    assert {item: set(np.flatnonzero(near[item - 1]) + 1) for item in kept} == kept


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_similarity_is_the_same_in_blocks_of_any_size(data: FitData, block: int) -> None:
    whole = similarity(data, "purchase", neighbours=2, shrink=1.0).toarray()

    found = similarity(data, "purchase", neighbours=2, shrink=1.0, block=block)

    np.testing.assert_array_equal(found.toarray(), whole)


def test_purchases_are_near_to_what_was_looked_at(looks: FitData) -> None:
    near = similarity(looks, "purchase", neighbours=4, shrink=1.0).toarray()

    # looked at or bought: bread in 3 sessions, jam in 1, milk in 1, tea in 1; bought: milk in 1, tea in 1
    assert near[BREAD - 1].tolist() == pytest.approx([0, 0, 1 / (math.sqrt(3) + 1), 1 / (math.sqrt(3) + 1)])
    assert near[MILK - 1].tolist() == pytest.approx([0, 0, 1 / (1 + 1), 0])  # nobody bought bread
    assert near[JAM - 1].tolist() == [0, 0, 0, 0]


def test_for_the_next_item_looks_are_near_to_looks(looks: FitData) -> None:
    near = similarity(looks, "next", neighbours=4, shrink=1.0).toarray()

    # seen twice in a session is seen once
    assert near[BREAD - 1].tolist() == pytest.approx([3 / (3 + 1), *[1 / (math.sqrt(3) + 1)] * 3])
    assert near[JAM - 1].tolist() == pytest.approx([1 / (math.sqrt(3) + 1), 1 / (1 + 1), 0, 0])


def test_popularity_is_of_each_task(looks: FitData) -> None:
    model = Popularity(**sizes(looks) | {"tasks": ["purchase", "next"]}, window_days=None)
    model.fit(looks)

    # bought: milk 1, tea 1; any event: bread 4, jam 1, milk 1, tea 2; the score is (n + n/(max + 1)) / (the most + 1)
    bought, any_event = np.array([0, 0, 1.5, 1.5]) / 2.5, np.array([4.8, 1.2, 1.2, 2.4]) / 5.8
    assert model.prior_scores().numpy() == pytest.approx(np.stack([bought, any_event]))


def test_top_of_rows_keeps_what_is_furthest_from_zero_and_of_equals_the_lower_column() -> None:
    table = sp.csr_array(np.array([[5.0, 7.0, 5.0, 1.0], [0.0, 1.0, 0.0, 0.0], [-3.0, 1.0, 0.0, 2.0]]))

    kept = top_of_rows(table, 2)

    assert kept.toarray().tolist() == [[5.0, 7.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 2.0]]


def test_counts_weigh_by_age(data: FitData) -> None:
    weighed = data.target_counts("purchase", half_life_days=10)

    # the latest row is of the 30th: milk 29 and 25 days before it
    assert weighed[MILK - 1] == pytest.approx(0.5**2.9 + 0.5**2.5, rel=1e-5)
    assert data.target_counts("purchase").tolist() == [3.0, 1.0, 2.0, 3.0]


def test_context_popularity_counts_within_the_context(learn: Callable[..., FitData], fitted: Fitted) -> None:
    rows = [(f"2026-01-{day:02d}", "purchase", item) for day, item in enumerate(["milk", "milk", "tea", "bread"], 1)]
    late = [("2026-03-30", "purchase", "jam"), ("2026-05-30", "purchase", "jam")]
    # the jam of train was bought by an unknown way
    log = learn(
        [*rows, ("2026-01-30", "purchase", "jam"), *late], channel=["app", "app", "web", "app", None, "web", "web"]
    )
    model = fitted("context_popularity", log, window_days=None, shrink=1.0, prior_weight=0.5)
    assert log.prepared.vocabulary("channel") == ["app", "web"]
    prior = model.prior_scores()[0]

    scores = model.score(channels([1, 2], [2, 1], [1, 0], [0, 0]))[:, 0] - 0.5 * prior

    # app: milk 2, bread 1; web: tea 1; the latest step's channel is the one that counts
    app, web = [1 / 4, 0.0, 2 / 4, 0.0], [0.0, 0.0, 0.0, 1 / 2]
    assert scores.numpy() == pytest.approx(np.array([web, app, [0.0] * 4, [0.0] * 4]), abs=1e-6)


def channels(*codes: list[int]) -> Batch:
    """Visitors who came in by a channel and made one step by another, without an item."""
    count = len(codes)
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        event=torch.ones((count, 2), dtype=torch.int64),
        context=torch.tensor(codes)[:, :, None],
        time=torch.arange(2).expand(count, 2),
        length=torch.full((count,), 2),
        bag_item=none,
        bag_cell=none,
        bag_slot=none,
        seen=torch.zeros((count, 1), dtype=torch.int64),
        last_item=torch.zeros(count, dtype=torch.int64),
        targets=(),
    )


def test_session_popularity_counts_the_current_visit_alone(data: FitData, history: History, fitted: Fitted) -> None:
    model = fitted("session_popularity", data, pause_minutes=30)
    batch = history([JAM], [MILK], [MILK], [BREAD])
    minutes = torch.tensor([[0, 1, 31, 60, 89]])  # a pause of 30 minutes after the jam, and none since

    scores = model.score(batch._replace(time=minutes * 60))[0, 0]

    assert (scores - model.prior_scores()[0]).tolist() == pytest.approx([1.0, 0.0, 2.0, 0.0], abs=1e-6)


def test_a_pause_of_unknown_length_ends_no_visit(data: FitData, history: History, fitted: Fitted) -> None:
    model = fitted("session_popularity", data, pause_minutes=30)

    scores = model.score(history([JAM], [MILK])._replace(time=torch.tensor([[-1, -1, 86400]])))[0, 0]

    assert (scores - model.prior_scores()[0]).tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0], abs=1e-6)
