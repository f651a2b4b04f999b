"""Vectors and neighbours by hand, among five customers of one trip each: bread milk (two of them), bread tea, tea, jam
tea."""

from collections.abc import Callable

import numpy as np
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.batches import Batch
from shopkeeper.models import tifu_knn
from shopkeeper.models.contract import FitData
from shopkeeper.models.tifu_knn import TIFUKNN

Fitted = Callable[..., TIFUKNN]
History = Callable[..., Batch]
BREAD, JAM, MILK, TEA = 1, 2, 3, 4


def test_steps_fade_within_groups_and_groups_fade(data: FitData, fitted: Fitted) -> None:
    model = fitted("tifu_knn", data, group_size=2, step_decay=0.5, group_decay=0.8)

    weight = model.step_weights(np.arange(5), np.full(5, 5))

    # three groups, from the latest: two steps, two steps, one step
    expected = [1 / 2 / 3, 0.5 / 2 / 3, 0.8 / 2 / 3, 0.8 * 0.5 / 2 / 3, 0.8**2 / 1 / 3]
    assert weight.tolist() == pytest.approx(expected)


def test_a_history_is_a_vector(data: FitData, fitted: Fitted, history: History) -> None:
    model = fitted("tifu_knn", data, group_size=2, step_decay=0.5, group_decay=0.8)

    own = model.own(history([TEA], [JAM, TEA, TEA], [MILK])).toarray()[0]

    # milk, then jam and tea half as much, in a group of two; the first tea in a group of its own; tea is named twice
    assert own.tolist() == pytest.approx([0.0, 0.5 / 2 / 2, 1 / 2 / 2, 0.5 / 2 / 2 + 0.8 / 1 / 2])


def test_the_nearest_customers_lend_their_vectors(data: FitData, fitted: Fitted, history: History) -> None:
    model = fitted("tifu_knn", data, neighbours=3, own_share=0.25)

    scores = model.score(history([MILK]))[0, 0] - 1e-6 * model.prior_scores()[0]

    # squared distances: 1 to bread milk (twice), 2 to tea, 3 to the others
    lent = np.array([2 / 3, 0.0, 2 / 3, 1 / 3])
    assert scores.tolist() == pytest.approx(0.25 * np.array([0, 0, 1, 0]) + 0.75 * lent, abs=1e-6)


def test_all_customers_are_neighbours_where_they_are_few(data: FitData, fitted: Fitted, history: History) -> None:
    model = fitted("tifu_knn", data, neighbours=100, own_share=0.0)

    scores = model.score(history([MILK]))[0, 0] - 1e-6 * model.prior_scores()[0]

    assert scores.tolist() == pytest.approx([3 / 5, 1 / 5, 2 / 5, 3 / 5], abs=1e-6)


def test_of_neighbours_in_a_log_of_looks_what_they_bought_counts(
    looks: FitData, fitted: Fitted, history: History
) -> None:
    model = fitted("tifu_knn", looks, "purchase", "next", neighbours=1, group_size=9, step_decay=1.0, own_share=0.0)

    scores = model.score(history([BREAD], [BREAD], [MILK]))[0] - 1e-6 * model.prior_scores()

    # the first visitor is the same: two looks at bread, then milk bought, each step a third
    assert scores[0].tolist() == pytest.approx([0, 0, 1 / 3, 0], abs=1e-6)
    assert scores[1].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0], abs=1e-6)


def test_who_has_done_nothing_has_no_neighbours(data: FitData, fitted: Fitted, history: History) -> None:
    model = fitted("tifu_knn", data)

    assert model.score(history())[0].numpy() == pytest.approx(1e-6 * model.prior_scores().numpy())


def test_blocks_of_histories_change_nothing(
    data: FitData, fitted: Fitted, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted("tifu_knn", data, neighbours=2)
    whole = model.score(history([MILK], [TEA])).numpy()
    monkeypatch.setattr(tifu_knn, "DISTANCES_AT_ONCE", 1)

    np.testing.assert_array_equal(model.score(history([MILK], [TEA])).numpy(), whole)


def test_groups_of_nothing_are_refused(data: FitData, fitted: Fitted) -> None:
    with pytest.raises(UserError, match="group_size=0 must be at least 1"):
        fitted("tifu_knn", data, group_size=0)
