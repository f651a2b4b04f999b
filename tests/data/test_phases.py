from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.data import phases as module
from shopkeeper.data import schema as s
from shopkeeper.data.phases import bought_before, days_away, events_before, phases_of, write_phases
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import DataConfig, PhaseRule

DISCOVERY, ENGAGEMENT, PURCHASE, FULFILMENT, RE_ENGAGEMENT = 1, 2, 3, 4, 5


def test_the_journey_of_a_shop_by_the_rules_that_ship(
    prepare_log: Callable[..., Prepared],
) -> None:
    prepared = prepare_log("""
        02T10:00 ann a1 view_item   bread -
        02T10:01 ann a1 view_item   milk  -
        02T10:02 ann a1 search      -     -
        02T10:03 ann a1 view_item   jam   -
        02T10:04 ann a1 purchase    jam   o1
        04T10:00 ann a2 delivery    jam   o1
        05T10:00 ann a3 email_open  -     -
        05T10:01 ann a3 view_item   tea   -
        05T10:02 ann a3 purchase    tea   o2
        31T00:00 bob b1 view_item   tea   -
        12T10:00 cid c1 view_item   tea   -
    """)

    # a search engages at once, the fourth event of a visit by its place; after an order a new visit is re-engagement
    ann = [DISCOVERY, DISCOVERY, ENGAGEMENT, ENGAGEMENT, PURCHASE, FULFILMENT]
    ann += [RE_ENGAGEMENT, RE_ENGAGEMENT, PURCHASE]
    assert prepared.rows["phase"].tolist() == [*ann, DISCOVERY, DISCOVERY]


def test_every_event_has_a_phase_on_an_order_only_log(trips: Prepared) -> None:
    assert set(trips.rows["phase"].tolist()) == {PURCHASE}


def test_the_first_rule_that_holds_counts() -> None:
    rules = [
        PhaseRule(phase="fulfilment", events=["delivery", "unknown"]),
        PhaseRule(phase="re-engagement", days_away=7.0),
        PhaseRule(phase="engagement", bought_before=False, events_before=1),
        PhaseRule(phase="discovery"),
    ]
    event = np.array([1, 2, 1, 1])

    found = phases_of(
        event, np.array([0, 0, 0, 1]), np.zeros(4, int), np.array([-1, -1, -1, 7.0]), rules, ["x", "delivery"]
    )

    assert found.tolist() == [DISCOVERY, FULFILMENT, ENGAGEMENT, RE_ENGAGEMENT]


def test_what_came_before_is_counted_by_visit_and_by_visitor() -> None:
    session, visitor = np.array([0, 1, 0, 1, 2], np.int32), np.array([0, 0, 0, 0, 1])

    assert events_before(session).tolist() == [0, 0, 1, 1, 0]  # two visits of a visitor may be interleaved
    purchase = np.array([True, False, False, False, False])
    assert bought_before(purchase, session, visitor).tolist() == [False, True, False, True, False]
    day = 86_400_000_000
    assert days_away(np.array([0, 0, 1]), np.array([0, 3 * day, 9 * day])).tolist() == [-1, 3, -1]


def test_parts_change_nothing(
    clicks: Prepared, data_config: Callable[..., DataConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("rows", "sessions", "visitors"):
        (tmp_path / kind).mkdir()
        for file in (clicks.path / kind).glob("*.npy"):
            np.save(tmp_path / kind / file.name, np.load(file))
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)

    write_phases(tmp_path, data_config().phases, clicks.vocabulary(s.EVENT, refit=True))

    assert np.load(tmp_path / "rows" / "phase.npy").tolist() == clicks.rows["phase"].tolist()
