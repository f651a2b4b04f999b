import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.prepared import MANIFEST, Prepared
from shopkeeper.evaluate import leaks
from shopkeeper.evaluate.checks import LEAK, NOT_APPLICABLE, OK

PrepareCsv = Callable[..., Prepared]
Tampered = Callable[..., Prepared]

# With the key "shopkeeper" this holds eve out for validation, and not mia.
HOLD_OUT_EVE = ("data.split.holdout_share=0.3", "data.split.holdout_when_new_below=1.1")


def found(figures: Any, *, skip: tuple[str, ...] = ()) -> dict[str, int]:
    """The figures that are not zero."""
    return {name: value for name, value in figures.items() if value and name not in skip}


def microseconds(time: str) -> int:
    return int(pd.Timestamp(time).value // 1000)


def with_manifest(prepared: Prepared, folder: Path, change: Callable[[dict[str, Any]], None]) -> Prepared:
    """A copy of the dataset whose manifest was changed."""
    copy = shutil.copytree(prepared.path, folder / "copy")
    manifest = json.loads((copy / MANIFEST).read_text())
    change(manifest)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return Prepared.read(copy)


def with_table(prepared: Prepared, folder: Path, name: str, column: str, at: int, value: Any) -> Prepared:
    """A copy of the dataset with one cell of a side table changed."""
    copy = shutil.copytree(prepared.path, folder / "copy")
    table = pd.read_parquet(copy / name)
    table.loc[at, column] = value
    table.to_parquet(copy / name)
    return Prepared.read(copy)


# ---- sessions across a cut ----


def test_sessions_of_a_clean_log_lie_in_one_split(shop: Prepared) -> None:
    check = leaks.sessions_across_cuts(shop)

    assert check.status == OK
    assert found(check.figures) == {"sessions": 6}


def test_a_session_that_goes_on_after_the_cut_is_counted_and_no_leak(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    late = """
        2026-01-10T23:59,cid,c2,view_item,tea,,app
        2026-01-11T00:01,cid,c2,view_item,milk,,app
        2026-01-11T00:02,cid,c2,view_item,tea,,app
    """
    check = leaks.sessions_across_cuts(prepare_csv(shop_csv + late.strip()))

    assert check.status == OK
    assert found(check.figures) == {
        "sessions": 7,
        "sessions that go on after a cut": 1,
        "their rows after the cut": 2,
    }


def test_a_session_in_another_split_than_its_first_event_is_a_leak(tampered: Tampered) -> None:
    check = leaks.sessions_across_cuts(tampered("sessions/split", 1, s.TRAIN))  # a2, of the 13th

    assert (check.status, check.says.split(";")[0]) == (LEAK, "1 sessions in the wrong split")


def test_a_session_that_begins_after_its_first_event_is_a_leak(tampered: Tampered) -> None:
    check = leaks.sessions_across_cuts(tampered("sessions/time", 2, microseconds("2026-01-12T08:01")))

    assert check.status == LEAK
    assert found(check.figures, skip=("sessions",)) == {"sessions said to begin after their first event": 1}


def test_a_training_row_after_the_cut_is_a_leak(tampered: Tampered) -> None:
    # ann has two more rows before the cut, so her first two are taken for train, and the first is of the 20th now
    check = leaks.sessions_across_cuts(tampered("rows/time", 0, microseconds("2026-01-20T10:00")))

    assert check.status == LEAK
    assert check.figures is not None
    assert check.figures["training rows at or after the train cut"] == 1


# ---- training artifacts ----


def test_counts_and_words_of_a_clean_log_rest_on_train(shop: Prepared) -> None:
    check = leaks.training_artifacts(shop)

    assert check.says == "5 items, and the words of event, channel, rest on train alone"
    assert check.status == OK


def test_a_count_that_holds_later_events_is_a_leak(shop: Prepared, tmp_path: Path) -> None:
    # bread: once in train (row 0), once in test
    check = leaks.training_artifacts(with_table(shop, tmp_path, "items.parquet", "train_events", 0, 2))

    assert check.status == LEAK
    assert found(check.figures, skip=("items",)) == {"items with another count of training events": 1}


def test_an_item_known_before_its_first_event_is_a_leak(shop: Prepared, tmp_path: Path) -> None:
    def know_one_more(manifest: dict[str, Any]) -> None:
        manifest["counts"]["items_known"] += 1

    check = leaks.training_artifacts(with_manifest(shop, tmp_path, know_one_more))

    assert check.status == LEAK
    assert check.says == "1 items known without a training event or a listing"


def test_an_item_that_the_shop_lists_is_known_without_an_event(
    prepare_csv: PrepareCsv, shop_csv: str, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nwine,Red wine\nhoney,Honey\n")
    prepared = prepare_csv(shop_csv, f"data.items={tmp_path / 'items.csv'}")

    assert prepared.num_items() == 5  # bread, milk and tea of train, honey and wine of the list; jam came later
    assert leaks.training_artifacts(prepared).status == OK


@pytest.mark.parametrize("column", ["event", "channel"])
def test_a_word_known_before_its_first_row_is_a_leak(
    prepare_csv: PrepareCsv, shop_csv: str, tmp_path: Path, column: str
) -> None:
    def know_one_more(manifest: dict[str, Any]) -> None:
        manifest["vocab"][column]["known"] += 1

    later = "2026-01-25T06:00,ann,a3,refund,milk,,web"  # the channel tv and the event refund are of test alone
    check = leaks.training_artifacts(with_manifest(prepare_csv(shop_csv + later), tmp_path, know_one_more))

    assert check.status == LEAK
    assert check.says == f"1 values of {column} known without a training row"


def test_a_word_of_a_held_out_user_alone_is_not_of_train(prepare_csv: PrepareCsv, tmp_path: Path) -> None:
    def know_one_more(manifest: dict[str, Any]) -> None:
        manifest["vocab"]["channel"]["known"] += 1

    rows = ["2026-01-02T10:01,mia,view_item,a,web", "2026-01-02T10:01,eve,view_item,a,tv"]
    rows += ["2026-01-12T10:01,eve,view_item,a,tv", "2026-01-31T00:00,mia,view_item,a,web"]
    prepared = prepare_csv("\n".join(["timestamp,user_id,event,item_id,channel", *rows]), *HOLD_OUT_EVE)

    assert leaks.training_artifacts(prepared).status == OK
    assert leaks.training_artifacts(with_manifest(prepared, tmp_path, know_one_more)).status == LEAK


# ---- users across strangers and known ----


def test_strangers_of_a_clean_log_are_strangers(shop: Prepared) -> None:
    check = leaks.users_apart(shop)

    assert check.status == OK
    assert found(check.figures) == {"strangers of val": 1, "strangers of test": 1}


def test_a_stranger_with_rows_in_train_is_a_leak(tampered: Tampered) -> None:
    check = leaks.users_apart(tampered("sessions/split", 0, s.VAL))  # a1: ann looks new in validation

    assert check.status == LEAK
    assert check.says == "1 strangers of val with rows in train"


def test_a_user_numbered_twice_is_found_by_the_key(shop: Prepared, tmp_path: Path) -> None:
    # eve, the stranger of test, is bob: a stranger of validation, and by then a known user of test
    check = leaks.users_apart(with_table(shop, tmp_path, "visitors.parquet", "visitor_key", 3, "u:bob"))

    assert check.status == LEAK
    assert found(check.figures, skip=("strangers of val", "strangers of test")) == {
        "strangers of test who are its known users too": 1,
        "strangers of val who are strangers of test too": 1,
        "visitors numbered twice": 1,
    }


def test_without_strangers_nothing_overlaps(prepare_csv: PrepareCsv) -> None:
    prepared = prepare_csv(
        """
        timestamp,user_id,event,item_id
        2026-01-02T10:00,ann,view_item,bread
        2026-01-31T00:00,ann,view_item,bread
        """
    )

    check = leaks.users_apart(prepared)

    assert (check.status, found(check.figures)) == (OK, {})


# ---- the same history under another name ----

DOUBLED = """
    2026-01-14T10:00,ann,x1,view_item,milk,,web
    2026-01-14T10:01,ann,x1,view_item,jam,,web
    2026-01-14T10:01,ann,x1,view_item,tea,,web
    2026-01-14T10:01,guest,x2,view_item,tea,,web
    2026-01-14T10:01,guest,x2,view_item,jam,,web
    2026-01-14T10:00,guest,x2,view_item,milk,,web
"""


def test_a_known_customers_session_under_a_strangers_name_is_a_leak(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    check = leaks.same_history_twice(prepare_csv(shop_csv + DOUBLED.strip()))

    assert check.status == LEAK
    assert check.figures == {
        "sessions of strangers compared": 2,  # bob's first and the guest's
        "sessions of strangers found under another name": 1,
        "strangers found under another name": 1,
        "of these sessions in train": 0,
    }


def test_a_held_out_users_past_under_a_name_of_train_is_a_leak(prepare_csv: PrepareCsv) -> None:
    past = [f"2026-01-02T10:0{minute},{{0}},{{0}}1,view_item,{item}" for minute, item in enumerate("abc")]
    rows = [line.format(user) for user in ("mia", "eve") for line in past]
    rows += ["2026-01-12T10:00,eve,e2,view_item,a", "2026-01-31T00:00,mia,m2,view_item,a"]
    text = "\n".join(["timestamp,user_id,session_id,event,item_id", *rows])

    check = leaks.same_history_twice(prepare_csv(text, *HOLD_OUT_EVE))

    assert check.status == LEAK
    assert check.figures is not None
    assert check.figures["of these sessions in train"] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10:00,guest", "10:02,guest"),  # another time
        ("guest,x2,view_item,jam", "guest,x2,view_item,tea"),  # another item
        ("guest,x2,view_item,jam", "guest,x2,add_to_cart,jam"),  # another event
    ],
)
def test_a_session_that_differs_in_one_row_is_another(
    prepare_csv: PrepareCsv, shop_csv: str, old: str, new: str
) -> None:
    assert leaks.same_history_twice(prepare_csv(shop_csv + DOUBLED.strip())).status == LEAK
    assert leaks.same_history_twice(prepare_csv(shop_csv + DOUBLED.strip().replace(old, new))).status == OK


def test_two_strangers_with_one_history_are_known_to_nobody(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    strangers = DOUBLED.strip().replace(",ann,", ",other,")

    assert leaks.same_history_twice(prepare_csv(shop_csv + strangers)).status == OK


def test_a_strangers_own_session_is_not_under_another_name(tampered: Tampered) -> None:
    prepared = tampered("sessions/split", 0, s.VAL)  # ann looks new and is in train, which another check finds

    assert leaks.same_history_twice(prepared).status == OK


def test_sessions_of_few_different_rows_are_passed_over(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    same = DOUBLED.strip().replace("view_item,jam", "view_item,tea")  # tea twice in the same minute

    check = leaks.same_history_twice(prepare_csv(shop_csv + same))

    assert check.status == OK
    assert check.says == "none of 1 sessions of strangers is a session of a visitor in train"  # bob's


def test_times_of_whole_days_tell_no_sessions_apart(prepare_csv: PrepareCsv) -> None:
    days = [f"2026-01-{day:02}T00:00,{user},view_item,{item}" for day in (2, 12, 31) for user in "ab" for item in "xyz"]

    check = leaks.same_history_twice(prepare_csv("\n".join(["timestamp,user_id,event,item_id", *days])))

    assert check.status == NOT_APPLICABLE


def test_equal_hashes_of_other_rows_are_no_equal_sessions(shop: Prepared) -> None:
    sessions = leaks.Sessions.of(shop)
    left, right = np.array([0, 0]), np.array([0, 2])  # as if a1 and b1 had one hash

    kept = sessions.verified(shop, left, right, np.ones(2, bool))

    assert [k.tolist() for k in kept] == [[0], [0]]


# ---- content hash ----


def test_an_array_that_was_changed_is_found(shop: Prepared, tampered: Tampered) -> None:
    assert leaks.content_unchanged(shop).status == OK
    assert leaks.content_unchanged(tampered("rows/price", 3, 9.99)).status == LEAK


# ---- context that gives the outcome away ----


def visits(*, told: bool) -> str:
    """Thirty buying and thirty other visits on the 2nd, and as many on the 12th, each on its own.

    Of the buyers 20 come by web and 10 by app, of the others the reverse. `visit` is another word for each visit,
    `paid` tells the outcome where `told`, else it is always the same.
    """
    lines = ["timestamp,session_id,event,item_id,channel,visit,paid"]
    for day in ("02", "12"):
        for number in range(60):
            buys, web = number < 30, number % 30 < (20 if number < 30 else 10)
            name, channel = f"{day}-{number}", "web" if web else "app"
            tail = f"{channel},{name},{'yes' if buys and told else 'no'}"
            lines.append(f"2026-01-{day}T10:{number:02},{name},view_item,tea,{tail}")
            if buys:
                lines.append(f"2026-01-{day}T11:{number:02},{name},purchase,tea,{tail}")
    return "\n".join([*lines, "2026-01-31T00:00,last,view_item,tea,web,last,no"])


CONTEXT = "data.context=[channel,visit,paid]"


def test_a_context_column_that_tells_the_outcome_is_a_leak(prepare_csv: PrepareCsv) -> None:
    check = leaks.telling_context(prepare_csv(visits(told=True), CONTEXT))

    assert check.status == LEAK
    assert "by paid 100.0% of buyers, 100.0% of others" in check.says
    assert check.says.endswith("leave paid out of data.context")
    assert check.figures is not None
    # most who come by web buy: right for 20 of the 30 buyers, and for 20 of the 30 others
    assert check.figures["channel"] == pytest.approx({"values in train": 2, "buyers told": 2 / 3, "others told": 2 / 3})
    # a word that train has not seen says what most do, and of sixty visits thirty buy, which is not most
    assert check.figures["visit"] == {"values in train": 60, "buyers told": 0.0, "others told": 1.0}


def test_context_that_tells_little_is_none(prepare_csv: PrepareCsv) -> None:
    check = leaks.telling_context(prepare_csv(visits(told=False), CONTEXT))

    assert check.status == OK
    assert check.figures is not None
    assert check.figures["paid"] == {"values in train": 1, "buyers told": 0.0, "others told": 1.0}


def test_with_few_sessions_no_column_is_judged(shop: Prepared) -> None:
    check = leaks.telling_context(shop)

    assert check.says == "not applicable: validation has 1 buying and 1 other sessions, under 20"


def test_a_log_without_context_has_none_to_judge(prepare_csv: PrepareCsv, shop_csv: str) -> None:
    assert "no context columns" in leaks.telling_context(prepare_csv(shop_csv, "data.context=[]")).says


def test_the_majority_of_a_value_or_else_of_all() -> None:
    codes, bought = np.array([1, 1, 1, 2, 2]), np.array([True, True, False, True, False])

    # two of three; one of two is not most; three of five of all
    assert leaks.majority(codes, bought, np.array([1, 2, 7])).tolist() == [True, False, True]


# ---- the logs that lack something ----


@pytest.mark.parametrize("shop_name", ["clicks", "orders"])
def test_clean_logs_pass_every_check(shops: dict[str, Prepared], shop_name: str) -> None:
    prepared = shops[shop_name]
    checks = [
        leaks.sessions_across_cuts(prepared).status,
        leaks.training_artifacts(prepared).status,
        leaks.users_apart(prepared).status,
        leaks.same_history_twice(prepared).status,
        leaks.content_unchanged(prepared).status,
        leaks.telling_context(prepared).status,
    ]

    assert checks == [OK] * 5 + [NOT_APPLICABLE if prepared.order_only else OK]
