from collections.abc import Callable
from typing import Any

import pytest
import torch

from shopkeeper.config import UserError
from shopkeeper.data.batches import Vocabulary
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.gru4rec import GRU4Rec


def build(config: Callable[[str], dict[str, Any]], **values: Any) -> GRU4Rec:
    model = build_model(
        config("gru4rec") | values,
        vocabulary=Vocabulary(num_items=5, num_events=2, context=()),
        tasks=["next"],
        max_len=4,
        facts={"purchase_code": 2},
    )
    assert isinstance(model, GRU4Rec)
    return model.eval()


def test_a_state_holds_what_came_before_and_nothing_of_what_comes(config: Callable[[str], dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = build(config, num_layers=2)
    tokens, time = torch.randn(1, 5, model.dim), torch.zeros(1, 5, dtype=torch.int64)
    changed = tokens.clone()
    changed[:, 2] = torch.randn(model.dim)

    moved = (model.mix(tokens, time) - model.mix(changed, time)).abs().amax(dim=-1)[0]

    assert moved[:2].max() < 1e-6
    assert moved[2:].min() > 1e-5


def test_a_recurrence_that_is_silent_leaves_the_step_itself(config: Callable[[str], dict[str, Any]]) -> None:
    model = build(config)
    for parameter in model.gru.parameters():
        torch.nn.init.zeros_(parameter)
    tokens = torch.randn(1, 3, model.dim)

    assert torch.equal(model.mix(tokens, torch.zeros(1, 3, dtype=torch.int64)), tokens)


def test_no_layer_at_all_is_refused(config: Callable[[str], dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="num_layers=0 must be at least 1"):
        build(config, num_layers=0)
