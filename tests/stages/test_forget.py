import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import ForgetConfig, TrainConfig
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.stages import forget
from shopkeeper.train.fit import train

Forget = Callable[..., str]


@pytest.fixture
def run(compose: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Forget:
    """Forget a person in a copy of a flow's dataset and return what the command says."""

    def forgotten(flow: Any, user: str, bundles: Path) -> str:
        if not (tmp_path / "prepared").exists():
            shutil.copytree(flow.prepared.path, tmp_path / "prepared")
        asked = [f"user={user}", f"prepared=[{tmp_path / 'prepared'}]", f"bundles={bundles}", *flow.store]
        capsys.readouterr()
        forget.run(compose("forget", ForgetConfig, *asked))
        return capsys.readouterr().out

    return forgotten


def test_the_runs_and_bundles_that_learned_from_a_person_are_named(
    flows: dict[str, Any], run: Forget, tmp_path: Path
) -> None:
    flow = flows["clicks"]
    early, late = people(flow.prepared)

    told, nothing = run(flow, early, flow.bundle.parent), run(flow, late, tmp_path)

    assert all(f"  {run.run_id} ({model})" in told for model, run in flow.runs.items())
    assert f"  {flow.bundle}" in told
    assert told.splitlines()[-1] == f"forgotten in: {tmp_path / 'prepared'}"
    assert "no bundles were trained with this person" in nothing
    assert flow.runs["sasrec"].run_id not in nothing


def test_a_refit_learned_from_everybody(
    flows: dict[str, Any], run: Forget, compose: Callable[..., Any], tmp_path: Path
) -> None:
    flow = flows["orders"]
    first = flow.runs["popularity"].run_id
    asked = [f"prepared={flow.prepared.path}", f"refit={first}", *flow.store]
    refit = train(compose("train", TrainConfig, *asked), say=lambda text: None)

    told = run(flow, people(flow.prepared)[1], tmp_path)

    assert f"  {refit.run_id} (popularity)" in told
    assert f"  {first} (" not in told


def people(prepared: Prepared) -> tuple[str, str]:
    """A user whose rows train, and one who is held out or came later."""
    users = prepared.visitors_frame()["user_id"]
    trained = set(train_window(prepared).visitor.tolist())
    return str(users[min(trained)]), str(users[min(set(users.index) - trained)])
