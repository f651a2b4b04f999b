import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.examples import Examples, window_examples
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.windows import train_window
from shopkeeper.models.contract import FitData
from shopkeeper.models.visible import Visible, clock, levels, tally_of

ANN = 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> Prepared:
    """Ann looks at a pan of 40 and a pot of 10 on the web, and buys the pot in the app; val and test are another's."""
    folder = tmp_path_factory.mktemp("visible")
    rows = [
        ("ann", "view_item", "pan", "web", "2026-01-05 06:00:00", None, None),  # a Monday
        ("ann", "view_item", "pot", "web", "2026-01-05 06:00:30", None, None),
        ("ann", "purchase", "pot", "app", "2026-01-05 06:01:39", "o1", 20.0),
        *(("late", "view_item", "new", "tv", f"2026-01-{day} 00:00:00", None, None) for day in range(10, 20)),
    ]
    names = ["user_id", "event", "item_id", "channel", "timestamp", "order_id", "price"]
    frame = pd.DataFrame(rows, columns=names)
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    frame.to_parquet(folder / "log.parquet")
    items = pd.DataFrame({"item_id": ["pan", "pot"], "category": ["cook > pans", "cook > pots"], "price": [40.0, 10.0]})
    items.to_parquet(folder / "items.parquet")
    where = [f"data.{name}={folder / file}" for name, file in (("events", "log.parquet"), ("items", "items.parquet"))]
    cuts = ["val_share=null", "test_share=null", "val_days=5", "test_days=5", "holdout_share=0"]
    cuts = [f"data.split.{cut}" for cut in cuts]
    return prepare(
        compose("prepare", PrepareConfig, "data=events", *where, f"output={folder / 'shop'}", "threads=1", *cuts),
        say=lambda text: None,
    )


@pytest.fixture(scope="module")
def visible(shop: Prepared) -> Visible:
    return Visible.of(FitData(shop, train_window(shop), Vocabulary.of(shop, refit=False)), max_len=10, columns=8)


def seen(shop: Prepared, visible: Visible, k: int, **options: Any) -> dict[str, float]:
    """The columns of Ann after k steps, by name."""
    examples = window_examples(shop, train_window(shop), [k])
    (row,) = visible.at(examples.only(examples.visitor == ANN), **options)
    return dict(zip(visible.names(), row.tolist(), strict=True))


def test_before_the_first_step_only_the_entry_is_known(shop: Prepared, visible: Visible) -> None:
    found = seen(shop, visible, 0)

    assert {name: value for name, value in found.items() if value and not name.startswith(("sin", "cos"))} == {
        "entry: channel web": 1.0,
        "weekday 0": 1.0,
    }
    assert found["sin hour"] == pytest.approx(1.0)  # six in the morning: a quarter of the circle
    assert found["cos hour"] == pytest.approx(0.0, abs=1e-6)


def test_counts_are_of_events_phases_categories_and_context(shop: Prepared, visible: Visible) -> None:
    found = seen(shop, visible, 3)

    assert found["count: view_item"] == pytest.approx(math.log(3))  # log1p of two
    assert found["count: purchase"] == pytest.approx(math.log(2))
    assert found["share: view_item"] == pytest.approx(2 / 3)
    assert found["count: phase discovery"] == pytest.approx(math.log(3))
    assert found["count: cook"] == pytest.approx(math.log(4))
    assert found["count: cook > pans"] == pytest.approx(math.log(2))
    assert found["share: cook > pots"] == pytest.approx(2 / 3)
    assert found["count: channel web"] == pytest.approx(math.log(3))
    assert found["count: channel app"] == pytest.approx(math.log(2))
    assert (found["last event: purchase"], found["last event: view_item"]) == (1.0, 0.0)
    assert "count: channel tv" not in found  # after the train cut


def test_lengths_are_steps_rows_items_and_seconds(shop: Prepared, visible: Visible) -> None:
    found = seen(shop, visible, 3)

    assert found["steps"] == found["rows"] == pytest.approx(math.log(4))
    assert found["items"] == pytest.approx(math.log(3))
    assert found["seconds"] == pytest.approx(math.log(100))  # 99 after the first
    assert found["seconds since the row before"] == pytest.approx(math.log(70))


def test_a_price_is_that_of_the_row_or_the_catalogue_beside_its_kind(shop: Prepared, visible: Visible) -> None:
    # pans: 40, known from the catalogue; pots: 10 when looked at, 20 when bought
    level = (math.log(10) + math.log(20)) / 2

    assert seen(shop, visible, 1)["relative price"] == pytest.approx(0.0, abs=1e-6)
    assert seen(shop, visible, 2)["relative price"] == pytest.approx((math.log(10) - level) / 2)
    assert seen(shop, visible, 3)["relative price"] == pytest.approx(0.0, abs=1e-6)


def test_a_hidden_context_column_is_as_if_it_were_unknown(shop: Prepared, visible: Visible) -> None:
    found = seen(shop, visible, 3, without="channel")

    assert [value for name, value in found.items() if ": channel " in name] == [0.0] * 4
    assert found["count: view_item"] == pytest.approx(math.log(3))


def test_a_long_history_is_cut_to_its_last_steps(shop: Prepared) -> None:
    data = FitData(shop, train_window(shop), Vocabulary.of(shop, refit=False))
    short = Visible.of(data, max_len=1, columns=8)

    assert seen(shop, short, 3)["count: view_item"] == 0.0
    assert seen(shop, short, 3)["steps"] == pytest.approx(math.log(2))


def test_without_categories_the_items_are_counted(shops: dict[str, Prepared]) -> None:
    prepared = shops["clicks"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    visible = Visible.of(data, max_len=10, columns=3)

    item = np.asarray(prepared.rows["item"])[data.rows()]
    often = np.argsort(-np.bincount(item)[1:], kind="stable")[:3]
    assert sorted(visible.kind_names) == sorted(prepared.item_ids()[i] for i in often)


def test_chunks_change_nothing(shops: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = shops["orders"]
    data = FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))
    visible, examples = Visible.of(data, max_len=5, columns=8), window_examples(prepared, data.window, [0, 1, 5])
    whole = visible.at(examples)
    monkeypatch.setattr("shopkeeper.models.visible.EXAMPLES_AT_ONCE", 7)

    assert np.array_equal(visible.at(examples), whole)
    assert visible.at(Examples(*(np.empty(0, np.int64) for _ in range(5)))).shape == (0, whole.shape[1])


def test_paths_have_a_level_for_every_part() -> None:
    assert levels("a > b > c") == ["a", "a > b", "a > b > c"]
    assert levels(None) == []


def test_tally_passes_over_other_codes() -> None:
    counted = tally_of(np.array([0, 0, 1, 1]), np.array([3, 3, 5, 4]), 2, np.array([3, 5]))

    assert counted.tolist() == [[2.0, 0.0], [0.0, 1.0]]
    assert tally_of(np.array([0]), np.array([3]), 2, np.array([], np.int64)).shape == (2, 0)


def test_the_clock_runs_in_a_circle() -> None:
    noon = clock(np.array([12 * 3600]))[0]  # of a Thursday

    assert noon[:2] == pytest.approx([0.0, -1.0], abs=1e-9)
    assert noon[2:].tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_names_are_in_the_vocabulary_of_the_shop(shop: Prepared, visible: Visible) -> None:
    names = visible.names()

    assert len(set(names)) == len(names)
    assert {f"count: {event}" for event in shop.vocabulary(s.EVENT)} <= set(names)
