import numpy as np
import pytest

from shopkeeper.data.histories import Names
from shopkeeper.data.measures import Gauge
from shopkeeper.data.personas import Personas, Trial, best, fit_personas, names_of, scales_of
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.profiles import Profile
from shopkeeper.data.rules import Customers, NotFitted
from shopkeeper.data.segments import as_plain, read_segments
from shopkeeper.data.settings import PersonasConfig, SegmentConfig
from shopkeeper.data.windows import train_window

PROFILE = Profile({"category": ["FOOD", "TOYS"]}, ["basket_size"], Gauge({}, {}, 1))


def customers(prepared: Prepared) -> Customers:
    return Customers(prepared, Names(prepared), train_window(prepared))


def trial(clusters: int, stability: float, *, silhouette: float = 0.1, smallest: float = 0.2) -> Trial:
    return Trial(clusters=clusters, silhouette=silhouette, stability=stability, smallest=smallest)


def test_two_kinds_of_customers_are_found_and_named_by_what_they_do(kinds: Prepared) -> None:
    personas = read_segments(kinds.path).rules["personas"]
    assert isinstance(personas, Personas)

    label = customers(kinds).each(personas.labels)
    even = kinds.visitors_frame()["user_id"].str[1:].astype(int).to_numpy()[train_window(kinds).visitor] % 2 == 0

    assert len(personas.classes) == 2
    assert personas.trials[0]["stability"] == 1.0
    known = label >= 0
    assert len({*zip(label[known].tolist(), even[known].tolist(), strict=True)}) == 2
    food = label[known & even][0]
    assert all(word not in personas.classes[food] for word in ("TOYS", "app", "evening", "small"))


def test_the_same_seed_finds_the_same_personas(kinds: Prepared) -> None:
    config = SegmentConfig(personas=PersonasConfig(clusters=[2, 4], resamples=4, apart=0.9), at_least={"orders": 2.0})

    again = fit_personas(config, customers(kinds))

    assert as_plain(again) == as_plain(read_segments(kinds.path).rules["personas"])


def test_the_largest_number_wins_that_is_stable_and_apart() -> None:
    asked = PersonasConfig(stable=0.75, apart=0.5, smallest=0.1)

    assert best([trial(2, 0.9), trial(3, 0.8), trial(4, 0.8, smallest=0.05), trial(5, 0.7)], asked) == 1
    assert best([trial(2, 0.9, silhouette=0.4), trial(3, 0.9, silhouette=0.2), trial(4, 0.9)], asked) == 1
    assert best([trial(2, 0.5), trial(3, 0.6), trial(4, 0.4)], asked) == 1  # none is stable: the stablest


def test_what_is_not_told_is_average() -> None:
    features = np.array([[0.25, 0.25], [0.25, 0.25], *[[0.0, 0.0]] * 5, [np.nan, np.e - 1]])

    mean, scale = scales_of(PROFILE, features)

    assert mean[-1] == 1.0  # the logarithm of the only basket that is known
    assert scale.tolist() == [1.0] * 8  # nothing differs


def test_names_go_on_until_they_differ() -> None:
    # FOOD, TOYS, night, morning, afternoon, evening, weekend, basket size
    centres = np.array([[0, 0, 0, 0.1, 0, 0, 2, 1.0], [0, 0.2, 0, 0, 0, 0, 2, 1.0], [0, 0, 0, 0.1, 0, 0, 2, 1.0]])

    assert names_of(PROFILE, centres)[:2] == [
        "on weekends and large baskets",
        "on weekends and large baskets and TOYS",
    ]
    assert len({*names_of(PROFILE, centres)}) == 3


def test_too_few_customers_have_no_personas(grocer: Prepared) -> None:
    with pytest.raises(NotFitted, match="3 train customers have enough history: too few for 3 clusters"):
        fit_personas(SegmentConfig(personas=PersonasConfig()), customers(grocer))
