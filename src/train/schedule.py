"""How the learning rate moves over the steps of a training."""

import math
from collections.abc import Callable

RISE = 0.3
"""Share of a cycle over which the rate rises."""

FIRST, LAST = 0.04, 0.001
"""Where a cycle begins and ends, as shares of the highest rate."""


def constant(step: int, *, warm_up: int) -> float:
    """Rises over the warm-up steps and stays: nothing depends on how long training will be."""
    return min(1.0, (step + 1) / max(warm_up, 1))


def one_cycle(step: int, *, total: int) -> float:
    """Rises, then falls to almost nothing at the last step, both along a cosine (Smith and Topin 2017,
    arXiv:1708.07120): a high rate to find a good region, a low one to settle in it.
    """
    done = min(step / max(total - 1, 1), 1.0)
    if done < RISE:
        return along(FIRST, 1.0, done / RISE)
    return along(1.0, LAST, (done - RISE) / (1 - RISE))


def along(begin: float, end: float, done: float) -> float:
    """From begin to end by half a cosine."""
    return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2


def rate(name: str, *, warm_up: int, total: int) -> Callable[[int], float]:
    """Step -> share of the highest rate, of the schedule `name`; `total` are the steps of a whole training."""
    schedules: dict[str, Callable[[int], float]] = {
        "constant": lambda step: constant(step, warm_up=warm_up),
        "one_cycle": lambda step: one_cycle(step, total=total),
    }
    return schedules[name]
