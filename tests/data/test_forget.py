from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.forget import forget
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrivacyConfig

PrepareLog = Callable[..., Prepared]
LOG = """
    02T10:00 ann a1 session_start -     -
    02T10:01 ann a1 view_item     bread -
    02T10:02 ann a1 purchase      bread o1
    03T10:00 bob b1 view_item     bread -
    03T10:01 bob b1 purchase      milk  o2
    04T10:00 bob b2 view_item     milk  -
    05T10:00 cid c1 purchase      bread o3
    13T08:00 bob b3 view_item     bread -
    22T06:00 eve e1 view_item     milk  -
    31T00:00 ann a2 view_item     milk  -
"""


def test_what_is_left_is_as_if_the_person_had_never_come(prepare_log: PrepareLog) -> None:
    without = "\n".join(line for line in LOG.splitlines() if " bob " not in line)
    # milk is known by eve's split alone once bob is gone: a log where it is listed keeps the numbering
    items = pd.DataFrame({"item_id": ["bread", "milk"]})
    prepared, expected = prepare_log(LOG, items=items), prepare_log(without, items=items)

    gone = forget(prepared.path, "bob")

    assert gone == (4, 3, [prepared.content_hash], True)
    found = Prepared.read(prepared.path)
    assert found.content_hash == expected.content_hash
    assert found.manifest["dropped"] == {"forgotten on request": 4}
    counts = found.manifest["counts"]
    assert {k: counts[k] for k in ("events", "sessions", "visitors", "purchases")} == {
        k: expected.manifest["counts"][k] for k in ("events", "sessions", "visitors", "purchases")
    }
    assert counts["rows_in"] == counts["events"] + counts["session_starts"] + counts["rows_dropped"]


def test_a_second_person_goes_from_what_is_left(prepare_log: PrepareLog) -> None:
    prepared = prepare_log(LOG)

    first, second = forget(prepared.path, "cid"), forget(prepared.path, "eve")

    assert (first.in_train, second.in_train) == (True, False)  # eve came after the cut
    assert second.hashes[0] == prepared.content_hash
    assert len(set(second.hashes)) == 2
    assert Prepared.read(prepared.path).visitors_frame()["user_id"].tolist() == ["ann", "bob"]


def test_a_person_is_found_by_any_alias(prepare_log: PrepareLog, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.parquet"
    pd.DataFrame({"alias": ["cid", "card7"], "user_id": ["bob", "bob"]}).to_parquet(pairs)
    prepared = prepare_log(LOG, identities=str(pairs))

    gone = forget(prepared.path, "card7")

    assert gone.rows == 5  # bob's four events and cid's
    assert len(pd.read_parquet(prepared.path / "identities.parquet")) == 0


def test_a_person_with_a_pseudonym_is_found_by_the_id(prepare_log: PrepareLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", "key")
    privacy = PrivacyConfig(consent="consent", granted=["yes"], key_variable="SHOP_SECRET")

    assert forget(prepare_log(LOG, privacy=privacy).path, "bob").rows == 4


def test_who_is_not_there_changes_nothing(prepare_log: PrepareLog) -> None:
    prepared = prepare_log(LOG)

    with pytest.raises(UserError, match=r"user=dan: prepared=.* holds no such person"):
        forget(prepared.path, "dan")

    assert Prepared.read(prepared.path).content_hash == prepared.content_hash


def test_the_last_person_takes_the_dataset_along(prepare_log: PrepareLog) -> None:
    prepared = prepare_log(
        "\n".join(line for line in LOG.splitlines() if " bob " in line) + "\n31T00:00 bob b9 search - -"
    )

    with pytest.raises(UserError, match="holds nobody else: remove the folder"):
        forget(prepared.path, "bob")


def test_arrays_keep_their_types(prepare_log: PrepareLog) -> None:
    prepared = prepare_log(LOG)
    kinds = {name: array.dtype for name, array in {**prepared.rows, **prepared.sessions}.items()}

    forget(prepared.path, "bob")

    found = Prepared.read(prepared.path)
    assert {name: array.dtype for name, array in {**found.rows, **found.sessions}.items()} == kinds
    assert np.asarray(found.visitors["row_offsets"]).tolist() == [0, 3, 4, 5]
