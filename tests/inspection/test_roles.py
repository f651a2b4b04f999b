from collections.abc import Callable
from typing import Any

import pytest

from shopkeeper.inspection.looks import Look
from shopkeeper.inspection.roles import (
    CONTENT,
    ENDING,
    OURS,
    SAME,
    Roles,
    event_of,
    event_of_file,
    few_words,
    find_roles,
    is_personal,
    known_share,
    likeness,
    only_time,
    repeating_ids,
    words_of,
)
from shopkeeper.inspection.settings import InspectConfig, WordsConfig
from shopkeeper.inspection.times import Clock


@pytest.fixture(scope="module")
def words(compose: Callable[..., Any]) -> WordsConfig:
    found: WordsConfig = compose("inspect", InspectConfig, "log=x").words
    return found


def ids(name: str, distinct: int = 800, filled: int = 1000) -> Look:
    return Look(name, "text", filled=filled, distinct=distinct, is_id=True, example="x")


def time(name: str) -> Look:
    return Look(name, "text", filled=1000, distinct=900, is_id=True, clock=Clock(), example="2025-11-03")


def money(name: str) -> Look:
    return Look(name, "number", filled=1000, distinct=90, low=0, high=9, example="1.5")


def few(name: str, **values: int) -> Look:
    return Look(name, "text", filled=1000, distinct=len(values), is_id=True, values=values, example="x")


def roles(words: WordsConfig, *looks: Look) -> Roles:
    return find_roles(looks, words.columns, words)


def test_a_name_is_its_words_without_case_and_accents() -> None:
    assert words_of("userId") == words_of("User-ID") == words_of("user_id") == ["user", "id"]
    assert words_of("Stück-Nr.") == words_of("STUECK NR") == ["stuck", "nr"]
    assert words_of("Größe") == ["grosse"]
    assert words_of("__") == []


def test_a_name_is_known_whole_or_by_its_end() -> None:
    assert likeness("User Id", ["user", "user id"]) == (SAME, 1)
    assert likeness("shop_user_id", ["user", "user id"]) == (ENDING, 1)
    assert likeness("user_age", ["user", "user id"]) is None
    assert likeness("superuser", ["user"]) is None


@pytest.mark.parametrize(
    "names",
    [
        ("event_time", "event_type", "user_id", "user_session", "product_id"),  # REES46
        ("timestamp", "event", "visitorid", None, "itemid"),  # Retailrocket
        ("ts", "type", None, "session", "aid"),  # OTTO, flat
        ("t_dat", None, "customer_id", None, "article_id"),  # H&M
        ("InvoiceDate", None, "CustomerID", None, "StockCode"),  # Online Retail
        ("Zeit", "Aktion", "Kunde", "Sitzung", "Artikel"),
        ("Date", "Événement", "Client", "Visite", "Produit"),
        ("Fecha", "Evento", "Cliente", "Sesión", "Producto"),
    ],
)
def test_columns_of_known_logs_and_of_four_languages(words: WordsConfig, names: tuple[str | None, ...]) -> None:
    made: list[Callable[[str], Look]] = [time, lambda name: few(name, view=9, buy=1), ids, ids, ids]
    looks = [make(name) for make, name in zip(made, names, strict=True) if name]

    found = roles(words, *looks).picks

    ours = ("timestamp", "event", "user_id", "session_id", "item_id")
    assert {name: look.name for name, look in found.items()} == {o: n for o, n in zip(ours, names, strict=True) if n}


def test_orders_and_their_numbers(words: WordsConfig) -> None:
    names = {"order_id": "Bestellnummer", "price": "Einzelpreis", "quantity": "Menge", "discount": "Rabatt"}
    found = roles(words, ids("Bestellnummer"), *(money(name) for name in list(names.values())[1:]))

    assert {ours: look.name for ours, look in found.picks.items()} == names


def test_our_own_name_wins_and_others_are_kept_as_alternatives(words: WordsConfig) -> None:
    found = roles(words, time("created_at"), time("event_time"), ids("customer"), ids("user_id"), ids("shop_user_id"))

    assert found.picks["timestamp"].name == "event_time"
    assert [look.name for look in found.others["timestamp"]] == ["created_at"]
    assert (found.picks["user_id"].name, found.strength["user_id"]) == ("user_id", OURS)
    assert [look.name for look in found.others["user_id"]] == ["customer", "shop_user_id"]


def test_a_column_must_fit_its_name(words: WordsConfig) -> None:
    found = roles(words, ids("price"), money("user_id"), money("timestamp"), time("session"))

    assert found.picks == {}


def test_the_event_is_known_by_its_values(words: WordsConfig) -> None:
    kind = few("kind_of_thing", gesehen=90, gekauft=10)

    found = roles(words, kind, few("colour", red=50, blue=50))

    assert (found.picks["event"], found.strength["event"]) == (kind, CONTENT)
    assert known_share(few("x", view=30, wave=70), words) == 0.3
    assert "event" not in roles(words, few("page_event", red=1, blue=1)).picks  # half a name and no known value
    assert "event" not in roles(words, ids("action")).picks  # too many values


@pytest.mark.parametrize(
    ("value", "event"),
    [
        ("view", "view_item"),
        ("addtocart", "add_to_cart"),
        ("carts", "add_to_cart"),
        ("orders", "purchase"),
        ("transaction", "purchase"),
        ("Gesehen", "view_item"),
        ("in den Korb", "add_to_cart"),
        ("Kauf", "purchase"),
        ("Ajout au panier", "add_to_cart"),
        ("achat", "purchase"),
        ("Añadir al carrito", "add_to_cart"),
        ("compra", "purchase"),
        ("BEGIN_CHECKOUT", "begin_checkout"),
        ("dance", None),
    ],
)
def test_events_in_four_languages(words: WordsConfig, value: str, event: str | None) -> None:
    assert event_of(value, words) == event


def test_every_word_for_an_event_stands_under_one_event(words: WordsConfig) -> None:
    listed = [(word, ours) for ours, theirs in words.events.items() for word in theirs]

    assert [(word, ours) for word, ours in listed if event_of(word, words) != ours] == []


def test_a_file_may_name_its_event(words: WordsConfig) -> None:
    assert event_of_file("train-item-views", words) == "view_item"
    assert event_of_file("orders_2024", words) == "purchase"
    assert event_of_file("shop", words) is None


def test_what_is_left_may_be_a_time_a_visitor_or_context(words: WordsConfig) -> None:
    item, visitor, unique = ids("item"), ids("v", distinct=300), ids("row", distinct=1000)
    store, one, mail = few("store", a=5, b=6), few("one", a=5), few("email", a=5, b=6)
    looks = [item, visitor, unique, store, one, mail, time("x"), Look("n", "whole", clock=Clock(unit="s"))]

    assert [look.name for look in only_time(looks)] == ["x"]
    assert [look.name for look in repeating_ids(looks, [item], max_values=50)] == ["v"]
    assert [look.name for look in few_words(looks, [item], words)] == ["store"]


def test_values_that_tell_a_person_are_known(words: WordsConfig) -> None:
    assert is_personal(ids("Kunden-Email"), words)
    assert is_personal(Look("contact", "text", example="a@b.de"), words)
    assert not is_personal(ids("colour"), words)
