"""What every model family promises, on a shop with clicks and on one with orders alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch, collate, example_pieces
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import Prepared, ragged_ranges
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.checkpoint import load_model, save_model
from shopkeeper.models.contract import SessionModel, nothing_known, rank_ready

Build = Callable[..., SessionModel]
BatchOf = Callable[..., Batch]
AllExamples = dict[str, Examples]

FAMILIES = (
    "popularity",
    "context_popularity",
    "session_popularity",
    "repeat",
    "markov",
    "sequential_rules",
    "item_knn",
    "ease",
    "vmis_knn",
    "vs_knn",
    "stan",
    "tifu_knn",
    "sasrec",
    "gru4rec",
    "ligr",
    "blend",
)
pytestmark = [
    pytest.mark.parametrize("family", FAMILIES),
    pytest.mark.parametrize("shop", ["clicks", "orders"]),
]


@pytest.fixture
def model(shops: dict[str, Prepared], build: Build, shop: str, family: str) -> SessionModel:
    return build(shops[shop], family)


def with_rows(prepared: Prepared, **columns: np.ndarray) -> Prepared:
    """The same dataset with other values in some columns of its rows."""
    changed = Prepared(prepared.path, prepared.manifest)
    changed.rows = {**changed.rows, **columns}
    return changed


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_every_item_gets_a_finite_score_for_every_task(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    batch = batch_of(shop, examples[shop])
    scores = model.score(batch)

    assert scores.shape == (len(examples[shop]), len(model.tasks), model.vocabulary.num_items)
    assert torch.isfinite(scores).all()
    assert model.prior_scores().shape == scores.shape[1:]


def test_padding_and_company_change_nothing(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    together = rank_ready(model, batch_of(shop, examples[shop]))

    for i in range(0, len(examples[shop]), 5):
        alone = rank_ready(model, batch_of(shop, examples[shop].only([i])))
        close(alone[0], together[i])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_what_is_not_visible_changes_nothing(
    model: SessionModel, shops: dict[str, Prepared], examples: AllExamples, shop: str, k: int, rng: np.random.Generator
) -> None:
    """Neither what comes later, nor what a held-out user did before, nor other visitors."""
    prepared, some = shops[shop], examples[shop].only(np.flatnonzero(examples[shop].k == k))
    moments = some.moments(prepared)
    hidden = np.ones(len(prepared.rows["time"]), bool)
    hidden[ragged_ranges(moments.start, moments.end)] = False
    others = np.flatnonzero(hidden)
    mixed = {name: np.array(prepared.rows[name]) for name in ("item", "event", "context_channel")}
    for column in mixed.values():
        column[others] = column[rng.permutation(others)]
    late = np.array(prepared.rows["time"])
    late[others] += 10**12
    changed = with_rows(prepared, **mixed, time=late)

    assert hidden[moments.end].any()  # there is a future
    assert len(some) == len(np.unique(some.visitor))
    pieces = example_pieces(some, model.max_len)
    before = rank_ready(model, collate(prepared, pieces, model.vocabulary))
    close(rank_ready(model, collate(changed, pieces, model.vocabulary)), before)


def test_items_of_a_step_have_no_order(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str, rng: np.random.Generator
) -> None:
    batch = batch_of(shop, examples[shop])
    mixed = torch.from_numpy(rng.permutation(len(batch.bag_item)))
    shuffled = batch._replace(
        bag_item=batch.bag_item[mixed], bag_cell=batch.bag_cell[mixed], bag_slot=batch.bag_slot[mixed]
    )

    close(model.score(shuffled), model.score(batch))


def test_where_nothing_is_known_the_prior_answers(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    fresh = examples[shop].only(np.flatnonzero(examples[shop].k == 0)[:3])
    batch = batch_of(shop, fresh)
    blank = batch._replace(context=torch.zeros_like(batch.context))

    assert nothing_known(blank).all()
    close(rank_ready(model, blank), model.prior_scores().expand(3, -1, -1))


def test_next_never_names_the_last_item(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    batch = batch_of(shop, examples[shop])
    scores, last = rank_ready(model, batch), batch.last_item
    rows = torch.nonzero(last)[:, 0]

    assert len(rows)
    for h, task in enumerate(model.tasks):
        own = scores[rows, h, last[rows] - 1]
        assert torch.isinf(own).all() if task == "next" else torch.isfinite(own).all()
        excluded = torch.isinf(scores[:, h]).sum(dim=1)
        assert torch.equal(excluded, (last > 0).long() if task == "next" else torch.zeros_like(last))


def test_an_unknown_item_counts_as_none(
    model: SessionModel, shops: dict[str, Prepared], examples: AllExamples, shop: str
) -> None:
    prepared, pieces = shops[shop], example_pieces(examples[shop], model.max_len)
    known = model.vocabulary.num_items - 6
    item = np.array(prepared.rows["item"])
    absent = with_rows(prepared, item=np.where(item > known, 0, item))

    batch = collate(prepared, pieces, model.vocabulary._replace(num_items=known))
    expected = collate(absent, pieces, model.vocabulary)

    assert (collate(prepared, pieces, model.vocabulary).bag_item > known).any()
    close(rank_ready(model, batch), rank_ready(model, expected._replace(last_item=batch.last_item)))


def test_an_event_or_context_never_seen_counts_as_unknown(
    model: SessionModel, shops: dict[str, Prepared], examples: AllExamples, shop: str
) -> None:
    prepared, pieces = shops[shop], example_pieces(examples[shop], model.max_len)
    event, channel = np.array(prepared.rows["event"]), np.array(prepared.rows["context_channel"])
    sessions = np.array(prepared.sessions["context_channel"])
    absent = with_rows(prepared, event=np.where(event > 1, 0, event), context_channel=np.where(channel > 1, 0, channel))
    absent.sessions = {**prepared.sessions, "context_channel": np.where(sessions > 1, 0, sessions)}

    batch = collate(prepared, pieces, model.vocabulary._replace(num_events=1, context=(1,)))
    expected = collate(absent, pieces, model.vocabulary)

    assert (channel > 1).any()
    close(rank_ready(model, batch), rank_ready(model, expected))


def said(model: SessionModel, batch: Batch) -> Tensor:
    """What a model says of all its outcomes, side by side (B, C)."""
    with torch.no_grad():
        return torch.cat([torch.empty(len(batch.event), 0), *model.classify(batch)], dim=1)


@pytest.fixture
def scales(model: SessionModel) -> dict[str, list[float]]:
    return {outcome.name: [0.5, 0.9, 1.0, 1.1] for outcome in model.outcomes}


@pytest.fixture(params=["raw", "calibrated"])
def answering(request: pytest.FixtureRequest, model: SessionModel, scales: dict[str, list[float]]) -> SessionModel:
    """The model, once as trained and once with a calibration."""
    if request.param == "calibrated":
        model.calibration = Calibration([0, 1, 2, 5], scales, {}, {}, DepthThresholds())
    return model


def test_what_is_said_of_outcomes_are_probabilities(
    answering: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    batch = batch_of(shop, examples[shop])
    found, priors = answering.classify(batch), answering.outcome_priors()

    assert len(found) == len(priors) == len(answering.outcomes)
    assert bool(answering.outcomes) == answering.trained_by_gradient
    for outcome, log_probabilities, prior in zip(answering.outcomes, found, priors, strict=True):
        assert log_probabilities.shape == (len(batch.event), len(outcome.classes))
        assert torch.isfinite(log_probabilities).all()
        close(log_probabilities.exp().sum(dim=1), torch.ones(len(batch.event)))
        close(prior.exp().sum(), torch.tensor(1.0))
        assert len(log_probabilities.unique(dim=0)) > 1


def test_padding_and_company_change_nothing_that_is_said_of_outcomes(
    answering: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    together = said(answering, batch_of(shop, examples[shop]))

    for i in range(0, len(examples[shop]), 9):
        close(said(answering, batch_of(shop, examples[shop].only([i])))[0], together[i])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_what_is_not_visible_changes_nothing_that_is_said_of_outcomes(
    model: SessionModel, shops: dict[str, Prepared], examples: AllExamples, shop: str, k: int, rng: np.random.Generator
) -> None:
    prepared, some = shops[shop], examples[shop].only(np.flatnonzero(examples[shop].k == k))
    moments = some.moments(prepared)
    hidden = np.ones(len(prepared.rows["time"]), bool)
    hidden[ragged_ranges(moments.start, moments.end)] = False
    others = np.flatnonzero(hidden)
    mixed = {name: np.array(prepared.rows[name]) for name in ("item", "event", "context_channel", "time")}
    for column in mixed.values():
        column[others] = column[rng.permutation(others)]
    pieces = example_pieces(some, model.max_len)

    before = said(model, collate(prepared, pieces, model.vocabulary))
    close(said(model, collate(with_rows(prepared, **mixed), pieces, model.vocabulary)), before)


def test_where_nothing_is_known_the_priors_answer(
    answering: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    fresh = batch_of(shop, examples[shop].only(np.flatnonzero(examples[shop].k == 0)[:3]))
    blank = fresh._replace(context=torch.zeros_like(fresh.context))

    for found, prior in zip(answering.classify(blank), answering.outcome_priors(), strict=True):
        assert torch.equal(found, prior.expand(3, -1))


def test_the_same_seed_gives_the_same_model(
    model: SessionModel, shops: dict[str, Prepared], build: Build, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    again = build(shops[shop], model.family)
    batch = batch_of(shop, examples[shop])

    assert torch.equal(again.score(batch), model.score(batch))


def test_a_checkpoint_scores_the_same(
    model: SessionModel,
    batch_of: BatchOf,
    examples: AllExamples,
    shops: dict[str, Prepared],
    shop: str,
    scales: dict[str, list[float]],
    config: Callable[[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    facts = {"purchase_code": shops[shop].purchase_code}
    model.calibration = Calibration([0, 1, 2, 5], scales, {}, {}, DepthThresholds(one_to_one=0.5))
    save_model(tmp_path / "model.pt", model, config=config(model.family), facts=facts)
    loaded = load_model(tmp_path / "model.pt")
    batch = batch_of(shop, examples[shop])

    assert (loaded.tasks, loaded.max_len, loaded.vocabulary) == (model.tasks, model.max_len, model.vocabulary)
    assert torch.equal(loaded.score(batch), model.score(batch))
    assert (loaded.outcomes, loaded.calibration) == (model.outcomes, model.calibration)
    assert torch.equal(said(loaded, batch), said(model, batch))
