from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import TrainConfig, UserError
from shopkeeper.train.settings import TuneConfig
from shopkeeper.train.space import Parameter, at, defaults, overrides, parameters

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
TREE = {
    "model": {"layers": {"type": "int", "low": 1, "high": 3}, "act": {"type": "choice", "values": ["relu", "gelu"]}},
    "optimizer": {"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
}


def test_a_tree_is_read_leaf_by_leaf() -> None:
    assert parameters(TREE, family="f") == [
        Parameter(key="model.layers", type="int", low=1, high=3),
        Parameter(key="model.act", type="choice", values=("relu", "gelu")),
        Parameter(key="optimizer.lr", type="float", low=0.001, high=0.1, log=True),
    ]


def test_a_key_that_is_fixed_is_not_searched() -> None:
    assert [p.key for p in parameters(TREE, family="f", fixed={"optimizer.lr", "seed"})] == [
        "model.layers",
        "model.act",
    ]
    with pytest.raises(UserError, match="there is nothing to search for f"):
        parameters(TREE, family="f", fixed={"optimizer.lr", "model.layers", "model.act"})


@pytest.mark.parametrize(
    "leaf",
    [
        3,
        {"type": "real", "low": 0, "high": 1},
        {"type": "int", "low": 0},
        {"type": "int", "low": 0, "high": 0.5},
        {"type": "float", "low": 1.0, "high": 0.5},
        {"type": "float", "low": 0.0, "high": 0.5, "log": True},
        {"type": "float", "low": 0.0, "high": 0.5, "values": [1]},
        {"type": "choice", "values": [1]},
        {"type": "choice", "values": [[1], [2]]},
    ],
)
def test_a_leaf_that_is_none_is_named(leaf: Any) -> None:
    with pytest.raises(UserError, match=r"config: search\.f\.a\.b=.* is out of range"):
        parameters({"a": {"b": leaf}}, family="f")


def test_own_values_are_the_first_to_try_where_they_lie_in_the_ranges() -> None:
    config = {"model": {"layers": 2, "act": "tanh"}, "optimizer": {"lr": 0.1}}

    assert defaults(parameters(TREE, family="f"), config) == {"model.layers": 2, "optimizer.lr": 0.1}


def test_a_key_that_training_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"shopkeeper train has no key model\.layers"):
        at({"model": {}}, "model.layers")


def test_values_are_written_as_hydra_reads_them() -> None:
    assert overrides({"a.b": 1e-05, "c": True, "d": "x", "e": 3}) == ["a.b=1e-05", "c=true", "d=x", "e=3"]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_that_ships_has_a_space_around_its_own_values(model: str, compose: Callable[..., Any]) -> None:
    search = compose("tune", TuneConfig, "prepared=p", "study=s").search
    train = asdict(compose("train", TrainConfig, "prepared=p", f"model={model}"))

    assert model in search, f"write configs/search/{model}.yaml and name it in configs/tune.yaml"
    space = parameters(search[model], family=model)
    assert defaults(space, train).keys() == {parameter.key for parameter in space}
