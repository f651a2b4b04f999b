import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shopkeeper.config import UserError
from shopkeeper.data.batches import Vocabulary
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.ligr import TIME_BUCKETS, Attention, Between, Gated, LiGR, SwiGLU


def build(config: Callable[[str], dict[str, Any]], **values: Any) -> LiGR:
    torch.manual_seed(0)
    model = build_model(
        config("ligr") | values,
        vocabulary=Vocabulary(num_items=5, num_events=2, context=()),
        tasks=["next"],
        max_len=4,
        facts={"purchase_code": 2},
    )
    assert isinstance(model, LiGR)
    return model.eval()


@pytest.mark.parametrize("attention", ["softmax", "pointwise"])
def test_a_state_holds_what_came_before_and_nothing_of_what_comes(
    config: Callable[[str], dict[str, Any]], attention: str
) -> None:
    model = build(config, attention=attention)
    tokens, time = torch.randn(1, 5, model.dim), torch.arange(5)[None]
    changed, later = tokens.clone(), time.clone()
    changed[:, 2], later[:, 2:] = torch.randn(model.dim), 10**6

    moved = (model.mix(tokens, time) - model.mix(changed, later)).abs().amax(dim=-1)[0]

    assert moved[:2].max() < 1e-6
    assert moved[2:].min() > 1e-5


def test_steps_and_time_between_tokens_have_a_term_each() -> None:
    between = Between(heads=1, max_len=4)
    with torch.no_grad():
        between.lag.weight.copy_(torch.arange(5.0)[:, None])
        between.time.weight.copy_(100 * torch.arange(TIME_BUCKETS + 2.0)[:, None])

    bias, visible = between(torch.tensor([[10, 10, 14, -1]]))

    # 0, 4 and 4 seconds before token 2: buckets 0 (below a second) and 3 (from 4 to 8); token 3 has no time
    assert bias[0, 0, 2].tolist()[:3] == [302.0, 301.0, 0.0]
    assert bias[0, 0, 3].tolist() == [100.0 * (TIME_BUCKETS + 1) + lag for lag in (3, 2, 1, 0)]
    assert visible.tolist() == [[key <= query for key in range(4)] for query in range(4)]


def attend(*, pointwise: bool) -> Tensor:
    """Attention of two tokens of size one with q = k = v = x and an output that is the mixture itself."""
    attention = Attention(dim=1, heads=1, pointwise=pointwise)
    attention.norm = torch.nn.Identity()
    with torch.no_grad():
        attention.qkv.weight.fill_(1.0)
        attention.qkv.bias.zero_()
        attention.out.weight.fill_(1.0)
        attention.out.bias.zero_()
    bias = torch.tensor([[0.0, 9.0], [1.0, 0.0]])[None, None]
    mixed: Tensor = attention(torch.tensor([[[1.0], [2.0]]]), bias, torch.ones(2, 2, dtype=torch.bool).tril())[0, :, 0]
    return mixed


def test_attention_weighs_by_the_softmax_of_products_and_terms() -> None:
    # of the second token: exp(2 * 1 + 1) and exp(2 * 2 + 0)
    first, second = math.exp(3), math.exp(4)

    assert attend(pointwise=False).tolist() == pytest.approx([1.0, (first * 1 + second * 2) / (first + second)])


def test_pointwise_attention_sums_what_it_sees() -> None:
    first, second = (F.silu(torch.tensor(x)).item() for x in (3.0, 4.0))

    alone = F.silu(torch.tensor(1.0)).item()
    assert attend(pointwise=True).tolist() == pytest.approx([alone, (first * 1 + second * 2) / 2])


def test_a_closed_gate_leaves_the_step_itself() -> None:
    layer = Gated(SwiGLU(4), 4, dropout=0.0)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-200.0)
    x, nothing = torch.randn(1, 3, 4), torch.empty(0)

    assert torch.equal(layer(x, nothing, nothing), x)


def test_the_feed_forward_network_has_a_gate() -> None:
    network = SwiGLU(1)  # three hidden units
    with torch.no_grad():
        for layer, weight in ((network.into, 1.0), (network.out, 2.0)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    nothing = torch.empty(0)

    # three times 2 * silu(3) * 3
    wanted = 18 * 3 / (1 + math.exp(-3))
    assert network(torch.tensor([[[3.0]]]), nothing, nothing).item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"num_heads": 3}, "multiple of num_heads=3"), ({"attention": "linear"}, "attention='linear' is none of")],
)
def test_a_wrong_value_is_refused(config: Callable[[str], dict[str, Any]], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(config, **wrong)
