import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from shopkeeper.config import LastLayerConfig, TrainConfig
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import Outcome, supported_outcomes
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.judge import classify_all
from shopkeeper.models.checkpoint import build_model
from shopkeeper.models.contract import FitData
from shopkeeper.models.heads import OutcomeHeads
from shopkeeper.models.neural import NeuralModel
from shopkeeper.train.last_layer import Choice, Known, Layer, Start, choose, features_of, fit, refine, starts_of
from shopkeeper.train.validation import Validation, standard_protocol

PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
CONFIG = LastLayerConfig(moments=2000, most_steps=5, tune_share=0.25, penalties=[10.0, 100.0])


def known(count: int, *, tells: float, seed: int = 0) -> Known:
    """Moments of a visitor each, of three classes that the first of two features tells apart as far as `tells`."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, count, p=[0.5, 0.3, 0.2])
    x = np.column_stack([tells * label + rng.normal(size=count), 5 + 3 * rng.normal(size=count)])
    weight = rng.choice([0.5, 1.0], count)
    return Known(*map(torch.from_numpy, (x, label, weight, np.arange(count))))


def from_prior(reads: tuple[bool, ...] = (True, True)) -> Start:
    zero = torch.zeros(3, len(reads), dtype=torch.float64)
    return Start(Layer(zero, zero[:, 0]), torch.tensor(reads))


def test_the_fit_is_a_regression_that_scikit_learn_knows() -> None:
    """It penalises no intercept, so both get a column of ones; its loss is C * sum of w * loss + |W|^2 / 2."""
    moments, penalty = known(300, tells=2.0), 6.0
    x, weight = moments.x.numpy(), moments.weight.numpy()
    mean = np.average(x, axis=0, weights=weight)
    standard = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    columns = np.column_stack([standard, np.ones(300)])
    theirs = LogisticRegression(C=300 / penalty / weight.sum(), fit_intercept=False, tol=1e-8, max_iter=1000)
    theirs.fit(columns, moments.label.numpy(), sample_weight=weight)

    even = torch.full((3,), -math.log(3), dtype=torch.float64)
    (layer,) = fit(moments, even, from_prior(), [penalty])

    ours = layer.logits(moments.x, even).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(columns), atol=1e-3)


def test_held_fast_it_keeps_what_it_starts_from() -> None:
    moments = known(200, tells=2.0)
    learned = Layer(
        torch.tensor([[1.0, 0.5], [0.0, 0.0], [-1.0, 2.0]]).double(), torch.tensor([0.1, 0.0, 0.3]).double()
    )

    (kept,) = fit(moments, PRIOR, Start(learned, torch.tensor([True, True])), [1e9])

    torch.testing.assert_close(kept.weight, learned.weight, atol=1e-4, rtol=0)
    torch.testing.assert_close(kept.bias, learned.bias, atol=1e-4, rtol=0)


def test_a_feature_that_is_not_read_or_never_changes_weighs_nothing() -> None:
    moments = known(200, tells=2.0)
    constant = moments._replace(x=torch.cat([moments.x, torch.ones(200, 1)], dim=1))

    (layer,) = fit(constant, PRIOR, from_prior((False, True, True)), [1.0])

    assert layer.weight[:, [0, 2]].abs().max() == 0
    assert layer.weight[:, 1].abs().max() > 0


def test_where_nothing_tells_the_strongest_penalty_is_chosen() -> None:
    few, *many = (known(count, tells=0.0, seed=seed) for seed, count in enumerate((60, 3000, 3000)))

    choice = choose(few, many[0], many[1], PRIOR, {"all": from_prior()}, [1.0, 100.0, 1e6])

    assert choice == Choice(1e6, "all")
    (layer,) = fit(few, PRIOR, from_prior(), [1e6])
    torch.testing.assert_close(layer.logits(few.x, PRIOR), PRIOR.expand(60, 3), atol=1e-2, rtol=0)


def test_the_start_is_chosen_by_strangers_alone() -> None:
    """What train visitors taught is right about them, wrong about strangers."""
    train, strangers = known(400, tells=2.0), known(400, tells=0.0, seed=1)
    sure = Layer(torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]).double(), torch.tensor([2.0, 0.0, -4.0]).double())
    starts = {"learned": Start(sure, torch.tensor([True, True])), "seen": from_prior((False, True))}

    choice = choose(train, train, strangers, PRIOR, starts, [1e6])

    assert choice == Choice(1e6, "seen")


def test_without_anybody_nothing_is_chosen() -> None:
    nobody = known(0, tells=0.0)

    assert choose(nobody, nobody, nobody, PRIOR, {"all": from_prior()}, [1.0]) is None
    assert choose(known(9, tells=0.0), nobody, nobody, PRIOR, {"all": from_prior()}, [1.0]) is None


@pytest.mark.parametrize("hidden", [0, 3])
def test_what_is_written_is_what_the_heads_answer(hidden: int) -> None:
    torch.manual_seed(0)
    outcomes = [Outcome("intent", ("none", "purchase")), Outcome("segment:tier", ("a", "b", "c"))]
    values = {"dropout": 0.0, "encoder_gradient": 0.0, "penalty": 0.0, "early": 1.0}
    heads = OutcomeHeads(outcomes, dim=4, num_events=2, max_len=8, hidden=hidden, **values).eval()
    read = (torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.int64), torch.arange(6).view(2, 3))
    features = heads.features(*read)
    weight, bias = torch.randn(3, features.shape[-1]), torch.randn(3)

    heads.write(1, weight, bias)

    intent, tier = heads.split(heads(*read))
    torch.testing.assert_close(tier, heads.prior[2:] + features @ weight.T + bias)
    torch.testing.assert_close(intent, heads.prior[:2].expand_as(intent))
    learned = starts_of(heads, 1)["learned"].layer
    torch.testing.assert_close(learned.weight.float(), weight)
    torch.testing.assert_close(learned.bias.float(), bias)
    assert starts_of(heads, 1)["seen"].reads.sum() == heads.direct.in_features - 4  # neither state nor layer between


@pytest.fixture
def data(shops: dict[str, Prepared]) -> FitData:
    prepared = shops["clicks"]
    return FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))


@pytest.fixture
def config(compose: Callable[..., TrainConfig], data: FitData) -> TrainConfig:
    return compose("train", TrainConfig, f"prepared={data.prepared.path}", "model.embed_dim=8", "model.num_layers=1")


def make(config: TrainConfig, data: FitData) -> NeuralModel:
    torch.manual_seed(0)
    outcomes, _ = supported_outcomes(data.prepared, data.window)
    facts = {"purchase_code": data.prepared.purchase_code}
    model = build_model(
        config.model, vocabulary=data.vocabulary, tasks=["purchase"], max_len=10, facts=facts, outcomes=outcomes
    )
    model.fit(data)
    assert isinstance(model, NeuralModel)
    return model


def test_a_model_answers_better_and_the_same_with_the_same_seed(config: TrainConfig, data: FitData) -> None:
    first, second, again = (make(config, data) for _ in range(3))
    validation = Validation.of(
        data.prepared, ["purchase"], standard_protocol(), primary="purchase", outcomes=first.outcomes
    )

    chosen = refine(first, data, CONFIG, validation=validation.moments, seed=1)
    refine(second, data, CONFIG, validation=validation.moments, seed=1)

    assert set(chosen) == {outcome.name for outcome in first.outcomes}
    assert validation.skills(first)["val/intent/skill"] > 0.01  # of the prior, which it answers untrained, it is 0
    states = [model.state_dict() for model in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # a refit takes the choices over, and needs no validation
    assert refine(again, data, CONFIG, validation=None, seed=1, chosen=chosen) == chosen
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, states[0][name], atol=1e-4, rtol=1e-4)


def test_features_are_in_the_order_of_the_moments(config: TrainConfig, data: FitData) -> None:
    model = make(config, data)
    validation = Validation.of(data.prepared, ["purchase"], standard_protocol(), primary="purchase")
    order = np.argsort(-validation.moments.k, kind="stable")

    whole = features_of(model, data, validation.moments)

    torch.testing.assert_close(features_of(model, data, validation.moments.only(order)), whole[torch.from_numpy(order)])


def test_a_refined_model_answers_from_the_layer_that_was_fitted(config: TrainConfig, data: FitData) -> None:
    model = make(config, data)
    validation = Validation.of(
        data.prepared, ["purchase"], standard_protocol(), primary="purchase", outcomes=model.outcomes
    )
    refine(model, data, CONFIG, validation=validation.moments, seed=1)
    assert model.outcome_heads is not None
    asked = validation.moments.only(np.flatnonzero(validation.moments.k >= 1))

    prior = model.outcome_heads.split(model.outcome_heads.prior)[0].double()
    logits = starts_of(model.outcome_heads, 0)["learned"].layer.logits(features_of(model, data, asked), prior)

    answered = classify_all(model, data.prepared, asked)[0]
    np.testing.assert_allclose(logits.log_softmax(dim=1).numpy(), answered, atol=1e-4)
