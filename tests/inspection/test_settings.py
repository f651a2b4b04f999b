from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.config import UserError
from shopkeeper.inspection.settings import InspectConfig


def test_one_path_is_a_list_of_one(compose: Callable[..., Any]) -> None:
    assert compose("inspect", InspectConfig, "log=shop.csv").log == ["shop.csv"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("log=[]", "log=.* is out of range: it must be a file, folder, glob or database table"),
        ("sample=0", "sample=0 is out of range"),
        ("gaps.depth=1", r"gaps\.depth=1\.0 is out of range"),
        ("words.colums={}", "colums"),
    ],
)
def test_what_cannot_be_is_named(compose: Callable[..., Any], override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose("inspect", InspectConfig, "log=shop.csv", override)
