from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from shopkeeper.data.engines import DuckDB
from shopkeeper.inspection.feeds import Feed, propose_feed
from shopkeeper.inspection.log import look_into
from shopkeeper.inspection.proposal import render
from shopkeeper.inspection.settings import InspectConfig

Propose = Callable[..., tuple[Feed, dict[str, Any], str]]

CLICKS = {
    "Zeit": ["03.11.2025 14:05", "04.11.2025 15:00"] * 4,
    "Aktion": ["gesehen", "Kauf", "gesehen", "Tanz"] * 2,
    "Kunde": ["meier", "schulz"] * 4,
    "Artikel": ["Brot", "Milch"] * 4,
    "Preis": ["1,50", "2"] * 4,
}


@pytest.fixture
def feed(compose: Callable[..., Any], engine: DuckDB, tmp_path: Path) -> Propose:
    """Write a table as CSV, look at it, and return the feed, its settings and its text."""

    def run(columns: dict[str, Any], name: str = "shop", **changes: Any) -> tuple[Feed, dict[str, Any], str]:
        file = tmp_path / f"{name}.csv"
        pd.DataFrame(columns).to_csv(file, index=False, sep=";")
        config = replace(compose("inspect", InspectConfig, "log=x"), **changes)
        found = propose_feed(replace(look_into(engine, str(file), config), name=name), config)
        text = render(found.entries)
        return found, yaml.safe_load(text) or {}, text

    return run


def test_columns_events_and_clock_of_a_german_log(feed: Propose) -> None:
    found, settings, text = feed(CLICKS)

    assert settings == {
        "columns": {"timestamp": "Zeit", "event": "Aktion", "user_id": "Kunde", "item_id": "Artikel", "price": "Preis"},
        "event_names": {"gesehen": "view_item", "Kauf": "purchase"},
        "time_format": "%d.%m.%Y %H:%M",
        "csv": {"separator": ";", "decimal": ","},
    }
    assert "gesehen: view_item  # 4" in text
    assert "# events kept as they are: Tanz (2)" in text
    assert 'timestamp: Zeit   # "03.11.2025 14:05"' in text
    assert found.warnings == []
    assert not found.orders_only


def test_no_id_of_a_person_is_shown(feed: Propose) -> None:
    _, _, text = feed(CLICKS | {"E-Mail": ["a@b.de", "c@d.de"] * 4, "Vorname": ["anna", "bernd"] * 4})

    assert not [word for word in ("meier", "schulz", "a@b.de", "anna") if word in text]
    assert "user_id: Kunde    # text, 2 distinct" in text
    assert "# not used: E-Mail, Vorname" in text


def test_what_was_not_found_is_said_and_left_open(feed: Propose) -> None:
    found, settings, text = feed({"Artikel": ["a", "b"], "Farbe": ["rot", "blau"]})

    assert settings["columns"] == {"timestamp": "???", "event": "???", "user_id": "???", "item_id": "Artikel"}
    assert [warning.partition(": ")[2].partition(":")[0] for warning in found.warnings] == [
        "timestamp is not set",
        "user_id is not set",
        "event is not set",
    ]
    assert "# context: [Farbe]" in text


def test_alternatives_are_named(feed: Propose) -> None:
    _, settings, text = feed(CLICKS | {"erstellt_am": ["03.11.2025 14:05", "04.11.2025 15:00"] * 4})

    assert settings["columns"]["timestamp"] == "Zeit"
    assert '; or "erstellt_am"' in text


def test_the_only_time_is_taken_whatever_its_name_and_of_two_none(feed: Propose) -> None:
    times = CLICKS["Zeit"]
    rest = {name: values for name, values in CLICKS.items() if name != "Zeit"}

    _, settings, text = feed(rest | {"foo": times})
    assert settings["columns"]["timestamp"] == "foo"
    assert "the only column that tells a time" in text

    found, settings, _ = feed(rest | {"foo": times, "bar": times})
    assert settings["columns"]["timestamp"] == "???"
    assert 'times stand in "foo", "bar"' in found.warnings[0]


def test_the_only_ids_left_are_the_visitors(feed: Propose) -> None:
    table = {
        "ts": [1_762_178_700_000 + n for n in range(200)],
        "event": ["view_item"] * 200,
        "item": [f"i{n % 60}" for n in range(200)],
        "foo": [f"f{n % 70}" for n in range(200)],
    }

    _, settings, text = feed(table)
    assert settings["columns"]["user_id"] == "foo"
    assert "check: the only column left" in text
    assert settings["time_unit"] == "ms"
    assert '"1762178700000" is 2025-11-03 14:05' in text

    found, settings, _ = feed(table | {"bar": table["foo"]})
    assert settings["columns"]["user_id"] == "???"
    assert '"foo" (text, 70 distinct), "bar" (text, 70 distinct)' in found.warnings[0]


def test_orders_need_no_event_column(feed: Propose) -> None:
    till = {"Datum": ["2025-11-03"] * 2, "Bon": ["1", "2"], "Kunde": ["a", "b"], "Uhrzeit": ["10:00", "11:00"]}

    found, settings, text = feed(till)

    assert settings["constants"] == {"event": "purchase"}
    assert found.orders_only
    assert "dates without a time of day" in text
    assert 'the time of day stands in "Uhrzeit"' in text


def test_a_file_tells_its_event(feed: Propose) -> None:
    rest = {name: values for name, values in CLICKS.items() if name not in ("Aktion", "Preis")}

    assert feed(rest, name="item_views")[1]["constants"] == {"event": "view_item"}
    assert feed(rest, name="web")[1]["columns"]["event"] == "???"


def test_day_and_month_that_cannot_be_told_are_both_written(feed: Propose) -> None:
    found, settings, text = feed(CLICKS | {"Zeit": ["03/11/2025 14:05", "04/11/2025 15:00"] * 4})

    assert settings["time_format"] == "%d/%m/%Y %H:%M"
    assert 'this or "%m/%d/%Y %H:%M"' in text
    assert 'this or "%m/%d/%Y %H:%M"' in found.warnings[0]


def test_words_for_no_id_become_nulls(feed: Propose) -> None:
    _, settings, text = feed(CLICKS | {"Kunde": ["unbekannt", "b", "c", "d"] * 2})

    assert settings["csv"]["nulls"] == ["unbekannt"]
    assert '"unbekannt" stands for no user_id in 25% of the rows' in text


def test_thousands_separators_are_said(feed: Propose) -> None:
    found, settings, _ = feed(CLICKS | {"Preis": ["1.234,50", "2,00"] * 4})

    assert "price" not in settings["columns"]
    assert found.warnings[0].endswith('price is left out: "Preis" has thousands separators, as in 1.234,50')


def test_a_column_of_our_name_that_holds_something_else_gets_another(feed: Propose) -> None:
    _, settings, _ = feed(CLICKS | {"price": ["cheap", "dear"] * 4, "Quantity": ["much", "little"] * 4})

    assert settings["columns"]["price"] == "Preis"
    assert settings["columns"]["price_as_given"] == "price"
    assert settings["columns"]["quantity_as_given"] == "Quantity"


def test_our_event_keeps_its_synonym_apart(feed: Propose) -> None:
    _, settings, text = feed(CLICKS | {"Aktion": ["view_item", "click", "purchase", "view_item"] * 2})

    assert "event_names" not in settings
    assert "# events kept as they are: click (2)" in text  # Google Analytics' click leads out of the shop


def test_gaps_are_measured_where_no_session_is_given(feed: Propose) -> None:
    found, _, _ = feed(CLICKS)
    assert found.gaps is not None
    assert found.gaps.sum() == 0  # each of the two has one moment alone
    assert found.tick == 60

    found, _, _ = feed(CLICKS | {"Sitzung": ["x", "y"] * 4})
    assert found.has_session
    assert found.gaps is None


def test_a_look_at_part_of_the_rows_measures_gaps_of_whole_users(feed: Propose) -> None:
    minutes = pd.date_range("2025-11-03", periods=10, freq="min").strftime("%Y-%m-%d %H:%M:%S")
    table = {"time": list(minutes) * 40, "user": [f"u{n // 10}" for n in range(400)], "event": ["view"] * 400}

    found, _, _ = feed(table, sample=100)

    assert found.seen.looked == 100
    assert found.gaps is not None
    assert 0 < found.gaps.sum() < 360
    assert found.gaps.sum() % 9 == 0  # ten rows a minute apart are nine gaps, all of them or none
