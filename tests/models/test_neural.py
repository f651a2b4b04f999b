from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.data.batches import Batch, TaskTargets, TokenBatches, TrainingPieces, Vocabulary
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData
from shopkeeper.models.criteria import Criterion, make_criterion
from shopkeeper.models.neural import NeuralModel, add_to_seen
from shopkeeper.train.lazy import LazyAdamW

Build = Callable[..., NeuralModel]
BatchOf = Callable[..., Batch]

NEURAL = ("sasrec", "gru4rec", "ligr")


def criteria(model: NeuralModel, num_negatives: int) -> list[Criterion]:
    counts = torch.ones(model.vocabulary.num_items)
    return [make_criterion(counts, num_negatives=num_negatives, power=0.0) for _ in model.tasks]


@pytest.fixture(params=["clicks", "orders"])
def shop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=NEURAL)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(shops: dict[str, Prepared], build: Build, shop: str, family: str) -> NeuralModel:
    return build(shops[shop], family)


@pytest.fixture
def training(shops: dict[str, Prepared], model: NeuralModel, shop: str) -> TrainingPieces:
    prepared = shops[shop]
    vocabulary = Vocabulary.of(prepared, refit=False)
    window = train_window(prepared)
    return TrainingPieces(prepared, window, vocabulary, model.tasks, model.outcomes, max_len=model.max_len, seed=0)


def hidden_of(model: NeuralModel, batch: Batch) -> torch.Tensor:
    return model.encode(model.pool(batch, model.catalogue()), batch.event, batch.context, batch.time)


def test_a_later_step_changes_no_earlier_state(
    model: NeuralModel, batch_of: BatchOf, examples: dict[str, Examples], shop: str
) -> None:
    own = examples[shop]
    batch = batch_of(shop, own.only(np.flatnonzero(own.k >= 3)))
    last = batch.bag_cell % batch.event.shape[1] == 3
    event, time = batch.event.clone(), batch.time.clone()
    event[:, 3:], time[:, 3:] = 0, -1
    changed = batch._replace(
        event=event,
        time=time,
        bag_item=torch.where(last, batch.bag_item % model.vocabulary.num_items + 1, batch.bag_item),
    )

    before, after = hidden_of(model, batch), hidden_of(model, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_the_bonus_raises_seen_items_alone() -> None:
    scores = torch.zeros(1, 2, 4)
    raised = add_to_seen(scores, torch.tensor([[2, 4, 0]]), torch.tensor([[[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]]))

    assert raised.tolist() == [[[0.0, 1.0, 0.0, 2.0], [0.0, 3.0, 0.0, 4.0]]]


def test_training_scores_each_position_as_serving_will(
    model: NeuralModel, training: TrainingPieces, batch_of: BatchOf, examples: dict[str, Examples], shop: str
) -> None:
    """The loss at the last position is the softmax loss of the scores that `score` gives."""
    batch = training[np.flatnonzero(training.pieces.last - training.pieces.first == 2)[:4]]
    scores = model.score(batch)
    end = torch.arange(len(batch.event)) * batch.event.shape[1] + batch.length - 1

    for h, targets in enumerate(batch.targets):
        at_end = torch.isin(targets.cell, end)
        only = tuple(
            type(t)(*(column[at_end] for column in t)) if i == h else type(t)(*(column[:0] for column in t))
            for i, t in enumerate(batch.targets)
        )
        loss = model.losses(batch._replace(targets=only), criteria(model, 10**9))[h]
        owner, item = targets.cell[at_end] // batch.event.shape[1], targets.item[at_end]
        each = torch.logsumexp(scores[owner, h], dim=-1) - scores[owner, h, item - 1]
        expected = (each * targets.weight[at_end]).sum() / int(batch.length.sum())
        torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_a_sample_as_good_as_the_catalogue_gives_nearly_its_loss(model: NeuralModel, training: TrainingPieces) -> None:
    batch = training[np.arange(16)]
    torch.manual_seed(0)
    full = model.losses(batch, criteria(model, 10**9))[0]
    sampled = torch.stack([model.losses(batch, criteria(model, 23))[0] for _ in range(300)]).mean()

    # 23 draws of 24 items: the estimate of the sum is unbiased, that of its logarithm a little low
    assert float(sampled.detach()) == pytest.approx(float(full.detach()), rel=0.1)


def test_a_sample_that_could_hold_the_catalogue_is_the_catalogue(model: NeuralModel, training: TrainingPieces) -> None:
    batch = training[np.arange(16)]
    whole = model.vocabulary.num_items

    full = model.losses(batch, criteria(model, 10**9))
    for seed in (0, 1):
        torch.manual_seed(seed)
        assert all(map(torch.equal, model.losses(batch, criteria(model, whole)), full))


def test_an_items_own_repeat_term_raises_it_where_it_was_seen(
    shops: dict[str, Prepared], build: Build, batch_of: BatchOf, examples: dict[str, Examples], shop: str, family: str
) -> None:
    model, batch = build(shops[shop], family), batch_of(shop, examples[shop])
    before = model.score(batch)
    with torch.no_grad():
        model.items.repeat.weight[1:] += 5.0
    seen = torch.zeros(len(batch.event), model.vocabulary.num_items + 1).scatter(1, batch.seen, 1.0)[:, 1:]

    assert 0 < seen.mean() < 1
    torch.testing.assert_close(model.score(batch) - before, (5.0 * seen)[:, None].expand_as(before))


def test_it_learns_whose_favourites_are_whose(
    shops: dict[str, Prepared], build: Build, training: TrainingPieces, shop: str, family: str
) -> None:
    model = build(shops[shop], family)
    optimizer = LazyAdamW(model.parameters(), weight_decay=0.0, lr=0.01)
    batches = list(TokenBatches(training, tokens=1024, seed=0))
    history = []
    for _ in range(60):
        for index in batches:
            loss = torch.stack(model.losses(training[index], criteria(model, 10**9))).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(float(loss.detach()))

    assert np.mean(history[-len(batches) :]) < 0.8 * np.mean(history[: len(batches)])


CYCLE, STEPS = 8, 3


def cycle() -> Batch:
    """Visitor b takes the items b, b + 1, b + 2 (of 8, then from the first again); the next target is one on."""
    start, width = torch.arange(CYCLE)[:, None], STEPS + 1
    seen = ((start + torch.arange(STEPS)) % CYCLE + 1).sort(dim=1).values
    items = (start + torch.arange(STEPS)) % CYCLE + 1
    cells = torch.arange(CYCLE * width).view(CYCLE, width)
    wanted = (start + torch.arange(1, width)) % CYCLE + 1
    among = wanted[:, :, None] == seen[:, None]
    slot = torch.where(among.any(dim=2), among.long().argmax(dim=2), -1)
    return Batch(
        event=torch.tensor([[1] + [2] * STEPS]).repeat(CYCLE, 1),
        context=torch.zeros((CYCLE, width, 0), dtype=torch.int64),
        time=torch.arange(width).repeat(CYCLE, 1) * 3600,
        length=torch.full((CYCLE,), width),
        bag_item=items.flatten(),
        bag_cell=cells[:, 1:].flatten(),
        bag_slot=(items[:, :, None] == seen[:, None]).long().argmax(dim=2).flatten(),
        seen=seen,
        last_item=items[:, -1],
        targets=(TaskTargets(cells[:, 1:].flatten(), wanted.flatten(), torch.ones(CYCLE * STEPS), slot.flatten()),),
    )


@pytest.mark.parametrize("num_negatives", [CYCLE, 5])
def test_it_learns_an_order_that_counts_do_not_show(
    config: Callable[[str], dict[str, Any]], family: str, num_negatives: int
) -> None:
    # every item is as frequent as any other, and the target is never in the history: only order tells
    torch.manual_seed(0)
    model = build_model(
        config(family) | {"embed_dim": 16, "num_layers": 1, "dropout": 0.0},
        vocabulary=Vocabulary(num_items=CYCLE, num_events=2, context=()),
        tasks=["next"],
        max_len=STEPS,
        facts={"purchase_code": 2},
    )
    assert isinstance(model, NeuralModel)
    batch, target = cycle(), (torch.arange(CYCLE) + STEPS) % CYCLE
    untrained = model.score(batch)[:, 0].argmax(dim=1)
    descend(model, batch, criteria(model, num_negatives))

    assert (untrained == target).sum() <= CYCLE // 2
    assert model.eval().score(batch)[:, 0].argmax(dim=1).tolist() == target.tolist()


def descend(model: NeuralModel, batch: Batch, losses: list[Criterion]) -> None:
    optimizer = LazyAdamW(model.parameters(), weight_decay=0.0, lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        model.losses(batch, losses)[0].backward()
        optimizer.step()


@pytest.mark.parametrize("num_negatives", [CYCLE, 5])
@pytest.mark.parametrize("kind", ["gbce", "bpr_max"])
def test_other_losses_learn_it_too(config: Callable[[str], dict[str, Any]], kind: str, num_negatives: int) -> None:
    torch.manual_seed(0)
    model = build_model(
        config("gru4rec") | {"embed_dim": 16, "dropout": 0.0, "scale": {"next": 8.0}},
        vocabulary=Vocabulary(num_items=CYCLE, num_events=2, context=()),
        tasks=["next"],
        max_len=STEPS,
        facts={"purchase_code": 2},
    )
    assert isinstance(model, NeuralModel)
    batch, target = cycle(), (torch.arange(CYCLE) + STEPS) % CYCLE
    loss = make_criterion(torch.ones(CYCLE), num_negatives=num_negatives, power=0.0, kind=kind, regularisation=0.001)
    descend(model, batch, [loss])

    assert model.eval().score(batch)[:, 0].argmax(dim=1).tolist() == target.tolist()


def test_a_scaled_query_has_its_length_after_a_step_alone(config: Callable[[str], dict[str, Any]]) -> None:
    model = build_model(
        config("sasrec") | {"embed_dim": 4, "scale": {"next": 3.0, "purchase": None}},
        vocabulary=Vocabulary(num_items=CYCLE, num_events=2, context=()),
        tasks=["purchase", "next"],
        max_len=STEPS,
        facts={"purchase_code": 2},
    )
    assert isinstance(model, NeuralModel)
    hidden, first = torch.randn(2, 3, 4), torch.tensor([True, False, False])[:, None]
    found = model.queries(hidden, first)

    torch.testing.assert_close(found[:, 1:, 1].norm(dim=-1), torch.full((2, 2), 3.0))
    assert found[:, 0].abs().max() == 0  # who has done nothing is like nothing at first
    torch.testing.assert_close(found[:, 1:, 0], model.head(hidden)[:, 1:, :4])


def test_popularity_is_where_scores_start(
    shops: dict[str, Prepared], config: Callable[[str], dict[str, Any]], family: str
) -> None:
    prepared = shops["orders"]
    vocabulary = Vocabulary.of(prepared, refit=False)
    fresh = build_model(
        config(family), vocabulary=vocabulary, tasks=["purchase"], max_len=4, facts={"purchase_code": 2}
    )
    data = FitData(prepared, train_window(prepared), vocabulary)
    fresh.fit(data)

    counts = data.target_counts("purchase", half_life_days=28)
    expected = np.log((counts + 0.1) / (counts + 0.1).mean())
    np.testing.assert_allclose(fresh.prior_scores()[0].numpy(), expected, atol=1e-5)


def test_who_has_done_nothing_is_like_nothing_before_training(
    shops: dict[str, Prepared],
    batch_of: BatchOf,
    examples: dict[str, Examples],
    config: Callable[[str], dict[str, Any]],
    family: str,
) -> None:
    prepared = shops["clicks"]
    vocabulary = Vocabulary.of(prepared, refit=False)
    fresh = build_model(
        config(family), vocabulary=vocabulary, tasks=["purchase", "next"], max_len=4, facts={"purchase_code": 2}
    ).eval()
    fresh.fit(FitData(prepared, train_window(prepared), vocabulary))
    own = examples["clicks"]
    nobody, somebody = (batch_of("clicks", own.only(np.flatnonzero(own.k == k)[:5])) for k in (0, 1))

    prior = fresh.prior_scores()
    torch.testing.assert_close(fresh.score(nobody), prior.expand(5, -1, -1))
    assert not torch.allclose(fresh.score(somebody), prior.expand(5, -1, -1))
