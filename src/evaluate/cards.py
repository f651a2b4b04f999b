"""Cards of segments: for each class of known customers its size, what sets it apart, and what it is worth to the shop.

All of it is of the train customers and their train rows. A lift is the mean of a profile's feature in the class over
that of all labelled customers. Conversion is the share of sessions that buy; orders per month and spend per year are
the class's total over its customers' time, from the first train row of each to the train cut; lapsed is who was last
seen more than `lapsed_days` before that cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.histories import DAY, MILLION, FloatArray, Histories, Names
from shopkeeper.data.measures import MONTH
from shopkeeper.data.outcomes import MASKED, Outcome, segment_codes
from shopkeeper.data.personas import Personas
from shopkeeper.data.prepared import IntArray, Prepared
from shopkeeper.data.profiles import Profile, fit_profile, words
from shopkeeper.data.rules import Customers
from shopkeeper.data.segments import Fitted, read_segments
from shopkeeper.data.settings import PersonasConfig
from shopkeeper.data.windows import train_window

LAPSED_DAYS = 60.0
"""Since a customer was last seen."""
SHOWN = 6
"""Features of a card."""
LEAST_SHARE = 0.01
"""Of all events, that a value of a column must have to be named on a card."""
LEAST_DEVIATIONS = 0.1
"""By which a class has to differ from all customers for words."""
YEAR = 12 * MONTH


@dataclass(frozen=True)
class Lift:
    """A feature of the profile: its mean in the class and among all customers, and the deviations between."""

    feature: str
    mean: float
    overall: float
    deviations: float

    @property
    def lift(self) -> float | None:
        """The mean over that of all; None where that is not above zero."""
        return self.mean / self.overall if self.overall > 0 and self.mean >= 0 else None


@dataclass(frozen=True)
class Card:
    """A class of a segment; a figure is None where the log does not tell it."""

    name: str
    customers: int
    share: float  # of the labelled customers
    apart: list[Lift]  # most first
    figures: dict[str, float | None]
    says: str = field(default="")


@dataclass(frozen=True)
class SegmentCards:
    """The cards of one segment, and how many customers it labels."""

    name: str
    kind: str  # column, or that of the rule
    labelled: int
    customers: int
    cards: list[Card]


@dataclass(frozen=True)
class Sums:
    """What each customer did in train (customers,), and its profile (F, customers)."""

    amounts: dict[str, FloatArray]
    features: FloatArray


def segment_cards(prepared: Prepared, *, lapsed_days: float = LAPSED_DAYS) -> list[SegmentCards]:
    """Cards of every segment with a labelled customer in train; none where train is empty."""
    try:
        customers = Customers(prepared, Names(prepared), train_window(prepared))
    except UserError:
        return []
    fitted = read_segments(prepared.path)
    labels = labelled(prepared, customers, fitted)
    if not labels:
        return []
    profile = profile_of(customers, fitted)
    sums = sums_of(customers, profile, lapsed_days)
    return [
        cards_of(name, kind, classes, label, profile, sums)
        for name, (kind, classes, label) in labels.items()
        if (label >= 0).any()
    ]


def labelled(prepared: Prepared, customers: Customers, fitted: Fitted) -> dict[str, tuple[str, list[str], IntArray]]:
    """Kind, classes and the class of each train customer (customers,), by segment."""
    found: dict[str, tuple[str, list[str], IntArray]] = {}
    visitors = prepared.visitors_frame()
    for name in prepared.segments:
        classes = sorted(visitors[name].dropna().unique())
        codes = segment_codes(prepared, Outcome(s.SEGMENT_PREFIX + name, tuple(classes)))
        found[name] = ("column", classes, codes[customers.window.visitor])
    for name, rule in fitted.rules.items():
        found[name] = (rule.kind, rule.classes, customers.each(rule.labels))
    return found


def profile_of(customers: Customers, fitted: Fitted) -> Profile:
    """That of the personas, or what the log supports."""
    for rule in fitted.rules.values():
        if isinstance(rule, Personas):
            return rule.profile
    usual = PersonasConfig()
    return fit_profile(customers, usual.shares, usual.most, {})


def sums_of(customers: Customers, profile: Profile, lapsed_days: float) -> Sums:
    parts = [(amounts_of(part, lapsed_days), profile.of(part)) for part in customers.parts()]
    amounts = {name: np.concatenate([found[name] for found, _ in parts]) for name in parts[0][0]}
    return Sums(amounts, np.concatenate([features for _, features in parts], axis=-1))


def amounts_of(histories: Histories, lapsed_days: float) -> dict[str, FloatArray]:
    """What is added up over the customers of a class."""
    session = histories.column("session").astype(np.int64)
    buying = histories.last_of(np.where(histories.bought, session, -1)) & histories.bought
    days = (histories.until[histories.whose] - histories.column("time")[histories.at]) / DAY
    return {
        "customers": np.ones(len(histories.at)),
        "sessions": histories.sum("sessions"),
        "buying": histories.ahead(buying),
        "orders": histories.sum("orders"),
        "spend": histories.sum("spend") / MILLION,
        "days": np.maximum(days, 1.0),
        "lapsed": (histories.days_since(histories.rows > 0) > lapsed_days).astype(np.float64),
    }


def cards_of(name: str, kind: str, classes: list[str], label: IntArray, profile: Profile, sums: Sums) -> SegmentCards:
    everyone = label != MASKED
    cards = []
    for code, called in enumerate(classes):
        mine = label == code
        if mine.any():
            apart = lifts(profile, sums.features, mine, everyone)
            figures = figures_of({amount: float(values[mine].sum()) for amount, values in sums.amounts.items()})
            share = float(mine.sum() / everyone.sum())
            cards.append(Card(called, int(mine.sum()), share, apart, figures, in_words(called, share, apart)))
    return SegmentCards(name, kind, int(everyone.sum()), len(label), cards)


def lifts(
    profile: Profile, features: FloatArray, mine: npt.NDArray[np.bool_], everyone: npt.NDArray[np.bool_]
) -> list[Lift]:
    """The features that stand out most by (mean of the class - mean of all) / deviation of all,
    on scales that compare (`Profile.comparable`)."""
    found = []
    rows = zip(profile.features, features, profile.comparable(features), strict=True)
    for feature, values, compared in rows:
        told = ~np.isnan(values)
        ours, all_of = told & mine, told & everyone
        if not ours.any() or not is_worth_a_word(profile, feature, values[all_of]):
            continue
        spread = compared[all_of].std()
        deviations = (compared[ours].mean() - compared[all_of].mean()) / spread if spread > 0 else 0.0
        found.append(Lift(feature, float(values[ours].mean()), float(values[all_of].mean()), float(deviations)))
    return sorted(found, key=lambda lift: -abs(lift.deviations))[:SHOWN]


def is_worth_a_word(profile: Profile, feature: str, values: FloatArray) -> bool:
    """Whether a feature is more than a value that hardly occurs."""
    return feature.partition(": ")[0] not in profile.groups or bool(values.mean() >= LEAST_SHARE)


def figures_of(total: Mapping[str, float]) -> dict[str, float | None]:
    """What a class is worth, from what its customers did."""
    money, orders = total["spend"] > 0, total["orders"] > 0
    clicks = total["sessions"] > total["buying"]
    return {
        "conversion": total["buying"] / total["sessions"] if clicks and orders else None,
        "average order value": total["spend"] / total["orders"] if money else None,
        "orders per month": total["orders"] / total["days"] * MONTH if orders else None,
        "spend per year": total["spend"] / total["days"] * YEAR if money else None,
        "share lapsed": total["lapsed"] / total["customers"],
    }


def in_words(called: str, share: float, apart: list[Lift]) -> str:
    """One sentence: how many they are and what sets them apart."""
    found = [text for text in map(lift_in_words, apart) if text is not None][:3]
    return f"{called}: {share:.0%} of the customers" + (f"; {', '.join(found)}" if found else "")


def lift_in_words(lift: Lift) -> str | None:
    """`FUEL 1.8 times as often`, `on weekends`; None where it is too little to be said."""
    is_share = ": " in lift.feature
    called = words(lift.feature, much=is_share or lift.deviations > 0)
    if abs(lift.deviations) < LEAST_DEVIATIONS or called is None:
        return None
    if not is_share or lift.lift is None:
        return called
    if round(lift.lift, 1) == 1:
        return None
    return f"{called} {lift.lift:.1f} times as often" if lift.lift >= 0.05 else f"{called} hardly ever"
