from collections.abc import Callable
from typing import Any

import ibis
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.sides import read_identities, read_side, renamed

Configure = Callable[..., DataConfig]
ITEMS = pd.DataFrame({"item_id": ["a", "b", None, "a", "c"], "price": [1.0, -2.0, 3.0, 4.0, None]})


def read(config: DataConfig, frame: pd.DataFrame, notes: list[str], **options: Any) -> Any:
    table = ibis.memtable(frame.assign(source_row=range(len(frame))))
    return read_side(table, "items.csv", "data.items", "item_id", {}, config=config, notes=notes, **options)


def test_a_bad_row_of_a_side_table_is_an_error(data_config: Configure) -> None:
    message = r"items\.csv: 1 rows have a 'price' that is not a number of at least 0; mend them, or .*bad_values=drop"
    with pytest.raises(UserError, match=message):
        read(data_config(), ITEMS, [])


def test_bad_rows_of_a_side_table_are_left_out_and_told_where_that_is_asked(data_config: Configure) -> None:
    notes: list[str] = []

    found = read(data_config(bad_values="drop"), ITEMS, notes)

    assert found.order_by("item_id").execute().to_numpy().tolist()[0] == ["a", 1.0]
    assert sorted(found.execute()["item_id"]) == ["a", "c"]
    assert notes == [
        "items.csv: 1 rows dropped, as they have a 'price' that is not a number of at least 0",
        "items.csv: 1 rows dropped, as they have no 'item_id'",
        "items.csv: 1 rows dropped, as they repeat an 'item_id'",
    ]


def test_no_table_and_no_rows_are_none(data_config: Configure) -> None:
    assert read_side(None, None, "data.items", "item_id", {}, config=data_config(), notes=[]) is None
    assert read(data_config(), ITEMS.iloc[:0].astype({"item_id": "string"}), []) is None


def test_columns_go_by_our_names() -> None:
    table = ibis.memtable({"Artikel": ["a"], "Preis": [1.0], "item_id": ["old"]})

    found = renamed(table, {"item_id": "Artikel"}, "data.items", "items.csv")

    assert found.execute().to_dict("records") == [{"Preis": 1.0, "item_id": "a"}]
    with pytest.raises(UserError, match="no column 'Ware', which is to be 'item_id'; it has: Artikel, Preis, item_id"):
        renamed(table, {"item_id": "Ware"}, "data.items", "items.csv")


def test_identities_are_pairs_of_text(data_config: Configure) -> None:
    table = ibis.memtable({"cookie": [7, 8], "kunde": ["ann", ""], "more": [1, 2]})
    config = data_config(identity_columns={"alias": "cookie", "user_id": "kunde"})

    found = read_identities(table, config)

    assert found is not None
    assert found.order_by("alias").execute().astype(object).fillna("-").to_numpy().tolist() == [
        ["7", "ann"],
        ["8", "-"],
    ]
    assert read_identities(None, config) is None
    with pytest.raises(UserError, match=r"data\.identities has no column 'alias'"):
        read_identities(table.drop("cookie"), data_config())
