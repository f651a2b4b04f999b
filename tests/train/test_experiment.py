import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shopkeeper import cli
from shopkeeper.config import TrainConfig, configure
from shopkeeper.data.prepared import Prepared
from shopkeeper.train.experiment import difference, write_experiment
from shopkeeper.train.record import config_hash
from shopkeeper.train.tracking import CONFIG_HASH, PRIMARY, Store


def test_only_what_differs_is_kept() -> None:
    assert difference(
        {"a": 1, "b": {"c": 2, "d": 3}, "e": {"f": 4}}, {"a": 1, "b": {"c": 2, "d": 4}, "e": {"f": 4}}
    ) == {"b": {"d": 3}}


def test_the_first_line_runs_it_again(
    config: Callable[..., TrainConfig],
    shops: dict[str, Prepared],
    tracking_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = config("model=repeat", "model.decay=0.5")
    file, command = write_experiment(asked, tmp_path / "my study", name="s_repeat", model="repeat", note="the best")

    lines = file.read_text().splitlines()
    assert lines[:2] == [f"# {command}", "# the best"]
    assert "decay: 0.5" in file.read_text()
    assert "prepared" not in "".join(lines[2:])

    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *tracking_overrides])
    cli.main()

    store = Store(asked.tracking)
    run = store.best(dataset_hash=shops["clicks"].content_hash)
    assert run.tags[CONFIG_HASH] == config_hash(asked)
    assert PRIMARY in run.metrics


def test_a_configuration_of_defaults_is_an_experiment_too(tmp_path: Path) -> None:
    usual = configure("train", TrainConfig, "prepared=p", "model=gru4rec")

    file, _ = write_experiment(usual, tmp_path, name="n", model="gru4rec", note="as it is")

    assert file.read_text().splitlines()[2:] == ["defaults:", "- override /model: gru4rec"]
