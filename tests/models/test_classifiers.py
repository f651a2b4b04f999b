import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopkeeper.config import ClassifierConfig, EvaluateConfig, UserError
from shopkeeper.data import schema as s
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.examples import outcome_examples
from shopkeeper.data.outcomes import Labels, Outcome, supported_outcomes
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.classifiers import (
    BOOSTING,
    CLASSIFIERS,
    FLOOR,
    LOGISTIC,
    PRIOR,
    Fitted,
    Sample,
    Samples,
    constant,
    fit_boosting,
    fit_classifiers,
    fit_logistic,
    log_loss_of,
    prior_of,
    training_moments,
    visit_begins,
)
from shopkeeper.models.contract import FitData


@pytest.fixture(scope="module")
def config(compose: Callable[..., Any]) -> ClassifierConfig:
    found: ClassifierConfig = compose("evaluate", EvaluateConfig, "prepared=x", "output=y").classifiers
    return replace(found, max_moments=1500, rounds=40, min_samples_leaf=10)


def made_up(count: int, seed: int) -> Sample:
    """Of two columns the first tells the class nine times out of ten."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    told = np.where(rng.random(count) < 0.9, label, 1 - label)
    return Sample(np.stack([told, rng.random(count)], axis=1).astype(np.float32), label)


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosting])
def test_what_can_be_learned_is_learned(fit: Callable[..., Any], config: ClassifierConfig) -> None:
    samples = Samples(made_up(600, 0), made_up(400, 1), made_up(1000, 2))
    model = fit(samples, config)

    # the best that can be said: entropy of nine to one
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert log_loss_of(model, made_up(2000, 3)) == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosting])
def test_noise_is_answered_with_next_to_the_prior(fit: Callable[..., Any], config: ClassifierConfig) -> None:
    rng = np.random.default_rng(0)
    noise = [Sample(rng.random((n, 30)).astype(np.float32), rng.integers(0, 2, n)) for n in (300, 300, 600, 2000)]
    model = fit(Samples(*noise[:3]), config)

    assert log_loss_of(model, noise[3]) < math.log(2) + 0.01


def test_a_class_that_was_never_seen_stays_possible() -> None:
    only_second = constant(Sample(np.zeros((4, 1), np.float32), np.array([1, 1, 1, 1])))
    found = Fitted(only_second, np.array([0.2, 0.5, 0.3])).log_probabilities(np.zeros((1, 1), np.float32))

    assert np.exp(found[0]) == pytest.approx([0.2 * FLOOR, 1 - FLOOR + 0.5 * FLOOR, 0.3 * FLOOR])


def test_the_prior_counts_one_more_of_each() -> None:
    assert prior_of(np.array([0, 0, 2]), 3).tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6])


def test_samples_suffice_with_two_classes_and_something_to_choose_by() -> None:
    two, three = (Sample(np.zeros((n, 1), np.float32), np.arange(n)) for n in (2, 3))
    none = Sample(np.zeros((0, 1), np.float32), np.empty(0, np.int64))

    assert Samples(two, three, two).suffice()
    assert Samples(two, three, two).comparable().tune.label.tolist() == [0, 1]
    assert not Samples(two, none, two).suffice()
    assert not Samples(none, two, two).suffice()
    assert constant(none).predict_proba(np.zeros((1, 1))).tolist() == [[1.0]]


def test_training_moments_are_pieces_of_known_histories(shops: dict[str, Prepared]) -> None:
    prepared = shops["clicks"]
    window = train_window(prepared)
    moments = training_moments(prepared, window, most_steps=4, at_most=500, seed=0)
    session = np.asarray(prepared.rows["session"])

    assert set(moments.k) == {0, 1, 2, 3, 4}
    assert (moments.last - moments.first == moments.k).all()
    assert set(moments.visitor) <= set(window.visitor)
    end = dict(zip(window.visitor, window.end, strict=True))
    assert all(prepared.step_offsets[m] <= end[v] for v, m in zip(moments.visitor, moments.last, strict=True))
    # a history begins where a visit does
    before = session[np.maximum(prepared.step_offsets[moments.first] - 1, 0)]
    start = prepared.step_offsets[moments.first]
    assert ((before != session[start]) | (start == 0)).all()
    again = training_moments(prepared, window, most_steps=4, at_most=500, seed=0)
    assert np.array_equal(again.first, moments.first)


def test_where_strangers_are_new_histories_begin_with_the_first_visit(shops: dict[str, Prepared]) -> None:
    original = shops["clicks"]
    new = Prepared(original.path, original.manifest | {"holdout": False})
    window = train_window(new)
    moments = training_moments(new, window, most_steps=4, at_most=500, seed=0)

    start = dict(zip(window.visitor, window.start, strict=True))
    assert all(new.step_offsets[f] == start[v] for v, f in zip(moments.visitor, moments.first, strict=True))


def test_visits_begin_where_the_session_changes(shops: dict[str, Prepared]) -> None:
    prepared = shops["orders"]  # every step is a visit
    steps, owner = visit_begins(prepared, np.array([0, 7]), np.array([2, 3]))

    assert (steps.tolist(), owner.tolist()) == ([0, 1, 7, 8, 9], [0, 0, 1, 1, 1])


def test_baselines_say_what_the_made_up_shop_knows(shops: dict[str, Prepared], config: ClassifierConfig) -> None:
    prepared = shops["clicks"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    outcomes, _ = supported_outcomes(prepared, data.window)
    fitted = fit_classifiers(data, outcomes, config, ks=[0, 1, 3], max_len=10)
    examples = outcome_examples(prepared, s.STRANGERS, s.TEST, ks=[0, 1, 3], at_most=1000).examples
    said = fitted.classify(examples)

    assert set(said) == set(CLASSIFIERS)
    for family in CLASSIFIERS:
        for name, classes in outcomes:
            assert said[family][name].shape == (len(examples), len(classes))
            assert np.exp(said[family][name]).sum(axis=1) == pytest.approx(np.ones(len(examples)))
    assert len(np.unique(said[PRIOR]["intent"], axis=0)) == 1


def test_a_phase_that_follows_from_counts_is_better_told_than_by_the_prior(
    shops: dict[str, Prepared], config: ClassifierConfig
) -> None:
    prepared = shops["clicks"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    phase = [outcome for outcome in supported_outcomes(prepared, data.window)[0] if outcome.name == s.PHASE]
    examples = outcome_examples(prepared, s.KNOWN_USERS, s.TEST, ks=[0, 1, 2, 3], at_most=1000).examples
    label = Labels(prepared, phase).of(s.PHASE, examples.moments(prepared))
    said = fit_classifiers(data, phase, config, ks=[0, 1, 2, 3], max_len=10).classify(examples)
    known = np.flatnonzero(label >= 0)

    loss = {family: -said[family][s.PHASE][known, label[known]].mean() for family in CLASSIFIERS}
    assert loss[LOGISTIC] < loss[PRIOR]
    assert loss[BOOSTING] < loss[PRIOR]


def test_an_outcome_that_nobody_knows_is_answered_with_even_chances(
    shops: dict[str, Prepared], config: ClassifierConfig
) -> None:
    prepared = shops["clicks"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    strange = Outcome(s.PHASE, ("one", "another"))
    said = fit_classifiers(data, [strange], config, ks=[0, 1], max_len=10)
    examples = outcome_examples(prepared, s.STRANGERS, s.TEST, ks=[0], at_most=5).examples

    assert np.exp(said.classify(examples)[PRIOR][s.PHASE][0]).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("override", ["tune_share=1", "leaves=[1]", "inverse_penalties=[0]", "max_features=0"])
def test_values_out_of_range_are_refused(compose: Callable[..., Any], override: str) -> None:
    with pytest.raises(UserError, match=f"classifiers.{override.split('=')[0]}"):
        compose("evaluate", EvaluateConfig, "prepared=x", "output=y", f"classifiers.{override}")
