import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import UserError
from shopkeeper.stages import compare
from shopkeeper.stages.compare import Contest
from shopkeeper.train.settings import CompareConfig
from shopkeeper.train.tracking import Store

Flows = dict[str, Any]
Compose = Callable[..., Any]


def asked(compose: Compose, flow: Any, *overrides: str) -> CompareConfig:
    config: CompareConfig = compose(
        "compare", CompareConfig, f"prepared={flow.prepared.path}", *flow.store, "protocol.resamples=20", *overrides
    )
    return config


def test_both_are_judged_on_the_same_examples_in_every_slice(
    flows: Flows, compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = flows["orders"]
    first = flow.runs["sasrec"].run_id
    compare.run(asked(compose, flow, f"runs=[{first},popularity]", f"output={tmp_path}"))

    text = capsys.readouterr().out
    assert f"comparing sasrec (run {first}) with popularity (run {flow.runs['popularity'].run_id})" in text
    assert text.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    rows = metrics["tasks"]["purchase"]["rows"]
    assert {row["model"] for row in rows} == {"sasrec", "popularity"}
    for row in rows:
        assert ("popularity" in row["differences"]) == (row["model"] == "sasrec")
    pooled = next(row for row in rows if row["slice"] == "all" and row["model"] == "sasrec")
    found = pooled["differences"]["popularity"]
    assert f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] {found['verdict']}" in text


def test_a_run_against_itself_is_refused(flows: Flows, compose: Compose) -> None:
    flow = flows["orders"]

    with pytest.raises(UserError, match="there is nothing to compare"):
        compare.run(asked(compose, flow, f"runs=[{flow.runs['sasrec'].run_id},sasrec]"))


def test_a_run_nobody_knows_is_refused(flows: Flows, compose: Compose) -> None:
    with pytest.raises(UserError, match="there is no run 'abc'"):
        compare.run(asked(compose, flows["orders"], "runs=[popularity,abc]"))


def test_two_of_one_family_are_told_apart_by_their_ids(compose: Compose, flows: Flows) -> None:
    store = Store(asked(compose, flows["orders"], "runs=[a,b]").tracking)
    first, second = (store.start(name="r", tags={"shopkeeper.family": "repeat"}) for _ in range(2))

    assert Contest.of(first, second).names == (f"repeat {first.run_id[:8]}", f"repeat {second.run_id[:8]}")
