from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.config import TrainConfig
from shopkeeper.data.targets import Ragged
from shopkeeper.models.calibration import Calibration, scaled
from shopkeeper.models.checkpoint import load_model
from shopkeeper.train import tracking as names
from shopkeeper.train.calibrate import (
    conformal_threshold,
    error_bound,
    fit_scales,
    fit_sets,
    fit_temperatures,
    least_threshold,
    lowest,
    only_catalogue,
)
from shopkeeper.train.fit import train

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
