"""Counts and similarities worked out by hand on four items and five sessions."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.windows import train_window
from shopkeeper.models.baselines import ItemKNN, Popularity, Repeat, similarity, top_of_rows
from shopkeeper.models.contract import FitData

# Train is January; the rows of March to May only make the other splits.
TRIPS = {
    "2026-01-01": ["bread", "milk"],
    "2026-01-05": ["bread", "milk"],
    "2026-01-20": ["bread", "tea"],
    "2026-01-29": ["tea"],
    "2026-01-30": ["jam", "tea"],
    "2026-03-30": ["jam"],
    "2026-05-30": ["jam"],
}
BREAD, JAM, MILK, TEA = 1, 2, 3, 4


def prepare_log(frame: pd.DataFrame, folder: Path, compose: Callable[..., Any]) -> Prepared:
    frame.to_parquet(folder / "log.parquet")
    split = ["val_share=null", "test_share=null", "val_days=60", "test_days=30", "holdout_share=0"]
    overrides = [f"data.events={folder / 'log.parquet'}", f"output={folder / 'shop'}", "threads=1"]
    overrides += [f"data.split.{s}" for s in split]
    return prepare(compose("prepare", PrepareConfig, "data=events", *overrides), say=lambda text: None)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> Prepared:
    folder = tmp_path_factory.mktemp("trips")
    rows = [(day, item) for day, items in TRIPS.items() for item in items]
    frame = pd.DataFrame(rows, columns=["timestamp", "item_id"]).assign(event="purchase")
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    frame["user_id"] = "u" + frame["timestamp"].dt.strftime("%m%d")
    return prepare_log(frame, folder, compose)


@pytest.fixture(scope="module")
def data(shop: Prepared) -> FitData:
    assert shop.item_ids() == ["bread", "jam", "milk", "tea"]
    return FitData(shop, train_window(shop), Vocabulary.of(shop, refit=False))


def sizes(data: FitData) -> dict[str, Any]:
    return {"vocabulary": data.vocabulary, "tasks": ["purchase"], "max_len": 10}


def history(*steps: list[int]) -> Batch:
    """One visitor's trips as a batch."""
    items = [item for step in steps for item in step]
    cells = [t for t, step in enumerate(steps, start=1) for _ in step]
    seen = sorted(set(items)) or [0]
    width = len(steps) + 1
    return Batch(
        event=torch.tensor([[1] + [2] * len(steps)]),
        context=torch.zeros((1, width, 0), dtype=torch.int64),
        time=torch.arange(width)[None] * 86400,
        length=torch.tensor([width]),
        bag_item=torch.tensor(items, dtype=torch.int64),
        bag_cell=torch.tensor(cells, dtype=torch.int64),
        bag_slot=torch.tensor([seen.index(item) for item in items], dtype=torch.int64),
        seen=torch.tensor([seen]),
        last_item=torch.tensor(items[-1:] or [0]),
        targets=(),
    )


def ranking(scores: torch.Tensor) -> list[int]:
    return (torch.argsort(scores[0, 0], descending=True, stable=True) + 1).tolist()


def test_popularity_counts_what_was_bought(data: FitData) -> None:
    model = Popularity(**sizes(data), window_days=None)
    model.fit(data)

    # bread 3, tea 3, milk 2, jam 1 of all; the score is (n + n/4) / (max + max/4 + 1)
    assert model.prior_scores()[0].numpy() == pytest.approx(np.array([3.75, 1.25, 2.5, 3.75]) / 4.75)


def test_popularity_of_late_breaks_ties_by_popularity_ever(data: FitData) -> None:
    model = Popularity(**sizes(data), window_days=11)
    model.fit(data)

    # from the 19th on: tea 3, bread 1, jam 1, milk 0; bread was bought more often ever than jam
    assert ranking(model.score(history())) == [TEA, BREAD, JAM, MILK]


def test_repeat_puts_own_items_first(data: FitData) -> None:
    model = Repeat(**sizes(data), window_days=None, decay=1.0)
    model.fit(data)
    prior = model.prior_scores()[0]

    scores = model.score(history([JAM, MILK], [JAM]))[0, 0]

    assert scores.numpy() == pytest.approx((prior + torch.tensor([0.0, 2.0, 1.0, 0.0])).numpy())


def test_repeat_may_forget(data: FitData) -> None:
    model = Repeat(**sizes(data), window_days=None, decay=0.5)
    model.fit(data)
    prior = model.prior_scores()[0]

    scores = model.score(history([JAM], [JAM], [MILK]))[0, 0]

    # jam two and one trips ago: 1/4 + 1/2
    assert scores.numpy() == pytest.approx((prior + torch.tensor([0.0, 0.75, 1.0, 0.0])).numpy())


def test_similarity_is_a_shrunk_cosine_over_sessions(data: FitData) -> None:
    model = ItemKNN(**sizes(data), neighbours=4, shrink=1.0, decay=1.0, window_days=None)
    model.fit(data)

    near = model.similarity_of(0).toarray()
    # sessions: bread in 3, jam in 1, milk in 2, tea in 3; together: bread-milk 2, bread-tea 1, jam-tea 1
    assert near[BREAD - 1, MILK - 1] == pytest.approx(2 / (math.sqrt(3 * 2) + 1))
    assert near[BREAD - 1, TEA - 1] == pytest.approx(1 / (3 + 1))
    assert near[JAM - 1, TEA - 1] == pytest.approx(1 / (math.sqrt(3) + 1))
    assert near[JAM - 1, MILK - 1] == 0.0
    assert near[TEA - 1, TEA - 1] == pytest.approx(3 / (3 + 1))  # its own neighbour


def test_item_knn_sums_over_the_history(data: FitData) -> None:
    model = ItemKNN(**sizes(data), neighbours=4, shrink=1.0, decay=0.5, window_days=None)
    model.fit(data)
    near, prior = model.similarity_of(0).toarray(), model.prior_scores()[0].numpy()

    scores = model.score(history([MILK], [JAM]))[0, 0].numpy()

    assert scores == pytest.approx(0.5 * near[MILK - 1] + near[JAM - 1] + 1e-3 * prior, rel=1e-5)


def test_only_the_nearest_neighbours_are_kept(data: FitData) -> None:
    model = ItemKNN(**sizes(data), neighbours=2, shrink=1.0, decay=1.0, window_days=None)
    model.fit(data)

    near = model.similarity_of(0).toarray()
    # itself and: bread-milk 0.58 over bread-tea 0.25; jam-tea 0.37 over bread-tea 0.25
    kept = {BREAD: {BREAD, MILK}, JAM: {JAM, TEA}, MILK: {BREAD, MILK}, TEA: {JAM, TEA}}
    assert {item: set(np.flatnonzero(near[item - 1]) + 1) for item in kept} == kept


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_similarity_is_the_same_in_blocks_of_any_size(data: FitData, block: int) -> None:
    whole = similarity(data, "purchase", neighbours=2, shrink=1.0).toarray()

    found = similarity(data, "purchase", neighbours=2, shrink=1.0, block=block)

    np.testing.assert_array_equal(found.toarray(), whole)


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> FitData:
    """Three sessions of views and purchases, of which the model may learn."""
    sessions = {
        "2026-01-01": [("view_item", "bread"), ("view_item", "bread"), ("purchase", "milk")],
        "2026-01-02": [("view_item", "bread"), ("view_item", "tea"), ("purchase", "tea")],
        "2026-01-03": [("view_item", "bread"), ("view_item", "jam")],
        "2026-03-30": [("view_item", "jam")],
        "2026-05-30": [("view_item", "jam")],
    }
    rows = [(day, event, item) for day, steps in sessions.items() for event, item in steps]
    frame = pd.DataFrame(rows, columns=["timestamp", "event", "item_id"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True) + pd.to_timedelta(range(len(rows)), unit="s")
    frame["user_id"] = "u" + frame["timestamp"].dt.strftime("%m%d")
    prepared = prepare_log(frame, tmp_path_factory.mktemp("looks"), compose)
    assert prepared.item_ids() == ["bread", "jam", "milk", "tea"]
    return FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))


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


def test_top_of_rows_keeps_the_largest_and_of_equal_ones_the_lower_column() -> None:
    row, column = np.array([0, 0, 0, 1]), np.array([2, 0, 1, 1])
    kept = top_of_rows(row, column, np.array([5.0, 7.0, 5.0, 1.0]), shape=(2, 3), keep=2)

    assert kept.toarray().tolist() == [[7.0, 5.0, 0.0], [0.0, 1.0, 0.0]]


def test_counts_weigh_by_age(data: FitData) -> None:
    weighed = data.target_counts("purchase", half_life_days=10)

    # the latest row is of the 30th: milk 29 and 25 days before it
    assert weighed[MILK - 1] == pytest.approx(0.5**2.9 + 0.5**2.5, rel=1e-5)
    assert data.target_counts("purchase").tolist() == [3.0, 1.0, 2.0, 3.0]
