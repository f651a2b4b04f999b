"""Personas: clusters of the profiles of known customers, as many as are found again in resamples.

Features are standardised over the customers (shares by their square roots and all of a column alike, skewed measures by
their logarithms), cut at three standard deviations, and weighted so that every aspect (categories, prices, rhythm, ...)
has the same variance. For each number of clusters k-means runs on them. Its mean adjusted Rand index (Hubert and Arabie
1985, https://doi.org/10.1007/BF01908075) with clusterings of resamples, four in five customers each, says how much of
it is chance; its silhouette (Rousseeuw 1987, https://doi.org/10.1016/0377-0427(87)90125-7) how well the clusters are
apart. A number is stable where its index and smallest cluster suffice. Of these the largest wins whose silhouette is
not far below the best: customers seldom fall apart into a true number of kinds, and where they do not, more kinds say
more as long as they are no chance. Where none is stable, the one with the highest index wins.
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from shopkeeper.data.histories import FloatArray, Histories
from shopkeeper.data.prepared import IntArray
from shopkeeper.data.profiles import Profile, as_text, fit_profile
from shopkeeper.data.rules import Customers, NotFitted, Rule
from shopkeeper.data.settings import PersonasConfig, SegmentConfig
from shopkeeper.data.writer import rounded

CUT = 3.0
"""Standard deviations beyond which a feature counts as this many."""
PER_CLUSTER = 10
"""Customers for each cluster that are the least to look for that many."""
SCORED = 5_000
"""Customers on which a silhouette is taken at most, as its cost grows with their square."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One number of clusters, and what speaks for it."""

    clusters: int
    silhouette: float
    stability: float
    smallest: float


@dataclass(frozen=True, kw_only=True)
class Personas(Rule):
    """The nearest centre of the standardised profile."""

    kind = "personas"
    groups: dict[str, list[str]]
    scalars: list[str]
    mean: list[float]
    scale: list[float]
    centres: list[list[float]]
    trials: list[dict[str, float]]

    @property
    def profile(self) -> Profile:
        return Profile(self.groups, self.scalars, self.gauge)

    def classify(self, histories: Histories) -> IntArray:
        found = standardised(self.profile, self.profile.of(histories), np.array(self.mean), np.array(self.scale))
        centres = np.array(self.centres)
        distance = (centres**2).sum(axis=1)[:, None] - 2 * centres @ found
        return np.asarray(np.argmin(distance, axis=0))


def standardised(profile: Profile, features: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Features (F, n) in standard deviations from the mean; what is not told is average. Each aspect weighs 1."""
    _, block, size = np.unique(profile.blocks, return_inverse=True, return_counts=True)
    apart = np.clip((profile.comparable(features) - mean[:, None]) / scale[:, None], -CUT, CUT)
    return np.asarray(np.nan_to_num(apart) / np.sqrt(size[block])[:, None])


def fit_personas(config: SegmentConfig, customers: Customers) -> Personas:
    asked = config.personas
    assert asked is not None
    customers.require(*config.at_least)
    profile = fit_profile(customers, asked.shares, asked.most, config.at_least)
    features = rounded(profiles_of(profile, customers)).T
    least, most = asked.clusters
    most = min(most, len(features) // PER_CLUSTER)
    if most < least:
        raise NotFitted(f"{len(features)} train customers have enough history: too few for {least} clusters")
    rng = np.random.default_rng(asked.seed)
    if len(features) > asked.customers:
        features = features[np.sort(rng.permutation(len(features))[: asked.customers])]
    mean, scale = scales_of(profile, features.T)
    points = standardised(profile, features.T, mean, scale).T
    trials, clusterings = try_numbers(points, range(least, most + 1), asked, rng)
    label = clusterings[best(trials, asked)]
    label = np.argsort(np.argsort(-np.bincount(label), kind="stable"))[label]  # the largest first
    centres = [points[label == number].mean(axis=0) for number in range(label.max() + 1)]
    return Personas(
        gauge=profile.gauge,
        classes=names_of(profile, np.array(centres)),
        groups=profile.groups,
        scalars=profile.scalars,
        mean=mean.tolist(),
        scale=scale.tolist(),
        centres=rounded(np.array(centres)).tolist(),
        trials=[asdict(trial) for trial in trials],
    )


def scales_of(profile: Profile, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of each comparable feature (F,) where it is told, and what counts as one step; 1 where nothing differs."""
    values = profile.comparable(features)
    told = ~np.isnan(values)
    count = np.maximum(told.sum(axis=1), 1)
    mean = np.nansum(values, axis=1) / count
    deviation = np.sqrt((np.where(told, values - mean[:, None], 0.0) ** 2).sum(axis=1) / count)
    scale = rounded(profile.spread(deviation))
    return rounded(mean), np.where(scale > 0, scale, 1.0)


def profiles_of(profile: Profile, customers: Customers) -> FloatArray:
    """Profiles of the customers of whom enough is known (F, customers)."""
    found = customers.each(profile.of)
    return found[:, customers.each(profile.gauge.enough)]


def try_numbers(
    points: FloatArray, numbers: range, asked: PersonasConfig, rng: np.random.Generator
) -> tuple[list[Trial], list[IntArray]]:
    """Cluster into each of the numbers of clusters; on one thread, so that sums have one order."""
    from sklearn.metrics import adjusted_rand_score, silhouette_score
    from threadpoolctl import threadpool_limits

    resamples = [np.sort(rng.permutation(len(points))[: len(points) * 4 // 5]) for _ in range(asked.resamples)]
    shown = np.sort(rng.permutation(len(points))[:SCORED])
    trials, clusterings = [], []
    with threadpool_limits(limits=1):
        for number in numbers:
            label = clustered(points, points, number, asked.seed)
            again = [clustered(points[part], points, number, asked.seed) for part in resamples]
            trial = Trial(
                clusters=number,
                silhouette=round(float(silhouette_score(points[shown], label[shown])), 6),
                stability=round(float(np.mean([adjusted_rand_score(label, other) for other in again])), 6),
                smallest=round(float(np.bincount(label, minlength=number).min() / len(label)), 6),
            )
            trials.append(trial)
            clusterings.append(label)
    return trials, clusterings


def clustered(points: FloatArray, whom: FloatArray, number: int, seed: int) -> npt.NDArray[np.int64]:
    """The cluster of each of `whom` by k-means on the points."""
    from sklearn.cluster import KMeans

    model = KMeans(number, n_init=5, random_state=seed).fit(points)
    return np.asarray(model.predict(whom), np.int64)


def best(trials: list[Trial], asked: PersonasConfig) -> int:
    """Position of the trial that wins."""
    stable = [n for n, t in enumerate(trials) if t.stability >= asked.stable and t.smallest >= asked.smallest]
    if not stable:
        return max(range(len(trials)), key=lambda n: trials[n].stability)
    least = asked.apart * max(trials[n].silhouette for n in stable)
    return max(n for n in stable if trials[n].silhouette >= least)


def names_of(profile: Profile, centres: FloatArray) -> list[str]:
    """A name for each centre (C, F) from what sets it apart most: two things, or as many as tell it from the others."""
    _, block, size = np.unique(profile.blocks, return_inverse=True, return_counts=True)
    lifts = [dict(zip(profile.features, row, strict=True)) for row in centres * np.sqrt(size[block])]
    found: list[str] = []
    for lift in lifts:
        names = [" and ".join(as_text(lift, count=count)) for count in range(2, len(lift) + 1)]
        free = [name for name in names if name not in found]
        found.append(free[0] if free else f"{names[0]} ({len(found) + 1})")
    return found
