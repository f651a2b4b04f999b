"""shopkeeper evaluate: a finished run on the test split, beside the baselines -> metrics.json and report.html."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from shopkeeper import __version__
from shopkeeper.config import EvaluateConfig, TrainConfig, UserError, configure
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import set_aside, train_window
from shopkeeper.evaluate.cards import segment_cards
from shopkeeper.evaluate.cards_page import render_cards
from shopkeeper.evaluate.judge_outcomes import judge_outcomes
from shopkeeper.evaluate.judge_tasks import judge_tasks
from shopkeeper.evaluate.likelihood import likelihood_sentences
from shopkeeper.evaluate.outcomes import gap_text, skill_text
from shopkeeper.evaluate.report import METRICS_FILE, REPORT_FILE, write_report
from shopkeeper.evaluate.tables import OPTIMUM, warm_up_text
from shopkeeper.models.checkpoint import build_model, load_model
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.optimum import Optimum
from shopkeeper.train.callbacks import MONITOR
from shopkeeper.train.profile import profile_text
from shopkeeper.train.tracking import FAMILY, MODEL_FILE, REFIT_OF, Store, TrackedRun

SCHEMA = EvaluateConfig


def run(config: EvaluateConfig) -> None:
    metrics, report = make_report(config)
    print_tables(metrics)
    print(f"report: {report}")


def make_report(config: EvaluateConfig) -> tuple[dict[str, Any], Path]:
    """Judge the run and the baselines; return the content of metrics.json and where the page is."""
    prepared = Prepared.read(config.prepared)
    store = Store(config.tracking)
    chosen = store.find(config.run, dataset_hash=prepared.content_hash)
    if chosen.tags.get(REFIT_OF):
        raise UserError(f"run={chosen.run_id} is a refit: it has seen the test split; evaluate {chosen.tags[REFIT_OF]}")
    subject = load_model(chosen.file(MODEL_FILE))
    print(f"judging run {chosen.run_id} ({subject.family}) on the test split")
    models = contestants(config, prepared, store, subject)
    metrics = judge_tasks(prepared, models, config.protocol, list(config.baselines))
    metrics |= judge_outcomes(prepared, models, config.protocol, config.classifiers)
    metrics |= {"version": __version__, "asked": asked(config, prepared, store, subject.family)}
    report = write_report(
        metrics,
        Path(config.output),
        title=f"{prepared.manifest['source']}: {subject.family}",
        facts=facts(prepared, chosen, config),
        drops=drops(prepared),
        curves={"mean ndcg of the tasks": chosen.curve(MONITOR)},
        segments=render_cards(segment_cards(prepared)),
    )
    return metrics, report[1]


def print_tables(metrics: dict[str, Any]) -> None:
    """The table of every task and that of the outcomes on the terminal."""
    for task, found in metrics["tasks"].items():
        print(f"\n{task}: ndcg@{metrics['protocol']['cutoff']} of test strangers by steps seen\n")
        print("\n".join([warm_up_text(metrics, task=task), *likelihood_sentences(found["likelihood"])]) + "\n")
    if metrics["outcomes"]:
        print("\noutcomes: skill of test strangers (1 - log-loss / that of the prior) by steps seen\n")
        print("\n".join([skill_text(metrics), *gap_text(metrics)]) + "\n")


def asked(config: EvaluateConfig, prepared: Prepared, store: Store, subject: str) -> dict[str, Any]:
    """What decides a report besides its run: the protocol, and the run of each baseline."""
    runs = judged_runs(config, prepared, store, subject)
    return asdict(config.protocol) | {"baselines": runs, "classifiers": asdict(config.classifiers)}


def is_current(report: Path, config: EvaluateConfig, prepared: Prepared, chosen: TrackedRun) -> bool:
    """Whether the folder holds a whole report on this run, beside the same baselines, by this version."""
    file = report / METRICS_FILE
    if not file.exists() or not (report / REPORT_FILE).exists():
        return False
    made = json.loads(file.read_text(encoding="utf-8"))
    wanted = asked(config, prepared, chosen.store, chosen.tags[FAMILY])
    return bool(made["facts"]["run"] == chosen.run_id and made["asked"] == wanted and made["version"] == __version__)


def contestants(
    config: EvaluateConfig, prepared: Prepared, store: Store, subject: SessionModel
) -> dict[str, SessionModel]:
    """Everyone who is judged: the subject, the baselines, and of a simulated shop the optimum."""
    models = {subject.family: subject} | dict(baselines(config, prepared, store, subject))
    if prepared.manifest["source"] == "simulated":
        models[OPTIMUM] = Optimum(prepared, tasks=subject.tasks, outcomes=subject.outcomes)
    return models


def baselines(
    config: EvaluateConfig, prepared: Prepared, store: Store, subject: SessionModel
) -> Iterator[tuple[str, SessionModel]]:
    """Each baseline's best finished run; one that was never trained is fitted now with its default values."""
    for name in config.baselines:
        if name == subject.family:
            continue
        run = best_of(store, name, prepared)
        print(f"baseline {name}: " + (f"run {run.run_id}" if run else "no run yet, fitted with its default values"))
        yield name, load_model(run.file(MODEL_FILE)) if run else fit_default(name, prepared, subject)


def best_of(store: Store, family: str, prepared: Prepared) -> TrackedRun | None:
    """The best finished run of a family on this data; None where there is none."""
    try:
        return store.best(dataset_hash=prepared.content_hash, family=family)
    except UserError:
        return None


def judged_runs(config: EvaluateConfig, prepared: Prepared, store: Store, subject: str) -> dict[str, str | None]:
    """Run id of each baseline that a report on a run of the family `subject` compares with."""
    best = {name: best_of(store, name, prepared) for name in config.baselines if name != subject}
    return {name: run.run_id if run else None for name, run in best.items()}


def fit_default(name: str, prepared: Prepared, subject: SessionModel) -> SessionModel:
    file = files("shopkeeper.configs").joinpath(f"model/{name}.yaml")
    if not file.is_file():
        raise UserError(f"baselines: there is no model {name!r} in configs/model")
    vocabulary = Vocabulary.of(prepared, refit=False)
    facts = {"purchase_code": prepared.purchase_code}
    model = build_model(
        configure("train", TrainConfig, f"prepared={prepared.path}", f"model={name}").model,
        vocabulary=vocabulary,
        tasks=subject.tasks,
        max_len=subject.max_len,
        facts=facts,
    )
    if model.trained_by_gradient:
        raise UserError(
            f"baselines: {name} needs training; run: shopkeeper train prepared={prepared.path} model={name}"
        )
    model.fit(FitData(prepared, train_window(prepared), vocabulary))
    return model


def facts(prepared: Prepared, chosen: TrackedRun, config: EvaluateConfig) -> dict[str, str]:
    """What a reader needs to repeat or doubt the result."""
    counts, cuts = prepared.manifest["counts"], prepared.manifest["cuts"]
    profile = profile_text(chosen.metrics)
    return {
        "command": f"shopkeeper evaluate prepared={config.prepared} run={chosen.run_id} output={config.output}",
        "run": chosen.run_id,
        "model": chosen.tags[FAMILY],
        "dataset": prepared.content_hash,
        "events": f"{counts['events']:,} of {counts['visitors']:,} visitors",
        "items": f"{counts['items']:,}, of which {counts['items_known']:,} were known in train",
        "train": f"until {cuts['val_start']}",
        "validation": f"until {cuts['test_start']}",
        "test": f"until {cuts['end']}",
        "strangers": "visitors first seen in the split"
        + (" and held-out users, their history from the start of the split" if prepared.manifest["holdout"] else ""),
        "a step": "all purchases of one trip" if prepared.order_only else "one event",
        "judged": f"k = {', '.join(map(str, config.protocol.ks))}; full ranking, ties count against the model",
    } | ({"time of the training": profile} if profile else {})


def drops(prepared: Prepared) -> list[tuple[str, str, int]]:
    """(stage, reason, rows) of everything that was left out."""
    dropped = [("prepare", reason, count) for reason, count in prepared.manifest["dropped"].items()]
    return dropped + [("evaluate", reason, count) for reason, count in set_aside(prepared).items()]
