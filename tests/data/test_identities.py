import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopkeeper.data.identities import find_persons, joined, joined_users
from shopkeeper.data.settings import IdentityConfig

PAIRS = {"alias": "string", "user_id": "string"}


def persons(*pairs: tuple[str, str], max_aliases: int = 10) -> tuple[dict[str, str], list[str]]:
    table = ibis.memtable({"alias": [a for a, _ in pairs], "user_id": [u for _, u in pairs]}, schema=PAIRS)
    found = find_persons(table, IdentityConfig(max_aliases=max_aliases))
    return dict(zip(found.person["alias"], found.person["person"], strict=True)), found.notes


def test_ids_that_name_each_other_are_one_person_whatever_the_order() -> None:
    # cookie -> app -> ann, mail -> ann; bob's cookie apart
    pairs = [("cookie", "app"), ("mail", "ann"), ("b1", "bob"), ("app", "ann"), ("ann", "ann"), ("mail", "ann")]

    found, notes = persons(*pairs)

    assert found == {"cookie": "ann", "app": "ann", "mail": "ann", "ann": "ann", "b1": "bob", "bob": "bob"}
    assert notes == []
    assert persons(*reversed(pairs)) == (found, [])


def test_an_alias_of_two_users_makes_them_one_who_goes_by_the_smaller_id() -> None:
    assert persons(("till", "bob"), ("till", "ann"))[0] == {"till": "ann", "bob": "ann", "ann": "ann"}


def test_aliases_in_a_circle_are_told_and_left_apart() -> None:
    found, notes = persons(("a", "b"), ("b", "c"), ("c", "a"), ("x", "ann"))

    assert found == {"x": "ann", "ann": "ann"}
    assert notes == ["identities: 1 groups of ids (3 ids) are not joined: their aliases run in a circle"]


def test_a_person_with_too_many_aliases_is_told_and_left_apart() -> None:
    terminal = [(f"guest{n}", "terminal") for n in range(3)]

    assert len(persons(*terminal, max_aliases=3)[0]) == 4
    found, notes = persons(*terminal, ("x", "ann"), max_aliases=2)
    assert found == {"x": "ann", "ann": "ann"}
    assert notes == [
        "identities: 1 groups of more than data.identity.max_aliases=2 aliases are not joined; the largest has 4 ids"
    ]


def test_no_pairs_join_nobody() -> None:
    assert persons() == ({}, [])


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8))
def test_persons_are_those_of_a_plain_search(pairs: list[tuple[str, str]]) -> None:
    found, notes = persons(*pairs)

    reach = {i: {i} for pair in pairs for i in pair}
    for _round in range(6):
        for a, b in pairs:
            both = reach[a] | reach[b]
            for i in both:
                reach[i] = both | reach[i]
    for one, person in found.items():
        assert {other for other, whose in found.items() if whose == person} == reach[one]
    assert notes or set(found) == {i for i in reach if len(reach[i]) > 1}


@pytest.fixture
def person() -> ibis.Table:
    return ibis.memtable({"alias": ["cookie", "ann"], "person": ["ann", "ann"]})


def test_events_go_by_the_person(person: ibis.Table) -> None:
    events = ibis.memtable({"row": [0, 1, 2], "user_id": ["cookie", None, "bob"]})

    found = joined(events, person).order_by("row").execute()

    assert found["user_id"].tolist()[::2] == ["ann", "bob"]
    assert found["user_id"].isna().tolist() == [False, True, False]
    assert list(found.columns) == ["row", "user_id"]


def test_of_two_rows_of_a_person_that_of_its_own_id_counts(person: ibis.Table) -> None:
    users = ibis.memtable({"user_id": ["ann", "cookie", "bob"], "age": ["30", "40", "50"]})
    notes: list[str] = []

    found = joined_users(users, person, notes).order_by("user_id").execute()

    assert found.to_numpy().tolist() == [["ann", "30"], ["bob", "50"]]
    assert notes == ["users: 1 rows are of a person who has another row, which counts"]
