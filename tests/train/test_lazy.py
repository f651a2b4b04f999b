import copy

import pytest
import torch
from torch import Tensor, nn

from shopkeeper.train.lazy import LazyAdamW, WeightAverage, clip_gradients

STEPS = [[0, 2], [2, 3], [0, 2, 3], [1], [2]]
"""Rows of a table of five that each step names."""


def tables() -> tuple[nn.Embedding, nn.Embedding]:
    """The same table with dense and with sparse gradients."""
    torch.manual_seed(0)
    dense = nn.Embedding(5, 3)
    sparse = nn.Embedding(5, 3, sparse=True)
    sparse.weight.detach().copy_(dense.weight.detach())
    return dense, sparse


def loss_of(table: nn.Embedding, rows: list[int]) -> Tensor:
    vectors: Tensor = table(torch.tensor(rows))
    return (vectors**3).sum()


def test_where_every_row_is_named_it_is_adamw() -> None:
    dense, sparse = tables()
    plain = torch.optim.AdamW(dense.parameters(), lr=0.1, weight_decay=0.3)
    lazy = LazyAdamW(sparse.parameters(), lr=0.1, weight_decay=0.3)
    for _ in range(4):
        for table, optimizer in ((dense, plain), (sparse, lazy)):
            optimizer.zero_grad()
            loss_of(table, [0, 1, 2, 3, 4, 2]).backward()
            optimizer.step()

    torch.testing.assert_close(sparse.weight, dense.weight)


def test_a_row_takes_the_steps_that_name_it_and_no_others() -> None:
    dense, sparse = tables()
    start = dense.weight.detach().clone()
    lazy = LazyAdamW(sparse.parameters(), lr=0.1, weight_decay=0.3)
    for rows in STEPS:
        lazy.zero_grad()
        loss_of(sparse, rows).backward()
        lazy.step()

    for row in range(5):
        alone = nn.Parameter(start[row : row + 1].clone())
        plain = torch.optim.AdamW([alone], lr=0.1, weight_decay=0.3)
        for _ in range(sum(row in rows for rows in STEPS)):
            plain.zero_grad()
            (alone**3).sum().backward()
            plain.step()
        torch.testing.assert_close(sparse.weight[row], alone[0])


def test_dense_weights_beside_a_table_take_torchs_own_step() -> None:
    _, sparse = tables()
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    twin = nn.Parameter(weight.detach().clone())
    lazy = LazyAdamW([*sparse.parameters(), weight], lr=0.1)
    plain = torch.optim.AdamW([twin], lr=0.1)
    loss_of(sparse, [1]).backward()
    for parameter, optimizer in ((weight, lazy), (twin, plain)):
        (parameter**2).sum().backward()
        optimizer.step()

    torch.testing.assert_close(weight, twin)


def test_its_state_goes_through_a_checkpoint() -> None:
    _, sparse = tables()
    lazy = LazyAdamW(sparse.parameters(), lr=0.1)
    loss_of(sparse, [0, 2]).backward()
    lazy.step()
    other = copy.deepcopy(sparse)
    again = LazyAdamW(other.parameters(), lr=0.1)
    again.load_state_dict(copy.deepcopy(lazy.state_dict()))
    for table, optimizer in ((sparse, lazy), (other, again)):
        optimizer.zero_grad()
        loss_of(table, [2, 3]).backward()
        optimizer.step()

    assert torch.equal(sparse.weight, other.weight)


def test_all_gradients_are_clipped_by_their_common_norm() -> None:
    table, weight = nn.Embedding(4, 1, sparse=True), nn.Parameter(torch.zeros(1))
    (table(torch.tensor([1, 1, 3])).sum() * torch.tensor(2.0) + 3.0 * weight.sum()).backward()

    clip_gradients(iter([*table.parameters(), weight]), limit=1.0)  # rows 1 and 3: 4 and 2; weight: 3

    norm = (16 + 4 + 9) ** 0.5
    assert table.weight.grad is not None
    assert weight.grad is not None
    assert table.weight.grad.to_dense()[:, 0].tolist() == pytest.approx([0, 4 / norm, 0, 2 / norm], rel=1e-5)
    assert weight.grad.item() == pytest.approx(3 / norm, rel=1e-5)


def test_gradients_below_the_limit_stay() -> None:
    weight = nn.Parameter(torch.zeros(1))
    (0.5 * weight.sum()).backward()

    clip_gradients(iter([weight]), limit=1.0)

    assert weight.grad is not None
    assert weight.grad.item() == 0.5


class Pair(nn.Module):
    """A table with sparse gradients beside one with dense ones."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.sparse = tables()


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_the_average_of_rows_left_alone_is_made_up_for(decay: float) -> None:
    """The lazy average equals the one that is kept of every row at every step."""
    model = Pair()
    average = WeightAverage(model, decay)
    expected = model.sparse.weight.detach().clone()
    lazy = LazyAdamW(model.parameters(), lr=0.1)
    for n, rows in enumerate(STEPS):
        lazy.zero_grad()
        (loss_of(model.sparse, rows) + loss_of(model.dense, rows)).backward()
        average.before_step(model)
        lazy.step()
        average.after_step(model)
        kept = min(decay, (1 + n) / (10 + n)) if n else 0.0
        expected = kept * expected + (1 - kept) * model.sparse.weight.detach()
        if n == 2:
            average.settle(model)  # reading it in between changes nothing
    average.settle(model)

    torch.testing.assert_close(average.module.get_submodule("sparse").weight, expected)
