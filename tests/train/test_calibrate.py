from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.config import CalibrationConfig, DepthConfig, ProtocolConfig, TrainConfig
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Ragged
from shopkeeper.data.windows import train_window
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.calibration import Calibration, scaled
from shopkeeper.models.checkpoint import load_model
from shopkeeper.models.contract import FitData
from shopkeeper.train import tracking as names
from shopkeeper.train.calibrate import (
    calibrate,
    conformal_threshold,
    error_bound,
    fit_outcomes,
    fit_scales,
    fit_sets,
    fit_temperatures,
    least_threshold,
    lowest,
    only_catalogue,
    rankings,
)
from shopkeeper.train.fit import train
from shopkeeper.train.validation import Validation

HALF = np.log([0.5, 0.5])
BORROWED, DOUBT = 1e-6, 0.0


def drawn(scale: float, count: int = 20_000, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """What a head says of moments (n, C), and classes drawn from it when its log odds are scaled so."""
    rng = np.random.default_rng(0)
    raw = torch.log_softmax(torch.from_numpy(rng.normal(0, 1.5, (count, classes))), dim=1)
    prior = torch.full((classes,), -np.log(classes), dtype=torch.float64)
    true = scaled(raw, prior, torch.full((count,), scale, dtype=torch.float64)).exp().numpy()
    return raw.numpy(), (rng.random(count)[:, None] > true.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
def test_the_scale_that_made_the_classes_is_found(scale: float) -> None:
    raw, label = drawn(scale)

    (found,) = fit_scales(raw, HALF, label, np.zeros(len(label), int), 1, borrowed=BORROWED, doubt=DOUBT)

    assert found == pytest.approx(scale, abs=0.05)


def test_each_bucket_has_its_own_scale() -> None:
    (raw, label), (other, about) = drawn(0.5), drawn(1.5)
    place = np.repeat([0, 2], len(label))

    found = fit_scales(np.vstack([raw, other]), HALF, np.append(label, about), place, 3, borrowed=1.0, doubt=DOUBT)

    assert found[0] == pytest.approx(0.5, abs=0.05)
    assert found[2] == pytest.approx(1.5, abs=0.05)
    assert found[0] < found[1] < found[2]  # of no moments of its own: as all together


def test_a_head_that_knows_less_than_nothing_is_not_heard() -> None:
    raw, label = drawn(1.0)

    assert fit_scales(raw, HALF, 1 - label, np.zeros(len(label), int), 1, borrowed=1.0, doubt=DOUBT) == [0.0]


def test_doubt_draws_towards_the_prior() -> None:
    raw, label = drawn(1.0, count=20)
    none, some, much = (
        fit_scales(raw, HALF, label, np.zeros(20, int), 1, borrowed=BORROWED, doubt=doubt)[0] for doubt in (0, 10, 1e6)
    )

    assert none > some > much
    assert much == pytest.approx(0.0, abs=1e-3)


def test_without_a_labelled_moment_the_prior_answers() -> None:
    empty = np.empty(0, np.int64)

    assert fit_scales(np.empty((0, 2)), HALF, empty, empty, 2, borrowed=1.0, doubt=1.0) == [0.0, 0.0]


def test_a_conformal_threshold_leaves_out_one_in_ten() -> None:
    # of 19 the ceil(20 * 0.9) = 18th smallest: 0.17
    assert conformal_threshold(np.arange(19) / 100, 0.9) == pytest.approx(0.17, abs=1e-5)
    assert conformal_threshold(np.arange(19) / 100, 0.9) > 0.17
    # of 8 the ceil(9 * 0.9) = 9th, of which there is none
    assert conformal_threshold(np.arange(8) / 100, 0.9) == 1.0


def test_a_bucket_of_few_takes_the_threshold_of_all() -> None:
    before, place = np.append(np.full(20, 0.2), np.full(5, 0.6)), np.repeat([0, 1], [20, 5])

    # all together: the ceil(26 * 0.8) = 21st smallest
    assert fit_sets(before, place, 2, coverage=0.8, least=10) == pytest.approx([0.2, 0.6], abs=1e-5)
    assert fit_sets(before, place, 2, coverage=0.7, least=10) == pytest.approx([0.2, 0.2], abs=1e-5)
    assert fit_sets(before, place, 2, coverage=0.7, least=5) == pytest.approx([0.2, 0.6], abs=1e-5)


def test_targets_that_no_list_can_name_are_apart() -> None:
    found = only_catalogue(Ragged(np.array([0, 2, 3, 4]), np.array([1, 9, 9, 5])), 5)

    assert found.sizes.tolist() == [1, 0, 1]
    assert found.items.tolist() == [1, 5]


def test_the_best_temperature_lies_between_candidates() -> None:
    logarithm = np.arange(-2, 2.01, 0.5)

    for best in (-1.2, 0.0, 0.3):
        assert lowest((logarithm - best) ** 2) == pytest.approx(2.0**best)
    assert lowest(logarithm) == pytest.approx(0.25)  # no further than the candidates go


def test_a_bucket_without_moments_takes_the_temperature_of_all() -> None:
    losses = (np.arange(-2, 2.01, 0.5)[None] - np.array([[1.0], [1.0]])) ** 2

    found = fit_temperatures(losses, np.array([1, 1]), 2, borrowed=1.0)

    assert found == pytest.approx([2.0, 2.0])
    assert fit_temperatures(np.full((1, 9), np.nan), np.array([0]), 2, borrowed=1.0) == [1.0, 1.0]


def test_without_an_error_the_bound_is_the_root_of_the_confidence_left() -> None:
    # (1 - p) ** n = 0.05
    assert error_bound(0, 29, 0.95) == pytest.approx(1 - 0.05 ** (1 / 29))
    assert error_bound(0, 28, 0.95) > 0.1 > error_bound(0, 29, 0.95)
    assert error_bound(5, 5, 0.95) == 1.0


def test_visitors_are_addressed_from_where_the_error_holds() -> None:
    probability = np.repeat([0.95, 0.6], 40)
    wrong = np.repeat([False, True], 40)

    assert least_threshold(probability, wrong, np.arange(80), rate=0.1, confidence=0.95) == 0.61
    assert least_threshold(probability, ~wrong, np.arange(80), rate=0.1, confidence=0.95) is None


def test_moments_of_one_visitor_are_one_observation() -> None:
    probability, right = np.full(60, 0.9), np.zeros(60, bool)

    assert least_threshold(probability, right, np.arange(60), rate=0.1, confidence=0.95) == 0.0
    assert least_threshold(probability, right, np.arange(60) % 3, rate=0.1, confidence=0.95) is None


@pytest.fixture
def calibrated(config: Callable[..., TrainConfig], silent: Callable[[str], None]) -> Any:
    """A run on the shop of clicks, and its refit."""
    run = train(config("trainer.max_epochs=1"), say=silent)
    return run, train(config("trainer.max_epochs=1", f"refit={run.run_id}"), say=silent)


def test_a_run_keeps_its_calibration_and_its_refit_takes_it_over(calibrated: Any) -> None:
    first, again = (load_model(run.file(names.MODEL_FILE)) for run in calibrated)

    assert isinstance(first.calibration, Calibration)
    assert first.calibration == again.calibration
    assert first.calibration.ks == [0, 1, 2, 3, 5, 10]
    assert list(first.calibration.scales) == ["intent", "phase", "segment:card"]
    assert list(first.calibration.sets) == list(first.calibration.temperature) == ["purchase", "next"]
    assert all(len(numbers) == 6 for numbers in first.calibration.scales.values())
    assert all(0 <= threshold <= 1 for numbers in first.calibration.sets.values() for threshold in numbers)


class Card(Popularity):
    """Says the same of every visitor's card; the prior is three to one that there is none."""

    said = (0.75, 0.25)

    def outcome_priors(self) -> list[Tensor]:
        return [torch.tensor([0.75, 0.25]).log()]

    def classify(self, batch: Batch) -> list[Tensor]:
        return [torch.tensor(self.said).log().expand(len(batch.event), -1)]


def outcomes_of(prepared: Prepared, said: tuple[float, float], *, error: float) -> tuple[Any, Any]:
    card = Outcome("segment:card", ("no", "yes"))
    protocol = ProtocolConfig(ks=[0, 1, 2], cutoff=20, max_examples=1000, resamples=10, seed=0)
    validation = Validation.of(prepared, ["purchase"], protocol, primary="purchase", outcomes=[card])
    model = Card(vocabulary=Vocabulary.of(prepared, refit=False), tasks=["purchase"], max_len=10, window_days=None)
    model.fit(FitData(prepared, train_window(prepared), model.vocabulary))
    model.outcomes, model.said = [card], said
    settings = CalibrationConfig(coverage=0.9, borrowed=10, doubt=10, least=5)
    depth = DepthConfig(error=error, miss=0.5, confidence=0.95)
    return fit_outcomes(model, validation, settings, depth, lambda text: None)


def test_whom_nothing_is_known_of_is_not_addressed(shops: dict[str, Prepared]) -> None:
    _, by_prior = outcomes_of(shops["clicks"], (0.75, 0.25), error=0.99)
    scales, by_head = outcomes_of(shops["clicks"], (0.7, 0.3), error=0.99)

    assert by_prior == {"segment:card": None}
    assert by_head == {"segment:card": 0.0}
    assert len(scales["segment:card"]) == 3


def test_a_model_without_outcomes_has_no_scales(shops: dict[str, Prepared]) -> None:
    prepared = shops["clicks"]
    protocol = ProtocolConfig(ks=[0, 1], cutoff=20, max_examples=100, resamples=10, seed=0)
    validation = Validation.of(prepared, ["purchase"], protocol, primary="purchase")
    model = Popularity(vocabulary=Vocabulary.of(prepared, refit=False), tasks=["purchase"], max_len=9, window_days=None)
    model.fit(FitData(prepared, train_window(prepared), model.vocabulary))
    settings = CalibrationConfig(coverage=0.9, borrowed=10, doubt=10, least=5)

    found = calibrate(
        model, validation, settings, DepthConfig(error=0.1, miss=0.5, confidence=0.95), say=lambda text: None
    )

    assert (found.scales, found.depth.segments) == ({}, {})
    assert [len(found.sets["purchase"]), len(found.temperature["purchase"])] == [2, 2]


def test_sets_hold_their_share_of_the_moments_they_were_fitted_on(shops: dict[str, Prepared]) -> None:
    prepared = shops["clicks"]
    protocol = ProtocolConfig(ks=[0, 1], cutoff=20, max_examples=1000, resamples=10, seed=0)
    validation = Validation.of(prepared, ["purchase"], protocol, primary="purchase")
    examples, targets = validation.examples["purchase"]
    model = Popularity(vocabulary=Vocabulary.of(prepared, refit=False), tasks=["purchase"], max_len=9, window_days=None)
    model.fit(FitData(prepared, train_window(prepared), model.vocabulary))
    inside = only_catalogue(targets, model.vocabulary.num_items)

    found = rankings(model, prepared, examples, inside, task="purchase", temperature=[1.0, 1.0], ks=[0, 1])

    probability = torch.softmax(model.prior_scores()[0], dim=0).numpy()
    best = np.array([probability[inside.items[a:b] - 1].max() for a, b in pairwise(inside.offsets)])
    expected = np.array([probability[probability >= own].sum() - own for own in best])  # with ties
    np.testing.assert_allclose(found.before, expected, atol=1e-5)
    np.testing.assert_allclose(found.shortlist, np.sort(probability)[-20:].sum(), rtol=1e-5)
    assert found.hit.tolist() == [(probability >= own).sum() <= 20 for own in best]
    (threshold,) = fit_sets(found.before, np.zeros(len(best), int), 1, coverage=0.8, least=5)
    assert (found.before < threshold).mean() >= 0.8
