"""The search space: a tree like the configuration of `shopkeeper train`, whose leaves say what may be tried.

optimizer:
  lr: {type: float, low: 0.0003, high: 0.01, log: true}
model:
  num_layers: {type: int, low: 1, high: 3}
  embed_dim: {type: choice, values: [32, 64, 128]}
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shopkeeper.config import UserError, require

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One value that is searched: a number between `low` and `high`, or one of `values`."""

    key: str  # as `shopkeeper train` takes it
    type: Literal["int", "float", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    values: tuple[Value, ...] = ()

    def suggest(self, trial: "Trial") -> Value:
        """What the study wants tried."""
        if self.type == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        if self.type == "float":
            return trial.suggest_float(self.key, self.low, self.high, log=self.log)
        chosen = trial.suggest_categorical(self.key, self.values)
        assert chosen is not None
        return chosen

    def holds(self, value: object) -> bool:
        """Whether the value may be tried."""
        if self.type == "choice":
            return value in self.values
        whole = isinstance(value, int) if self.type == "int" else isinstance(value, int | float)
        return whole and self.low <= float(value) <= self.high  # type: ignore[arg-type]


def parameters(tree: Mapping[str, Any], *, family: str, fixed: Collection[str] = ()) -> list[Parameter]:
    """The parameters of a family's tree, without the keys that are `fixed`.

    Raises:
        UserError: for a leaf that is none, or when nothing is left to search.
    """
    found = [read(leaf, key=key, where=f"search.{family}.{key}") for key, leaf in leaves(tree)]
    left = [parameter for parameter in found if parameter.key not in fixed]
    if not left:
        raise UserError(f"models: there is nothing to search for {family}; say what in configs/search/{family}.yaml")
    return left


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with their dotted keys: a leaf is what names a type, or is no mapping at all."""
    for name, branch in tree.items():
        if isinstance(branch, Mapping) and "type" not in branch:
            yield from leaves(branch, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", branch


def read(leaf: Any, *, key: str, where: str) -> Parameter:
    """Check one leaf.

    Raises:
        UserError: naming it, and what it lacks.
    """
    fields = {"int": {"low", "high"}, "float": {"low", "high"}, "choice": {"values"}}
    kind: Any = leaf.get("type") if isinstance(leaf, Mapping) else None
    require(kind in fields, where, leaf, "{type: int, float or choice, ...}")
    given = set(leaf) - {"type"}
    wanted = fields[kind]
    require(wanted <= given <= wanted | ({"log"} if kind != "choice" else set()), where, leaf, f"{kind} with {wanted}")
    if kind == "choice":
        values = leaf["values"]
        plain = isinstance(values, list) and all(isinstance(v, bool | int | float | str) for v in values)
        require(plain and len(values) > 1, where, values, "two or more plain values")
        return Parameter(key=key, type="choice", values=tuple(values))
    low, high, log = leaf["low"], leaf["high"], bool(leaf.get("log", False))
    number = int if kind == "int" else int | float
    require(isinstance(low, number) and isinstance(high, number), where, leaf, f"of {kind} bounds")
    require(low < high, where, leaf, "low < high")
    require(low > 0 or not log, where, leaf, "above 0 for log")
    return Parameter(key=key, type=kind, low=low, high=high, log=log)


def defaults(space: Collection[Parameter], config: Mapping[str, Any]) -> dict[str, Value]:
    """The values that a configuration has for the parameters, where they lie in the ranges."""
    own = {parameter.key: at(config, parameter.key) for parameter in space}
    return {parameter.key: own[parameter.key] for parameter in space if parameter.holds(own[parameter.key])}


def at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key.

    Raises:
        UserError: when `shopkeeper train` has no such key.
    """
    value: Any = config
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise UserError(f"search: shopkeeper train has no key {key}")
        value = value[name]
    return value


def overrides(values: Mapping[str, Value]) -> list[str]:
    """Values as `shopkeeper train` takes them on its command line."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]
