"""Baselines of outcomes: the prior, multinomial logistic regression and gradient boosting on what is visible.

They are fitted as neural models are: on moments of the train window's visitors, each history cut where a visit begins
so that it is a stranger's, after any number of steps. What is tuned is chosen by log-loss on validation strangers and,
as these may be few, on a share of the train visitors, who are fitted on in the end: the regression's penalty (Hastie
et al. 2009, 4.4.4), and the leaves and the number of the boosted trees (10.12).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.config import ClassifierConfig
from shopkeeper.data import schema as s
from shopkeeper.data.examples import Examples, outcome_examples, window_steps
from shopkeeper.data.outcomes import Labels, Outcome
from shopkeeper.data.prepared import IntArray, Prepared, Window, ragged_ranges
from shopkeeper.models.contract import FitData
from shopkeeper.models.visible import FloatArray, Visible

Array = npt.NDArray[np.float64]

PRIOR: Final = "prior"
LOGISTIC: Final = "logistic"
BOOSTING: Final = "boosting"
CLASSIFIERS: Final = (PRIOR, LOGISTIC, BOOSTING)
FLOOR: Final = 1e-4
"""Share of the prior in every answer: a class that the fit has never seen beside these counts stays possible."""


class Fitted(NamedTuple):
    """A scikit-learn classifier whose answers cover all classes: p = (1 - FLOOR) p_model + FLOOR p_prior."""

    model: Any
    prior: Array  # (C,)

    def log_probabilities(self, x: FloatArray) -> Array:
        """(n, C)."""
        found = np.zeros((len(x), len(self.prior)))
        if len(x):
            found[:, self.model.classes_] = self.model.predict_proba(x)
        return np.asarray(np.log((1 - FLOOR) * found + FLOOR * self.prior))


class Sample(NamedTuple):
    """Columns (n, F) and true classes (n,) of moments."""

    x: FloatArray
    label: IntArray

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Sample":
        return Sample(self.x[chosen], self.label[chosen])


class Samples(NamedTuple):
    """What one outcome is learned from: `fit` for each candidate, `tune` to choose one, `all` for the chosen one."""

    fit: Sample
    tune: Sample
    all: Sample

    def comparable(self) -> "Samples":
        """Without what `tune` knows of classes that `fit` does not."""
        return self._replace(tune=self.tune.only(np.isin(self.tune.label, self.fit.label)))

    def suffice(self) -> bool:
        """Whether there are two classes to tell apart, and something to choose by."""
        return len(np.unique(self.fit.label)) > 1 and len(self.comparable().tune.label) > 0


class Classifiers:
    """The fitted baselines of the given outcomes.

    Args:
        fitted: by baseline and name of outcome.
        priors: class frequencies (C,) by name of outcome, over the moments that the others were fitted on.
        without: the context column that they do not know, if any.
    """

    def __init__(
        self,
        visible: Visible,
        fitted: Mapping[str, Mapping[str, Fitted]],
        priors: Mapping[str, Array],
        without: str | None,
    ) -> None:
        self.visible, self.fitted, self.priors, self.without = visible, fitted, priors, without

    def classify(self, examples: Examples) -> dict[str, dict[str, Array]]:
        """For each baseline the log probabilities (n, C) of each outcome at the given moments."""
        x = self.visible.at(examples, without=self.without)
        found = {PRIOR: {name: np.tile(np.log(prior), (len(x), 1)) for name, prior in self.priors.items()}}
        for family, models in self.fitted.items():
            found[family] = {name: model.log_probabilities(x) for name, model in models.items()}
        return found


def fit_classifiers(
    data: FitData,
    outcomes: list[Outcome],
    config: ClassifierConfig,
    *,
    ks: list[int],
    max_len: int,
    without: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Classifiers:
    """Fit on the train window, tune on validation strangers; the context column `without` is hidden."""
    prepared = data.prepared
    visible, labels = Visible.of(data, max_len=max_len, columns=config.columns), Labels(prepared, outcomes)
    train = training_moments(prepared, data.window, most_steps=max(ks), at_most=config.max_moments, seed=config.seed)
    val = outcome_examples(prepared, s.STRANGERS, s.VAL, ks=ks, at_most=config.max_moments).examples
    moments = Examples.joined(train, val)
    x = visible.at(moments, without=without)
    strangers = np.arange(len(moments)) >= len(train)
    tuning = strangers | (chance_of(moments.visitor, seed=config.seed) < config.tune_share)
    fitted: dict[str, dict[str, Fitted]] = {LOGISTIC: {}, BOOSTING: {}}
    priors = {}
    for name, classes in outcomes:
        say(name)
        whole = Sample(x, labels.of(name, moments.moments(prepared)))
        known = whole.label >= 0
        samples = Samples(*(whole.only(part & known) for part in (~tuning, tuning, ~strangers)))
        priors[name] = prior_of(samples.all.label, len(classes))
        for family, fit in ((LOGISTIC, fit_logistic), (BOOSTING, fit_boosting)):
            model = fit(samples.comparable(), config) if samples.suffice() else constant(samples.all)
            fitted[family][name] = Fitted(model, priors[name])
    return Classifiers(visible, fitted, priors, without)


def training_moments(prepared: Prepared, window: Window, *, most_steps: int, at_most: int, seed: int) -> Examples:
    """A seeded sample of moments of the window's visitors as if they were strangers.

    Each of `at_most` draws takes a visitor, a visit as the begin of the history, and a number of steps from 0 to
    `most_steps`; a draw that the history is too short for is dropped, so short ones weigh as they do in judging. It
    begins where strangers do: at any visit where users are held out, else at the first one.
    """
    rng = np.random.default_rng(seed)
    first, count = window_steps(prepared, window)
    begins, owner = visit_begins(prepared, first, count)
    visits = np.bincount(owner, minlength=len(first))
    rounds = np.resize(np.arange(len(first)), max(at_most, len(first)))  # everyone once, then again
    drawn = rng.permutation(rounds)[:at_most]
    choice = visits[drawn] if prepared.manifest["holdout"] else np.ones(len(drawn))
    visit = (rng.random(len(drawn)) * choice).astype(np.int64)
    start = begins[(np.cumsum(visits) - visits)[drawn] + visit]
    k = rng.integers(0, most_steps + 1, len(drawn))
    moments = Examples(window.visitor[drawn], k, start, start + k, window.end[drawn])
    return moments.only(start + k <= (first + count)[drawn])


def visit_begins(prepared: Prepared, first: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
    """Steps of [first, first + count) at which a visit begins (S,), and whose they are (S,)."""
    step = ragged_ranges(first, first + count)
    owner = np.repeat(np.arange(len(first)), count)
    session = np.asarray(prepared.rows["session"])[prepared.step_offsets[step]]
    begins = np.append(True, (session[1:] != session[:-1]) | (owner[1:] != owner[:-1]))
    return step[begins], owner[begins]


def chance_of(visitor: IntArray, *, seed: int) -> Array:
    """A number from 0 to 1 for each visitor (n,), the same at all its moments."""
    return np.random.default_rng([seed, 1]).random(int(visitor.max(initial=0)) + 1)[visitor]


def prior_of(label: IntArray, classes: int) -> Array:
    """Frequency of each class (C,), with one added to each count."""
    counts = np.bincount(label, minlength=classes) + 1.0
    return np.asarray(counts / counts.sum())


def fit_logistic(samples: Samples, config: ClassifierConfig) -> Any:
    """Of the penalties the one with the lowest log-loss, the strongest of equals."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def make(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))

    losses = {c: log_loss_of(converged(make(c), samples.fit), samples.tune) for c in sorted(config.inverse_penalties)}
    return converged(make(min(losses, key=lambda c: losses[c])), samples.all)


def converged(model: Any, sample: Sample) -> Any:
    """The model fitted; a descent that is cut short gives a candidate as well."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(sample.x, sample.label)


def fit_boosting(samples: Samples, config: ClassifierConfig) -> Any:
    """Of the tree sizes and numbers of rounds, those with the lowest log-loss."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    shared = {
        "learning_rate": config.learning_rate,
        "min_samples_leaf": config.min_samples_leaf,
        "max_features": config.max_features,
        "l2_regularization": 1.0,
        "max_bins": 63,
        "random_state": config.seed,
    }
    found = {}
    for leaves in sorted(config.leaves):
        search = HistGradientBoostingClassifier(
            max_leaf_nodes=leaves,
            max_iter=config.rounds,
            early_stopping=True,
            n_iter_no_change=config.patience,
            **shared,
        ).fit(samples.fit.x, samples.fit.label, X_val=samples.tune.x, y_val=samples.tune.label)
        losses = search.validation_score_[1:]  # negative log-losses after each round
        found[leaves, int(np.argmax(losses)) + 1] = float(losses.max())
    leaves, rounds = max(found, key=lambda pair: found[pair])
    best = HistGradientBoostingClassifier(max_leaf_nodes=leaves, max_iter=rounds, early_stopping=False, **shared)
    return best.fit(samples.all.x, samples.all.label)


def log_loss_of(model: Any, sample: Sample) -> float:
    """Mean of -log p(label) of a fitted model; it knows the label's class."""
    told = model.predict_proba(sample.x)[np.arange(len(sample.label)), np.searchsorted(model.classes_, sample.label)]
    return float(-np.log(np.maximum(told, FLOOR)).mean())


def constant(sample: Sample) -> Any:
    """The frequencies of the classes, whatever is visible."""
    from sklearn.dummy import DummyClassifier

    label = sample.label if len(sample.label) else np.zeros(1, np.int64)
    return DummyClassifier(strategy="prior").fit(np.zeros((len(label), 1)), label)
