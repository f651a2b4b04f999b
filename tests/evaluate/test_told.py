from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shopkeeper.data.prepared import Prepared
from shopkeeper.evaluate.checks import NOT_APPLICABLE, OK, WARN
from shopkeeper.evaluate.told import told, told_segments

HEAD = "timestamp,user_id,event,item_id,channel,country\n"


@pytest.fixture
def shop(prepare_csv: Callable[..., Prepared], tmp_path: Path) -> Prepared:
    """Forty customers of train from two countries, on channels that say nothing; region follows the country."""
    lines = [
        f"2026-01-0{1 + n % 9}T10:00,u{n},view_item,x,{'web' if n % 4 < 2 else 'app'},{'DE' if n % 2 else 'FR'}"
        for n in range(40)
    ]
    lines += ["2026-01-02T10:00,u1,view_item,x,web,FR", "2026-01-31T10:00,last,view_item,x,web,DE"]
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(40)]})
    users["region"] = ["north" if n % 2 else "south" for n in range(40)]
    users.to_parquet(tmp_path / "users.parquet")
    return prepare_csv(HEAD + "\n".join(lines), f"data.users={tmp_path / 'users.parquet'}")


def test_a_segment_that_a_column_tells_is_named(shop: Prepared) -> None:
    check = told_segments(shop, warn_above=0.5)

    assert check.status == WARN
    assert check.says == "region by country: 100.0% right, 50.0% without it"  # u1 has a row of each: the first counts
    assert check.figures is not None
    by_channel = next(t for t in check.figures if t.column == "channel")
    assert by_channel.right < by_channel.prior + 0.05


def test_a_segment_that_no_column_tells_is_fine(shop: Prepared) -> None:
    assert told_segments(shop, warn_above=1.0).status == OK


def test_without_segments_there_is_nothing_to_tell(shops: dict[str, Prepared]) -> None:
    shop = shops["clicks"]
    bare = Prepared(shop.path, shop.manifest | {"segments": []})

    assert told_segments(bare, warn_above=0.5).status == NOT_APPLICABLE


def test_a_visitor_s_own_class_does_not_count_for_it() -> None:
    # value 0: classes 0, 0, 1: the others of each 0 are 0 and 1, a tie, which is wrong; value 1 is one visitor's own
    found = told("s", "c", np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 2, 2]))

    assert (found.prior, found.right) == (4 / 6, 2 / 6)
    assert found.told == pytest.approx(-1.0)
