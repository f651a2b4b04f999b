from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.contract import FitData
from shopkeeper.models.items import ItemTable


def table() -> ItemTable:
    torch.manual_seed(0)
    items = ItemTable(num_items=6, dim=3, num_tasks=2, half_life_days=7.0)
    with torch.no_grad():
        items.bias.weight[1:] = torch.randn(6, 2)
        items.popularity[1:] = torch.randn(6, 2)
    return items


def test_vectors_have_unit_length_and_nobody_is_zero() -> None:
    found = table().all()

    torch.testing.assert_close(found.vector.norm(dim=1), torch.tensor([0.0] + [1.0] * 6))
    assert found.bias[0].tolist() == [0.0, 0.0]


def test_a_few_items_are_what_they_are_among_all() -> None:
    items = table()
    every, few = items.all(), items.only(torch.tensor([5, 2, 5]))

    assert few.code.tolist() == [0, 2, 5]
    assert few.rows(torch.tensor([[5, 2], [0, 5]])).tolist() == [[2, 1], [0, 2]]
    for name in ("vector", "bias", "repeat", "popularity"):
        torch.testing.assert_close(getattr(few, name), getattr(every, name)[few.code])


def test_gradients_name_the_items_asked_for_and_no_others() -> None:
    items = table()
    few = items.only(torch.tensor([5, 2]))
    (few.vector.sum() + few.bias.sum()).backward()

    gradient = items.vector.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.coalesce().indices()[0].tolist() == [0, 2, 5]


def test_popularity_is_scored_before_anything_is_learned(shops: dict[str, Prepared]) -> None:
    prepared = shops["orders"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    items = ItemTable(num_items=data.vocabulary.num_items, dim=4, num_tasks=1, half_life_days=7.0)
    items.fit(data, ["purchase"])

    counts = torch.from_numpy(data.target_counts("purchase", half_life_days=7.0)) + 0.1
    torch.testing.assert_close(items.all().bias[1:, 0], torch.log(counts / counts.mean()))


CONTENT = {"levels": 1, "tiers": 1, "title_tokens": 0, "buckets": 1000, "id_dropout": 0.0, "cold_items": True}


@pytest.fixture
def listed(prepare_frame: Callable[..., Prepared]) -> FitData:
    """Tea and honey are sold, jam is listed alone; tea and jam are of one category."""
    day = np.arange(40)
    events = pd.DataFrame(
        {
            "timestamp": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(day, unit="D"),
            "event": "view_item",
            "item_id": np.where(day % 4 == 0, "honey", "tea"),
            "session_id": [f"s{d // 2}" for d in day],
        }
    )
    items = pd.DataFrame({"item_id": ["honey", "jam", "tea"], "category": ["a", "b", "b"]})
    prepared = prepare_frame(events, items)
    return FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))


def test_a_new_item_is_scored_by_its_content(listed: FitData) -> None:
    items = ItemTable(num_items=3, dim=2, num_tasks=1, half_life_days=7.0, content=CONTENT).eval()
    items.fit(listed, ["next"])
    with torch.no_grad():
        items.bias.weight.fill_(9.0)
    _, honey, jam, tea = items.all().vector.detach()
    _, sure, likely, counted = items.all().bias[:, 0].tolist()

    assert float(jam @ tea) > float(jam @ honey)
    counts = listed.target_counts("next", half_life_days=7.0) + 0.1
    alike = (counts[1] - 0.1 + counts[2] - 0.1) / 2 + 0.1  # the mean of jam and tea
    assert likely == pytest.approx(np.log(alike / counts.mean()), rel=1e-4)
    assert sure == pytest.approx(9.0 + np.log(counts[0] / counts.mean()), rel=1e-4)
    assert counted == pytest.approx(9.0 + np.log(counts[2] / counts.mean()), rel=1e-4)
    assert items.all().repeat[2].item() == 0.0


def test_content_is_read_of_the_items_asked_for_as_among_all(listed: FitData) -> None:
    items = ItemTable(num_items=3, dim=2, num_tasks=1, half_life_days=7.0, content=CONTENT, tie=False).eval()
    items.fit(listed, ["next"])
    every, few = items.all(), items.only(torch.tensor([3, 2]))

    for name in ("vector", "read", "bias", "repeat", "popularity"):
        torch.testing.assert_close(getattr(few, name), getattr(every, name)[few.code])


def test_an_item_of_training_may_be_seen_as_new(listed: FitData) -> None:
    settings = CONTENT | {"id_dropout": 0.5}
    items = ItemTable(num_items=3, dim=2, num_tasks=1, half_life_days=7.0, content=settings)
    items.fit(listed, ["next"])
    with torch.no_grad():
        items.bias.weight[1:] += 100.0
    torch.manual_seed(0)
    biases = torch.stack([items.all().bias[3, 0] for _ in range(20)])

    assert 0 < (biases > 50).sum() < 20
    assert (items.eval().all().bias[3, 0] > 50).item()


def test_untied_steps_are_read_by_vectors_of_their_own() -> None:
    tied = table().all()
    torch.manual_seed(0)
    items = ItemTable(num_items=6, dim=3, num_tasks=2, half_life_days=7.0, tie=False)
    torch.testing.assert_close(items.all().read, items.all().vector)  # to start with
    (items.only(torch.tensor([5])).read.sum()).backward()

    assert tied.read is tied.vector
    assert items.vector.weight.grad is None
    assert items.reading is not None
    assert items.reading.weight.grad is not None
