from typing import Any

import numpy as np
import pytest

from shopkeeper.config import UserError
from shopkeeper.data.settings import SimulationConfig
from shopkeeper.data.simulation import (
    AWAY,
    BOUGHT,
    CART,
    CHECKOUT,
    OPENED,
    SEARCH,
    VIEW,
    Shop,
    look_ahead,
    make_shop,
    still_buys,
)

SIZE: dict[str, Any] = {
    "visitors": 10,
    "days": 10,
    "personas": 3,
    "categories": 4,
    "items": 11,
    "known_share": 0.5,
    "seed": 1,
}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop(SimulationConfig(**SIZE))


def test_every_table_is_of_probabilities(shop: Shop) -> None:
    for table in (shop.persona, shop.country, shop.channel, shop.device, shop.intent, shop.start, shop.move, shop.act):
        np.testing.assert_allclose(table.sum(axis=-1), 1.0)
        assert (table >= 0).all()
    for z in range(3):
        np.testing.assert_allclose(np.bincount(shop.category, shop.share[z]), np.ones(4))
    assert not shop.move[:, range(4), range(4)].any()
    assert (np.diff(shop.category) >= 0).all()
    assert set(shop.category) == {0, 1, 2, 3}


def test_the_seed_decides_the_shop(shop: Shop) -> None:
    again, other = make_shop(SimulationConfig(**SIZE)), make_shop(SimulationConfig(**(SIZE | {"seed": 2})))

    np.testing.assert_array_equal(again.share, shop.share)
    assert not np.array_equal(other.persona, shop.persona)


def test_the_current_item_is_bought_along_one_path(shop: Shop) -> None:
    current = look_ahead(shop).current

    # browsing: view -> cart 0.04, cart -> checkout 0.25, checkout -> purchase 0.55
    np.testing.assert_allclose(current[0, [VIEW, CART, CHECKOUT, BOUGHT]], [0.04 * 0.25 * 0.55, 0.25 * 0.55, 0.55, 0.0])


def test_what_comes_next_is_at_most_certain_and_the_pages_do_not_matter_outside(shop: Shop) -> None:
    outlook = look_ahead(shop)

    assert (outlook.bought >= 0).all()
    assert (outlook.bought.sum(axis=-1) < 1).all()
    assert (outlook.viewed.sum(axis=(-1, -2)) <= 1 + 1e-12).all()
    np.testing.assert_allclose(outlook.viewed[:, :, OPENED].sum(axis=(-1, -2)), 1.0)  # a visit shows something
    for state in (OPENED, AWAY):
        assert np.ptp(outlook.bought[:, :, state], axis=2).max() == 0
    # who is away comes back with probability r(z), and then views something for certain
    np.testing.assert_allclose(outlook.viewed[:, 0, AWAY, 0].sum(axis=(-1, -2)), shop.back)


def test_a_size_that_makes_no_shop_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.simulation\.items=3 is out of range: .* one for each category"):
        SimulationConfig(**(SIZE | {"items": 3}))


def test_the_rest_of_a_visit_buys_as_often_as_its_next_steps_say(shop: Shop) -> None:
    found = still_buys(shop)

    for h in range(2):
        buys, act = found[h], shop.act[h]
        after = [buys[VIEW], buys[VIEW], buys[SEARCH], buys[CART], buys[CHECKOUT], 1.0, 0.0]  # by action
        assert buys[:5] == pytest.approx(act @ np.array(after))
        assert (buys[OPENED], buys[AWAY]) == (buys[VIEW], 0.0)
    # who came to buy does so more often, and at the checkout most of all
    assert (found[1, :5] > found[0, :5]).all()
    assert found[1].argmax() == CHECKOUT
