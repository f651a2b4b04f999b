import math
from typing import Any

import pytest
import torch

from shopkeeper.config import OptimizerConfig
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.models.criteria import Criterion
from shopkeeper.models.sasrec import SASRec
from shopkeeper.train.module import TrainingModule

HEADS = {"hidden": 2, "dropout": 0.0, "encoder_gradient": 0.1, "penalty": 1.0, "early": 1.0}


def make_module(*outcomes: Outcome, uncertainty: bool = False) -> TrainingModule:
    model = SASRec(
        vocabulary=Vocabulary(num_items=5, num_events=2, context=(3,)),
        tasks=["purchase"],
        max_len=4,
        embed_dim=4,
        num_layers=1,
        num_heads=1,
        dropout=0.0,
        likeness={"purchase": 2.0, "next": 6.0},
        repeat_start={"purchase": 5.0, "next": 0.0},
        half_life_days=1.0,
        context_dropout=0.0,
        purchase_code=2,
        outcomes=outcomes,
        heads=HEADS,
    )
    settings = OptimizerConfig(lr=0.01, weight_decay=0.1, warmup_steps=4, clip_norm=1.0, average=0.5, heads_lr=0.05)
    return TrainingModule(
        model, weights=[1.0], criteria=[Criterion(None)], optimizer=settings, seed=3, uncertainty=uncertainty
    )


@pytest.fixture
def module() -> TrainingModule:
    return make_module()


def configured(module: TrainingModule) -> Any:
    """Lightning's type for it is a union of everything it may be."""
    return module.configure_optimizers()


def test_the_rate_rises_over_the_warm_up_and_stays(module: TrainingModule) -> None:
    schedule = configured(module)["lr_scheduler"]["scheduler"]
    optimizer, rates = schedule.optimizer, []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


def test_biases_and_norms_do_not_decay_and_nothing_is_left_out(module: TrainingModule) -> None:
    decayed, plain = configured(module)["optimizer"].param_groups

    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim < 2 for p in plain["params"])
    total = sum(p.numel() for p in module.model.parameters())
    assert sum(p.numel() for p in decayed["params"] + plain["params"]) == total


def test_heads_have_a_rate_of_their_own() -> None:
    with_heads = make_module(Outcome("intent", ("none", "purchase")))
    groups = configured(with_heads)["optimizer"].param_groups

    assert [group["initial_lr"] for group in groups] == [0.01, 0.01, 0.05]
    assert with_heads.model.outcome_heads is not None
    assert sum(p.numel() for p in groups[2]["params"]) == sum(
        p.numel() for p in with_heads.model.outcome_heads.parameters()
    )
    assert sum(len(group["params"]) for group in groups) == len(list(with_heads.model.parameters()))


def test_a_step_draws_the_same_whatever_ran_before(module: TrainingModule) -> None:
    module.on_train_batch_start()
    first = torch.rand(3)
    torch.rand(100)
    module.on_train_batch_start()

    assert torch.equal(torch.rand(3), first)


def test_the_weights_judged_are_a_moving_average(module: TrainingModule) -> None:
    weight, averages = module.model.items.popularity_weight, []
    for value in (1.0, 2.0, 3.0):
        weight.detach().fill_(value)
        module.on_train_batch_end()
        averages.append(module.judged.items.popularity_weight.item())

    # the first is taken over; then the ramp holds the decay at 2/11, and 3/12, still below 1/2
    second = 2 - 2 / 11 * (2 - 1)
    assert averages == pytest.approx([1, second, 3 - 3 / 12 * (3 - second)])


def test_with_uncertainty_what_a_loss_weighs_is_learned() -> None:
    module = make_module(uncertainty=True)
    plain = configured(module)["optimizer"].param_groups[1]["params"]
    module.log_variance.data.fill_(math.log(2.0))

    loss = module.weighed([torch.tensor(3.0)])

    # weight 1: 3 / 2 + log 2, least where the variance is the loss
    assert loss.item() == pytest.approx(1.5 + math.log(2))
    loss.backward()
    assert module.log_variance.grad is not None
    assert module.log_variance.grad.tolist() == pytest.approx([1 - 1.5])
    assert any(p is module.log_variance for p in plain)


def test_without_it_a_loss_counts_by_its_weight(module: TrainingModule) -> None:
    assert module.weighed([torch.tensor(3.0)]).item() == 3.0
