from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.stages import tune
from shopkeeper.train.settings import TuneConfig

Compose = Callable[..., Any]


@pytest.fixture
def config(compose: Compose, shops: dict[str, Prepared], tracking_overrides: list[str], tmp_path: Path) -> TuneConfig:
    where = [f"prepared={shops['clicks'].path}", f"storage=sqlite:///{tmp_path / 'studies.db'}"]
    asked = ["study=s", "models=[popularity]", "trials=2", f"output={tmp_path / 'out'}"]
    made: TuneConfig = compose("tune", TuneConfig, *where, *asked, *tracking_overrides)
    return made


def test_it_ends_with_the_command_of_the_best_and_the_report(
    config: TuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    tune.run(config)

    lines = capsys.readouterr().out.splitlines()
    output = Path(config.output)
    assert lines[-2].startswith(f"best popularity: shopkeeper train --config-dir {output} ")
    assert lines[-1] == f"report: {output / 'study.html'}"
    assert (output / "experiment" / "s_popularity.yaml").exists()
    assert "<svg" in (output / "study.html").read_text()


def test_what_ctrl_c_leaves_is_reported(
    config: TuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shopkeeper.train.fit.fit_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune.run(config)

    assert "stopped: the same command goes on with study s" in capsys.readouterr().out
    assert "No trial is complete yet." in (Path(config.output) / "study.html").read_text()
