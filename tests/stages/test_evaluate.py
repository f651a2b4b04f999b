import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import EvaluateConfig, TrainConfig, UserError
from shopkeeper.data.prepare import prepare
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.evaluate.outcomes import outcome_rows
from shopkeeper.models.checkpoint import load_model
from shopkeeper.models.contract import SessionModel
from shopkeeper.stages import evaluate
from shopkeeper.train.fit import train
from shopkeeper.train.tracking import MODEL_FILE, Store

Flows = dict[str, Any]
Compose = Callable[..., Any]


def asked(compose: Compose, flow: Any, *overrides: str) -> EvaluateConfig:
    where = [f"prepared={flow.prepared.path}", *flow.store, *flow.judged]
    config: EvaluateConfig = compose("evaluate", EvaluateConfig, *where, *overrides)
    return config


@pytest.mark.parametrize("shop", ["clicks", "orders"])
def test_every_model_is_judged_on_the_same_strangers(flows: Flows, shop: str) -> None:
    metrics = json.loads((flows[shop].report / "metrics.json").read_text())
    tasks = {"clicks": {"purchase", "next"}, "orders": {"purchase"}}[shop]

    assert set(metrics["tasks"]) == tasks
    for task in tasks:
        rows = [r for r in metrics["tasks"][task]["rows"] if r["slice"] == "k>=1"]
        baselines = {"popularity", "context_popularity", "repeat", "markov", "item_knn", "vmis_knn", "tifu_knn"}
        assert {r["model"] for r in rows} == {"sasrec"} | baselines
        assert len({(r["examples"], r["visitors"]) for r in rows}) == 1
        assert all(0 <= v["low"] <= v["mean"] <= v["high"] <= 1 for r in rows for v in r["metrics"].values())


def test_on_a_simulated_shop_the_optimum_is_judged_too(compose: Compose, tmp_path: Path) -> None:
    sizes = {"visitors": 400, "personas": 2, "categories": 2, "items": 8}
    shop = [f"data.simulation.{name}={value}" for name, value in sizes.items()]
    output = f"output={tmp_path / 'prepared'}"
    prepared = prepare(compose("prepare", PrepareConfig, "data=simulated", output, *shop), say=lambda text: None)
    store = [f"tracking.uri=sqlite:///{tmp_path / 'runs.db'}", f"tracking.artifacts={tmp_path / 'artifacts'}"]
    where = [f"prepared={prepared.path}", *store, f"tracking.runs_dir={tmp_path / 'runs'}"]
    run = train(compose("train", TrainConfig, *where, "model=popularity"), say=lambda text: None)
    subject = load_model(run.file(MODEL_FILE))

    config = compose("evaluate", EvaluateConfig, *where, f"output={tmp_path}", "baselines=[repeat]")
    models = evaluate.contestants(config, prepared, Store(config.tracking), subject)
    assert list(models) == ["popularity", "repeat", "optimum"]
    assert models["popularity"] is subject
    assert models["optimum"].tasks == subject.tasks


def test_every_outcome_is_judged_beside_its_baselines(flows: Flows) -> None:
    metrics = json.loads((flows["clicks"].report / "metrics.json").read_text())

    assert set(metrics["outcomes"]) == {"intent", "phase", "segment:card"}
    for name in metrics["outcomes"]:
        pooled = outcome_rows(metrics, name, "strangers", part="all k")
        assert {row["model"] for row in pooled} == {"sasrec", "prior", "logistic", "boosting"}
        assert pooled[0]["best_baseline"] in {"prior", "logistic", "boosting"}
        assert {"k=0", "k=1", "all k", "all"} <= {row["slice"] for row in metrics["outcomes"][name]["rows"]}
    assert {row["slice"] for row in metrics["depth"]} >= {"k=0", "k=1", "all k"}
    assert {"all k"} <= {row["slice"] for row in metrics["tasks"]["purchase"]["sets"]}


def test_the_terminal_shows_a_line_per_outcome(flows: Flows, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.print_tables(json.loads((flows["clicks"].report / "metrics.json").read_text()))

    lines = capsys.readouterr().out.splitlines()
    (head,) = (number for number, line in enumerate(lines) if line.startswith("outcome "))
    assert [line.split()[0] for line in lines[head + 1 : head + 4]] == ["intent", "phase", "segment:card"]


def test_where_every_session_buys_the_page_tells_of_no_intent(flows: Flows) -> None:
    metrics = json.loads((flows["orders"].report / "metrics.json").read_text())

    assert set(metrics["outcomes"]) == {"segment:card"}
    page = (flows["orders"].report / "report.html").read_text()
    assert 'id="outcome-segment-card"' in page
    assert "outcome-intent" not in page


def test_the_facts_let_one_repeat_it(flows: Flows) -> None:
    facts = json.loads((flows["clicks"].report / "metrics.json").read_text())["facts"]

    assert facts["run"] == flows["clicks"].runs["sasrec"].run_id
    assert facts["dataset"] == flows["clicks"].prepared.content_hash
    assert facts["command"].startswith("shopkeeper evaluate prepared=")


def test_a_repetition_gives_the_same_numbers(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    flow = flows["clicks"]
    run = f"run={flow.runs['sasrec'].run_id}"
    evaluate.run(asked(compose, flow, run, f"output={tmp_path}"))

    first, again = (json.loads((f / "metrics.json").read_text()) for f in (flow.report, tmp_path))
    assert [first[part] == again[part] for part in ("tasks", "outcomes", "depth")] == [True] * 3


def test_a_report_is_current_for_its_run_baselines_and_protocol_alone(
    flows: Flows, compose: Compose, tmp_path: Path
) -> None:
    flow = flows["clicks"]
    config = asked(compose, flow, "output=x")

    def current(folder: Path, config: EvaluateConfig, run: str) -> bool:
        return evaluate.is_current(folder, config, flow.prepared, flow.runs[run])

    assert current(flow.report, config, "sasrec")
    assert not current(flow.report, config, "popularity")
    other = replace(config, protocol=replace(config.protocol, cutoff=10))
    assert not current(flow.report, other, "sasrec")
    assert not current(flow.bundle, config, "sasrec")
    file = tmp_path / "metrics.json"
    (tmp_path / "report.html").touch()
    file.write_text((flow.report / "metrics.json").read_text())
    assert current(tmp_path, config, "sasrec")
    file.write_text(file.read_text().replace(flow.runs["popularity"].run_id, "another"))
    assert not current(tmp_path, config, "sasrec")


def test_a_sample_is_told(flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = asked(compose, flows["clicks"], f"output={tmp_path}", "protocol.resamples=10", "protocol.max_examples=20")
    metrics, report = evaluate.make_report(config)

    counts = metrics["tasks"]["purchase"]["counts"]["strangers"]
    assert counts["examples"] == 20
    every = 20 + counts["not sampled"]
    assert f"purchase, strangers: judged on a seeded sample of 20 of {every} examples" in capsys.readouterr().out
    assert f"<td>{counts['not sampled']}</td>" in report.read_text()


def test_a_damaged_baseline_is_an_error_and_not_fitted_anew(
    flows: Flows, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(path: Path) -> SessionModel:
        raise UserError(f"checkpoint {path} cannot be read")

    config = asked(compose, flows["clicks"], f"output={tmp_path}")
    subject = load_model(flows["clicks"].runs["sasrec"].file(MODEL_FILE))
    monkeypatch.setattr(evaluate, "load_model", damaged)
    with pytest.raises(UserError, match="cannot be read"):
        list(evaluate.baselines(config, flows["clicks"].prepared, Store(config.tracking), subject))


def test_a_refit_has_seen_the_test_split_and_is_refused(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    flow = flows["orders"]
    overrides = [f"prepared={flow.prepared.path}", *flow.store, f"refit={flow.runs['popularity'].run_id}"]
    refit = train(compose("train", TrainConfig, *overrides), say=lambda text: None)

    with pytest.raises(UserError, match="is a refit: it has seen the test split"):
        evaluate.run(asked(compose, flow, f"run={refit.run_id}", f"output={tmp_path}"))


def test_a_run_of_another_dataset_is_refused(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    run = f"run={flows['orders'].runs['sasrec'].run_id}"
    config = compose(
        "evaluate",
        EvaluateConfig,
        f"prepared={flows['clicks'].prepared.path}",
        *flows["orders"].store,
        run,
        f"output={tmp_path}",
    )

    with pytest.raises(UserError, match="was trained on another prepared dataset"):
        evaluate.run(config)


def test_an_unknown_baseline_is_refused(flows: Flows, compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model 'oracle'"):
        evaluate.run(asked(compose, flows["clicks"], "baselines=[oracle]", f"output={tmp_path}"))
