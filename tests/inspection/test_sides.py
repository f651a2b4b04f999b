from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from shopkeeper.data.engines import DuckDB
from shopkeeper.inspection.log import look_into
from shopkeeper.inspection.proposal import render
from shopkeeper.inspection.settings import InspectConfig
from shopkeeper.inspection.sides import Side, side_of

Tell = Callable[..., Side | None]

ITEMS = {"Artikelnummer": ["1", "2"], "Bezeichnung": ["Brot", "Milch"], "Preis": ["1,50", "2,00"], "Lager": ["x", "y"]}
USERS = {"Kunde": ["a", "b"], "Alter": ["20-29", "30-39"]}


@pytest.fixture
def side(compose: Callable[..., Any], tmp_path: Path) -> Tell:
    def run(columns: dict[str, Any], **changes: Any) -> Side | None:
        pd.DataFrame(columns | changes).to_csv(tmp_path / "side.csv", index=False, sep=";")
        config = compose("inspect", InspectConfig, "log=x")
        engine = DuckDB(tmp_path / "engine", threads=1)
        try:
            return side_of(look_into(engine, str(tmp_path / "side.csv"), config), config)
        finally:
            engine.close()

    return run


def settings(side: Side | None) -> Any:
    assert side is not None
    return yaml.safe_load(render(side.entries))


def test_items_have_unique_ids(side: Tell) -> None:
    found = side(ITEMS)

    assert found is not None and found.kind == "items"
    assert settings(found) == {"item_columns": {"item_id": "Artikelnummer", "title": "Bezeichnung", "price": "Preis"}}
    assert found.csv == {"separator": ";", "decimal": ","}
    assert side(ITEMS, Artikelnummer=["1", "1"]) is None
    assert side(ITEMS, Artikelnummer=["1", ""]) is None


def test_items_may_tell_when_they_were_made_but_not_what_happened(side: Tell) -> None:
    times = ["2025-01-01 10:00", "2025-01-02 10:00"]

    assert side(ITEMS, erstellt_am=times) is not None
    assert side({"item_id": ["1", "2"], "created_at": times}) is None
    assert side(ITEMS, Kunde=["a", "b"]) is None
    assert side(ITEMS, Menge=[1, 2]) is None


def test_users_have_unique_ids_and_no_time(side: Tell) -> None:
    found = side(USERS)

    assert found is not None and found.kind == "users"
    assert settings(found) == {"user_columns": {"user_id": "Kunde"}}
    assert found.warnings == []
    assert side(USERS, Zeit=["2025-01-01 10:00"] * 2) is None


def test_what_tells_a_person_is_named_and_not_shown(side: Tell) -> None:
    found = side(USERS, Email=["a@b.de", "c@d.de"])

    assert found is not None
    assert found.warnings[0].endswith("take out of " + found.seen.path + " what tells a person: Email")
    assert "@" not in render(found.entries)


def test_columns_of_names_that_are_used_get_others(side: Tell) -> None:
    assert settings(side(USERS, split=["a", "b"]))["user_columns"] == {"user_id": "Kunde", "split_as_given": "split"}
    assert settings(side(ITEMS, price=["cheap", "dear"]))["item_columns"]["price_as_given"] == "price"
