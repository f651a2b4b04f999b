from collections.abc import Callable

import ibis
import pandas as pd
import pytest

from shopkeeper.inspection.looks import Look, look_at
from shopkeeper.inspection.times import Clock

Looking = Callable[[pd.DataFrame], dict[str, Look]]


@pytest.fixture
def looks() -> Looking:
    def run(frame: pd.DataFrame) -> dict[str, Look]:
        return {look.name: look for look in look_at(ibis.memtable(frame), forms=["%d.%m.%Y"], max_values=3)}

    return run


def test_each_kind_is_told(looks: Looking) -> None:
    found = looks(
        pd.DataFrame(
            {
                "text": ["a", "b", "b"],
                "digits": ["007", "8", "9"],
                "whole": [1, 2, 3],
                "float": [1.0, None, 3.0],
                "number": [0.5, 1.5, 2.0],
                "time": pd.to_datetime(["2025-01-01 10:00"] * 3),
                "flag": [True, False, True],
                "nested": [[1], [2], [3]],
                "none": pd.Series([None, None, None], dtype="str"),
                "empty": ["", "", ""],
            }
        )
    )

    assert {name: look.kind for name, look in found.items()} == {
        "text": "text",
        "digits": "whole",
        "whole": "whole",
        "float": "number",
        "number": "number",
        "time": "time",
        "flag": "flag",
        "nested": "nested",
    }
    assert [name for name, look in found.items() if look.is_id] == ["text", "digits", "whole", "float"]
    assert [name for name, look in found.items() if look.is_number] == ["digits", "whole", "float", "number"]
    assert found["float"].filled == 2
    assert (found["whole"].low, found["whole"].high) == (1, 3)


def test_values_are_counted_where_they_are_few(looks: Looking) -> None:
    found = looks(pd.DataFrame({"few": ["b", "a", "b", ""], "many": ["a", "b", "c", "d"]}))

    assert found["few"].values == {"b": 2, "a": 1}
    assert found["many"].values == {}
    assert found["few"].describe() == "text, 2 distinct"


def test_how_numbers_are_written(looks: Looking) -> None:
    found = looks(
        pd.DataFrame(
            {
                "point": ["1.5", "2", ""],
                "comma": ["1,5", "2", ""],
                "thousands": ["1.234,50", "2,00", ""],
                "words": ["1,5", "two", ""],
                "inf": ["1", "inf", ""],
            }
        )
    )

    assert {name: look.decimal for name, look in found.items()} == {
        "point": ".",
        "comma": ",",
        "thousands": None,
        "words": None,
        "inf": None,
    }
    assert found["thousands"].odd_number == "1.234,50"
    assert found["comma"].odd_number == ""


def test_clocks_of_numbers_and_text(looks: Looking) -> None:
    found = looks(
        pd.DataFrame(
            {
                "ms": [1762178700000, 1762178700001],
                "text ms": ["1762178700000", "1762178700001"],
                "text s": ["1762178700.5", "1762178701"],
                "text half ms": ["1762178700000.5", "1762178700001"],
                "german": ["03.11.2025", "04.11.2025"],
                "price": [1, 2],
            }
        )
    )

    assert {name: look.clock for name, look in found.items()} == {
        "ms": Clock(unit="ms"),
        "text ms": Clock(unit="ms"),
        "text s": Clock(unit="s"),
        "text half ms": None,
        "german": Clock(form="%d.%m.%Y", days=True),
        "price": None,
    }
