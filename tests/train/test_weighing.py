from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.baselines import ItemKNN, Popularity, Repeat
from shopkeeper.models.blend import Blend
from shopkeeper.models.contract import FitData
from shopkeeper.train.validation import Validation, standard_protocol
from shopkeeper.train.weighing import Lists, list_items, minimise, weigh


def chosen(first: int, second: int) -> Lists:
    """Two items, of which a single part scores the first 1 and the second 0; how many chose either."""
    count = first + second
    share = np.repeat([[1.0, 0.0], [0.0, 1.0]], [first, second], axis=0)
    view = np.tile(np.array([[[1.0], [0.0]]], np.float32), (count, 1, 1))
    return Lists(view, np.zeros((count, 2), np.float32), share.astype(np.float32), np.zeros(count, np.int64))


def test_the_weight_makes_the_chosen_as_probable_as_they_were() -> None:
    # e^w / (e^w + 1) = 3 / 4
    assert minimise(chosen(3, 1), np.array([0.3]), pull=0.0) == pytest.approx([np.log(3)], abs=1e-3)


def test_a_part_that_misleads_gets_no_weight_rather_than_less() -> None:
    assert minimise(chosen(1, 3), np.array([0.3]), pull=0.0).tolist() == [0.0]


def test_few_examples_stay_near_the_weights_of_all() -> None:
    # d/dw: 4 e^w / (e^w + 1) - 3 + 1000 (w - 0.3) = 0, so w - 0.3 is about (3 - 4 * 0.5744) / 1000
    assert minimise(chosen(3, 1), np.array([0.3]), pull=1000.0) == pytest.approx([0.3007], abs=1e-4)


def test_without_examples_the_weights_of_all_hold() -> None:
    nobody = chosen(1, 0).only(np.array([False]))

    assert minimise(nobody, np.array([0.3]), pull=1.0).tolist() == [0.3]


def test_a_list_stands_for_all_that_may_be_chosen() -> None:
    views = np.random.default_rng(0).random((2, 3, 1000)).astype(np.float32)
    target = np.array([[7, -1], [5, 8], [1000, -1]])  # the last item came up after training

    view, log_count, share = list_items(views, target, np.array([-1, 2, -1]), np.random.default_rng(1))

    assert view.shape == (*log_count.shape, 2)
    np.testing.assert_allclose(np.exp(log_count).sum(axis=1), [1000, 999, 1000], rtol=1e-5)
    assert share.sum(axis=1).tolist() == [1, 1, 0]
    np.testing.assert_array_equal(view[0, share[0] == 1], views[:, 0, [7]].T)
    assert set(share[1][share[1] > 0].tolist()) == {0.5}
    assert np.isneginf(log_count[(view == views[:, 1, 2]).all(axis=2)]).all()


@pytest.fixture
def blend(shops: dict[str, Prepared]) -> Blend:
    """Popularity, which the shop's visitors do not care for, and what they do care for."""
    prepared = shops["clicks"]
    vocabulary = Vocabulary.of(prepared, refit=False)
    sizes: dict[str, Any] = {"vocabulary": vocabulary, "tasks": ["purchase", "next"], "max_len": 10}
    parts = {
        "popularity": Popularity(**sizes, window_days=None),
        "repeat": Repeat(**sizes, window_days=None, decay=1.0),
        "item_knn": ItemKNN(**sizes, window_days=None, decay=1.0, neighbours=10, shrink=1.0),
    }
    made = Blend(**sizes, parts=parts, runs={}, ks=[0, 1, 5], shrinkage=10, examples=500)
    made.fit(FitData(prepared, train_window(prepared), vocabulary))
    return made


def validation_of(prepared: Prepared) -> Validation:
    return Validation.of(prepared, ["purchase", "next"], standard_protocol(), primary="purchase")


def test_a_blend_is_never_worse_than_its_best_part(blend: Blend, shops: dict[str, Prepared]) -> None:
    validation = validation_of(shops["clicks"])

    found = weigh(blend, validation)

    for task in blend.tasks:
        parts = [validation.pooled(task, validation.judge(part, task)) for part in blend.named_parts().values()]
        assert found[f"val/{task}/ndcg_at_20"] >= max(parts)
    assert blend.weights.shape == (2, 3, 3)
    assert (blend.weights >= 0).all()


def test_nobody_is_judged_with_weights_that_they_taught(
    blend: Blend, shops: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = validation_of(shops["clicks"])
    learned: list[float] = []
    judged: list[tuple[float, np.ndarray]] = []
    judge: Callable[..., Any] = Validation.judge

    def spy(self: Validation, model: Any, task: str, chosen: Any = None) -> Any:
        if isinstance(model, Blend) and task == "next":
            judged.append((float(model.weights[1].sum()), self.examples[task][0].visitor[chosen] % 2))
        return judge(self, model, task, chosen)

    monkeypatch.setattr(Validation, "judge", spy)
    weigh(blend, validation)
    learned.append(float(blend.weights[1].sum()))

    (even_weights, even), (odd_weights, odd) = judged
    assert (set(even.tolist()), set(odd.tolist())) == ({0}, {1})
    assert len({even_weights, odd_weights, *learned}) == 3
