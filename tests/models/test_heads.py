import math
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import MASKED, Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.contract import FitData
from shopkeeper.models.heads import OutcomeHeads

DIM, EVENTS = 4, 2
INTENT, TIER = Outcome("intent", ("none", "purchase")), Outcome("segment:tier", ("gold", "silver", "tin"))
VALUES = {"hidden": 3, "dropout": 0.0, "encoder_gradient": 0.5, "penalty": 0.0, "early": 1.0}


def make_heads(*outcomes: Outcome, **values: Any) -> OutcomeHeads:
    torch.manual_seed(0)
    return OutcomeHeads(outcomes, dim=DIM, num_events=EVENTS, max_len=8, **VALUES | values)


def history(tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, pooled vectors, events and times of two visitors, a day between steps."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(2, tokens, DIM, generator=generator)
    vectors[:, 0] = 0.0
    event = torch.tensor([1] + [2] * (tokens - 1)).expand(2, -1)
    return torch.randn(2, tokens, DIM, generator=generator), vectors, event, torch.arange(tokens).expand(2, -1) * 86400


@pytest.mark.parametrize("hidden", [0, 3])
def test_before_training_every_moment_gets_the_prior(hidden: int) -> None:
    heads = make_heads(INTENT, TIER, hidden=hidden)
    heads.prior.copy_(torch.tensor([0.9, 0.1, 0.2, 0.3, 0.5]).log())

    logits = heads(*history(3))

    torch.testing.assert_close(logits, heads.prior.expand(2, 3, 5))


def test_a_head_reads_what_was_seen_so_far() -> None:
    heads = make_heads(INTENT)
    hidden, vectors, event, time = history(3)

    x = heads.inputs(hidden, vectors, event, time)

    assert x.shape == (2, 3, 2 * DIM + 2 * (EVENTS + 1) + 11 + 2)
    assert torch.equal(x[..., :DIM], hidden)
    torch.testing.assert_close(x[:, 1, DIM : 2 * DIM], vectors[:, 1] * math.log(2) * 2)  # the root of 4 dimensions
    torch.testing.assert_close(x[:, 2, DIM : 2 * DIM], (vectors[:, 1] + vectors[:, 2]) / 2 * math.log(3) * 2)
    # how often each event came by its code, which came last, how many steps, and how many and how many days as logs
    counts, last, steps, logs = x[0, :, 2 * DIM :].split([3, 3, 11, 2], dim=1)
    torch.testing.assert_close(counts, torch.tensor([[0, 1, 0], [0, 1, 1], [0, 1, 2]]).log1p())
    assert last.argmax(dim=1).tolist() == [1, 2, 2]
    assert steps.argmax(dim=1).tolist() == [0, 1, 2]
    assert last.sum() == steps.sum() == 3
    torch.testing.assert_close(logs, torch.tensor([[0, 0], [1, 1], [2, 2]]).log1p())


def test_beyond_the_first_ten_all_numbers_of_steps_are_one() -> None:
    x = make_heads(INTENT).inputs(*history(13))

    steps = x[0, :, 2 * DIM + 6 : 2 * DIM + 17].argmax(dim=1)
    assert steps.tolist() == [*range(10), 10, 10, 10]


def test_an_entry_whose_time_is_unknown_takes_no_time() -> None:
    hidden, vectors, event, time = history(3)
    blank = time.clone()
    blank[:, 0] = -1

    days = make_heads(INTENT).inputs(hidden, vectors, event, blank)[0, :, -1]

    torch.testing.assert_close(days, torch.tensor([0.0, 0.0, 1.0]).log1p())


def test_later_steps_change_nothing() -> None:
    heads = make_heads(INTENT, TIER)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_()

    long, short = heads(*history(5)), heads(*(values[:, :2] for values in history(5)))

    torch.testing.assert_close(long[:, :2], short)


def test_losses_are_cross_entropy_by_moment_where_the_class_is_known() -> None:
    heads = make_heads(INTENT, TIER)
    logits = torch.tensor([0.9, 0.1, 0.2, 0.3, 0.5]).log().expand(1, 3, 5)
    labels = [torch.tensor([[0, 1, MASKED]]), torch.tensor([[2, MASKED, 2]])]

    intent, tier = heads.losses(logits, labels, torch.tensor([3]))

    # after k steps a moment weighs 1 / (1 + k); divided by all three
    assert intent.item() == pytest.approx(-(math.log(0.9) + math.log(0.1) / 2) / 3)
    assert tier.item() == pytest.approx(-(math.log(0.5) + math.log(0.5) / 3) / 3)


def test_an_outcome_nobody_knows_has_no_loss() -> None:
    heads = make_heads(INTENT, penalty=5.0)

    (loss,) = heads.losses(torch.zeros(1, 2, 2), [torch.full((1, 2), MASKED)], torch.tensor([2]))

    assert loss.item() == 0.0


def test_the_penalty_is_shared_by_the_visitors_of_whom_a_class_is_known() -> None:
    heads = make_heads(INTENT, TIER, penalty=6.0, hidden=0)
    heads.visitors.copy_(torch.tensor([3.0, 2.0]))
    with torch.no_grad():
        heads.direct.weight.fill_(0.1)
    width = heads.direct.in_features
    labels = [torch.tensor([[0, MASKED]]), torch.tensor([[MASKED, 1]])]

    intent, tier = heads.losses(torch.zeros(1, 2, 5), labels, torch.tensor([2]))

    assert intent.item() == pytest.approx((math.log(2) + 6 / 3 * 2 * width * 0.01) / 2, rel=1e-5)
    assert tier.item() == pytest.approx((math.log(3) + 6 / 2 * 3 * width * 0.01) / 2 / 2, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_encoder_learns_by_a_share_of_the_gradient(share: float) -> None:
    heads = make_heads(INTENT, encoder_gradient=share)
    whole = make_heads(INTENT, encoder_gradient=1.0)
    whole.load_state_dict(heads.state_dict())
    hidden, *rest = history(2)
    gradients = []
    for model in (heads, whole):
        with torch.no_grad():
            model.direct.weight.fill_(1.0)
        state = hidden.clone().requires_grad_()
        model(state, *rest).square().sum().backward()
        gradients.append(state.grad)

    assert gradients[1] is not None
    torch.testing.assert_close(gradients[0], share * gradients[1])


def test_the_prior_is_how_frequent_each_class_is(shops: dict[str, Prepared]) -> None:
    prepared = shops["orders"]
    window = train_window(prepared)
    heads = make_heads(Outcome("segment:card", ("no", "yes")))
    heads.fit(FitData(prepared, window, Vocabulary.of(prepared, refit=False)))

    card = prepared.visitors_frame()["card"].to_numpy()[window.visitor]
    steps = np.array(
        [len(np.unique(prepared.rows["session"][a:b])) for a, b in zip(window.start, window.end, strict=True)]
    )
    # a moment each after 0, 1, 2, 4 and 8 steps, and one more of each class
    moments = (steps[:, None] >= np.array([0, 1, 2, 4, 8])).sum(axis=1)
    counts = np.array([moments[card == value].sum() + 1 for value in ("no", "yes")])
    np.testing.assert_allclose(heads.prior.exp().numpy(), counts / counts.sum(), rtol=1e-5)
    assert heads.visitors.tolist() == [np.isin(card, ["no", "yes"]).sum()]


def test_it_learns_a_class_where_items_tell() -> None:
    heads = make_heads(INTENT)
    vectors = torch.zeros(40, 2, DIM)
    label = torch.arange(40) % 2
    vectors[:, 1, 0] = label * 2.0 - 1
    batch = (torch.zeros(40, 2, DIM), vectors, torch.ones(40, 2, dtype=torch.int64), torch.full((40, 2), -1))
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        labels = [torch.stack([torch.full((40,), MASKED), label], dim=1)]
        heads.losses(heads(*batch), labels, torch.full((40,), 2))[0].backward()
        optimizer.step()

    assert heads(*batch)[:, 1].argmax(dim=1).tolist() == label.tolist()
