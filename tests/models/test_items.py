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
