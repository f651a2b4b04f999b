import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.train.fit import train
from shopkeeper.train.record import config_hash, git_commit
from shopkeeper.train.tracking import TrackedRun


def test_the_config_hash_tells_models_apart_and_places_not(config: Callable[..., TrainConfig]) -> None:
    plain = config_hash(config())

    assert config_hash(config("tracking.runs_dir=elsewhere")) == plain
    assert config_hash(config("model.embed_dim=16")) != plain
    assert config_hash(config("seed=2")) != plain


@pytest.mark.parametrize("key", ["refit", "resume"])
def test_a_setting_beside_refit_or_resume_is_refused_not_passed_over(
    config: Callable[..., TrainConfig], silent: Callable[[str], None], cut_off: Callable[..., TrackedRun], key: str
) -> None:
    run = train(config(), say=silent) if key == "refit" else cut_off(config(), 1)

    with pytest.raises(UserError, match="keeps its own configuration: take away what sets seed, or start a new run"):
        train(config(f"{key}={run.run_id}", "seed=99"), say=silent)
    train(config(f"{key}={run.run_id}", "seed=1"), say=silent)


def test_a_refit_does_not_pass_for_the_run_it_repeats(
    config: Callable[..., TrainConfig], shops: dict[str, Prepared], silent: Callable[[str], None]
) -> None:
    run = train(config(), say=silent)
    train(config(f"refit={run.run_id}"), say=silent)

    done, _ = run.store.same_as(dataset_hash=shops["clicks"].content_hash, config_hash=config_hash(config()))
    assert done is not None
    assert done.run_id == run.run_id


def test_the_commit_is_that_of_the_code_wherever_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = git_commit()
    monkeypatch.chdir(tmp_path)

    assert git_commit() == here
    assert here is None or re.fullmatch("[0-9a-f]{40}", here)


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert git_commit() is None
