"""The best any model can do on a simulated shop: the exact posterior of who the visitor is and what comes next.

The process and the equations of what comes next stand in `data/simulation.py`. Here runs the forward filter: the weight
w[z, h] of persona and intent given all that was seen is multiplied, event by event, by how likely the event was under
them, and where a new visit begins the intent is forgotten and drawn anew:

    w'[z, h'] = (sum_h w[z, h] leave[h]) r(z) P(channel, device | z) P(h' | z) P(first event | z)

The moments that `evaluate` judges lie inside a split, whose end the equations do not know: an order that comes after it
is none there. As pauses depend on nothing, that takes away from all moments alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import SimulationConfig
from shopkeeper.data.simulation import (
    AWAY,
    BOUGHT,
    CART,
    CHANNELS,
    CHECKOUT,
    COUNTRIES,
    DEVICES,
    EVENTS,
    LEADS_TO,
    LEAVE,
    OPENED,
    OTHER,
    SAME,
    VIEW,
    look_ahead,
    make_shop,
    still_buys,
)
from shopkeeper.models.contract import FitData, SessionModel

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NEW_VISIT = 30 * 60
"""Seconds: pauses inside visits are shorter, those between them longer."""
TINY = 1e-30


PERSONA = "persona "
"""Names of personas in the table of users, before their number."""


class State(NamedTuple):
    """What is known of B visitors: weights of persona and intent, and where they are; item -1 where none is current."""

    weight: Array  # (B, Z, H), summing to 1
    kind: IntArray  # (B,)
    category: IntArray  # (B,)
    item: IntArray  # (B,)


class Optimum(SessionModel):
    """Scores are log probabilities of the process itself; nothing is learned."""

    family = "optimum"
    scores_are_logits = True

    def __init__(self, prepared: Prepared, *, tasks: list[str], outcomes: Sequence[Outcome] = ()) -> None:
        """Of the outcomes those stay that the process tells: who the visitor is, and whether the visit still buys."""
        self.shop = make_shop(SimulationConfig(**prepared.manifest["config"]["simulation"]))
        super().__init__(
            vocabulary=Vocabulary.of(prepared, refit=False),
            tasks=tasks,
            max_len=100_000,
            outcomes=[o for o in outcomes if o.name == s.INTENT or is_persona(o, len(self.shop.persona))],
        )
        self.outlook, self.buys = look_ahead(self.shop), still_buys(self.shop)
        number = {f"i{i}": i for i in range(len(self.shop.category))}
        known = prepared.item_ids()[: self.vocabulary.num_items]
        self.item_of = np.array([-1, *(number[name] for name in known)])  # code -> item of the shop
        kinds = {name: kind for kind, name in enumerate(EVENTS)} | {"email_open": OPENED}
        self.kind_of = np.array([-1, *(kinds.get(name, AWAY) for name in prepared.vocabulary(s.EVENT))])
        self.context = prepared.context_columns
        names = {c: prepared.vocabulary(c) for c in self.context}
        self.likelihood = {
            column: context_table(names[column], values, table)
            for column, values, table in (
                ("country", COUNTRIES, self.shop.country),
                ("channel", CHANNELS, self.shop.channel),
                ("device", DEVICES, self.shop.device),
            )
            if column in names
        }

    def fit(self, data: FitData) -> None:
        """Nothing is learned."""

    def prior_scores(self) -> Tensor:
        intent = self.shop.persona[:, None] * self.shop.intent
        nobody = State(intent[None], *(np.array([value]) for value in (OPENED, 0, -1)))
        return self.look(nobody, np.array([-1]))[0]

    def score(self, batch: Batch) -> Tensor:
        state, last_item = self.follow(batch)
        return self.look(state, last_item)

    def classify(self, batch: Batch) -> list[Tensor]:
        state, _ = self.follow(batch)
        said = [self.intent(state) if o.name == s.INTENT else self.persona(state, o) for o in self.outcomes]
        return [torch.from_numpy(np.log(np.maximum(p, TINY))).float() for p in said]

    def intent(self, state: State) -> Array:
        """P(no order in the rest of the visit), P(one) (B, 2): the mean over intents of what each would do."""
        buys = np.einsum("bzh,hb->b", state.weight, self.buys[:, state.kind])
        return np.stack([1 - buys, buys], axis=1)

    def persona(self, state: State, outcome: Outcome) -> Array:
        """P(persona | all that was seen) in the order of the outcome's classes (B, C)."""
        return np.asarray(state.weight.sum(axis=2)[:, [int(name.removeprefix(PERSONA)) for name in outcome.classes]])

    def personas(self, batch: Batch) -> Array:
        """Probability of each persona given the history (B, Z)."""
        return np.asarray(self.follow(batch)[0].weight.sum(axis=2))

    def follow(self, batch: Batch) -> tuple[State, IntArray]:
        """Run the filter over the tokens of every history; also the item that was named last (B,), -1 for none."""
        event, time, length = (t.numpy() for t in (batch.event, batch.time, batch.length))
        item = np.full(event.shape, -1, np.int64)
        item.ravel()[batch.bag_cell.numpy()] = self.item_of[batch.bag_item.numpy()]
        context = {c: batch.context[:, :, place].numpy() for place, c in enumerate(self.context)}
        state, last_item = self.enter(context), np.full(len(event), -1, np.int64)
        for step in range(1, event.shape[1]):
            here = np.flatnonzero(step < length)
            later = (time[here, step] - time[here, step - 1] >= NEW_VISIT) if step > 1 else np.zeros(len(here), bool)
            before = State(state.weight[here], state.kind[here], state.category[here], state.item[here])
            seen = {c: codes[here, step] for c, codes in context.items()}
            after = self.step(before, self.kind_of[event[here, step]], item[here, step], later, seen)
            for whole, part in zip(state, after, strict=True):
                whole[here] = part
            last_item[here] = np.where(item[here, step] >= 0, item[here, step], last_item[here])
        return state, last_item

    def enter(self, context: dict[str, IntArray]) -> State:
        """The first visit, of which only the context is known."""
        count = len(next(iter(context.values())))
        weight = self.shop.persona[None, :, None] * self.shop.intent[None]
        weight = weight * np.prod([t[context[c][:, 0]] for c, t in self.likelihood.items()], axis=0)[:, :, None]
        none = np.full(count, -1, np.int64)
        return State(normalised(weight), np.full(count, OPENED), np.zeros(count, np.int64), none)

    def step(
        self, state: State, kind: IntArray, item: IntArray, later: npt.NDArray[np.bool_], seen: dict[str, IntArray]
    ) -> State:
        """One event of each of B visitors: `later` where it begins a visit, `seen` are its context codes."""
        weight = np.where(later[:, None, None], self.reopened(state, kind, seen), state.weight)
        from_kind = np.where(later, OPENED, state.kind)
        inside = from_kind < OPENED
        shop, viewed = self.shop, kind == VIEW
        category = np.where(viewed, shop.category[np.maximum(item, 0)], state.category)
        # the view of a fresh item, from the pages of a visit or as its first
        act = shop.act[:, np.minimum(from_kind, BOUGHT)].transpose(1, 0, 2)  # (B, H, actions)
        same = (category == state.category)[:, None] * act[:, :, SAME]
        moved = shop.move[:, state.category, category].T[:, :, None] * act[:, None, :, OTHER]
        fresh = np.where(inside[:, None, None], same[:, None, :] + moved, shop.start[:, category].T[:, :, None])
        fresh = fresh * shop.share[:, np.maximum(item, 0)].T[:, :, None]
        # anything else inside a visit depends on the intent alone
        action = np.select([kind == leads for leads in LEADS_TO.values()], list(LEADS_TO), LEAVE)
        other = np.take_along_axis(act, action[:, None, None], axis=2)[:, :, 0][:, None, :]
        told = np.where(viewed[:, None, None], fresh, np.where((inside & (kind < OPENED))[:, None, None], other, 1.0))
        current = np.where(viewed, item, np.where(np.isin(kind, (CART, CHECKOUT)), state.item, -1))
        return State(normalised(weight * told), kind, category, current)

    def reopened(self, state: State, kind: IntArray, seen: dict[str, IntArray]) -> Array:
        """Weights (B, Z, H) at the begin of a visit; one that only delivers tells nothing of who is served."""
        shop = self.shop
        left = shop.act[:, np.minimum(state.kind, BOUGHT), LEAVE].T[:, None, :]
        stayed = np.where((state.kind < OPENED)[:, None, None], left, 1.0)
        who = (state.weight * stayed).sum(axis=2)
        mailed = kind == OPENED
        channel = np.where(mailed[:, None], 1.0, self.likelihood["channel"][seen["channel"]])
        device = self.likelihood["device"][seen["device"]]
        came = np.where((kind == AWAY)[:, None], 1.0, shop.back * channel * device)
        return np.asarray((who * came)[:, :, None] * shop.intent[None])

    def look(self, state: State, last_item: IntArray) -> Tensor:
        """Log probability of each known item, per task (B, H tasks, V)."""
        scores = [
            self.next_bought(state) if task == s.TASK_PURCHASE else self.next_item(state, last_item)
            for task in self.tasks
        ]
        known = self.item_of[1:]
        stacked = np.stack([np.log(np.maximum(score, TINY))[:, known] for score in scores], axis=1)
        return torch.from_numpy(stacked.astype(np.float32))

    def next_bought(self, state: State) -> Array:
        """P(item is the next one bought | all that was seen) (B, V)."""
        weight, kind, category, item = state
        fresh = np.stack(  # (B, Z, C)
            [
                np.einsum("bh,hbd->bd", weight[:, z], self.outlook.bought[z][:, kind, category])
                for z in range(weight.shape[1])
            ],
            axis=1,
        )
        found = self.shelve(fresh)
        direct = np.einsum("bzh,hb->b", weight, self.outlook.current[:, np.minimum(kind, BOUGHT)])
        holds = np.flatnonzero(item >= 0)
        found[holds, item[holds]] += direct[holds]
        return found

    def next_item(self, state: State, last_item: IntArray) -> Array:
        """P(item is the first one named that differs from the last | all that was seen) (B, V); 0 for the last itself.

        A fresh draw of the last item is passed over and goes on from its view: with R its probability there, from
        intent to intent, that may happen any number of times, (I - R)^-1 = I + R + R^2 + ...
        """
        weight, kind, category, _ = state
        shop, intents = self.shop, weight.shape[2]
        named, own = last_item >= 0, shop.category[np.maximum(last_item, 0)]
        fresh = np.zeros((len(weight), weight.shape[1], shop.start.shape[1]))
        rows = np.arange(len(weight))
        for z in range(weight.shape[1]):
            again = np.where(named, shop.share[z, np.maximum(last_item, 0)], 0.0)
            first = np.einsum("bh,hbdg->bdg", weight[:, z], self.outlook.viewed[z][:, kind, category])
            seen = self.outlook.viewed[z][:, VIEW, own].transpose(1, 0, 2, 3)  # (B, H, C, H), from the last item's view
            back = seen[rows, :, own] * again[:, None, None]
            often = np.linalg.inv(np.eye(intents) - back)
            repeated = np.einsum("bg,bgh->bh", first[rows, own] * again[:, None], often)
            fresh[:, z] = first.sum(axis=2) + np.einsum("bh,bhd->bd", repeated, seen.sum(axis=3))
        found = self.shelve(fresh)
        found[np.flatnonzero(named), last_item[named]] = 0.0
        return found

    def shelve(self, fresh: Array) -> Array:
        """From the chance of each category under each persona (B, Z, C) to that of each item (B, V)."""
        shop = self.shop
        found = np.zeros((len(fresh), len(shop.category)))
        for z in range(fresh.shape[1]):
            found += fresh[:, z, shop.category] * shop.share[z]
        return found


def is_persona(outcome: Outcome, personas: int) -> bool:
    """Whether the classes are the hidden personas themselves, and all of them."""
    return sorted(outcome.classes) == sorted(f"{PERSONA}{z}" for z in range(personas))


def context_table(names: list[str], values: tuple[str, ...], table: Array) -> Array:
    """Likelihood of each code under each persona (codes, Z); 1 for an unknown one, and for what no persona decides."""
    likelihood = np.ones((len(names) + 1, len(table)))
    for code, name in enumerate(names, start=1):
        if name in values:
            likelihood[code] = table[:, values.index(name)]
    return likelihood


def normalised(weight: Array) -> Array:
    total = weight.sum(axis=(1, 2), keepdims=True)
    return np.asarray(weight / np.maximum(total, TINY))
