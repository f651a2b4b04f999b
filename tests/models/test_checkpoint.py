from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shopkeeper.config import UserError
from shopkeeper.data.batches import Vocabulary
from shopkeeper.models.checkpoint import build_model, load_model, save_model

SIZES: dict[str, Any] = {
    "vocabulary": Vocabulary(num_items=3, num_events=2, context=()),
    "tasks": ["purchase"],
    "max_len": 4,
    "facts": {"purchase_code": 2},
}


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(UserError, match=r"model: .*has no attribute 'Oracle'"):
        build_model({"_target_": "shopkeeper.models.baselines.Oracle"}, **SIZES)


def test_an_unknown_value_is_named(config: Callable[[str], dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="unexpected keyword argument 'windows'"):
        build_model(config("popularity") | {"windows": 3}, **SIZES)


def test_facts_go_to_those_who_want_them(config: Callable[[str], dict[str, Any]]) -> None:
    assert build_model(config("popularity"), **SIZES).family == "popularity"  # takes no purchase_code
    assert getattr(build_model(config("sasrec"), **SIZES), "purchase_code") == 2  # noqa: B009


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint .*model\.pt does not exist"):
        load_model(tmp_path / "model.pt")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.99])
def test_a_file_cut_short_is_named(tmp_path: Path, config: Callable[[str], dict[str, Any]], share: float) -> None:
    model = build_model(config("sasrec"), **SIZES)
    save_model(tmp_path / "model.pt", model, config=config("sasrec"), facts=SIZES["facts"])
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: int(len(content) * share)])

    with pytest.raises(UserError, match=r"checkpoint .*model\.pt cannot be read"):
        load_model(tmp_path / "model.pt")


def test_it_loads_in_evaluation_mode(tmp_path: Path, config: Callable[[str], dict[str, Any]]) -> None:
    model = build_model(config("sasrec"), **SIZES).train()
    save_model(tmp_path / "model.pt", model, config=config("sasrec"), facts=SIZES["facts"])

    assert model.training
    assert not load_model(tmp_path / "model.pt").training


def test_saving_again_replaces_and_leaves_nothing_beside(
    tmp_path: Path, config: Callable[[str], dict[str, Any]]
) -> None:
    for max_len in (4, 5):
        model = build_model(config("sasrec"), **SIZES | {"max_len": max_len})
        save_model(tmp_path / "model.pt", model, config=config("sasrec"), facts=SIZES["facts"])

    assert load_model(tmp_path / "model.pt").max_len == 5
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_it_reads_without_running_code(tmp_path: Path, config: Callable[[str], dict[str, Any]]) -> None:
    model = build_model(config("sasrec"), **SIZES)
    save_model(tmp_path / "model.pt", model, config=config("sasrec"), facts=SIZES["facts"])

    content = torch.load(tmp_path / "model.pt", weights_only=True)

    assert content["config"] == config("sasrec")
    assert content["state"].keys() == model.state_dict().keys()


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("harm",))

    torch.save({"config": Harm()}, tmp_path / "model.pt")

    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path / "model.pt")
