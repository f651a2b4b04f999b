from collections.abc import Callable

import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import BotConfig

PrepareLog = Callable[..., Prepared]
ParseLog = Callable[[str], pd.DataFrame]


def test_a_bad_value_is_an_error_that_names_source_column_rows_and_examples(
    prepare_log: PrepareLog, log: ParseLog, clicks_log: str
) -> None:
    events = log(clicks_log).astype({"price": object})
    events.loc[[2, 3, 4], "price"] = ["free", "gratis", "free"]

    with pytest.raises(UserError) as caught:
        prepare_log(events.astype({"price": "string"}))

    assert "events.parquet: 'price' is not a number of at least 0 in 3 rows, for example 'free', 'gratis';" in str(
        caught.value
    )
    assert str(caught.value).endswith("or leave their rows out with data.bad_values=drop")


def test_rows_with_a_bad_value_are_left_out_and_counted_where_that_is_asked(
    prepare_log: PrepareLog, log: ParseLog, clicks_log: str
) -> None:
    events = log(clicks_log)
    events.loc[[2, 3], "price"] = [-1.0, float("inf")]
    events.loc[3, "quantity"] = float("-inf")  # a row is counted once
    events.loc[6, "user_id"] = events.loc[6, "session_id"] = None

    manifest = prepare_log(events, bad_values="drop").manifest

    (price, count), nobody = manifest["dropped"].items()
    assert price.endswith("events.parquet: 'price' is not a number of at least 0")
    assert (count, nobody) == (2, ("neither user_id nor session_id", 1))
    assert manifest["counts"]["events"] + manifest["counts"]["session_starts"] + 3 == len(events)


def test_rows_without_consent_are_left_out(prepare_log: PrepareLog, log: ParseLog, clicks_log: str) -> None:
    events = log(clicks_log).assign(consent="Yes")
    events.loc[:1, "consent"] = ["no", None]

    prepared = prepare_log(events)

    assert prepared.manifest["dropped"] == {"no consent": 2}
    assert prepared.content_hash == prepare_log(log(clicks_log).iloc[2:]).content_hash


def test_users_without_consent_are_left_out_and_it_is_no_segment(
    prepare_log: PrepareLog, log: ParseLog, clicks_log: str
) -> None:
    users = pd.DataFrame({"user_id": ["ann", "bob"], "consent": ["true", "false"], "age": ["30", "40"]})

    prepared = prepare_log(clicks_log, users=users)

    # eve is not in the table, and said nothing; a row that only names its session is refused by nobody
    events = log(clicks_log)
    assert prepared.manifest["dropped"] == {"no consent": int(events["user_id"].isin(["bob", "eve"]).sum())}
    assert prepared.manifest["segments"] == ["age"]


def test_visits_of_bots_are_left_out_and_counted(prepare_log: PrepareLog, log: ParseLog, clicks_log: str) -> None:
    bots = log("\n".join(f"03T12:00 bot z9 view_item item{n} -" for n in range(6)))
    bots["timestamp"] += pd.to_timedelta([0, 10, 20, 30, 40, 50], unit="s")
    events = pd.concat([log(clicks_log), bots], ignore_index=True)
    plain = prepare_log(clicks_log)

    slow = prepare_log(events, bots=BotConfig(events_per_minute=6, events_per_session=6))
    fast = prepare_log(events, bots=BotConfig(events_per_minute=5, events_per_session=None))
    long = prepare_log(events, bots=BotConfig(events_per_minute=None, events_per_session=5))

    assert slow.manifest["counts"]["events"] == plain.manifest["counts"]["events"] + 6
    assert fast.manifest["dropped"] == {"session of more than 5 events in a minute": 6}
    # ann's first visit has six rows with its session_start
    assert long.manifest["dropped"] == {"session of more than 5 events": 12}
    assert fast.content_hash == plain.content_hash  # nobody and nothing of the bot is left


def test_nothing_left_is_an_error(prepare_log: PrepareLog, log: ParseLog, clicks_log: str) -> None:
    with pytest.raises(UserError, match=r"no event is left of 21 rows: {'no consent': 21}"):
        prepare_log(log(clicks_log).assign(consent="no"))
