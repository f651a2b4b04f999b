"""shopkeeper evaluate: a finished run on the test split, beside the baselines -> metrics.json and report.html."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shopkeeper import __version__
from shopkeeper.config import EvaluateConfig, ProtocolConfig, TrainConfig, UserError, configure
from shopkeeper.data import schema as s
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.examples import is_repeat, judged_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Targets
from shopkeeper.data.windows import set_aside, train_window
from shopkeeper.evaluate.judge import judge
from shopkeeper.evaluate.report import METRICS_FILE, REPORT_FILE, write_report
from shopkeeper.evaluate.tables import OPTIMUM, Judged, tabulate, warm_up_text
from shopkeeper.models.checkpoint import build_model, load_model
from shopkeeper.models.contract import FitData, SessionModel
from shopkeeper.models.optimum import Optimum
from shopkeeper.train.callbacks import MONITOR
from shopkeeper.train.profile import profile_text
from shopkeeper.train.tracking import FAMILY, MODEL_FILE, REFIT_OF, Store, TrackedRun

SCHEMA = EvaluateConfig


def run(config: EvaluateConfig) -> None:
    metrics, report = make_report(config)
    for task in metrics["tasks"]:
        print_warm_up(metrics, task)
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
    others = dict(baselines(config, prepared, store, subject))
    if prepared.manifest["source"] == "simulated":
        others[OPTIMUM] = Optimum(prepared, tasks=subject.tasks)
    metrics = evaluate(prepared, {subject.family: subject} | others, config.protocol, list(config.baselines))
    metrics |= {"version": __version__, "asked": asked(config, prepared, store, subject.family)}
    report = write_report(
        metrics,
        Path(config.output),
        title=f"{prepared.manifest['source']}: {subject.family}",
        facts=facts(prepared, chosen, config),
        drops=drops(prepared),
        curves={"mean ndcg of the tasks": chosen.curve(MONITOR)},
    )
    return metrics, report[1]


def print_warm_up(metrics: dict[str, Any], task: str) -> None:
    """The table of one task on the terminal."""
    print(f"\n{task}: ndcg@{metrics['protocol']['cutoff']} of test strangers by steps seen\n")
    print(warm_up_text(metrics, task=task) + "\n")


def asked(config: EvaluateConfig, prepared: Prepared, store: Store, subject: str) -> dict[str, Any]:
    """What decides a report besides its run: the protocol, and the run of each baseline."""
    return asdict(config.protocol) | {"baselines": judged_runs(config, prepared, store, subject)}


def is_current(report: Path, config: EvaluateConfig, prepared: Prepared, chosen: TrackedRun) -> bool:
    """Whether the folder holds a whole report on this run, beside the same baselines, by this version."""
    file = report / METRICS_FILE
    if not file.exists() or not (report / REPORT_FILE).exists():
        return False
    made = json.loads(file.read_text(encoding="utf-8"))
    wanted = asked(config, prepared, chosen.store, chosen.tags[FAMILY])
    return bool(made["facts"]["run"] == chosen.run_id and made["asked"] == wanted and made["version"] == __version__)


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


def evaluate(
    prepared: Prepared, models: dict[str, SessionModel], protocol: ProtocolConfig, baselines: list[str]
) -> dict[str, Any]:
    """Judge every model on the same test examples; the first model is the one in question."""
    targets = Targets(prepared)
    subject, model = next(iter(models.items()))
    train_events = np.append(0, prepared.items_frame()["train_events"].to_numpy())
    judged = []
    for task in model.tasks:
        for population in s.POPULATIONS:
            examples, wanted, left_out = judged_examples(
                prepared, targets, task, population, s.TEST, ks=protocol.ks, at_most=protocol.max_examples
            )
            if population == s.STRANGERS and not (examples.k >= 1).any():
                raise UserError(f"the test split has no stranger with a target of task {task!r}: widen data.split")
            if left_out["not sampled"]:
                every = len(examples) + left_out["not sampled"]
                print(f"{task}, {population}: judged on a seeded sample of {len(examples):,} of {every:,} examples")
            repeat, cold = is_repeat(prepared, examples, wanted), train_events[wanted.items] == 0
            for name, candidate in tqdm(models.items(), desc=f"{task}, {population}", leave=False):
                if task not in candidate.tasks:
                    continue
                judged.append(
                    Judged(
                        model=name,
                        task=task,
                        population=population,
                        visitor=examples.visitor,
                        k=examples.k,
                        offsets=wanted.offsets,
                        ranks=judge(candidate, prepared, examples, wanted, task=task),
                        repeat=repeat,
                        cold=cold,
                        missing=wanted.items > model.vocabulary.num_items,
                        baseline=name in baselines,
                        left_out=left_out,
                    )
                )
    table: dict[str, Any] = tabulate(
        judged,
        ks=protocol.ks,
        cutoff=protocol.cutoff,
        resamples=protocol.resamples,
        seed=protocol.seed,
        subject=subject,
    )
    return table


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
