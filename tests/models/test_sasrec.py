import pytest
import torch

from shopkeeper.models.sasrec import Block


def test_attention_looks_back_and_never_ahead() -> None:
    torch.manual_seed(0)
    block, x = Block(dim=4, heads=2, dropout=0.0).eval(), torch.randn(1, 5, 4)
    changed = x.clone()
    changed[:, 3] = torch.randn(4)

    moved = (block(x) - block(changed)).abs().amax(dim=-1)[0]

    assert moved[:3].max() < 1e-6
    assert moved[3:].min() > 1e-4


def test_one_head_attends_by_the_softmax_of_the_scaled_products() -> None:
    block = Block(dim=1, heads=1, dropout=0.0)
    with torch.no_grad():
        block.qkv.weight.copy_(torch.tensor([[1.0], [1.0], [2.0]]))
        block.qkv.bias.zero_()
        block.out.weight.fill_(1.0)
        block.out.bias.zero_()

    mixed = block.attention(torch.log(torch.tensor([[[1.0], [2.0]]])))  # q = k = x, v = 2 x: 0 and log 2

    first, second = 1.0, 2.0 ** torch.log(torch.tensor(2.0)).item()  # exp(q k) of the second position
    expected = 2 * torch.log(torch.tensor(2.0)) * second / (first + second)
    assert mixed[0, :, 0].tolist() == pytest.approx([0.0, expected.item()], abs=1e-6)
