import hashlib
from collections.abc import Callable

import ibis
import pandas as pd
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.privacy import pseudonym, pseudonym_of, secret_of
from shopkeeper.data.settings import PrivacyConfig

HIDDEN = PrivacyConfig(consent="consent", granted=["yes"], key_variable="SHOP_SECRET")


def test_a_pseudonym_is_a_keyed_hash_the_same_in_the_engine_and_in_python() -> None:
    inner = hashlib.sha256(b"key:ann").hexdigest()
    by_hand = hashlib.sha256(f"key:{inner}".encode()).hexdigest()[:32]

    assert pseudonym(ibis.literal("ann"), "key").execute() == pseudonym_of("ann", "key") == by_hand
    assert pseudonym_of("ann", "other") != by_hand


def test_a_secret_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_SECRET", raising=False)

    with pytest.raises(UserError, match="the environment variable SHOP_SECRET is not set"):
        secret_of(HIDDEN)


def test_ids_of_persons_are_hidden_and_nothing_else_changes(
    prepare_log: Callable[..., Prepared], clicks_log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SECRET", "key")
    users = pd.DataFrame({"user_id": ["ann", "bob"], "age": ["30", "40"]})

    plain, hidden = (prepare_log(clicks_log, users=users, **changes) for changes in ({}, {"privacy": HIDDEN}))

    assert hidden.manifest["counts"] == plain.manifest["counts"]
    found, known = hidden.visitors_frame(), plain.visitors_frame()
    ages = dict(zip(known["user_id"].dropna().map(lambda name: pseudonym_of(name, "key")), known["age"], strict=False))
    assert set(found["user_id"].dropna()) == set(ages)
    for column in ("visitor_key", "user_id"):
        assert not set(found[column].dropna()) & set(known[column].dropna())
    assert '"key"' not in (hidden.path / "manifest.json").read_text()
    # the same person in every table
    assert found.set_index("user_id")["age"].get(pseudonym_of("ann", "key")) == "30"
