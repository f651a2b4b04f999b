"""Fit a model's calibration on validation strangers, which training has used for nothing but choosing its epoch.

Scales and temperatures minimise log-loss, one number each; the thresholds of sets are split-conformal (Vovk et al.
2005; Romano et al. 2020, arXiv:2006.02544), those of depth hold a bound on an error rate (Clopper and Pearson 1934).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shopkeeper.config import CalibrationConfig, DepthConfig
from shopkeeper.data import schema as s
from shopkeeper.data.examples import Examples
from shopkeeper.data.outcomes import MASKED
from shopkeeper.data.prepared import IntArray, Prepared, ragged_ranges
from shopkeeper.data.targets import Ragged
from shopkeeper.evaluate.judge import classify_all, scores_of
from shopkeeper.models.calibration import (
    Calibration,
    DepthThresholds,
    better_mass,
    bucket,
    item_probabilities,
    scaled,
    shortlist_mass,
)
from shopkeeper.models.contract import SessionModel
from shopkeeper.train.validation import Validation

FloatArray = npt.NDArray[np.float64]
Say = Callable[[str], None]

LARGEST_SCALE = 3.0
TEMPERATURES = 2.0 ** np.arange(-2, 2.01, 0.5)
"""Candidates, from a quarter to four: between the best three the loss is taken for a parabola of the logarithm."""
ROUNDING = 1e-6
"""The threshold of a set lies this much above the item that has to be inside, for sums in another order."""


def calibrate(
    model: SessionModel, validation: Validation, config: CalibrationConfig, depth: DepthConfig, *, say: Say
) -> Calibration:
    """What `models/calibration.py` applies, fitted on the examples of `validation`; the model is not changed."""
    ks = validation.ks
    temperature, sets, shortlists = {}, {}, []
    for task, (examples, targets) in validation.examples.items():
        inside = only_catalogue(targets, model.vocabulary.num_items)
        outside = int((inside.sizes == 0).sum())
        if outside:
            say(f"{task}: {outside:,} of {len(examples):,} validation moments have no target in the catalogue")
        places = buckets(examples.k, ks)
        losses = temperature_losses(model, validation.prepared, examples, inside, task=task)
        temperature[task] = fit_temperatures(losses, places, len(ks), borrowed=config.borrowed)
        ranked = rankings(model, validation.prepared, examples, inside, task=task, temperature=temperature[task], ks=ks)
        sets[task] = fit_sets(ranked.before, places, len(ks), coverage=config.coverage, least=config.least)
        shortlists.append((examples, ranked))
    scales, segments = fit_outcomes(model, validation, config, depth, say)
    examples, ranked = shortlists[0]
    later = examples.k >= 1
    one_to_one = least_threshold(
        ranked.shortlist[later],
        ~ranked.hit[later],
        examples.visitor[later],
        rate=depth.miss,
        confidence=depth.confidence,
    )
    thresholds = DepthThresholds(segments, one_to_one)
    return Calibration(ks=ks, scales=scales, temperature=temperature, sets=sets, depth=thresholds)


def buckets(k: IntArray, ks: list[int]) -> IntArray:
    return bucket(torch.from_numpy(np.asarray(k)), ks).numpy()


# --- outcomes ------------------------------------------------------------------------------------------------------


def fit_outcomes(
    model: SessionModel, validation: Validation, config: CalibrationConfig, depth: DepthConfig, say: Say
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Scale per bucket of every outcome, and the depth threshold of every segment."""
    places, visitor = buckets(validation.moments.k, validation.ks), validation.moments.visitor
    scales: dict[str, list[float]] = {}
    segments: dict[str, float | None] = {}
    said = classify_all(model, validation.prepared, validation.moments) if model.outcomes else []
    for outcome, raw, prior in zip(model.outcomes, said, model.outcome_priors(), strict=True):
        label = validation.labels[outcome.name]
        known = label != MASKED
        if not known.any():
            say(f"{outcome.name}: no validation stranger is known to be of a class, so its prior is all it answers")
        scales[outcome.name] = fit_scales(
            raw[known],
            prior.double().numpy(),
            label[known],
            places[known],
            len(validation.ks),
            borrowed=config.borrowed,
            doubt=config.doubt,
        )
        if outcome.name.startswith(s.SEGMENT_PREFIX):
            scale = torch.tensor(scales[outcome.name])[torch.from_numpy(places)]
            answered = scaled(torch.from_numpy(raw), prior, scale).exp().numpy()
            asked = known & (raw != prior.numpy()).any(axis=1)  # whom nothing is known of is welcomed, not addressed
            segments[outcome.name] = least_threshold(
                answered[asked].max(axis=1),
                answered[asked].argmax(axis=1) != label[asked],
                visitor[asked],
                rate=depth.error,
                confidence=depth.confidence,
            )
    return scales, segments


def fit_scales(
    raw: FloatArray, prior: FloatArray, label: IntArray, place: IntArray, buckets: int, *, borrowed: float, doubt: float
) -> list[float]:
    """The scale of each bucket that minimises the sum of three log-losses, which is convex in it:

        its own moments'  +  borrowed * mean of all moments'  +  doubt * that of moments drawn from the prior

    So a bucket of few moments answers like all together, and where little speaks against the prior, it is the answer.

    Args:
        raw: log probabilities (n, C) uncalibrated.
        prior: log probabilities (C,).
        place: bucket of each moment (n,).
    """
    if not len(label):
        return [0.0] * buckets
    log_probabilities, log_prior = torch.from_numpy(raw), torch.from_numpy(prior)

    def losses(scale: float) -> tuple[FloatArray, float]:
        found = scaled(log_probabilities, log_prior, torch.full((len(label),), scale, dtype=torch.float64))
        own = -found.gather(1, torch.from_numpy(label)[:, None])[:, 0]
        return own.numpy(), float(-(log_prior.exp() * found).sum(dim=1).mean())

    def in_bucket(scale: float, b: int) -> float:
        own, doubted = losses(scale)
        return float(own[place == b].sum() + borrowed * own.mean() + doubt * doubted)

    return [minimum(lambda scale, b=b: in_bucket(scale, b)) for b in range(buckets)]  # type: ignore[misc]


def minimum(loss: Callable[[float], float]) -> float:
    """Where a convex function of a scale is least, 0 where nothing is below its value there."""
    from scipy.optimize import minimize_scalar

    found = float(minimize_scalar(loss, bounds=(0.0, LARGEST_SCALE), method="bounded").x)
    return found if loss(found) < loss(0.0) else 0.0


# --- rankings ------------------------------------------------------------------------------------------------------


class Rankings(NamedTuple):
    """What the ranking of each example says of its targets; n examples."""

    before: FloatArray  # (n,), probability of what ranks before the best target; NaN where none is in the catalogue
    shortlist: FloatArray  # (n,), probability of the best `s.SHORTLIST` items
    hit: npt.NDArray[np.bool_]  # (n,), whether a target is among them


def only_catalogue(targets: Ragged, num_items: int) -> Ragged:
    """Targets that the model can name."""
    known = targets.items <= num_items
    kept = np.concatenate([[0], np.cumsum(known)])
    return Ragged(kept[targets.offsets], targets.items[known])


@torch.inference_mode()
def temperature_losses(
    model: SessionModel, prepared: Prepared, examples: Examples, targets: Ragged, *, task: str
) -> FloatArray:
    """Mean log-loss of each example's targets at each of TEMPERATURES (n, G); NaN where it has none."""
    losses = np.full((len(examples), len(TEMPERATURES)), np.nan)
    for chunk, scores in scores_of(model, prepared, examples, task=task):
        owner, item = of_chunk(targets, chunk)
        size = torch.from_numpy(np.bincount(owner, minlength=len(chunk)))
        mean = torch.zeros(len(chunk)).index_add_(0, owner, scores[owner, item]) / size
        for g, temperature in enumerate(TEMPERATURES):
            log_sum = torch.logsumexp(scores * float(temperature), dim=1)
            losses[chunk, g] = torch.where(size > 0, log_sum - temperature * mean, torch.nan).numpy()
    return losses


def fit_temperatures(losses: FloatArray, place: IntArray, buckets: int, *, borrowed: float) -> list[float]:
    """The temperature of each bucket that minimises its own loss and `borrowed` times the mean of all (n, G)."""
    known = np.isfinite(losses[:, 0])
    if not known.any():
        return [1.0] * buckets
    everyone = borrowed * losses[known].mean(axis=0)
    return [lowest(losses[known & (place == b)].sum(axis=0) + everyone) for b in range(buckets)]


def lowest(loss: FloatArray) -> float:
    """Temperature at which a loss known at TEMPERATURES (G,) is least, no further than these."""
    at = int(np.argmin(loss))
    if at in (0, len(loss) - 1):
        return float(TEMPERATURES[at])
    left, middle, right = loss[at - 1 : at + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(TEMPERATURES[at] * (TEMPERATURES[1] / TEMPERATURES[0]) ** shift)


@torch.inference_mode()
def rankings(
    model: SessionModel,
    prepared: Prepared,
    examples: Examples,
    targets: Ragged,
    *,
    task: str,
    temperature: list[float],
    ks: list[int],
) -> Rankings:
    before, shortlist = np.full(len(examples), np.nan), np.empty(len(examples))
    hit = np.zeros(len(examples), bool)
    per_example = np.array(temperature, np.float32)[buckets(examples.k, ks)]
    for chunk, scores in scores_of(model, prepared, examples, task=task):
        probabilities = item_probabilities(scores, torch.from_numpy(per_example[chunk]))
        shortlist[chunk] = shortlist_mass(probabilities).numpy()
        owner, item = of_chunk(targets, chunk)
        best = torch.full((len(chunk),), -1.0).scatter_reduce(0, owner, probabilities[owner, item], "amax")
        place = torch.zeros(len(chunk), dtype=torch.int64)
        chosen = probabilities[owner, item] == best[owner]
        place[owner[chosen]] = item[chosen]
        has = (best >= 0).numpy()
        before[chunk[has]] = better_mass(probabilities, place).numpy()[has]
        rank = (probabilities >= best[:, None]).sum(dim=1).numpy()  # ties count against the model
        hit[chunk] = has & (rank <= s.SHORTLIST)
    return Rankings(before, shortlist, hit)


def of_chunk(targets: Ragged, chunk: IntArray) -> tuple[Tensor, Tensor]:
    """Targets of some examples: their place in the chunk (M,), and the item's place in the catalogue from 0 (M,)."""
    sizes = targets.sizes[chunk]
    items = targets.items[ragged_ranges(targets.offsets[chunk], targets.offsets[chunk] + sizes)]
    return torch.from_numpy(np.repeat(np.arange(len(chunk)), sizes)), torch.from_numpy(items.astype(np.int64) - 1)


def fit_sets(before: FloatArray, place: IntArray, buckets: int, *, coverage: float, least: int) -> list[float]:
    """Threshold of each bucket; one of fewer than `least` examples with a target takes that of all together."""
    own = [before[(place == b) & np.isfinite(before)] for b in range(buckets)]
    everyone = np.concatenate(own)
    return [conformal_threshold(found if len(found) >= least else everyone, coverage) for found in own]


def conformal_threshold(before: FloatArray, coverage: float) -> float:
    """The probability that a set has to reach so that a new target, exchangeable with these n, is inside it with
    probability `coverage`: just above the ceil((n + 1) * coverage)-th smallest; 1, the catalogue, where n is too small.
    """
    rank = int(np.ceil((len(before) + 1) * coverage))
    if rank > len(before):
        return 1.0
    return float(min(np.sort(before)[rank - 1] + ROUNDING, 1.0))


# --- depth ---------------------------------------------------------------------------------------------------------


def least_threshold(
    probability: FloatArray, wrong: npt.NDArray[np.bool_], visitor: IntArray, *, rate: float, confidence: float
) -> float | None:
    """Least probability, in hundredths, from which on errors among those addressed stay within `rate`; None: never.

    A visitor is one observation, their share of wrong moments: moments of one visitor resemble each other.
    """
    for hundredths in range(101):
        chosen = probability >= hundredths / 100
        if not chosen.any():
            return None
        _, owner = np.unique(visitor[chosen], return_inverse=True)
        shares = np.bincount(owner, wrong[chosen]) / np.bincount(owner)
        if error_bound(float(shares.sum()), len(shares), confidence) <= rate:
            return hundredths / 100
    return None


def error_bound(errors: float, trials: int, confidence: float) -> float:
    """Upper end of the one-sided Clopper-Pearson interval of an error rate; errors need not be whole."""
    from scipy.special import betaincinv

    return 1.0 if errors >= trials else float(betaincinv(errors + 1, trials - errors, confidence))
