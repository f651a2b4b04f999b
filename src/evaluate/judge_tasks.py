"""Every model on the same test examples of every ranking task: ranks, likelihood, sets -> `tasks` of metrics.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from shopkeeper.config import ProtocolConfig, UserError
from shopkeeper.data import schema as s
from shopkeeper.data.examples import JudgedExamples, is_repeat, judged_examples, visible_items
from shopkeeper.data.outcomes import Labels
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Targets
from shopkeeper.evaluate.confidence import set_rows
from shopkeeper.evaluate.judgements import Judgement, judge_whole
from shopkeeper.evaluate.likelihood import example_losses, likelihood_rows
from shopkeeper.evaluate.tables import Judged, tabulate
from shopkeeper.models.contract import SessionModel


def judge_tasks(
    prepared: Prepared, models: Mapping[str, SessionModel], protocol: ProtocolConfig, baselines: list[str]
) -> dict[str, Any]:
    """Judge every model that has the task; the first model is the one in question.

    Raises:
        UserError: when there is no test stranger to judge a task on.
    """
    targets = Targets(prepared)
    subject, model = next(iter(models.items()))
    judged: list[Judged] = []
    extras: dict[str, dict[str, list[Any]]] = {}
    for task in model.tasks:
        extras[task] = {"likelihood": [], "sets": []}
        for population in s.POPULATIONS:
            found = judged_examples(
                prepared, targets, task, population, s.TEST, ks=protocol.ks, at_most=protocol.max_examples
            )
            check(found, task, population)
            judgements = judge_models(prepared, models, found, task, population)
            judged += judged_by(prepared, model, judgements, found, task, population, baselines)
            extras[task]["likelihood"] += likelihoods(judgements, found, population, protocol)
            sets = judgements[subject].sets
            if sets is not None:
                extras[task]["sets"] += covered(prepared, model, judgements[subject], found, protocol)
    table: dict[str, Any] = tabulate(
        judged,
        ks=protocol.ks,
        cutoff=protocol.cutoff,
        resamples=protocol.resamples,
        seed=protocol.seed,
        subject=subject,
    )
    for task, parts in extras.items():
        table["tasks"][task] |= parts
    return table


def check(found: JudgedExamples, task: str, population: str) -> None:
    """Say where a sample is judged, and stop where there is nothing to judge."""
    if population == s.STRANGERS and not (found.examples.k >= 1).any():
        raise UserError(f"the test split has no stranger with a target of task {task!r}: widen data.split")
    if found.left_out["not sampled"]:
        every = len(found.examples) + found.left_out["not sampled"]
        print(f"{task}, {population}: judged on a seeded sample of {len(found.examples):,} of {every:,} examples")


def judge_models(
    prepared: Prepared, models: Mapping[str, SessionModel], found: JudgedExamples, task: str, population: str
) -> dict[str, Judgement]:
    """What each model that has the task says; sets are looked at for strangers."""
    visible = visible_items(prepared, found.examples)
    candidates = {name: model for name, model in models.items() if task in model.tasks}
    return {
        name: judge_whole(
            model,
            prepared,
            found.examples,
            found.targets,
            task=task,
            visible=visible,
            with_sets=population == s.STRANGERS,
        )
        for name, model in tqdm(candidates.items(), desc=f"{task}, {population}", leave=False)
    }


def judged_by(
    prepared: Prepared,
    model: SessionModel,
    judgements: Mapping[str, Judgement],
    found: JudgedExamples,
    task: str,
    population: str,
    baselines: list[str],
) -> list[Judged]:
    """The ranks of every model beside what is known of the examples and their targets."""
    examples, wanted = found.examples, found.targets
    train_events = np.append(0, prepared.items_frame()["train_events"].to_numpy())
    repeat = is_repeat(prepared, visible_items(prepared, examples), wanted)
    return [
        Judged(
            model=name,
            task=task,
            population=population,
            visitor=examples.visitor,
            k=examples.k,
            offsets=wanted.offsets,
            ranks=judgement.ranks,
            unseen_ranks=judgement.unseen_ranks,
            repeat=repeat,
            cold=train_events[wanted.items] == 0,
            missing=wanted.items > model.vocabulary.num_items,
            baseline=name in baselines,
            left_out=found.left_out,
        )
        for name, judgement in judgements.items()
    ]


def likelihoods(
    judgements: Mapping[str, Judgement], found: JudgedExamples, population: str, protocol: ProtocolConfig
) -> list[dict[str, Any]]:
    losses = {
        name: example_losses(judgement.log_probability, found.targets.offsets)
        for name, judgement in judgements.items()
        if judgement.log_probability is not None
    }
    return likelihood_rows(
        losses,
        visitor=found.examples.visitor,
        k=found.examples.k,
        population=population,
        ks=protocol.ks,
        resamples=protocol.resamples,
        seed=protocol.seed,
    )


def covered(
    prepared: Prepared, model: SessionModel, judgement: Judgement, found: JudgedExamples, protocol: ProtocolConfig
) -> list[dict[str, Any]]:
    """The coverage of the subject's sets, per k and per class of each of its segments."""
    assert judgement.sets is not None
    segments = [outcome for outcome in model.outcomes if outcome.name.startswith(s.SEGMENT_PREFIX)]
    labels, moments = Labels(prepared, segments), found.examples.moments(prepared)
    inside = found.targets.items <= model.vocabulary.num_items
    return set_rows(
        judgement.sets,
        visitor=found.examples.visitor,
        k=found.examples.k,
        known=np.add.reduceat(inside, found.targets.offsets[:-1]) > 0,
        segments={outcome.name: (outcome, labels.of(outcome.name, moments)) for outcome in segments},
        ks=protocol.ks,
        resamples=protocol.resamples,
        seed=protocol.seed,
    )
