"""Sample a simulated shop: all visitors of a part take their steps at once, and each part is a file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from shopkeeper.data import schema as s
from shopkeeper.data.settings import SimulationConfig
from shopkeeper.data.simulation import (
    AWAY,
    BOUGHT,
    CHANNELS,
    COUNTRIES,
    DEVICES,
    EMAIL,
    EVENTS,
    LEADS_TO,
    LEAVE,
    OPENED,
    OTHER,
    SAME,
    SEARCH,
    VIEW,
    Shop,
    make_shop,
)

BEGIN = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC in microseconds."""
SECOND, DAY = 1_000_000, 86_400_000_000
VISITORS_AT_ONCE = 50_000
"""Of a part, each with a generator of its own: no number of parts in memory changes the log."""

NAMES = (*EVENTS, "email_open", "delivery", "refund", "review")
EMAIL_OPEN, DELIVERY, REFUND, REVIEW = range(len(EVENTS), len(NAMES))
DELIVERED = 7
"""A state between visits: the order has come, and may be returned or reviewed."""

IntArray = npt.NDArray[np.int64]


def simulate(config: SimulationConfig, folder: Path) -> None:
    """Write `events/*.parquet`, `items.parquet` and `users.parquet`; the same configuration writes the same values."""
    shop = make_shop(config)
    (folder / "events").mkdir(parents=True)
    pq.write_table(items_table(shop), folder / "items.parquet")
    parts = range(0, config.visitors, VISITORS_AT_ONCE)
    personas = []
    for part, first in enumerate(tqdm(parts, desc="simulating", leave=False, disable=len(parts) == 1)):
        count = min(VISITORS_AT_ONCE, config.visitors - first)
        walk = Walk(shop, config, np.random.default_rng([config.seed, 1, part]), first, count)
        pq.write_table(walk.run(), folder / "events" / f"part-{part:05d}.parquet")
        personas.append(walk.persona)
    pq.write_table(users_table(np.concatenate(personas), config), folder / "users.parquet")


def items_table(shop: Shop) -> pa.Table:
    number = np.arange(len(shop.category))
    aisle, shelf = labels("aisle ", shop.category // 5), labels("shelf ", shop.category)
    return pa.table(
        {
            s.ITEM: labels("i", number),
            s.TITLE: labels("item ", number),
            s.CATEGORY: pc.binary_join_element_wise(aisle, shelf, " > "),
            s.BRAND: labels("brand ", number % 37),
            s.PRICE: shop.price,
        }
    )


def users_table(persona: IntArray, config: SimulationConfig) -> pa.Table:
    """Every visitor, and the persona of those that the shop knows."""
    known = np.random.default_rng([config.seed, 2]).random(len(persona)) < config.known_share
    names = pa.array([f"persona {z}" for z in range(config.personas)])
    shown = pa.array(persona, mask=~known)
    return pa.table({s.USER: labels("v", np.arange(len(persona))), "persona": names.take(shown)})


def labels(prefix: str, number: npt.NDArray[np.integer]) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(number).cast(pa.string()), "")


@dataclass
class Walk:
    """The steps of `count` visitors from number `first` on; arrays are over the visitors, events are collected."""

    shop: Shop
    config: SimulationConfig
    rng: np.random.Generator
    first: int
    count: int
    events: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)

    def run(self) -> pa.Table:
        shop, n = self.shop, self.count
        end = BEGIN + self.config.days * DAY
        self.persona = self.draw(np.tile(np.cumsum(shop.persona), (n, 1)))
        self.country = self.draw(np.cumsum(shop.country, axis=1)[self.persona])
        self.cumulated = {
            name: np.cumsum(getattr(shop, name), axis=-1)
            for name in ("channel", "device", "intent", "start", "move", "act")
        }
        # of each item: its category plus the share of the category up to it (Z, V), ascending
        ends, opens = np.cumsum(shop.share, axis=1), np.searchsorted(shop.category, shop.category)
        self.shelf = shop.category + np.clip(ends - ends[:, opens] + shop.share[:, opens], 0.0, 1.0)
        self.time = BEGIN + (self.rng.random(n) * self.config.days * DAY).astype(np.int64)
        self.intent, self.channel, self.device = (np.zeros(n, np.int64) for _ in range(3))
        self.item, self.category, self.orders = (np.zeros(n, np.int64) for _ in range(3))
        self.bought = np.zeros(n, bool)
        self.kind = np.full(n, AWAY)
        new, active = np.ones(n, bool), np.arange(n)
        while len(active):
            kind = self.kind[active]
            self.open_visits(active[kind == AWAY], new)
            self.show(active[kind == OPENED], self.cumulated["start"][self.persona[active[kind == OPENED]]])
            self.follow_up(active[kind == DELIVERED])
            self.act(active[kind < OPENED])
            active = active[(self.kind[active] >= 0) & (self.time[active] < end)]
        return self.table(end)

    def draw(self, cumulated: npt.NDArray[np.float64]) -> IntArray:
        """One category for each row of cumulated probabilities (n, C)."""
        chosen = (self.rng.random((len(cumulated), 1)) > cumulated).sum(axis=1)
        return np.asarray(np.minimum(chosen, cumulated.shape[1] - 1))

    def pause(self, who: IntArray, least: int, most: int) -> None:
        self.time[who] += self.rng.integers(least, most, len(who))

    def emit(self, who: IntArray, event: int | IntArray, *, item: bool = False, order: bool = False) -> None:
        self.events.append(
            {
                "visitor": who,
                "time": self.time[who],
                "event": np.broadcast_to(np.asarray(event, np.int64), len(who)).copy(),
                "item": np.where(item, self.item[who], -1),
                "order": np.where(order, self.orders[who], -1),
                "channel": self.channel[who],
                "device": self.device[who],
            }
        )

    def open_visits(self, who: IntArray, new: npt.NDArray[np.bool_]) -> None:
        """Begin a visit: of those who were here before, some by e-mail, which they open first."""
        z = self.persona[who]
        self.device[who] = self.draw(self.cumulated["device"][z])
        self.channel[who] = self.draw(self.cumulated["channel"][z])
        self.intent[who] = self.draw(self.cumulated["intent"][z])
        self.bought[who] = False
        mailed = ~new[who] & (self.rng.random(len(who)) < self.shop.by_mail)
        new[who] = False
        self.channel[who[mailed]] = len(CHANNELS)
        self.emit(who[mailed], EMAIL_OPEN)
        self.kind[who[mailed]] = OPENED
        self.pause(who[mailed], 5 * SECOND, 300 * SECOND)
        self.show(who[~mailed], self.cumulated["start"][z[~mailed]])

    def show(self, who: IntArray, cumulated: npt.NDArray[np.float64]) -> None:
        """View a fresh item of a category that is drawn now."""
        self.category[who] = self.draw(cumulated)
        self.view(who)

    def view(self, who: IntArray) -> None:
        z, place = self.persona[who], self.category[who] + self.rng.random(len(who))
        for persona in range(len(self.shop.persona)):
            mine = z == persona
            self.item[who[mine]] = np.searchsorted(self.shelf[persona], place[mine])
        last = np.searchsorted(self.shop.category, self.category[who], side="right") - 1
        self.item[who] = np.minimum(self.item[who], last)  # where rounding left the last item a little below 1
        self.emit(who, VIEW, item=True)
        self.kind[who] = VIEW
        self.pause(who, 5 * SECOND, 300 * SECOND)

    def act(self, who: IntArray) -> None:
        """The next step of those who are inside a visit."""
        action = self.draw(self.cumulated["act"][self.intent[who], self.kind[who]])
        self.view(who[action == SAME])
        moving = who[action == OTHER]
        self.show(moving, self.cumulated["move"][self.persona[moving], self.category[moving]])
        for chosen, kind in LEADS_TO.items():
            doing = who[action == chosen]
            self.orders[doing] += kind == BOUGHT
            self.bought[doing] |= kind == BOUGHT
            self.emit(doing, kind, item=kind != SEARCH, order=kind == BOUGHT)
            self.kind[doing] = kind
            self.pause(doing, 5 * SECOND, 300 * SECOND)
        self.leave(who[action == LEAVE])

    def leave(self, who: IntArray) -> None:
        """End a visit: an order is delivered days later, and then or without one the visitor may come back."""
        self.pause(who, DAY, 4 * DAY)
        waiting = who[self.bought[who]]
        self.emit(waiting, DELIVERY, order=True)
        self.pause(waiting, 5 * SECOND, 300 * SECOND)
        self.kind[waiting] = DELIVERED
        self.come_back(who[~self.bought[who]])

    def follow_up(self, who: IntArray) -> None:
        luck = self.rng.random(len(who))
        refunded = luck < self.shop.returned
        self.emit(who[refunded], REFUND, order=True)
        self.emit(who[~refunded & (luck < self.shop.returned + self.shop.reviewed)], REVIEW, order=True)
        self.come_back(who)

    def come_back(self, who: IntArray) -> None:
        returning = self.rng.random(len(who)) < self.shop.back[self.persona[who]]
        self.kind[who] = np.where(returning, AWAY, -1)
        self.pause(who[returning], DAY, 8 * DAY)

    def table(self, end: int) -> pa.Table:
        """The collected events before the end of the log, in the names of the event table."""
        columns = {name: np.concatenate([part[name] for part in self.events]) for name in self.events[0]}
        inside = columns["time"] < end
        columns = {name: values[inside] for name, values in columns.items()}
        visitor, item, order = (columns[name] for name in ("visitor", "item", "order"))
        named, paid = item >= 0, columns["event"] == BOUGHT
        numbers = pc.binary_join_element_wise(labels("o", visitor + self.first), pa.array(order).cast(pa.string()), "-")
        return pa.table(
            {
                s.TIMESTAMP: pa.array(columns["time"], pa.timestamp("us", "UTC")),
                s.EVENT: pa.array(NAMES).take(pa.array(columns["event"])),
                s.ITEM: pc.if_else(pa.array(named), labels("i", item), None),
                s.USER: labels("v", visitor + self.first),
                s.ORDER: pc.if_else(pa.array(order >= 0), numbers, None),
                s.PRICE: pa.array(self.shop.price[np.maximum(item, 0)], mask=~paid),
                s.QUANTITY: pa.array(np.ones(len(item)), mask=~paid),
                "channel": pa.array([*CHANNELS, EMAIL]).take(pa.array(columns["channel"])),
                "device": pa.array(DEVICES).take(pa.array(columns["device"])),
                "country": pa.array(COUNTRIES).take(pa.array(self.country[visitor])),
            }
        )
