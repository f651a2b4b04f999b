"""Every model and baseline at the same moments of the test split, for every outcome -> `outcomes` of metrics.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from shopkeeper.config import ClassifierConfig, ProtocolConfig
from shopkeeper.data import schema as s
from shopkeeper.data.examples import Examples, outcome_examples
from shopkeeper.data.outcomes import MASKED, Labels, Outcome
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.classified import Array, Classified, classify, telling_columns
from shopkeeper.evaluate.confidence import depth_rows
from shopkeeper.evaluate.outcomes import Told, tabulate_outcomes
from shopkeeper.models.classifiers import CLASSIFIERS, fit_classifiers
from shopkeeper.models.contract import FitData, SessionModel


class Judging(NamedTuple):
    """The moments of a population, and the true class of each outcome at them."""

    population: str
    examples: Examples
    labels: dict[str, IntArray]
    not_sampled: int


def judge_outcomes(
    prepared: Prepared,
    models: Mapping[str, SessionModel],
    protocol: ProtocolConfig,
    config: ClassifierConfig,
) -> dict[str, Any]:
    """`outcomes` and `depth` of metrics.json; the first model is the one in question, its outcomes are judged.

    A segment that a context column gives away is judged once more with that column blanked, as "<name> without
    <column>"; its baselines are then fitted without it.
    """
    subject, model = next(iter(models.items()))
    if not model.outcomes:
        return {"outcomes": {}, "depth": []}
    data = FitData(prepared, train_window(prepared), model.vocabulary)
    judgings = [judging_of(prepared, model.outcomes, population, protocol) for population in s.POPULATIONS]
    told, depth = judge_without(None, model.outcomes, prepared, models, protocol, config, data, judgings)
    for name, column in telling_columns(prepared, data.window, model.outcomes).items():
        print(f"{name} can be read off the context column {column}: judged once more without it")
        chosen = [outcome for outcome in model.outcomes if outcome.name == name]
        told += judge_without(column, chosen, prepared, models, protocol, config, data, judgings)[0]
    outcomes = tabulate_outcomes(
        told, ks=protocol.ks, resamples=protocol.resamples, seed=protocol.seed, subject=subject
    )
    return {"outcomes": outcomes, "depth": depth}


def judging_of(prepared: Prepared, outcomes: list[Outcome], population: str, protocol: ProtocolConfig) -> Judging:
    examples, not_sampled = outcome_examples(
        prepared, population, s.TEST, ks=protocol.ks, at_most=protocol.max_examples
    )
    labels, moments = Labels(prepared, outcomes), examples.moments(prepared)
    if not_sampled:
        every = len(examples) + not_sampled
        print(f"outcomes, {population}: judged on a seeded sample of {len(examples):,} of {every:,} moments")
    return Judging(population, examples, {o.name: labels.of(o.name, moments) for o in outcomes}, not_sampled)


def judge_without(
    column: str | None,
    outcomes: list[Outcome],
    prepared: Prepared,
    models: Mapping[str, SessionModel],
    protocol: ProtocolConfig,
    config: ClassifierConfig,
    data: FitData,
    judgings: list[Judging],
) -> tuple[list[Told], list[dict[str, Any]]]:
    """What everyone says of the outcomes, and how personal the subject gets; a context column may be blanked."""
    subject, model = next(iter(models.items()))
    fitted = fit_classifiers(data, outcomes, config, ks=protocol.ks, max_len=model.max_len, without=column)
    told, depth = [], []
    for judging in judgings:
        said: dict[str, dict[str, Array]] = {}
        for name, candidate in models.items():
            if not candidate.outcomes:
                continue
            with_depth = column is None and name == subject and judging.population == s.STRANGERS
            found = classify(candidate, prepared, judging.examples, without=column, with_depth=with_depth)
            said[name] = found.log_probabilities
            if found.depth is not None:
                depth = depths(found, judging, protocol)
        said |= fitted.classify(judging.examples)
        told += [
            told_of(name, outcome, found[outcome.name], judging, column)
            for outcome in outcomes
            for name, found in said.items()
            if outcome.name in found
        ]
    return told, depth


def told_of(name: str, outcome: Outcome, said: Array, judging: Judging, column: str | None) -> Told:
    """What a model said where the truth is known."""
    label = judging.labels[outcome.name]
    known = label != MASKED
    return Told(
        model=name,
        outcome=outcome if column is None else outcome._replace(name=f"{outcome.name} without {column}"),
        population=judging.population,
        visitor=judging.examples.visitor[known],
        k=judging.examples.k[known],
        label=label[known],
        log_probabilities=said[known],
        baseline=name in CLASSIFIERS,
        left_out={"of unknown truth": int((~known).sum()), "not sampled": judging.not_sampled},
    )


def depths(found: Classified, judging: Judging, protocol: ProtocolConfig) -> list[dict[str, Any]]:
    return depth_rows(
        found,
        judging.labels,
        visitor=judging.examples.visitor,
        k=judging.examples.k,
        ks=protocol.ks,
        resamples=protocol.resamples,
        seed=protocol.seed,
    )
