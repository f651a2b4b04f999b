import hashlib
from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import DataConfig
from shopkeeper.data.split import HELD_OUT, Cuts, find_cuts, new_share, split_of, with_holdout

DAY = 86_400_000_000
SHARES = {"val_days": None, "test_days": None, "val_share": 0.2, "test_share": 0.2}
Configure = Callable[..., DataConfig]


def day(number: float) -> int:
    """Microseconds from 1970 to so many days after the first of January 2026."""
    return int((20454 + number) * DAY)


def days(*numbers: float) -> np.ndarray:
    return np.array([day(number) for number in numbers])


def test_days_are_counted_from_the_end_of_the_log(data_config: Configure) -> None:
    split = data_config(split={"val_days": 3.0, "test_days": 2.5}).split

    assert find_cuts(days(0, 10), days(0, 10), split) == Cuts(day(0), day(4.5), day(7.5), day(10))


def test_shares_are_of_the_events_in_time_order(data_config: Configure) -> None:
    # 10 events: 6 in train, 2 in val, 2 in test, however late the rows stand in the log
    split = data_config(split=SHARES).split

    cuts = find_cuts(days(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), days(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), split)

    assert cuts == Cuts(day(0), day(6), day(8), day(9))


@pytest.mark.parametrize(
    "changes",
    [
        {"val_days": None, "test_days": None},
        {"val_share": 0.1, "test_share": 0.1},
        {"test_days": None},
        {"test_days": None, "test_share": 0.1},
    ],
)
def test_days_or_shares_not_both_and_not_a_mixture(data_config: Configure, changes: dict[str, float | None]) -> None:
    with pytest.raises(UserError, match=r"data\.split: set val_days and test_days, or val_share and test_share"):
        find_cuts(days(0, 10), days(0, 10), data_config(split=changes).split)


@pytest.mark.parametrize(
    ("log", "changes"),
    [
        ((0, 10), {"val_days": 8.0, "test_days": 2.0}),
        ((0, 10), {"val_days": 1.0, "test_days": 20.0}),
        ((0, 0, 0, 0, 0), SHARES),
    ],
)
def test_an_empty_split_is_refused_with_the_span_of_the_log(
    data_config: Configure, log: tuple[float, ...], changes: dict[str, float | None]
) -> None:
    with pytest.raises(UserError, match=r"data\.split: the log runs from 2026-01-01 .* leave a split empty"):
        find_cuts(days(*log), days(*log), data_config(split=changes).split)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.5, 0.5), (0.1, 1.5), (-0.1, 0.1)])
def test_shares_that_leave_nothing_are_refused(data_config: Configure, shares: tuple[float, float]) -> None:
    changes = SHARES | {"val_share": shares[0], "test_share": shares[1]}

    with pytest.raises(UserError, match=f"val_share={shares[0]} and test_share={shares[1]}"):
        find_cuts(days(0, 1, 2, 3), days(0, 1, 2, 3), data_config(split=changes).split)


def test_new_share_counts_the_visitors_of_val_and_test() -> None:
    # ann and bob shop after the cut at day 5, only bob is new; cid is gone by then
    visitor = np.array([0, 0, 1, 2])

    assert new_share(visitor, days(1, 6, 7, 2), Cuts(day(0), day(5), day(8), day(9))) == 0.5


def test_nobody_after_the_cut_counts_as_all_new() -> None:
    assert new_share(np.array([0]), days(1), Cuts(day(0), day(5), day(8), day(9))) == 1.0


def side_by_hand(key: str, visitor: str, share: float) -> int:
    digest = hashlib.md5(f"{key}:{visitor}".encode()).hexdigest()
    if not visitor.startswith("u:") or int(digest[:8], 16) >= round(share * 16**8):
        return s.TRAIN
    return s.VAL if int(digest[31], 16) < 8 else s.TEST


@pytest.mark.parametrize("key", ["shopkeeper", "another"])
def test_the_hold_out_is_a_keyed_hash_of_the_user(data_config: Configure, key: str) -> None:
    visitors = [f"u:{n}" for n in range(300)] + [f"s:{n}" for n in range(100)]
    config = data_config(split={"holdout_share": 0.2, "holdout_key": key}).split

    found = with_holdout(ibis.memtable({"visitor_key": visitors}), config, needed=True).execute()

    sides = dict(zip(found["visitor_key"], found[HELD_OUT], strict=True))
    assert sides == {visitor: side_by_hand(key, visitor, 0.2) for visitor in visitors}
    held_out = np.bincount([sides[v] for v in visitors[:300]])
    assert 35 < held_out[1:].sum() < 85
    assert held_out[1:].min() > 15


def test_folds_part_the_users_and_then_swap_the_halves(data_config: Configure) -> None:
    visitors = [f"u:{n}" for n in range(400)]

    def sides(fold: int) -> Any:
        config = data_config(split={"holdout_share": 0.2, "fold": fold}).split
        found = with_holdout(ibis.memtable({"visitor_key": visitors}), config, needed=True).execute()
        return found.set_index("visitor_key")[HELD_OUT].loc[visitors].to_numpy()

    folds = np.stack([sides(fold) for fold in range(10)])

    assert ((folds[:5] != s.TRAIN).sum(axis=0) == 1).all()  # everyone is a stranger once
    assert ((folds == s.VAL).sum(axis=0) == 1).all()
    assert ((folds == s.TEST).sum(axis=0) == 1).all()
    assert folds[0].tolist() == [side_by_hand("shopkeeper", visitor, 0.2) for visitor in visitors]


@pytest.mark.parametrize(("share", "needed"), [(0.9, False), (0.0, True)])
def test_nobody_is_held_out_where_it_is_not_asked_for(data_config: Configure, share: float, needed: bool) -> None:
    config = data_config(split={"holdout_share": share}).split

    found = with_holdout(ibis.memtable({"visitor_key": ["u:1", "u:2"]}), config, needed=needed).execute()

    assert found[HELD_OUT].tolist() == [s.TRAIN, s.TRAIN]


def test_a_cut_belongs_to_the_split_it_opens() -> None:
    cuts = Cuts(day(0), day(5), day(8), day(9))
    times = np.array([day(0), day(5) - 1, day(5), day(8), day(9)])

    assert split_of(times, cuts).tolist() == [s.TRAIN, s.TRAIN, s.VAL, s.TEST, s.TEST]


def test_a_session_belongs_to_the_split_of_its_first_event(prepare_log: Callable[..., Prepared]) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 view_item     bread -
        10T23:50 bob b1 view_item     bread -
        11T00:10 bob b1 view_item     milk  -
        20T23:55 cid c1 session_start -     -
        21T00:05 cid c1 view_item     jam   -
        21T00:00 dan d1 view_item     tea   -
        31T00:00 eve e1 view_item     tea   -
    """)

    # every session stands in one split, in the order of its visitor and time
    assert prepared.sessions["visitor"].tolist() == [0, 1, 2, 3, 4]
    assert prepared.sessions["split"].tolist() == [s.TRAIN, s.TRAIN, s.VAL, s.TEST, s.TEST]
    assert prepared.row_split.tolist() == [s.TRAIN, s.TRAIN, s.TRAIN, s.VAL, s.TEST, s.TEST]


def test_hold_out_is_for_logs_whose_users_are_known(prepare_log: Callable[..., Prepared], clicks_log: str) -> None:
    # after the 11th: ann is known; bob, eve and the session w1 are new
    split = {"holdout_share": 0.9, "holdout_when_new_below": 0.75}

    none = prepare_log(clicks_log, split=split)
    some = prepare_log(clicks_log, split=split | {"holdout_when_new_below": 0.76})

    assert none.manifest["new_share"] == some.manifest["new_share"] == 0.75
    assert (none.manifest["holdout"], some.manifest["holdout"]) == (False, True)
    assert not none.visitors["held_out"].any()
    assert some.visitors["held_out"].any()


def test_a_session_start_can_open_or_end_the_log(data_config: Configure) -> None:
    split = data_config(split={"val_days": 3.0, "test_days": 3.0}).split

    assert find_cuts(days(1, 8), days(0, 10), split) == Cuts(day(0), day(4), day(7), day(10))
