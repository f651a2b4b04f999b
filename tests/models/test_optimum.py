from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopkeeper.config import EvaluateConfig, TrainConfig
from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import Examples, stranger_examples
from shopkeeper.data.outcomes import Labels, Outcome
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.simulation import CHANNELS, COUNTRIES, DEVICES, EVENTS, LEADS_TO, LEAVE, OTHER, SAME, Shop
from shopkeeper.evaluate.tables import POOLED, rows_of, warm_up_text
from shopkeeper.models.optimum import Optimum
from shopkeeper.stages import evaluate
from shopkeeper.train.fit import train

KS = [0, 1, 2, 3, 5, 8, 12]
Event = dict[str, Any]
INTENT = Outcome(s.INTENT, ("none", "purchase"))
PERSONAS = Outcome("segment:persona", ("persona 1", "persona 0"))
"""Out of order on purpose: classes go by their names."""


@pytest.fixture(scope="module")
def tiny(compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two personas, two categories, four items."""
    sizes = {"visitors": 9000, "days": 60, "personas": 2, "categories": 2, "items": 4, "known_share": 1.0, "seed": 3}
    overrides = [f"data.simulation.{name}={value}" for name, value in sizes.items()]
    output = f"output={tmp_path_factory.mktemp('tiny') / 'prepared'}"
    return prepare(
        compose("prepare", PrepareConfig, "data=simulated", output, "threads=1", *overrides), say=lambda _: None
    )


@pytest.fixture(scope="module")
def optimum(tiny: Prepared) -> Optimum:
    return Optimum(tiny, tasks=list(s.TASKS), outcomes=[INTENT, PERSONAS, Outcome(s.PHASE, s.PHASES)])


def batch_of(prepared: Prepared, optimum: Optimum, examples: Examples) -> Any:
    return collate(prepared, example_pieces(examples, optimum.max_len), optimum.vocabulary)


def after_every_event(prepared: Prepared, examples: Examples, *, each: int) -> np.ndarray:
    """Numbers of examples right after every kind of event."""
    long = np.flatnonzero(examples.k >= 1)
    last = prepared.rows["event"][prepared.step_offsets[examples.last[long]] - 1]
    return np.concatenate([long[last == code][:each] for code in np.unique(last)])


# ---- the same by plain loops over hidden states and paths, item by item, from the tables of the shop alone ----


def visits_of(history: pd.DataFrame) -> list[list[Event]]:
    """A visitor's rows, cut where more than half an hour passes."""
    visits: list[list[Event]] = []
    last = None
    for row in history.to_dict("records"):
        if last is None or row[s.TIMESTAMP] - last > pd.Timedelta(minutes=30):
            visits.append([])
        visits[-1].append({str(name): value for name, value in row.items()})
        last = row[s.TIMESTAMP]
    return visits


def draw(shop: Shop, z: int, category: int | None, item: int) -> float:
    """P(a fresh item of that kind), from a category (None: the first of a visit), whatever the action."""
    own = int(shop.category[item])
    chance = shop.start[z, own] if category is None else shop.move[z, category, own]
    return float(chance * shop.share[z, item])


def likelihood(shop: Shop, visits: list[list[Event]], country: str, z: int, intents: tuple[int, ...]) -> float:
    """P(all that was seen, the context of every visit among it | persona, intent of each visit) P(persona, intents)."""
    total = shop.persona[z] * shop.country[z, COUNTRIES.index(country)]
    for number, (visit, h) in enumerate(zip(visits, intents, strict=True)):
        total *= shop.intent[z, h]
        if visit[0][s.EVENT] == "delivery":
            continue  # serves an order; who comes tells nothing
        if number:
            total *= shop.back[z]
        mailed = visit[0][s.EVENT] == "email_open"
        where = visit[0]
        total *= 1.0 if mailed else shop.channel[z, CHANNELS.index(where["channel"])]
        total *= shop.device[z, DEVICES.index(where["device"])]
        kind: int | None = None
        category: int | None = None
        for row in visit[1 if mailed else 0 :]:
            event = EVENTS.index(row[s.EVENT])
            if event == 0:
                item = int(row[s.ITEM][1:])
                if kind is None:
                    total *= draw(shop, z, None, item)
                else:
                    act, own = shop.act[h, kind], int(shop.category[item])
                    stays = act[SAME] * (own == category) * shop.share[z, item]
                    total *= stays + act[OTHER] * draw(shop, z, category, item)
                category = int(shop.category[item])
            else:
                (action,) = (a for a, leads in LEADS_TO.items() if leads == event)
                total *= shop.act[h, kind if kind is not None else 0, action]
            kind = event
        if number < len(visits) - 1:
            total *= shop.act[h, kind if kind is not None else 0, LEAVE]
    return float(total)


Place = tuple[int, int | None, int | None, int | None]  # intent, kind (None: opened, -1: away), category, current item


def first_outcome(shop: Shop, z: int, start: Place, last: int | None, task: str) -> dict[int, float]:
    """Spread the probability of a start over all paths, step by step, until what is left is nothing."""
    outcome: dict[int, float] = defaultdict(float)
    mass: dict[Place, float] = {start: 1.0}
    while sum(mass.values()) > 1e-13:
        new: dict[Place, float] = defaultdict(float)

        def view(h: int, item: int, p: float, into: dict[Place, float]) -> None:
            if task == "next" and item != last:
                outcome[item] += p
            else:
                into[(h, 0, int(shop.category[item]), item)] += p

        for (h, kind, category, current), p in mass.items():
            if kind == -1:  # away: back with another intent, or gone
                for other in range(2):
                    new[(other, None, None, None)] += p * shop.back[z] * shop.intent[z, other]
                continue
            if kind is None:
                for item in range(len(shop.category)):
                    view(h, item, p * draw(shop, z, None, item), new)
                continue
            act = shop.act[h, kind]
            for item in range(len(shop.category)):
                stays = act[SAME] * (shop.category[item] == category) * shop.share[z, item]
                view(h, item, p * (stays + act[OTHER] * draw(shop, z, category, item)), new)
            for action, leads in LEADS_TO.items():
                if EVENTS[leads] == "purchase" and task == "purchase" and act[action]:
                    assert current is not None
                    outcome[current] += p * act[action]
                else:
                    held = current if EVENTS[leads] in ("add_to_cart", "begin_checkout") else None
                    new[(h, leads, category, held)] += p * act[action]
            new[(0, -1, None, None)] += p * act[LEAVE]
        mass = {state: p for state, p in new.items() if p > 0}
    return outcome


def where_now(visits: list[list[Event]], h: int) -> Place:
    last = visits[-1][-1]
    if last[s.EVENT] == "email_open":
        return (h, None, None, None)
    if last[s.EVENT] not in EVENTS:
        return (0, -1, None, None)
    category = current = None
    for row in visits[-1]:
        if row[s.EVENT] == "view_item":
            current, category = int(row[s.ITEM][1:]), int(row["category"])
        elif row[s.EVENT] in ("search", "purchase"):
            current = None
    return (h, EVENTS.index(last[s.EVENT]), category, current)


def by_hand(shop: Shop, history: pd.DataFrame, task: str) -> tuple[np.ndarray, np.ndarray]:
    """P(persona | history) and P(each item comes next | history)."""
    visits = visits_of(history)
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for z in range(2):
        for intents in product(range(2), repeat=len(visits)):
            weights[z, intents[-1]] += likelihood(shop, visits, history["country"].iloc[0], z, intents)
    total = sum(weights.values())
    named = history[s.ITEM].dropna()
    last = int(named.iloc[-1][1:]) if len(named) else None
    persona, found = np.zeros(2), np.zeros(len(shop.category))
    for (z, h), weight in weights.items():
        persona[z] += weight / total
        for item, p in first_outcome(shop, z, where_now(visits, h), last, task).items():
            found[item] += weight / total * p
    return persona, found


@pytest.mark.parametrize("task", list(s.TASKS))
def test_the_posterior_is_that_of_all_hidden_states_and_paths(tiny: Prepared, optimum: Optimum, task: str) -> None:
    examples = stranger_examples(tiny, s.TEST, KS)
    long = np.flatnonzero(examples.k >= 1)
    after = after_every_event(tiny, examples, each=7)
    chosen = np.concatenate([after, long[np.argsort(examples.k[long], kind="stable")[::60]]])
    batch = batch_of(tiny, optimum, examples.only(chosen))
    scores, personas = optimum.score(batch)[:, s.TASKS.index(task)].exp().numpy(), optimum.personas(batch)
    place = {name: code - 1 for code, name in enumerate(tiny.item_ids(), start=1)}
    kinds = set()

    for row, example in enumerate(chosen):
        visitor, k = examples.visitor[example], examples.k[example]
        history = tiny.events_frame([visitor]).iloc[:k]
        named = history[s.ITEM].where(history[s.ITEM].notna(), "i0")
        history = history.assign(category=optimum.shop.category[named.str[1:].astype(int)])
        persona, found = by_hand(optimum.shop, history, task)
        kinds.add(history[s.EVENT].iloc[-1])
        expected = np.array([found[int(name[1:])] for name in place])
        np.testing.assert_allclose(personas[row], persona, rtol=1e-6)
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4, atol=1e-9)
    assert {"view_item", "search", "add_to_cart", "purchase", "delivery"} <= kinds


def buys_by_hand(shop: Shop, kind: int | None, h: int) -> float:
    """Spread the probability of a state over all paths to the end of the visit; None: opened."""
    bought, mass = 0.0, {0 if kind is None else kind: 1.0}
    while sum(mass.values()) > 1e-13:
        new: dict[int, float] = defaultdict(float)
        for state, p in mass.items():
            act = shop.act[h, state]
            new[0] += p * (act[SAME] + act[OTHER])
            for action, leads in LEADS_TO.items():
                if EVENTS[leads] == "purchase":
                    bought += p * act[action]
                else:
                    new[leads] += p * act[action]
        mass = new
    return bought


def test_intent_is_that_of_all_hidden_states_and_paths(tiny: Prepared, optimum: Optimum) -> None:
    examples = stranger_examples(tiny, s.TEST, KS)
    chosen = after_every_event(tiny, examples, each=3)
    intent, persona = (part.exp().numpy() for part in optimum.classify(batch_of(tiny, optimum, examples.only(chosen))))
    shop, places = optimum.shop, set()

    for row, example in enumerate(chosen):
        history = tiny.events_frame([examples.visitor[example]]).iloc[: examples.k[example]]
        named = history[s.ITEM].where(history[s.ITEM].notna(), "i0")
        history = history.assign(category=shop.category[named.str[1:].astype(int)])
        visits = visits_of(history)
        weights = {
            (z, intents): likelihood(shop, visits, history["country"].iloc[0], z, intents)
            for z in range(2)
            for intents in product(range(2), repeat=len(visits))
        }
        buys, total = 0.0, sum(weights.values())
        for (_, intents), weight in weights.items():
            _, kind, _, _ = where_now(visits, intents[-1])
            places.add(kind)
            buys += weight / total * (0.0 if kind == -1 else buys_by_hand(shop, kind, intents[-1]))
        assert intent[row] == pytest.approx([1 - buys, buys], rel=1e-5)
        first = sum(weight for (z, _), weight in weights.items() if z == 0) / total
        assert persona[row] == pytest.approx([1 - first, first], rel=1e-5)
    assert {0, 1, 2, -1} <= places


def test_as_many_visits_buy_as_it_says(tiny: Prepared, optimum: Optimum) -> None:
    examples = stranger_examples(tiny, s.TEST, KS)
    truth = Labels(tiny, [INTENT]).of(s.INTENT, examples.moments(tiny))
    said = optimum.classify(batch_of(tiny, optimum, examples))[0].exp().numpy()[:, 1]

    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        inside = (said >= low) & (said < high)
        visitors = len(np.unique(examples.visitor[inside]))
        assert visitors > 50
        assert abs(truth[inside].mean() - said[inside].mean()) < 4 * np.sqrt(0.25 / visitors)


def test_it_tells_only_what_follows_from_the_process(optimum: Optimum) -> None:
    assert [outcome.name for outcome in optimum.outcomes] == ["intent", "segment:persona"]


def test_before_the_first_event_the_context_alone_tells(tiny: Prepared, optimum: Optimum) -> None:
    examples = stranger_examples(tiny, s.TEST, [0])
    batch = batch_of(tiny, optimum, examples)
    frame = tiny.events_frame(examples.visitor).groupby("visitor", sort=False).first()
    shop = optimum.shop

    weight = np.stack([shop.persona] * len(frame))
    for column, values, table in (
        ("country", COUNTRIES, shop.country),
        ("channel", CHANNELS, shop.channel),
        ("device", DEVICES, shop.device),
    ):
        weight *= table[:, [values.index(value) for value in frame[column]]].T
    np.testing.assert_allclose(optimum.personas(batch), weight / weight.sum(axis=1, keepdims=True), rtol=1e-9)


def test_what_is_said_to_be_likely_happens_as_often(tiny: Prepared, optimum: Optimum) -> None:
    examples = stranger_examples(tiny, s.TEST, KS)
    personas = optimum.personas(batch_of(tiny, optimum, examples))
    truth = tiny.visitors_frame().loc[examples.visitor, "persona"].str.removeprefix("persona ").astype(int).to_numpy()

    said, is_one = personas[:, 1], truth == 1
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0001)):
        inside = (said >= low) & (said < high)
        visitors = len(np.unique(examples.visitor[inside]))
        assert visitors > 20
        assert abs(is_one[inside].mean() - said[inside].mean()) < 4 * np.sqrt(0.25 / visitors)


def test_it_is_a_bound_and_no_baseline_in_the_table(
    tiny: Prepared, compose: Callable[..., Any], tracking_overrides: list[str], tmp_path: Path
) -> None:
    where = [f"prepared={tiny.path}", *tracking_overrides]
    chosen = train(compose("train", TrainConfig, *where, "model=item_knn"), say=lambda _: None)
    judged = [*where, f"run={chosen.run_id}", f"output={tmp_path / 'report'}", "protocol.resamples=100"]

    metrics, _ = evaluate.make_report(compose("evaluate", EvaluateConfig, *judged, "protocol.cutoff=2"))

    for task in s.TASKS:
        rows = {row["model"]: row for row in rows_of(metrics, task, s.STRANGERS, part=POOLED)}
        means = {name: row["metrics"]["ndcg@2"]["mean"] for name, row in rows.items()}
        assert max(means, key=lambda name: means[name]) == "optimum"
        best = {row["best_baseline"] for row in rows.values()} - {None}
        assert "optimum" not in best
        assert best < set(means)
        assert f"gap of item_knn to the optimum at k>=1: {means['optimum'] - means['item_knn']:.4f} [" in warm_up_text(
            metrics, task=task
        )
