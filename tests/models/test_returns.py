import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.contract import FitData
from shopkeeper.models.returns import return_log_odds

ROWS = """
    1 ann view_item milk
    2 ann view_item milk
    3 ann purchase  milk
    4 ann view_item pan
    5 ann view_item milk
    1 bob view_item pan
    2 bob view_item milk
    3 bob view_item tea
"""


@pytest.fixture
def data(prepare_frame: Callable[..., Prepared]) -> FitData:
    """The rows above in train, and as many later ones of a stranger."""
    rows = [line.split() for line in ROWS.strip().splitlines()]
    rows += [[str(40 + day), "eve", "view_item", "pan"] for day in range(len(rows))]
    frame = pd.DataFrame(rows, columns=["day", "user_id", "event", "item_id"])
    frame["timestamp"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(frame.pop("day").astype(int), unit="D")
    frame["session_id"] = frame["user_id"] + frame.index.astype(str)
    prepared = prepare_frame(frame)
    return FitData(prepared, train_window(prepared), Vocabulary.of(prepared, refit=False))


def by_item(data: FitData, found: np.ndarray) -> dict[str, float]:
    return dict(zip(data.prepared.item_ids(), found.tolist(), strict=False))


def test_items_visitors_come_back_to_stand_out(data: FitData) -> None:
    found = by_item(data, return_log_odds(data, "next"))

    # steps after the first of each: milk 4 and 1, pan 1 and 2, tea 0; returns: milk 3; together 3 in 8
    mean = 3 / 8
    assert found["milk"] == pytest.approx(math.log((3 + 1) / (5 * mean + 1)))
    assert found["pan"] == pytest.approx(math.log(1 / (3 * mean + 1)))
    assert found["tea"] == 0


def test_a_return_of_a_purchase_is_one_that_buys(data: FitData) -> None:
    found = by_item(data, return_log_odds(data, "purchase"))

    mean = 1 / 8
    assert found["milk"] == pytest.approx(math.log((1 + 1) / (5 * mean + 1)))
    assert found["pan"] == pytest.approx(math.log(1 / (3 * mean + 1)))


def test_where_nobody_ever_returns_all_are_alike(data: FitData) -> None:
    window = data.window.only(np.asarray(data.window.end - data.window.start) == 3)  # bob

    assert return_log_odds(data._replace(window=window), "next").tolist() == [0.0] * data.vocabulary.num_items
