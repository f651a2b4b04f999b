r"""A shop whose truth is known: a Markov chain for each kind of visitor, and what it says will be bought next.

**The process.** A visitor has a persona z ~ P(z), which nobody sees, and a country ~ P(country | z). Each visit has a
channel ~ P(channel | z), a device ~ P(device | z) and an intent h ~ P(h | z), drawn anew and unseen too. Inside a visit
the state is what was done last (a kind) and the current item i of category c. From a state of kind a, action b follows
with probability A[h, a, b]:

- `same`: view an item of the same category, drawn from q(. | z, c) (it may be the current one again);
- `other`: move to category d ~ T(d | z, c), d != c, and view an item drawn from q(. | z, d);
- `search` (the category stays, no item is current), `add_to_cart`, `begin_checkout`, `purchase` of the current item;
- `leave`: the visit ends.

A visit opens with the view of an item of a category d ~ S(d | z). One that comes by e-mail opens with `email_open`,
and its channel is then email, whatever the persona. After a visit with a purchase comes a visit of fulfilment: a
`delivery`, and by chance a `refund` (return) or a `review`; these name the order, not the item. Then, or at once where
nothing was bought, the visitor comes back with probability r(z), else never. Every order is of one item. Pauses
inside visits (seconds to minutes) and between them (days) do not depend on anything, nor do prices on anything but the
item: neither tells more than where a visit ends.

**What it says.** Given (z, h) all that matters of the past is the state. Let alpha[h, a] be the probability that the
current item is bought before another is viewed, and W[h, d] = alpha[h, view] e_d + G[h, view, d] the outcome of viewing
a fresh item of category d. The categories G[h, a, c] in which a fresh item is the next one bought solve, for each z,

    G[h, a, c] = A[h,a,same] W[h,c] + A[h,a,other] sum_d T(d|z,c) W[h,d] + sum_b A[h,a,b] G[h,b,c] + A[h,a,leave] N
    N = r(z) sum_h P(h|z) sum_d S(d|z) W[h,d]

over b in (search, add_to_cart, begin_checkout): a linear system of the size of categories, not of items. An item j of
category d is then the next one bought with probability G[.., d] q(j | z, d), plus alpha[h, a] if it is current. The
first fresh item of any kind, F, solves the same system with W replaced by what was just viewed. Whether the visit still
buys depends on (h, a) alone: a chain that ends with the next purchase or when the visitor leaves,

    B[h, a] = A[h,a,purchase] + (A[h,a,same] + A[h,a,other]) B[h,view] + sum_b A[h,a,b] B[h,b]

and what has only opened is followed by a view. The weights of (z, h) given all that a visitor did are a forward filter
(see `models/optimum.py`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.data.settings import SimulationConfig

Array = npt.NDArray[np.float64]

VIEW, SEARCH, CART, CHECKOUT, BOUGHT = range(5)
"""Kinds of state inside a visit, by the event that leads there."""
OPENED, AWAY = 5, 6
"""A visit that is open and has shown nothing yet; between visits."""
KINDS = 5
EVENTS = ("view_item", "search", "add_to_cart", "begin_checkout", "purchase")
"""By kind."""

SAME, OTHER, TO_SEARCH, TO_CART, TO_CHECKOUT, TO_PURCHASE, LEAVE = range(7)
LEADS_TO = {TO_SEARCH: SEARCH, TO_CART: CART, TO_CHECKOUT: CHECKOUT, TO_PURCHASE: BOUGHT}

CHANNELS = ("web", "app", "store")
EMAIL = "email"
DEVICES = ("phone", "desktop", "tablet")
COUNTRIES = ("DE", "FR", "GB", "US")

# Rows: view, search, cart, checkout, bought; columns: the actions in their order.
BROWSING = np.array(
    [
        [0.42, 0.14, 0.10, 0.04, 0.00, 0.00, 0.30],
        [0.55, 0.20, 0.00, 0.00, 0.00, 0.00, 0.25],
        [0.20, 0.20, 0.05, 0.00, 0.25, 0.00, 0.30],
        [0.20, 0.00, 0.00, 0.00, 0.00, 0.55, 0.25],
        [0.20, 0.15, 0.00, 0.00, 0.00, 0.00, 0.65],
    ]
)
BUYING = np.array(
    [
        [0.40, 0.12, 0.08, 0.22, 0.00, 0.00, 0.18],
        [0.65, 0.20, 0.00, 0.00, 0.00, 0.00, 0.15],
        [0.12, 0.08, 0.03, 0.00, 0.65, 0.00, 0.12],
        [0.06, 0.00, 0.00, 0.00, 0.00, 0.86, 0.08],
        [0.25, 0.15, 0.00, 0.00, 0.00, 0.00, 0.60],
    ]
)


@dataclass(frozen=True)
class Shop:
    """The tables of the process: Z personas, H intents, C categories, V items (category by category)."""

    persona: Array  # (Z,) P(z)
    country: Array  # (Z, countries)
    channel: Array  # (Z, channels)
    device: Array  # (Z, devices)
    intent: Array  # (Z, H)
    back: Array  # (Z,) r(z)
    start: Array  # (Z, C) S
    move: Array  # (Z, C, C) T, zero on the diagonal
    act: Array  # (H, kinds, actions) A
    share: Array  # (Z, V) q, summing to 1 in each category
    category: npt.NDArray[np.int64]  # (V,) ascending
    price: Array  # (V,)
    by_mail: float  # of the visits of those who come back
    returned: float  # of the deliveries
    reviewed: float


def make_shop(config: SimulationConfig) -> Shop:
    """Draw the tables from the seed: the same configuration is the same shop."""
    rng = np.random.default_rng([config.seed, 0])
    personas, categories, items = config.personas, config.categories, config.items
    category = np.sort(np.concatenate([np.arange(categories), rng.integers(0, categories, items - categories)]))
    price = np.round(np.exp(rng.normal(3.0, 0.8, items)), 2)
    popular = 1.0 / (1.0 + rng.permutation(items)) ** 0.7
    taste = np.exp(rng.normal(0, 1.0, (personas, items)) - rng.normal(0, 0.6, (personas, 1)) * np.log(price))
    weight = popular * taste
    sums = np.stack([np.bincount(category, w, minlength=categories) for w in weight])
    move = rng.dirichlet(np.full(categories, 0.3), (personas, categories)) + 1e-4
    move[:, np.arange(categories), np.arange(categories)] = 0.0
    buying = rng.uniform(0.1, 0.5, personas)
    return Shop(
        persona=rng.dirichlet(np.full(personas, 5.0)),
        country=rng.dirichlet(np.full(len(COUNTRIES), 0.8), personas),
        channel=rng.dirichlet(np.full(len(CHANNELS), 0.8), personas),
        device=rng.dirichlet(np.full(len(DEVICES), 0.8), personas),
        intent=np.stack([1 - buying, buying], axis=1),
        back=rng.uniform(0.25, 0.6, personas),
        start=rng.dirichlet(np.full(categories, 0.25), personas),
        move=move / move.sum(axis=2, keepdims=True),
        act=np.stack([BROWSING, BUYING]),
        share=weight / sums[:, category],
        category=category,
        price=price.astype(np.float64),
        by_mail=0.3,
        returned=0.1,
        reviewed=0.2,
    )


class Outlook(NamedTuple):
    """What comes next from each state, for Z personas and H intents.

    `current` (H, kinds): the current item is bought before another is viewed. `bought` (Z, H, states, C, C): the next
    item bought is a fresh one of the last category. `viewed` (Z, H, states, C, C, H): the next fresh item is viewed in
    that category, under that intent. States are the kinds, `OPENED` and `AWAY`; the first C is the current category.
    """

    current: Array
    bought: Array
    viewed: Array


def look_ahead(shop: Shop) -> Outlook:
    """Solve the equations of the module for every state."""
    personas, intents, categories = len(shop.persona), len(shop.act), shop.start.shape[1]
    act = shop.act
    current = np.zeros((intents, KINDS))
    current[:, CHECKOUT] = act[:, CHECKOUT, TO_PURCHASE]
    current[:, CART] = act[:, CART, TO_CHECKOUT] * current[:, CHECKOUT]
    current[:, VIEW] = act[:, VIEW, TO_CART] * current[:, CART]
    bought = np.stack([next_bought(shop, z, current) for z in range(personas)])
    viewed = np.stack([next_viewed(shop, z) for z in range(personas)])
    return Outlook(current, bought, viewed.reshape(personas, intents, KINDS + 2, categories, categories, intents))


def still_buys(shop: Shop) -> Array:
    """Probability of an order in the rest of the visit from each state (H, kinds + 2); none follows a delivery."""
    found = np.zeros((len(shop.act), KINDS + 2))
    for h, act in enumerate(shop.act):
        matrix = np.eye(KINDS)
        matrix[:, VIEW] -= act[:, SAME] + act[:, OTHER]
        for action in (TO_SEARCH, TO_CART, TO_CHECKOUT):
            matrix[:, LEADS_TO[action]] -= act[:, action]
        found[h, :KINDS] = np.linalg.solve(matrix, act[:, TO_PURCHASE])
    found[:, OPENED] = found[:, VIEW]
    return found


def next_bought(shop: Shop, z: int, current: Array) -> Array:
    """(H, states, C, C) of one persona."""
    intents, categories = len(shop.act), shop.start.shape[1]
    size = intents * KINDS * categories
    index = np.arange(size).reshape(intents, KINDS, categories)
    matrix, right = np.eye(size + 1), np.zeros((size + 1, categories))
    away = size
    unit = np.eye(categories)
    for h in range(intents):
        fresh = index[h, VIEW]
        for kind in range(KINDS):
            rows, act = index[h, kind], shop.act[h, kind]
            into = act[SAME] * unit + act[OTHER] * shop.move[z]  # (from, to a fresh item of)
            matrix[np.ix_(rows, fresh)] -= into
            right[rows] += into * current[h, VIEW]
            for action in (TO_SEARCH, TO_CART, TO_CHECKOUT):
                matrix[rows, index[h, LEADS_TO[action]]] -= act[action]
            matrix[rows, away] -= act[LEAVE]
        first = shop.back[z] * shop.intent[z, h] * shop.start[z]
        matrix[away, fresh] -= first
        right[away] += first * current[h, VIEW]
    found: Array = np.linalg.solve(matrix, right).astype(np.float64)
    inside: Array = found[:size].reshape(intents, KINDS, categories, categories)
    opened = shop.start[z] @ (inside[:, VIEW] + current[:, VIEW, None, None] * unit)  # (H, C)
    return with_outside(inside, np.asarray(opened), found[away])


def next_viewed(shop: Shop, z: int) -> Array:
    """(H, states, C, C * H) of one persona: category and intent of the next fresh item."""
    intents, categories = len(shop.act), shop.start.shape[1]
    targets = categories * intents
    first = np.stack([shop.start[z] * (np.arange(intents) == h)[:, None] for h in range(intents)])  # (H, H', C)
    opened = first.transpose(0, 2, 1).reshape(intents, targets)
    away: Array = shop.back[z] * shop.intent[z] @ opened
    inside: Array = np.zeros((intents, KINDS, categories, targets))
    for h in range(intents):
        here = (np.arange(intents) == h).astype(float)
        for kind in (BOUGHT, SEARCH, CHECKOUT, CART, VIEW):  # each leads only to kinds before it
            act = shop.act[h, kind]
            into = act[SAME] * np.eye(categories) + act[OTHER] * shop.move[z]
            inside[h, kind] = (into[:, :, None] * here).reshape(categories, targets) + act[LEAVE] * away
            for action, leads_to in LEADS_TO.items():
                inside[h, kind] += act[action] * inside[h, leads_to]
    return with_outside(inside, np.asarray(opened), np.asarray(away))


def with_outside(inside: Array, opened: Array, away: Array) -> Array:
    """Add the states outside the shop's pages, which know no current category: (H, kinds + 2, C, targets)."""
    intents, _, categories, targets = inside.shape
    opened_rows = np.broadcast_to(opened[:, None, None], (intents, 1, categories, targets))
    away_rows = np.broadcast_to(away, (intents, 1, categories, targets))
    return np.concatenate([inside, opened_rows, away_rows], axis=1)
