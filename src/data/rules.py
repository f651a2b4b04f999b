"""Segments by a rule over a history: what a visitor spends most on, the bin of a measure, the cells of several rules.

A rule labels the steps of histories by what lies ahead of them, up to a limit, and by nothing else: the label of a
moment never holds the moment's own input. It is plain values: what was fitted on the train customers stands in it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.histories import FloatArray, Histories, Names, parts
from shopkeeper.data.measures import PRICE_LEVEL, Gauge, missing, usual_prices
from shopkeeper.data.prepared import IntArray, Prepared, Window
from shopkeeper.data.settings import MOST_CLASSES, SegmentConfig
from shopkeeper.data.writer import rounded

MOST_GROUPS = 64
"""Values that compete for the top, the commonest in train; all others count as one."""
NAMED = 8
"""Classes of a top that names none: the commonest among the train customers."""
EXCLUDED = -2
"""Label of a value that does not compete."""


T = TypeVar("T", bound=np.generic)


class NotFitted(Exception):
    """Why a rule cannot be had of this log, as words."""


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Class c of `classes` has label c."""

    kind: ClassVar[str]
    classes: list[str]
    gauge: Gauge

    @abstractmethod
    def classify(self, histories: Histories) -> IntArray:
        """Class of what lies ahead (m,), however little that is; MASKED where there is none."""

    def labels(self, histories: Histories) -> IntArray:
        """The same, MASKED also where what lies ahead is too little."""
        return np.where(self.gauge.enough(histories), self.classify(histories), s.MASKED)


@dataclass(frozen=True, kw_only=True)
class Top(Rule):
    """The value of `what` with most spend, orders or events ahead; the first of equals, none where there is nothing.

    `groups` compete, and one more that stands for all other values; `label` is the class of each (groups + 1): MASKED
    for one that has none, EXCLUDED for one that does not compete.
    """

    kind = "top"
    what: str
    by: str
    groups: list[str]
    label: list[int]

    def classify(self, histories: Histories) -> IntArray:
        group = histories.groups(self.what, level_of(self.what, self.gauge), self.groups)
        weight = self.weights(histories, group)
        best, most = np.full(len(histories.at), s.MASKED), np.zeros(len(histories.at))
        for number, label in enumerate(self.label):  # a group at a time: memory does not grow with their number
            if label != EXCLUDED:
                mine = histories.ahead(np.where(group == number, weight, 0.0))
                best = np.where(mine > most, label, best)
                most = np.maximum(mine, most)
        return best

    def weights(self, histories: Histories, group: IntArray) -> FloatArray:
        """What each row adds to its group (n,); an order adds one, with its last row of the group."""
        if self.by == "spend":
            return histories.spend
        if self.by == "events":
            return histories.rows
        pair = histories.column("order").astype(np.int64) * (len(self.groups) + 2) + group
        return np.asarray(histories.last_of(pair) & histories.bought, np.float64)


@dataclass(frozen=True, kw_only=True)
class Bins(Rule):
    """Where a measure falls: class c from edge c - 1, inclusive, to edge c."""

    kind = "measure"
    measure: str
    edges: list[float]

    def classify(self, histories: Histories) -> IntArray:
        value = self.gauge.measure(self.measure, histories)
        return np.where(np.isnan(value), s.MASKED, np.searchsorted(self.edges, value, side="right"))


@dataclass(frozen=True, kw_only=True)
class Cross(Rule):
    """A class for every combination of the classes of some rules, the last one's changing fastest."""

    kind = "cross"
    of: list[Rule]

    def classify(self, histories: Histories) -> IntArray:
        cell, known = np.zeros(len(histories.at), np.int64), np.ones(len(histories.at), bool)
        for rule in self.of:
            label = rule.labels(histories)
            cell = cell * len(rule.classes) + label
            known &= label >= 0
        return np.where(known, cell, s.MASKED)


@dataclass(frozen=True)
class Customers:
    """Whom rules are fitted on: the rows of the train window, which are known whole."""

    prepared: Prepared
    names: Names
    window: Window

    def parts(self) -> Iterator[Histories]:
        return parts(self.prepared, self.names, self.window, steps=False)

    def each(self, of: Callable[[Histories], npt.NDArray[T]]) -> npt.NDArray[T]:
        """What is said of each customer's whole history, the customers along the last axis."""
        return np.concatenate([of(part) for part in self.parts()], axis=-1)

    def require(self, *measures: str) -> None:
        """Raise NotFitted for the first measure that cannot be taken."""
        for name in measures:
            why = missing(name, self.prepared, self.names, self.window)
            if why:
                raise NotFitted(why)

    def gauge(self, config: SegmentConfig, *measures: str) -> Gauge:
        """What measures are taken with, once these and the least ones can be taken."""
        self.require(*measures, *config.at_least)
        level = config.level or (1 if config.top else PRICE_LEVEL)
        relative = "relative_price" in (*measures, *config.at_least)
        prices = usual_prices(self.prepared, self.names, self.window, level) if relative else {}
        return Gauge(dict(config.at_least), prices, level)


def level_of(what: str, gauge: Gauge) -> int | None:
    """At which names are cut; only categories have levels."""
    return gauge.level if what == s.CATEGORY else None


def fit_top(config: SegmentConfig, customers: Customers) -> Top:
    what = config.top
    assert what is not None
    if not customers.names.knows(what):
        raise NotFitted(f"the log has no {what}")
    gauge = customers.gauge(config, config.by)
    groups = [*config.exclude, *(n for n in config.among or [] if n not in config.exclude)]
    groups += [name for name in commonest(what, level_of(what, gauge), customers) if name not in groups][:MOST_GROUPS]
    fixed = [EXCLUDED] * len(config.exclude)

    def top(classes: list[str]) -> Top:
        """With these values as classes, and the other class for the rest."""
        rest = len(classes) if config.other else s.MASKED
        label = fixed + [classes.index(n) if n in classes else rest for n in groups[len(fixed) :]] + [rest]
        named = classes + ([config.other] if config.other else [])
        return Top(classes=named, what=what, by=config.by, groups=groups, label=label, gauge=gauge)

    if config.among is not None:
        return top(list(config.among))
    every = top(groups[len(fixed) :])
    label = customers.each(every.labels)
    found = np.bincount(label[label >= 0], minlength=len(every.classes))[: len(groups) - len(fixed)]
    chosen = np.argsort(-found, kind="stable")[:NAMED]
    return top(sorted(every.classes[c] for c in chosen if found[c]))


def commonest(what: str, level: int | None, customers: Customers) -> list[str]:
    """Values of a column by how many train rows have them, most first."""
    found = customers.names.distinct(what, level)
    count = np.zeros(len(found), np.int64)
    for part in customers.parts():
        group = part.groups(what, level, found)
        count += np.bincount(group[group >= 0], minlength=len(found))
    return [found[i] for i in np.argsort(-count, kind="stable") if count[i]]


def fit_bins(config: SegmentConfig, customers: Customers) -> Bins:
    name = config.measure
    assert name is not None
    gauge = customers.gauge(config, name)
    edges = config.edges
    if edges is None:
        assert config.quantiles is not None
        value = customers.each(lambda part: np.where(gauge.enough(part), gauge.measure(name, part), np.nan))
        value = value[~np.isnan(value)]
        if not len(value):
            raise NotFitted("no train customer has enough history")
        edges = rounded(np.quantile(value, config.quantiles)).tolist()
    return Bins(classes=config.names or bin_names(edges), measure=name, edges=edges, gauge=gauge)


def bin_names(edges: list[float]) -> list[str]:
    """`<2`, `2-5`, `5+`."""
    between = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return [f"<{edges[0]:g}", *between, f"{edges[-1]:g}+"]


def fit_cross(name: str, config: SegmentConfig, customers: Customers, rules: dict[str, Rule]) -> Cross:
    """Of rules that are fitted.

    Raises:
        UserError: where there would be too many classes to learn any.
    """
    assert config.cross is not None
    absent = [other for other in config.cross if other not in rules]
    if absent:
        raise NotFitted(f"{absent[0]} is left out")
    of = [rules[other] for other in config.cross]
    classes = [" / ".join(cell) for cell in product(*(rule.classes for rule in of))]
    if len(classes) > MOST_CLASSES:
        raise UserError(f"data.segments.{name}.cross has {len(classes)} classes: at most {MOST_CLASSES} can be")
    return Cross(classes=classes, of=of, gauge=customers.gauge(config))
