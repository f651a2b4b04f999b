from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.prepare import prepare
from shopkeeper.data.settings import PrepareConfig, SimulationConfig
from shopkeeper.data.simulation import CHANNELS, COUNTRIES, make_shop
from shopkeeper.data.simulator import simulate

CONFIG = SimulationConfig(visitors=4000, days=40, personas=3, categories=5, items=40, known_share=0.6, seed=7)
MINUTE, HOUR = pd.Timedelta(minutes=1), pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("simulated") / "log"
    simulate(CONFIG, folder)
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("items", "users")}
    events = pd.read_parquet(folder / "events")
    return tables | {"events": events.sort_values([s.USER, s.TIMESTAMP], kind="stable", ignore_index=True)}


def test_the_seed_decides_the_log(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    simulate(CONFIG, tmp_path / "again")
    simulate(replace(CONFIG, seed=8), tmp_path / "other")

    again, other = (pd.read_parquet(tmp_path / name / "events") for name in ("again", "other"))
    order = [s.USER, s.TIMESTAMP]
    pd.testing.assert_frame_equal(again.sort_values(order, kind="stable", ignore_index=True), tables["events"])
    assert len(other) != len(again)


def test_all_of_a_shop_s_life_occurs(tables: dict[str, pd.DataFrame]) -> None:
    events = tables["events"]

    kinds = {
        "view_item",
        "search",
        "add_to_cart",
        "begin_checkout",
        "purchase",
        "email_open",
        "delivery",
        "refund",
        "review",
    }
    assert set(events[s.EVENT]) == kinds
    assert set(events["channel"]) == {*CHANNELS, "email"}
    assert (events.groupby(s.USER)["channel"].nunique() > 1).mean() > 0.1  # persons come through several channels
    assert events.groupby(s.USER)["country"].nunique().max() == 1
    assert events.loc[events[s.EVENT] == "purchase", [s.ITEM, s.ORDER, s.PRICE]].notna().all(axis=None)
    assert events.loc[events[s.EVENT].isin(["delivery", "refund"]), s.ITEM].isna().all()


def test_every_order_is_of_one_item_at_its_price_and_is_delivered_once(tables: dict[str, pd.DataFrame]) -> None:
    events, price = tables["events"], tables["items"].set_index(s.ITEM)[s.PRICE]
    bought = events[events[s.EVENT] == "purchase"]

    assert bought[s.ORDER].is_unique
    assert (bought[s.PRICE].to_numpy() == price[bought[s.ITEM]].to_numpy()).all()
    delivered = events.loc[events[s.EVENT] == "delivery", s.ORDER]
    assert delivered.is_unique
    assert set(delivered) <= set(bought[s.ORDER])


def test_pauses_tell_visits_apart_and_nothing_else(tables: dict[str, pd.DataFrame]) -> None:
    events = tables["events"]
    pause = events[s.TIMESTAMP].diff()[events[s.USER] == events[s.USER].shift()]

    assert not ((pause > 5 * MINUTE) & (pause < 23 * HOUR)).any()
    assert pause.min() >= pd.Timedelta(seconds=5)


def test_frequencies_are_those_of_the_tables(tables: dict[str, pd.DataFrame]) -> None:
    shop, first = make_shop(CONFIG), tables["events"].groupby(s.USER).first()
    known = tables["users"].set_index(s.USER)["persona"].dropna()
    persona = known.str.removeprefix("persona ").astype(int)

    assert abs(len(known) / CONFIG.visitors - 0.6) < 4 * np.sqrt(0.24 / CONFIG.visitors)
    for z in range(CONFIG.personas):
        mine = first.loc[persona.index[persona == z]]
        assert abs(len(mine) / len(known) - shop.persona[z]) < 4 * np.sqrt(0.25 / len(known))
        for column, values, table in (("country", COUNTRIES, shop.country), ("channel", CHANNELS, shop.channel)):
            for place, value in enumerate(values):
                expected = table[z, place]
                error = 4 * np.sqrt(max(expected * (1 - expected), 1e-4) / len(mine))
                assert abs((mine[column] == value).mean() - expected) < error, (z, column, value)


def test_the_same_config_is_the_same_dataset_and_is_not_made_twice(compose: Callable[..., Any], tmp_path: Path) -> None:
    small = ["data=simulated", "data.simulation.visitors=300", "data.simulation.items=40", "threads=1"]
    said: list[str] = []

    first, second = (
        prepare(compose("prepare", PrepareConfig, *small, f"output={tmp_path / name}"), say=said.append)
        for name in "ab"
    )
    again = prepare(compose("prepare", PrepareConfig, *small, f"output={tmp_path / 'a'}"), say=said.append)

    assert first.content_hash == second.content_hash == again.content_hash
    assert said[-1] == f"reusing {tmp_path / 'a'}: same config"
    assert first.manifest["segments"] == ["persona"]
    assert set(first.rows["phase"].tolist()) == {1, 2, 3, 4, 5}
