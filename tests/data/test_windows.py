from collections.abc import Callable

import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared, Window
from shopkeeper.data.windows import known_window, set_aside, stranger_window, train_window

PrepareLog = Callable[..., Prepared]

# Held out at share 0.3 with the key "shopkeeper": dan and eve for validation, ida for test; mia and zoe are not.
HELD_OUT = """
    02T10:00 mia m1 view_item bread -
    02T10:00 eve e1 view_item bread -
    03T10:00 ida i1 view_item milk  -
    10T23:50 eve e2 view_item bread -
    11T00:10 eve e2 view_item tea   -
    12T10:00 eve e3 view_item milk  -
    12T10:01 eve e3 purchase  milk  o1
    12T10:00 mia m2 view_item milk  -
    13T10:00 ida i2 view_item tea   -
    14T10:00 zoe z1 view_item tea   -
    22T10:00 ida i3 view_item bread -
    22T10:00 eve e4 view_item bread -
    22T10:01 ida i3 purchase  bread o2
    23T10:00 dan d1 view_item tea   -
    31T00:00 mia m3 view_item tea   -
"""


@pytest.fixture(scope="module")
def held_out(prepare_log: PrepareLog) -> Prepared:
    return prepare_log(HELD_OUT, split={"holdout_share": 0.3, "holdout_when_new_below": 1.1})


def visible(prepared: Prepared, window: Window) -> dict[str, list[str]]:
    """Day and time of the rows of each visitor of a window."""
    names = prepared.visitors_frame()["visitor_key"].tolist()
    times = prepared.events_frame()["timestamp"].dt.strftime("%dT%H:%M").tolist()
    rows = zip(window.visitor, window.start, window.end, strict=True)
    return {names[visitor]: times[start:end] for visitor, start, end in rows}


def test_train_is_everyone_before_the_cut(clicks: Prepared) -> None:
    assert visible(clicks, train_window(clicks)) == {
        "s:w2": ["03T09:00", "03T09:01"],
        "u:ann": ["02T10:01", "02T10:02", "02T10:03", "02T10:05", "02T10:05"],
    }


def test_a_refit_sees_every_row(clicks: Prepared, held_out: Prepared) -> None:
    for prepared, rows in ((clicks, 19), (held_out, 15)):
        window = train_window(prepared, refit=True)
        assert (window.end - window.start).sum() == rows


def test_strangers_are_first_seen_in_the_split(clicks: Prepared) -> None:
    assert visible(clicks, stranger_window(clicks, s.VAL)) == {
        "s:w1": ["14T07:00", "14T07:01"],
        "u:bob": ["12T08:01", "12T08:02", "12T08:03"],
    }
    assert visible(clicks, stranger_window(clicks, s.TEST)) == {"u:eve": ["22T06:00", "22T06:01", "22T06:02"]}


def test_known_users_bring_their_past_and_only_to_splits_they_shop_in(clicks: Prepared) -> None:
    assert visible(clicks, known_window(clicks, s.VAL)) == {
        "u:ann": ["02T10:01", "02T10:02", "02T10:03", "02T10:05", "02T10:05", "13T08:00", "13T08:01"],
    }
    # bob, a stranger of validation, is known by the time of test
    known = visible(clicks, known_window(clicks, s.TEST))
    assert set(known) == {"u:ann", "u:bob"}
    assert known["u:bob"] == ["12T08:01", "12T08:02", "12T08:03", "31T00:00"]


def test_held_out_users_are_as_the_tests_below_believe(held_out: Prepared) -> None:
    sides = zip(held_out.visitors_frame()["user_id"], held_out.visitors["held_out"], strict=True)

    assert dict(sides) == {"dan": s.VAL, "eve": s.VAL, "ida": s.TEST, "mia": s.TRAIN, "zoe": s.TRAIN}


def test_no_row_of_a_held_out_user_is_in_train(held_out: Prepared) -> None:
    assert visible(held_out, train_window(held_out)) == {"u:mia": ["02T10:00"]}


def test_a_held_out_users_history_starts_at_the_splits_start(held_out: Prepared) -> None:
    # eve's session e2 began before the cut, so it belongs to train and is left out whole
    assert visible(held_out, stranger_window(held_out, s.VAL)) == {
        "u:eve": ["12T10:00", "12T10:01"],
        "u:zoe": ["14T10:00"],
    }
    # dan is held out for validation, where he has no session: first seen in test, he is a stranger there
    assert visible(held_out, stranger_window(held_out, s.TEST)) == {
        "u:dan": ["23T10:00"],
        "u:ida": ["22T10:00", "22T10:01"],
    }


def test_held_out_users_are_never_known(held_out: Prepared) -> None:
    assert set(visible(held_out, known_window(held_out, s.VAL))) == {"u:mia"}
    assert set(visible(held_out, known_window(held_out, s.TEST))) == {"u:mia"}


def test_nobody_is_both_a_stranger_and_known(clicks: Prepared, trips: Prepared, held_out: Prepared) -> None:
    for prepared in (clicks, trips, held_out):
        for split in (s.VAL, s.TEST):
            strangers = visible(prepared, stranger_window(prepared, split))
            assert not set(strangers) & set(visible(prepared, known_window(prepared, split)))


def test_what_is_set_aside_is_counted(clicks: Prepared, held_out: Prepared) -> None:
    assert set(set_aside(clicks).values()) == {0}
    assert set_aside(held_out) == {
        # eve 02T10:00, 10T23:50 and 11T00:10 of the same session; ida 03T10:00 and 13T10:00
        "event of a held-out user before its split": 5,
        # eve 22T10:00
        "event of a held-out user after its split": 1,
        "event after the cut its session straddles": 0,
    }


def test_the_rest_of_a_session_that_straddles_a_cut_is_set_aside(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        10T23:50 ann a1 view_item bread -
        11T00:10 ann a1 view_item milk  -
        20T23:55 bob b1 view_item bread -
        21T00:05 bob b1 view_item milk  -
        21T00:10 bob b1 view_item milk  -
        22T00:00 eve e1 view_item milk  -
        31T00:00 eve e2 view_item milk  -
    """)

    assert set_aside(prepared)["event after the cut its session straddles"] == 3
    assert visible(prepared, train_window(prepared)) == {"u:ann": ["10T23:50"]}
    assert visible(prepared, stranger_window(prepared, s.VAL)) == {"u:bob": ["20T23:55"]}
    assert visible(prepared, known_window(prepared, s.VAL)) == {}
    assert visible(prepared, stranger_window(prepared, s.TEST)) == {"u:eve": ["22T00:00", "31T00:00"]}
    # bob's only session is of validation, though two of its events are later
    assert visible(prepared, known_window(prepared, s.TEST)) == {}


def test_a_split_without_strangers_is_refused(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann - view_item bread -
        12T10:00 bob - view_item bread -
        31T00:00 ann - view_item bread -
    """)

    with pytest.raises(UserError, match=r"the test split has no strangers with events: .*data\.split\.holdout_share"):
        stranger_window(prepared, s.TEST)


def test_a_train_split_without_rows_is_refused(prepare_log: PrepareLog) -> None:
    prepared = prepare_log("""
        02T10:00 ann - session_start -     -
        12T10:00 bob - view_item     bread -
        31T00:00 ann - view_item     bread -
    """)

    with pytest.raises(UserError, match="the train split is empty"):
        train_window(prepared)
