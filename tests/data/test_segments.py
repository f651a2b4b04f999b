from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.forget import forget
from shopkeeper.data.histories import Names, parts
from shopkeeper.data.prepared import Prepared, Window
from shopkeeper.data.rules import Rule
from shopkeeper.data.segments import RuleLabels, as_plain, as_rule, read_segments, segments_of
from shopkeeper.data.settings import SegmentConfig
from shopkeeper.data.targets import Moments
from shopkeeper.data.windows import train_window

TOP = {"top": "category", "among": ["FOOD", "HOME"], "at_least": {"orders": 2.0}}
FOOD, HOME = 0, 1


def at_steps(prepared: Prepared, window: Window) -> Moments:
    """Before every step of the window, and after its last."""
    offsets = prepared.step_offsets
    owner, ends = [], []
    for number, (start, end) in enumerate(zip(window.start, window.end, strict=True)):
        steps = [*offsets[(offsets >= start) & (offsets < end)], end]
        owner += [number] * len(steps)
        ends += steps
    return Moments(window.start[owner], np.array(ends), window.end[owner])


def labels(prepared: Prepared, rules: dict[str, Rule], moments: Moments) -> dict[str, list[int]]:
    found = RuleLabels(prepared, rules)
    return {name: found.of(name, moments).tolist() for name in rules}


def test_a_label_is_of_what_follows_inside_the_window(prepare_grocer: Callable[..., Prepared]) -> None:
    prepared = prepare_grocer(top=TOP)
    rules = read_segments(prepared.path).rules

    train = labels(prepared, rules, at_steps(prepared, train_window(prepared)))["top"]
    whole = labels(prepared, rules, at_steps(prepared, train_window(prepared, refit=True)))["top"]

    # ann's three trips and after them, bob's two, cid's one: at least two orders have to follow
    assert train == [FOOD, FOOD, s.MASKED, s.MASKED, HOME, s.MASKED, s.MASKED, s.MASKED, s.MASKED]
    # with ann's two trips for soap after the cut all is home, until only one is left
    assert whole[:6] == [HOME, HOME, HOME, HOME, s.MASKED, s.MASKED]


def test_limits_may_be_mixed(prepare_grocer: Callable[..., Prepared]) -> None:
    prepared = prepare_grocer(top=TOP)
    found = RuleLabels(prepared, read_segments(prepared.path).rules)
    moments = Moments(np.zeros(5, int), np.array([0, 0, 3, 3, 0]), np.array([5, 7, 5, 7, 3]))

    # ann up to her row 5, to her last, and to her second trip, whose spend is 4 on food and 5 on soap
    assert found.of("top", moments).tolist() == [FOOD, HOME, s.MASKED, HOME, HOME]
    assert found.of("top", moments).tolist() == [FOOD, HOME, s.MASKED, HOME, HOME]


def test_neither_what_was_before_nor_what_comes_after_plays_a_part(kinds: Prepared) -> None:
    rules = read_segments(kinds.path).rules
    window = train_window(kinds)
    middle = kinds.step_offsets[(np.searchsorted(kinds.step_offsets, (window.start + window.end) // 2))]
    moments = Moments(window.start, np.minimum(middle, window.end), window.end)
    before = labels(kinds, rules, moments)
    rng = np.random.default_rng(0)
    outside = np.ones(len(kinds.rows["time"]), bool)
    for start, end in zip(moments.end, moments.limit, strict=True):
        outside[start:end] = False

    changed = Prepared.read(kinds.path)
    for name in ("item", "price", "quantity", "discount", "context_channel" if kinds.context_columns else "event"):
        values = np.array(kinds.rows[name])
        values[outside] = rng.permutation(values)[outside]
        changed.rows[name] = values

    assert outside.sum() > 100
    assert labels(changed, rules, moments) == before
    assert all(len({*found} - {s.MASKED}) > 1 for name, found in before.items() if name != "recent")
    inside = Prepared.read(kinds.path)
    inside.rows["item"] = np.where(outside, kinds.rows["item"], 11 - np.asarray(kinds.rows["item"]))
    assert labels(inside, rules, moments) != before  # what follows does


def test_labels_do_not_depend_on_how_visitors_are_parted(kinds: Prepared) -> None:
    rules, names, window = read_segments(kinds.path).rules, Names(kinds), train_window(kinds)

    for rule in rules.values():
        found = [
            np.concatenate([rule.labels(part) for part in parts(kinds, names, window, steps=True, rows=rows)])
            for rows in (1, 100, 10**6)
        ]
        assert (found[0] == found[2]).all()
        assert (found[1] == found[2]).all()


def test_rules_come_back_from_their_file(kinds: Prepared) -> None:
    fitted = read_segments(kinds.path)

    assert list(fitted.rules) == sorted(fitted.rules)
    assert {name: type(rule).kind for name, rule in fitted.rules.items()} == {
        "cell": "cross",
        "dear": "measure",
        "loyal": "measure",
        "often": "measure",
        "personas": "personas",
        "recent": "measure",
        "top": "top",
    }
    for rule in fitted.rules.values():
        assert as_rule(as_plain(rule)) == rule
    events = pd.read_parquet(kinds.manifest["config"]["events"])
    train = events[events["timestamp"] < pd.Timestamp(kinds.manifest["cuts"]["val_start"], tz="UTC")]
    twice = train.groupby("user_id")["order_id"].nunique() >= 2
    assert sum(fitted.customers["top"]) == twice.sum()  # two orders are enough for one of FOOD, TOYS


def test_rules_count_in_the_content_hash(prepare_grocer: Callable[..., Prepared]) -> None:
    top, other = prepare_grocer(top=TOP), prepare_grocer(top=TOP | {"at_least": {"orders": 1.0}})

    assert top.content_hash == prepare_grocer(top=TOP).content_hash
    assert top.content_hash != other.content_hash != prepare_grocer().content_hash


def test_nothing_after_the_cut_is_fitted_on(
    prepare_log: Callable[..., Prepared], log: Callable[[str], pd.DataFrame], kinds: Prepared
) -> None:
    segments = segments_of(kinds.manifest["config"])
    events = pd.read_parquet(kinds.manifest["config"]["events"])
    late = events["timestamp"] >= pd.Timestamp(kinds.manifest["cuts"]["val_start"], tz="UTC")
    changed = events.assign(price=events["price"].where(~late, 99.0))

    other = prepare_log(changed, items=pd.read_parquet(kinds.manifest["config"]["items"]), segments=segments)

    assert read_segments(other.path) == read_segments(kinds.path)


def test_forgetting_fits_the_rules_anew(prepare_log: Callable[..., Prepared], kinds: Prepared) -> None:
    config = kinds.manifest["config"]
    events, items = pd.read_parquet(config["events"]), pd.read_parquet(config["items"])
    segments = segments_of(config)
    prepared = prepare_log(events, items=items, segments=segments)
    expected = prepare_log(events[events["user_id"] != "c007"], items=items, segments=segments)

    forget(prepared.path, "c007")

    assert read_segments(prepared.path) == read_segments(expected.path)
    assert Prepared.read(prepared.path).content_hash == expected.content_hash


USERS = pd.DataFrame({"user_id": ["ann", "bob"], "kids_count": ["2", None], "age": ["30", "40"]})


def test_columns_are_segments_by_their_new_names(prepare_log: Callable[..., Prepared], clicks_log: str) -> None:
    declared = prepare_log(clicks_log, users=USERS, segments={"kids": SegmentConfig(column="kids_count")})
    every = prepare_log(clicks_log, users=USERS)

    assert declared.segments == ["kids"]
    assert list(declared.visitors_frame()) == ["visitor_key", "user_id", "kids"]
    assert every.segments == ["kids_count", "age"]


def test_a_column_that_users_lack_is_refused(prepare_log: Callable[..., Prepared], clicks_log: str) -> None:
    with pytest.raises(
        UserError, match=r"data\.segments\.kids: users have no column 'kids'; they have: kids_count, age"
    ):
        prepare_log(clicks_log, users=USERS, segments={"kids": SegmentConfig(column="kids")})


def test_what_a_log_cannot_tell_is_left_out_and_said(prepare_log: Callable[..., Prepared], clicks_log: str) -> None:
    segments = {
        "kids": SegmentConfig(column="kids"),
        "top": SegmentConfig(top="category"),
        "spend": SegmentConfig(measure="discount_share", edges=[1.0]),
        "cell": SegmentConfig(cross=["spend"]),
        "personas": SegmentConfig(personas=segments_default()),
    }

    fitted = read_segments(prepare_log(clicks_log, segments=segments).path)

    assert fitted.rules == {}
    assert fitted.left_out == {
        "kids": "the log has no table of users",
        "top": "the log has no category",
        "spend": "train has no discount",
        "cell": "spend is left out",
        "personas": "2 train customers have enough history: too few for 3 clusters",
    }


def segments_default() -> Any:
    from shopkeeper.data.settings import PersonasConfig

    return PersonasConfig()


def test_a_cross_names_other_rules(prepare_grocer: Callable[..., Prepared]) -> None:
    with pytest.raises(UserError, match=r"data\.segments\.cell\.cross: 'top' is no other rule of data\.segments"):
        prepare_grocer(cell={"cross": ["top"]})


def test_moments_keep_their_own_limits(grocer: Prepared) -> None:
    none = replace(train_window(grocer), end=train_window(grocer).start)

    assert RuleLabels(grocer, {}).layers == []
    assert len(none) == 3
