from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.models.content import ContentSettings, ContentTower, content_codes, price_tiers, title_words

SETTINGS: dict[str, Any] = {
    "levels": 2,
    "tiers": 2,
    "title_tokens": 2,
    "buckets": 100_000,
    "id_dropout": 0.0,
    "cold_items": True,
}
CATALOGUE = pd.DataFrame(
    {
        "title": ["Green tea", "black Tea", None, "Tea pot"],
        "category": ["drinks > tea", "drinks > tea", "drinks", "kitchen > pots"],
        "brand": ["own", None, "own", "ceylon"],
        "price": [1.0, 3.0, np.nan, 9.0],
    }
)
LEVEL1, LEVEL2, BRAND, KIND, PRICE, WORD1, WORD2 = range(7)


def codes(*known: bool) -> np.ndarray:
    return content_codes(CATALOGUE, np.array(known), ContentSettings(**SETTINGS))


def tower(vectors: torch.Tensor, *events: float) -> ContentTower:
    made = ContentTower(num_items=4, dim=vectors.shape[1], settings=SETTINGS)
    made.fit(CATALOGUE, np.array(events), vectors)
    return made.eval()


def test_items_share_the_codes_of_what_they_share() -> None:
    found = codes(True, True, True, True)
    green, black, drink, pot = found

    assert green[LEVEL1] == black[LEVEL1] == drink[LEVEL1] != pot[LEVEL1]
    assert green[LEVEL2] == black[LEVEL2] != pot[LEVEL2]
    assert green[BRAND] == drink[BRAND] != pot[BRAND]
    assert green[KIND] != drink[KIND]
    assert green[PRICE] != black[PRICE]
    assert pot[WORD1] == green[WORD2] == black[WORD2]  # tea, whatever its case and place
    assert (drink[[LEVEL2, PRICE, WORD1, WORD2]] == 0).all()
    assert black[BRAND] == black[KIND] == 0
    assert found.max() <= SETTINGS["buckets"]


def test_a_value_that_no_known_item_has_gets_no_code() -> None:
    pot = codes(True, True, True, False)[3]

    assert pot[WORD1] > 0  # tea is known
    assert np.count_nonzero(pot) == 1


def test_price_tiers_are_those_of_the_category() -> None:
    category = pd.Series(["tea"] * 5 + ["pots"] * 2 + [None])
    price = np.array([1.0, 2.0, 3.0, 4.0, np.nan, 30.0, 10.0, 5.0])
    known = np.array([True] * 7 + [False])

    # the middle of tea is 2.5, that of pots 20; nothing is known of what has no category
    found = price_tiers(category, price, known, 2)

    assert found.isna().tolist() == [False] * 4 + [True] + [False] * 3
    assert found.dropna().tolist() == [
        *["tea tier 0"] * 2,
        *["tea tier 1"] * 2,
        "pots tier 1",
        "pots tier 0",
        " tier 0",
    ]


def test_a_catalogue_without_words_or_prices_has_codes_of_what_is_there() -> None:
    bare = CATALOGUE.assign(title=None, price=np.nan, brand=None)

    found = content_codes(bare, np.ones(4, bool), ContentSettings(**SETTINGS))

    assert (found[:, [BRAND, KIND, PRICE, WORD1, WORD2]] == 0).all()
    assert (found[:, LEVEL1] > 0).all()
    assert [w.tolist() for w in title_words(pd.Series(["a b-c"]), 2)] == [["a"], ["b"]]


def test_a_vector_is_the_sum_of_its_codes() -> None:
    made = tower(torch.zeros(4, 1), 1.0, 1.0, 1.0, 1.0)
    with torch.no_grad():
        made.table.weight.copy_(torch.arange(len(made.table.weight)).float()[:, None])

    wanted = made.codes.sum(dim=1)
    assert made(torch.arange(5))[:, 0].tolist() == pytest.approx(wanted.tolist())


def test_a_new_item_starts_like_those_it_resembles() -> None:
    vectors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    made = tower(vectors, 5.0, 0.0, 5.0, 5.0)

    # black tea was never chosen. Of drinks are the items 1 and 3, of tea item 1, of the word tea the items 1 and 4;
    # 7 + 3 + 3 + 7 codes are five an item: a fifth of (1/2, 1/2, 0) + (1, 0, 0) + (1/2, 0, 1/2)
    torch.testing.assert_close(made(torch.tensor([2]))[0], torch.tensor([0.4, 0.1, 0.1]))


def test_content_stands_in_for_new_items_and_in_training_by_chance() -> None:
    made = tower(torch.zeros(4, 1), 1.0, 0.0, 1.0, 1.0)
    every = torch.arange(5)
    assert made.stands_in(every).tolist() == [False, False, True, False, False]

    object.__setattr__(made.settings, "id_dropout", 0.5)
    assert made.stands_in(every).tolist() == [False, False, True, False, False]
    torch.manual_seed(0)
    drawn = torch.stack([made.train().stands_in(every) for _ in range(1000)]).float().mean(dim=0)
    assert drawn[2] == 1
    assert drawn[1].item() == pytest.approx(0.5, abs=0.05)


def test_an_item_the_catalogue_is_silent_about_keeps_its_id() -> None:
    silent = CATALOGUE.assign(title=None, category=None, brand=None, price=np.nan)
    made = ContentTower(num_items=4, dim=1, settings=SETTINGS | {"id_dropout": 0.9})
    made.fit(silent, np.ones(4), torch.zeros(4, 1))

    assert not made.train().stands_in(torch.arange(5)).any()


def test_an_item_of_its_kind_is_expected_to_count_the_mean() -> None:
    made = tower(torch.zeros(4, 1), 1.0, 1.0, 1.0, 1.0)

    assert made.expected(torch.tensor([6.0, 0.0, 1.0, 4.0])).tolist() == [3.0, 3.0, 1.0, 4.0]


def test_codes_learn_from_the_items_that_have_them() -> None:
    made = tower(torch.zeros(4, 1), 1.0, 1.0, 1.0, 1.0)
    made(torch.tensor([0, 3])).sum().backward()

    gradient = made.table.weight.grad
    assert gradient is not None
    assert set(gradient[:, 0].nonzero()[:, 0].tolist()) == set(made.codes[3].tolist()) - {0}


@pytest.mark.parametrize(("name", "value"), [("levels", -1), ("tiers", 0), ("buckets", 0), ("id_dropout", 1.0)])
def test_a_setting_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"content.{name}={value}"):
        ContentSettings(**(SETTINGS | {name: value}))
