from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.data import shelving
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.shelving import visitor_parts


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_parts_end_where_a_visitor_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    visitor = np.array([0, 0, 1, 2, 2, 2, 3])
    np.save(tmp_path / "visitor.npy", visitor)
    monkeypatch.setattr(shelving, "ROWS_AT_ONCE", size)

    parts = list(visitor_parts(tmp_path / "visitor.npy"))

    assert [begin for begin, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, 7)
    owners = [set(visitor[begin:end]) for begin, end in parts]
    assert sum(map(len, owners)) == 4  # nobody is in two parts
    assert all(end - begin <= size or len(set(visitor[begin:end])) == 1 for begin, end in parts)


def test_no_rows_are_one_empty_part(tmp_path: Path) -> None:
    np.save(tmp_path / "visitor.npy", np.empty(0, np.int32))

    assert list(visitor_parts(tmp_path / "visitor.npy")) == [(0, 0)]


@pytest.mark.parametrize("shop", ["clicks_log", "trips_log"])
@pytest.mark.parametrize("changes", [{}, {"drop_duplicates": True}])
def test_the_size_of_the_parts_changes_nothing(
    prepare_log: Callable[..., Prepared],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    shop: str,
    changes: dict[str, bool],
) -> None:
    log = request.getfixturevalue(shop)
    whole = prepare_log(log, **changes)

    monkeypatch.setattr(shelving, "ROWS_AT_ONCE", 2)
    parts = prepare_log(log, **changes)

    assert parts.content_hash == whole.content_hash
    assert parts.manifest["counts"] == whole.manifest["counts"]
