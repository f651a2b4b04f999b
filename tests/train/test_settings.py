from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.config import UserError
from shopkeeper.train.settings import CompareConfig, TuneConfig, seconds

Compose = Callable[..., Any]


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5d", 129_600), (" 2H ", 7200)],
)
def test_durations_are_written_as_people_do(duration: str, expected: float) -> None:
    assert seconds(duration, key="timeout") == expected


@pytest.mark.parametrize("duration", ["soon", "2 hours", "h", "-1h", "1h30", ""])
def test_what_is_no_duration_is_named(duration: str) -> None:
    with pytest.raises(UserError, match=f"timeout={duration} is no duration: write it like 2h"):
        seconds(duration, key="timeout")


def test_no_timeout_is_no_end(compose: Compose) -> None:
    config = compose("tune", TuneConfig, "prepared=p", "study=s", "models=[repeat]")

    assert (config.models, config.seconds, config.output) == (["repeat"], float("inf"), "studies/s")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials=0", "trials=0 is out of range"),
        ("timeout=0s", "timeout=0s is out of range"),
        ("study=a/b", "study=a/b is out of range"),
        ("models=[]", "models=.* one or more models"),
        ("pruner.warmup_epochs=-1", "pruner.warmup_epochs=-1 is out of range"),
    ],
)
def test_a_value_that_cannot_be_is_named(compose: Compose, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose("tune", TuneConfig, "prepared=p", "study=s", override)


def test_a_comparison_takes_two(compose: Compose) -> None:
    with pytest.raises(UserError, match="two runs: run=A run=B"):
        compose("compare", CompareConfig, "prepared=p", "runs=[a]")
