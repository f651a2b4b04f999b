"""outcomes.json: what a model says of a visitor besides items, how its numbers become probabilities, and how personal
an answer may be. It is checked here, strictly: a number out of range would be a wrong probability, not an error.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

INTENT: Final = "intent"
PHASE: Final = "phase"
SEGMENT_PREFIX: Final = "segment:"
PURCHASE: Final = "purchase"
"""The class of `intent` whose probability is told."""

SLACK: Final = 1e-4
"""How far the probabilities of a prior may be from summing to 1."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `classes` is true. `prior` holds log probabilities, `scale` a number for each entry of `ks`."""

    name: str
    classes: list[str]
    prior: list[float]
    scale: list[float]


class DepthRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Least probabilities for addressing a visitor by a segment, and as this one person; null is never."""

    segments: dict[str, float | None]
    one_to_one: float | None


class Outcomes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lists hold a number for each entry of `ks`: it applies from that many steps on, until the next entry's."""

    ks: list[int]
    outcomes: list[Outcome]
    sets: dict[str, list[float]]
    temperature: dict[str, list[float]]
    depth: DepthRule

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse what is no probability, no threshold or about nothing.

        Raises:
            ValueError: naming the key.
        """
        rising = all(before < after for before, after in zip(self.ks, self.ks[1:], strict=False))
        demand(self.ks[:1] == [0] and rising, f"ks: {self.ks} does not ascend from 0")
        for place, outcome in enumerate(self.outcomes):
            self.check_outcome(outcome, f"outcomes[{place}]")
        names = [outcome.name for outcome in self.outcomes]
        demand(len(set(names)) == len(names), f"outcomes: {', '.join(names)} are not all different")
        for key in ("sets", "temperature"):
            for task, values in getattr(self, key).items():
                demand(task in tasks, f"{key}.{task}: the model has no such task")
                self.check_numbers(values, f"{key}.{task}", least=0.0, most=1.0 if key == "sets" else math.inf)
                demand(key == "sets" or min(values) > 0, f"{key}.{task}: {values} holds a zero")
        for name, least in self.depth.segments.items():
            known = name in names and name.startswith(SEGMENT_PREFIX)
            demand(known, f"depth.segments.{name}: the model has no such segment")
            demand(least is None or 0 <= least <= 1, f"depth.segments.{name}: {least} is no probability")
        least = self.depth.one_to_one
        demand(least is None or 0 <= least <= 1, f"depth.one_to_one: {least} is no probability")

    def check_outcome(self, outcome: Outcome, key: str) -> None:
        segment = outcome.name.startswith(SEGMENT_PREFIX) and outcome.name != SEGMENT_PREFIX
        demand(segment or outcome.name in (INTENT, PHASE), f"{key}.name: {outcome.name!r} is no outcome")
        different = len(set(outcome.classes)) == len(outcome.classes) > 1
        demand(different, f"{key}.classes: {outcome.classes} are not two or more different classes")
        known = outcome.name != INTENT or PURCHASE in outcome.classes
        demand(known, f"{key}.classes: {outcome.classes} does not hold {PURCHASE!r}")
        whole = len(outcome.prior) == len(outcome.classes) and all(map(math.isfinite, outcome.prior))
        demand(whole, f"{key}.prior: {outcome.prior} is not a finite number for each of the classes")
        total = sum(math.exp(min(value, 1.0)) for value in outcome.prior)
        demand(abs(total - 1) <= SLACK, f"{key}.prior: the probabilities sum to {total:.6g}, not to 1")
        self.check_numbers(outcome.scale, f"{key}.scale", least=0.0, most=math.inf)

    def check_numbers(self, values: list[float], key: str, *, least: float, most: float) -> None:
        demand(len(values) == len(self.ks), f"{key}: {values} is not a number for each of the {len(self.ks)} ks")
        fits = all(math.isfinite(value) and least <= value <= most for value in values)
        demand(fits, f"{key}: {values} is not all finite and from {least:g} to {most:g}")


def demand(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
