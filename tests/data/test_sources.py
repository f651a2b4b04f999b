from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.engines import DuckDB
from shopkeeper.data.settings import CsvConfig, DataConfig, FeedConfig
from shopkeeper.data.sources import BAD, Source, read_source, relabel_users

Read = Callable[..., Source]
NOON = pd.Timestamp("2026-01-02 12:00")


@pytest.fixture
def read(engine: DuckDB, data_config: Callable[..., DataConfig], tmp_path: Path) -> Read:
    """Read a log of two rows, its columns changed as given (None takes one away); items and users are frames."""

    def run(
        *, kind: str = "parquet", items: Any = None, users: Any = None, config: Any = None, **columns: Any
    ) -> Source:
        whole = {"timestamp": [NOON, NOON], "event": ["view_item", "purchase"], "user_id": ["ann", "bob"]} | columns
        frame = pd.DataFrame({name: values for name, values in whole.items() if values is not None})
        paths: dict[str, str | None] = {}
        for name, table in {"events": frame, "items": items, "users": users}.items():
            paths[name] = str(tmp_path / f"{name}.{kind}") if table is not None else None
            if table is not None:
                write = table.to_parquet if kind == "parquet" else table.to_csv
                write(paths[name], index=False)
        return read_source(engine, data_config(**(paths | (config or {}))))

    return run


def column(source: Source, name: str) -> list[Any]:
    values = source.events.order_by(s.ROW).execute()[name]
    return [None if pd.isna(value) else value for value in values]


def test_columns_that_the_log_lacks_are_null(read: Read) -> None:
    source = read()

    assert source.rows == 2
    assert source.events.columns == (s.ROW, s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, BAD)
    assert column(source, s.ROW) == [0, 1]
    assert [column(source, name) for name in (s.ITEM, s.ORDER, s.PRICE)] == [[None, None]] * 3
    assert (source.items, source.users, source.context, source.notes) == (None, None, [], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "kafka"}, r"data\.source='kafka' is unknown"),
        ({"events": None}, r"data\.events is not set"),
        ({"events": "/nowhere/log.parquet"}, r"data\.events: /nowhere/log\.parquet does not exist"),
        ({"items": "/nowhere/items.csv"}, r"data\.items: /nowhere/items\.csv does not exist"),
        ({"events": str(Path(__file__))}, r"data\.events: .*test_sources\.py is neither \.parquet nor \.csv"),
    ],
)
def test_a_source_that_is_not_there_is_refused_by_its_key(read: Read, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(config=changes)


def test_a_truncated_file_is_refused_by_its_name(read: Read, tmp_path: Path) -> None:
    read()
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes((tmp_path / "events.parquet").read_bytes()[:-20])

    with pytest.raises(UserError, match=r"data\.events: .*damaged\.parquet cannot be read"):
        read(config={"events": str(damaged)})


@pytest.mark.parametrize("name", ["timestamp", "event"])
@pytest.mark.parametrize("values", [None, [None, None]])
def test_a_required_column_that_is_missing_or_empty_is_named(read: Read, name: str, values: list[None] | None) -> None:
    with pytest.raises(UserError, match=rf"events\.parquet: column '{name}' is missing or empty"):
        read(**{name: values})


def test_a_log_says_who_came(read: Read) -> None:
    with pytest.raises(UserError, match="neither 'user_id' nor 'session_id' holds a value"):
        read(user_id=[None, None])


@pytest.mark.parametrize(
    "times",
    [
        [NOON, NOON],
        [NOON.tz_localize("UTC")] * 2,
        [NOON.tz_localize("UTC").tz_convert("America/New_York")] * 2,
        pd.Series([NOON, NOON]).astype("datetime64[ms]"),
        ["2026-01-02 12:00:00", "2026-01-02T12:00:00Z"],
        ["2026-01-02T12:00:00.000Z", "2026-01-02T14:30:00+02:30"],
        ["2026-01-02 07:00:00-0500", "2026-01-02 13:00:00.0+01"],
    ],
)
def test_every_way_to_write_a_time_is_the_same_instant(read: Read, times: Any) -> None:
    assert column(read(timestamp=times), "timestamp") == [NOON, NOON]


def test_a_date_is_its_midnight(read: Read) -> None:
    assert column(read(timestamp=[date(2026, 1, 2)] * 2), "timestamp") == [pd.Timestamp("2026-01-02")] * 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"timestamp": [1767355200, 1767355201]},
            r"column 'timestamp' is int64; give timestamps, ISO 8601 text, or data\.time_unit",
        ),
        ({"item_id": [True, False]}, r"column 'item_id' is boolean; ids must be"),
        ({"price": [True, False]}, r"column 'price' is boolean; it must be a number"),
    ],
)
def test_a_column_of_the_wrong_type_is_named_with_its_file(read: Read, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"events\.parquet: {message}"):
        read(**columns)


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("timestamp", ["2026-01-02", "soon"], "an ISO 8601 time such as 2026-01-31T09:30:00Z"),
        ("user_id", [2.0, 1.5], "an id (text or a whole number)"),
        ("price", ["1.50", "1,50"], "a number of at least 0"),
        ("price", [1.5, -1.5], "a number of at least 0"),
        ("quantity", [-1.0, float("inf")], "a number"),
    ],
)
def test_a_value_that_cannot_be_is_marked_and_can_be_looked_up(
    read: Read, column: str, values: list[Any], wanted: str
) -> None:
    source = read(**{column: values})

    (no, why) = source.events.order_by(s.ROW).execute()[BAD]
    assert pd.isna(no)
    assert why.endswith(f"events.parquet: {column!r} is not {wanted}")
    assert source.examples[why].execute()["example"].tolist() == [str(values[1])]


NAN = pd.arrays.ArrowExtensionArray(pa.array([7.0, float("nan")]))
"""NaN as a value, which is not null: pandas itself would write null."""


@pytest.mark.parametrize("ids", [["7", None], pd.array([7, None], dtype="Int64"), [7.0, None], ["7", ""], NAN])
def test_ids_are_text_however_they_are_stored(read: Read, ids: Any) -> None:
    assert column(read(item_id=ids), "item_id") == ["7", None]


def test_csv_keeps_leading_zeros_and_reads_numbers(read: Read) -> None:
    source = read(kind="csv", item_id=["007", ""], price=["1.50", ""], channel=["", "web"])

    assert column(source, "item_id") == ["007", None]
    assert column(source, "price") == [1.5, None]
    assert column(source, "channel") == [None, "web"]


def test_context_is_by_default_what_is_there(read: Read) -> None:
    source = read(device=["phone", "phone"], channel=["web", None], country=[None, None])

    assert source.context == ["channel", "device"]
    assert source.notes[0].endswith("columns without any value count as absent: country")


def test_context_can_be_declared(read: Read) -> None:
    source = read(store=[4, 5], channel=["web", "app"], config={"context": ["store"]})

    assert column(source, "store") == ["4", "5"]
    assert source.notes[0].endswith("columns not used: channel")


@pytest.mark.parametrize(
    ("context", "message"),
    [("weather", "column 'weather' is missing or empty"), ("event", "'event' is not known before the first click")],
)
def test_context_that_cannot_be_is_refused(read: Read, context: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.context: {message}"):
        read(config={"context": [context]})


def test_columns_without_a_use_are_named_once(read: Read) -> None:
    items = pd.DataFrame({"item_id": ["a"], "title": ["Ale"], "weight": [2]})

    source = read(colour=["red", "red"], page=[1, 2], items=items)

    assert [note.split("/")[-1] for note in source.notes] == [
        "events.parquet: columns not used: colour, page",
        "items.parquet: columns not used: weight",
    ]


def test_empty_columns_count_as_absent_also_of_csv(read: Read) -> None:
    source = read(kind="csv", item_id=["", ""], session_id=[None, None])

    assert column(source, "item_id") == [None, None]
    assert source.notes[0].endswith("columns without any value count as absent: item_id, session_id")


def test_side_tables_have_text_ids_and_a_price(read: Read) -> None:
    items = pd.DataFrame({"item_id": [1, 2], "price": ["2.50", None], "brand": ["", "Own"]})
    users = pd.DataFrame({"user_id": ["ann"], "kids": [3]})

    source = read(items=items, users=users)

    assert source.items is not None
    assert source.users is not None
    found = source.items.order_by(s.ITEM).execute().astype(object)
    assert found.where(lambda t: t.notna(), None).to_numpy().tolist() == [
        ["1", 2.5, None],
        ["2", None, "Own"],
    ]
    assert source.users.execute().to_numpy().tolist() == [["ann", "3"]]
    assert [file.name for file in source.files] == ["events.parquet", "items.parquet", "users.parquet"]


def test_a_side_table_without_rows_counts_as_absent(read: Read) -> None:
    source = read(items=pd.DataFrame({"item_id": []}), users=pd.DataFrame({"user_id": []}))

    assert (source.items, source.users) == (None, None)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"sku": ["a"]}, r"data\.items: .*items\.parquet has no column 'item_id'"),
        ({"item_id": ["a", None]}, r"items\.parquet: 1 rows have no 'item_id'"),
        ({"item_id": ["a", "b", "a"]}, r"items\.parquet: 1 rows repeat an 'item_id'"),
        (
            {"item_id": ["a"], "price": ["free"]},
            r"items\.parquet: 1 rows have a 'price' that is not a number",
        ),
    ],
)
def test_a_side_table_that_cannot_be_joined_is_refused(read: Read, items: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(items=pd.DataFrame(items))


def test_relabelling_merges_values_and_masks_the_others() -> None:
    users = ibis.memtable(pd.DataFrame({"user_id": ["a", "b", "c"], "age": ["19-24", "25-34", "65+"]}))

    found = relabel_users(users, {"age": {"19-24": "young", "25-34": "young"}}).execute()

    assert found["age"].tolist()[:2] == ["young", "young"]
    assert pd.isna(found["age"].tolist()[2])


def test_relabelling_a_column_that_is_not_there_is_refused() -> None:
    users = ibis.memtable(pd.DataFrame({"user_id": ["a"]}))

    with pytest.raises(UserError, match=r"data\.relabel: users have no column 'income'"):
        relabel_users(users, {"income": {"low": "<35K"}})


def test_whole_numbers_that_met_a_null_keep_their_digits_as_text(read: Read) -> None:
    users = pd.DataFrame({"user_id": ["ann", "bob", "cleo"], "kids": [2.0, None, 0.5]})
    source = read(channel=[7.0, None], users=users)

    assert column(source, "channel") == ["7", None]
    assert source.users is not None
    assert source.users.order_by("user_id").execute()["kids"].fillna("").tolist() == ["2", "", "0.5"]


def test_columns_of_items_without_a_use_may_have_any_name(read: Read) -> None:
    items = pd.DataFrame({"item_id": ["a"], "title": ["Apple"], "split": ["x"]})
    source = read(items=items)

    assert source.items is not None
    assert source.items.columns == ("item_id", "title")
    assert [note.rpartition("/")[2] for note in source.notes] == ["items.parquet: columns not used: split"]


# ---- logs that do not carry our names ----


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A German shop's tables: a semicolon CSV in local time, Unix milliseconds as JSON lines, and till receipts."""
    (tmp_path / "web.csv").write_text(
        "Zeit;Aktion;Kunde;Artikel;Preis\n"
        "01.07.2026 09:30;gesehen;ann;Äpfel;1,50\n"
        "01.07.2026 09:31;in den Korb;ann;Äpfel;1,50\n",
        encoding="latin-1",
    )
    (tmp_path / "app.jsonl").write_text(
        '{"ts": 1782898200000, "was": "view", "kunde": 7, "artikel": "Brot"}\n'
        '{"ts": 1782898260000, "was": "wink", "kunde": 7, "artikel": null}\n'
    )
    pd.DataFrame({"am": ["2026-07-01 12:00"], "bon": [11], "kunde": ["ann"], "artikel": ["Brot"]}).to_parquet(
        tmp_path / "till.parquet"
    )
    return tmp_path


def test_three_tables_in_a_form_nobody_foresaw_are_one_log(
    shop: Path, engine: DuckDB, data_config: Callable[..., DataConfig]
) -> None:
    feeds = {
        "web": FeedConfig(
            events=str(shop / "web.csv"),
            columns={
                "timestamp": "Zeit",
                "event": "Aktion",
                "user_id": "Kunde",
                "item_id": "Artikel",
                "price": "Preis",
            },
            event_names={"gesehen": "view_item", "in den Korb": "add_to_cart"},
            constants={"channel": "web"},
            time_format="%d.%m.%Y %H:%M",
            csv=CsvConfig(separator=";", decimal=",", encoding="latin-1"),
        ),
        "app": FeedConfig(
            events=str(shop / "app.jsonl"),
            columns={"timestamp": "ts", "event": "was"},
            event_names={"view": "view_item"},
            constants={"channel": "app"},
            time_unit="ms",
        ),
        "till": FeedConfig(
            events=str(shop / "till.parquet"),
            columns={"timestamp": "am", "order_id": "bon", "user_id": "kunde", "item_id": "artikel"},
            constants={"event": "purchase"},
        ),
    }
    config = data_config(feeds=feeds, columns={"user_id": "kunde", "item_id": "artikel"}, time_zone="Europe/Berlin")
    feeds["app"].columns = {**config.columns, "timestamp": "ts", "event": "was"}

    source = read_source(engine, config)

    read = source.events.order_by(s.ROW).execute()
    # Berlin is two hours ahead in July; Unix time knows no zone
    assert read["timestamp"].dt.strftime("%d %H:%M").tolist() == [
        "01 07:30",
        "01 07:31",
        "01 09:30",
        "01 09:31",
        "01 10:00",
    ]
    assert read["event"].tolist() == ["view_item", "add_to_cart", "view_item", "wink", "purchase"]
    assert read["user_id"].tolist() == ["ann", "ann", "7", "7", "ann"]
    assert read["item_id"].fillna("").tolist() == ["Äpfel", "Äpfel", "Brot", "", "Brot"]
    assert read["price"].fillna(0).tolist() == [1.5, 1.5, 0, 0, 0]
    assert read["channel"].fillna("").tolist() == ["web", "web", "app", "app", ""]
    assert read["order_id"].fillna("").tolist() == ["", "", "", "", "11"]
    assert read[s.ROW].tolist() == [0, 1, 2, 3, 4]
    assert (source.rows, len(source.files)) == (5, 3)


def test_a_mapped_column_that_is_not_there_is_named_with_those_that_are(read: Read) -> None:
    with pytest.raises(UserError, match=r"data\.events: .* has no column 'Kunde', which is to be 'user_id'; it has: "):
        read(config={"columns": {"user_id": "Kunde"}})


def test_side_tables_can_be_mapped_too(read: Read) -> None:
    items = pd.DataFrame({"sku": ["a"], "warengruppe": ["Obst"]})
    users = pd.DataFrame({"kunde": ["ann"], "alter": ["30"]})
    source = read(
        items=items,
        users=users,
        config={"item_columns": {"item_id": "sku", "category": "warengruppe"}, "user_columns": {"user_id": "kunde"}},
    )

    assert source.items is not None
    assert source.users is not None
    assert set(source.items.columns) == {"item_id", "category"}
    assert set(source.users.columns) == {"user_id", "alter"}


def test_events_and_feeds_exclude_each_other(read: Read) -> None:
    with pytest.raises(UserError, match=r"data\.events and data\.feeds exclude each other"):
        read(config={"feeds": {"web": FeedConfig(events="web.csv")}})


def test_an_empty_feed_is_named(engine: DuckDB, data_config: Callable[..., DataConfig], tmp_path: Path) -> None:
    (tmp_path / "web.csv").write_text("timestamp,event,user_id\n")

    with pytest.raises(UserError, match=r"data\.feeds\.web: .*web\.csv holds no rows"):
        read_source(engine, data_config(feeds={"web": FeedConfig(events=str(tmp_path / "web.csv"))}))
