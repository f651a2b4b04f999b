"""Scores of each kind of table, worked out by hand on five items."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from shopkeeper_serving.bundle import Bundle, BundleError, check_tables, read_bundle
from shopkeeper_serving.counted import latest_match, step_weights
from shopkeeper_serving.history import Inputs, Reader, to_inputs
from shopkeeper_serving.schemas import Event
from shopkeeper_serving.scorers import make_scorer

MakeBundle = Callable[..., Path]
Rows = list[list[tuple[int, float]]]


def view(item: str, *, at: int | None = None, device: str | None = None) -> Event:
    """A page view `at` seconds after 1970."""
    context: dict[str, str | None] = {} if device is None else {"device": device}
    return Event(event="page_view", item_id=item, timestamp=None if at is None else at * 1000, context=context)


def inputs_of(bundle: Bundle, *histories: Sequence[Event], order_only: bool = False) -> Inputs:
    return to_inputs(Reader(bundle).read(histories), order_only=order_only, gap_seconds=3600, max_len=4)


def near(found: npt.NDArray[Any], expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def sparse(names: str, rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """A table from the (column, value) pairs of each row."""
    entries = [entry for row in rows for entry in row]
    return {
        names.format("indptr"): np.cumsum([0, *map(len, rows)]),
        names.format("indices"): np.array([column for column, _ in entries], np.int32),
        names.format("values"): np.array([value for _, value in entries], np.float32),
    }


@pytest.fixture
def with_tables(make_bundle: MakeBundle) -> Callable[..., Bundle]:
    """`with_tables(kind, params, arrays)`: a bundle of one task, whose prior is 1 for the first item, else 0."""

    def make(kind: str, params: dict[str, float], arrays: dict[str, npt.NDArray[Any]]) -> Bundle:
        bundle = read_bundle(make_bundle())
        manifest = msgspec.structs.replace(bundle.manifest, kind=kind, params=params, tasks=["purchase"])
        prior = {"prior": np.array([[1, 0, 0, 0, 0]], np.float32)}
        return msgspec.structs.replace(bundle, manifest=manifest, arrays=prior | arrays)

    return make


# ---- weights of steps ----


def test_each_step_back_halves_the_weight(make_bundle: MakeBundle) -> None:
    inputs = inputs_of(read_bundle(make_bundle()), [view("apple"), view("bread"), view("apple")], [view("eggs")])

    weight = step_weights(inputs, decay=0.5, pause_seconds=None)

    assert weight.ravel()[inputs.bag_cell].tolist() == [0.25, 0.5, 1.0, 1.0]


def test_items_of_a_trip_weigh_the_same(make_bundle: MakeBundle) -> None:
    trips = [view("apple", at=0), view("bread", at=0), view("bread", at=9999), view("bread", at=9999)]
    inputs = inputs_of(read_bundle(make_bundle()), trips, order_only=True)

    weight = step_weights(inputs, decay=0.5, pause_seconds=None)

    assert weight.ravel()[inputs.bag_cell].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_what_lies_before_a_pause_weighs_nothing(make_bundle: MakeBundle) -> None:
    history = [view("apple", at=0), view("bread", at=100), view("apple", at=150)]
    inputs = inputs_of(read_bundle(make_bundle()), history, [view("eggs", at=0), view("eggs", at=99)], [view("eggs")])

    weight = step_weights(inputs, decay=1.0, pause_seconds=100)

    assert weight.ravel()[inputs.bag_cell].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


# ---- tables ----


def test_popularity_is_the_same_for_everyone(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(make_bundle("popularity"))

    scores = make_scorer(bundle).score(inputs_of(bundle, [], [view("eggs")]))

    near(scores, [[[0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5]]] * 2)


def test_repeat_adds_own_counts_to_popularity(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(make_bundle("repeat"))

    scores = make_scorer(bundle).score(inputs_of(bundle, [view("apple"), view("bread"), view("apple")], []))

    near(scores[0], [[1.75, 0.9, 0.3, 0.2, 0.1], [1.35, 0.7, 0.3, 0.4, 0.5]])
    near(scores[1], [[0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5]])


def test_neighbours_add_up_weighted_by_recency(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(make_bundle("item_knn"))

    scores = make_scorer(bundle).score(inputs_of(bundle, [view("apple"), view("bread")], [view("eggs")]))

    near(scores[0], [[0.8005, 0.4004, 0.1003, 0.0002, 0.0001], [0.0001, 0.5002, 1.0003, 0.0004, 0.0005]])
    near(scores[1], [[0.0005, 0.0004, 0.0003, 0.0002, 0.0001], [0.0001, 0.0002, 0.0003, 0.0004, 0.0005]])


def test_the_latest_context_chooses_its_row(with_tables: Callable[..., Bundle]) -> None:
    rows: Rows = [[(1, 0.7), (2, 0.3)], [(3, 1.0)]]  # mobile, desktop
    bundle = with_tables("context", {"prior_weight": 0.5}, sparse("{}_purchase", rows))
    check_tables(bundle)

    moved = [view("eggs", at=0, device="desktop"), view("eggs", at=9, device="mobile")]
    scores = make_scorer(bundle).score(inputs_of(bundle, moved, [view("eggs", device="desktop")], []))

    near(scores[:, 0], [[0.5, 0.7, 0.3, 0, 0], [0.5, 0, 0, 1.0, 0], [0.5, 0, 0, 0, 0]])


# ---- neighbours ----

SESSIONS: Rows = [[(0, 0), (1, 1)], [(1, 0), (2, 1)], [(0, 2), (2, 0), (3, 1)]]
"""Items of three sessions, the earliest first, and their places: apple bread; bread cheese; cheese dates apple."""
INDEX: Rows = [[(0, 0), (2, 2)], [(0, 1), (1, 0)], [(1, 1), (2, 0)], [(2, 1)], []]
PLAIN = {"most_recent": 9, "neighbours": 4, "max_query": 3, "query_power": 1.0, "query_rate": 0.0}
PLAIN |= {"match_slope": 0.0, "match_power": 0.0, "place_rate": 0.0}


@pytest.fixture
def sessions(with_tables: Callable[..., Bundle]) -> Callable[..., Bundle]:
    def make(**params: float) -> Bundle:
        arrays = sparse("sessions_{}", INDEX) | sparse("{}_purchase", SESSIONS)
        arrays |= {"sessions_worth": np.array([1, 1, 0.5]), "item_weight": np.array([1, 1, 1, 2, 1.0])}
        bundle = with_tables("sessions", PLAIN | params, arrays)
        check_tables(bundle)
        return bundle

    return make


@pytest.mark.parametrize(
    ("params", "values"),
    [
        # bread, apple: the apple weighs 1, the bread half; the third session is worth half
        ({}, [1.5, 0.5, 0.5]),
        ({"query_power": 0.0}, [2.0, 1.0, 0.5]),
        ({"query_power": 0.0, "query_rate": math.log(2)}, [1.5, 0.5, 0.5]),
        ({"match_slope": 0.1}, [1.5 * 0.9, 0.5 * 0.8, 0.5 * 0.9]),
        ({"match_power": 1.0}, [1.5, 0.25, 0.5]),
        ({"most_recent": 2}, [0.0, 0.5, 0.5]),
        ({"neighbours": 1}, [1.5, 0.0, 0.0]),
        ({"max_query": 1}, [1.0, 0.0, 0.5]),
    ],
)
def test_sessions_lend_their_items(
    sessions: Callable[..., Bundle], params: dict[str, float], values: list[float]
) -> None:
    bundle = sessions(**params)

    scores = make_scorer(bundle).score(inputs_of(bundle, [view("bread"), view("apple")]))

    first, second, third = np.array(values) / bundle.manifest.params["neighbours"]
    near(scores[0, 0], [first + third + 1e-6, first + second, second + third, 2 * third, 0.0])


def test_items_near_to_the_latest_shared_one_are_worth_more(sessions: Callable[..., Bundle]) -> None:
    bundle = sessions(place_rate=math.log(2))

    scores = make_scorer(bundle).score(inputs_of(bundle, [view("apple")]))

    # apple bread: the bread is a step away; cheese dates apple: the dates a step, the cheese two
    near(scores[0, 0], np.array([1 + 0.5, 0.5, 0.5 / 4, 2 * 0.5 / 2, 0.0]) / 4 + [1e-6, 0, 0, 0, 0])


def test_the_latest_of_the_shared_items_of_each_session() -> None:
    group, ago, place = np.array([0, 0, 1, 1]), np.array([3, 2, 5, 5]), np.array([0, 7, 2, 4], np.float32)

    found = latest_match(group, ago, place)

    assert [x.tolist() for x in found] == [[2, 5], [7, 4]]


@pytest.fixture
def visitors(with_tables: Callable[..., Bundle]) -> Bundle:
    """Two customers: one of apples and bread, one of cheese; what they bought is bread, and dates."""
    params = {"neighbours": 1.0, "group_size": 2.0, "step_decay": 0.5, "group_decay": 0.8, "own_share": 0.25}
    arrays = sparse("visitors_{}", [[(0, 0.6)], [(0, 0.8)], [(1, 1.0)], [], []])
    arrays |= sparse("{}_purchase", [[(1, 1.0)], [(3, 0.4)]]) | {"visitors_norm": np.array([1.0, 1.0])}
    bundle = with_tables("visitors", params, arrays)
    check_tables(bundle)
    return bundle


def test_the_nearest_visitor_lends_what_it_bought(visitors: Bundle) -> None:
    history = [view("cheese"), view("cheese"), view("apple")]

    scores = make_scorer(visitors).score(inputs_of(visitors, history, []))

    # groups from the latest: apple and cheese (half as much), then cheese alone, at 0.8 of the weight
    apple, cheese = 1 / (2 * 2), 0.5 / (2 * 2) + 0.8 / (1 * 2)
    near(scores[0, 0], [0.25 * apple + 1e-6, 0.0, 0.25 * cheese, 0.75 * 0.4, 0.0])
    near(scores[1, 0], [1e-6, 0.0, 0.0, 0.0, 0.0])


def test_an_item_counts_once_in_a_trip(visitors: Bundle) -> None:
    trip = [view("apple", at=0), view("apple", at=0), view("bread", at=0)]

    scores = make_scorer(visitors).score(inputs_of(visitors, trip, order_only=True))

    near(scores[0, 0], [0.25 + 1e-6, 0.25 + 0.75, 0.0, 0.0, 0.0])


# ---- tables that are none ----


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("item_weight", np.ones(4), "does not fit 5 items"),
        ("sessions_worth", np.ones((2, 1)), "does not fit"),
        ("sessions_worth", np.ones(2), "sessions_indices.npy: is no list of places below 2"),
        ("sessions_indptr", np.array([0, 1]), "does not say where the 5 rows begin"),
        ("indices_purchase", np.full(7, 9, np.int32), "is no list of places below 5"),
        ("values_purchase", np.ones(2), "shape"),
    ],
)
def test_tables_of_another_shape_are_refused(
    sessions: Callable[..., Bundle], name: str, array: npt.NDArray[Any], says: str
) -> None:
    bundle = sessions()
    bundle.arrays[name] = array

    with pytest.raises(BundleError, match=says):
        check_tables(bundle)


def test_no_neighbour_at_all_is_refused(sessions: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match=r"params\.neighbours is below 1"):
        sessions(neighbours=0)
