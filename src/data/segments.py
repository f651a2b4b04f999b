"""Segments of a prepared dataset: columns of users, and rules, which are fitted on the train customers once.

`segments.json` holds the fitted rules and why any other is left out, so that every later stage labels alike; it counts
in the content hash, as labels follow from it.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.histories import Names, parts
from shopkeeper.data.measures import Gauge
from shopkeeper.data.personas import Personas, fit_personas
from shopkeeper.data.prepared import SEGMENTS, IntArray, Prepared, Window
from shopkeeper.data.rules import Bins, Cross, Customers, NotFitted, Rule, Top, fit_bins, fit_cross, fit_top
from shopkeeper.data.settings import PersonasConfig, SegmentConfig
from shopkeeper.data.targets import Moments
from shopkeeper.data.windows import train_window

KINDS: dict[str, type[Rule]] = {kind.kind: kind for kind in (Top, Bins, Cross, Personas)}
NO_USERS = "the log has no table of users"


class Fitted(NamedTuple):
    """Rules by name, how many train customers each class of theirs has, and why any other segment is left out."""

    rules: dict[str, Rule]
    customers: dict[str, list[int]]
    left_out: dict[str, str]


def declared_users(users: ir.Table | None, segments: dict[str, SegmentConfig] | None) -> ir.Table | None:
    """The users with the columns that are segments, under the segments' names; with all of them where none is named.

    Raises:
        UserError: when a segment names a column that `users` lacks.
    """
    if users is None or segments is None:
        return users
    columns = {name: segment.column for name, segment in segments.items() if segment.column is not None}
    for name, column in columns.items():
        if column not in users.columns:
            there = ", ".join(c for c in users.columns if c != s.USER)
            raise UserError(f"data.segments.{name}: users have no column {column!r}; they have: {there}")
    return users.select(s.USER, **{name: users[column] for name, column in columns.items()})


def segments_of(config: dict[str, Any]) -> dict[str, SegmentConfig]:
    """The definitions in the configuration that a manifest holds."""
    found = {}
    for name, values in (config.get("segments") or {}).items():
        if values is not None:
            personas = values["personas"]
            found[name] = SegmentConfig(
                **values | {"personas": None if personas is None else PersonasConfig(**personas)}
            )
    return found


def write_segments(prepared: Prepared) -> Fitted:
    """Fit the rules that the dataset's configuration defines, and write `segments.json` into its folder."""
    fitted = fit_segments(prepared, segments_of(prepared.manifest["config"]))
    content = {
        "rules": {name: as_plain(rule) for name, rule in fitted.rules.items()},
        "customers": fitted.customers,
        "left_out": fitted.left_out,
    }
    (prepared.path / SEGMENTS).write_text(json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True))
    return fitted


def read_segments(path: Path) -> Fitted:
    content = json.loads((path / SEGMENTS).read_text())
    rules = {name: as_rule(values) for name, values in content["rules"].items()}
    return Fitted(rules, content["customers"], content["left_out"])


def as_plain(rule: Rule) -> dict[str, Any]:
    """A rule as JSON has it."""
    values = {field.name: getattr(rule, field.name) for field in fields(rule)}
    if isinstance(rule, Cross):
        values["of"] = [as_plain(other) for other in rule.of]
    return {"kind": rule.kind, **values, "gauge": asdict(rule.gauge)}


def as_rule(values: dict[str, Any]) -> Rule:
    given = {name: value for name, value in values.items() if name != "kind"} | {"gauge": Gauge(**values["gauge"])}
    if values["kind"] == Cross.kind:
        given["of"] = [as_rule(other) for other in values["of"]]
    return KINDS[values["kind"]](**given)


def fit_segments(prepared: Prepared, segments: dict[str, SegmentConfig]) -> Fitted:
    """Fit every rule on the train customers; those that others are crossed of come first."""
    fitted = Fitted({}, {}, {})
    for name, segment in segments.items():
        if segment.column is not None and name not in prepared.segments:
            fitted.left_out[name] = NO_USERS
    ruled = {name: segment for name, segment in segments.items() if segment.column is None}
    check_crossed(ruled)
    try:
        customers = Customers(prepared, Names(prepared), train_window(prepared))
    except UserError:
        fitted.left_out.update(dict.fromkeys(ruled, "train is empty"))
        return fitted
    for name in sorted(ruled, key=lambda n: ruled[n].cross is not None):
        try:
            rule = fit_rule(name, ruled[name], customers, fitted.rules)
        except NotFitted as why:
            fitted.left_out[name] = str(why)
            continue
        label = customers.each(rule.labels)
        fitted.rules[name] = rule
        fitted.customers[name] = np.bincount(label[label >= 0], minlength=len(rule.classes)).tolist()
    return fitted


def check_crossed(segments: dict[str, SegmentConfig]) -> None:
    """Raise a UserError where a segment crosses what is no rule, or is crossed itself."""
    for name, segment in segments.items():
        for other in segment.cross or []:
            if other not in segments or segments[other].cross is not None:
                raise UserError(f"data.segments.{name}.cross: {other!r} is no other rule of data.segments")


def fit_rule(name: str, segment: SegmentConfig, customers: Customers, rules: dict[str, Rule]) -> Rule:
    if segment.top is not None:
        return fit_top(segment, customers)
    if segment.measure is not None:
        return fit_bins(segment, customers)
    if segment.cross is not None:
        return fit_cross(name, segment, customers, rules)
    return fit_personas(segment, customers)


class Layer(NamedTuple):
    """Labels plus one of every step (0: not known) by name, and the limit they hold up to, by visitor (0: none yet)."""

    limit: IntArray
    labels: dict[str, npt.NDArray[np.int8]]


class RuleLabels:
    """Looks up, between any steps, the class that the rules give to what lies ahead.

    A visitor's steps are labelled when it is first asked for, up to the limit asked for, and kept: a byte per rule,
    step and limit. A visitor has few limits, those of the windows.
    """

    def __init__(self, prepared: Prepared, rules: dict[str, Rule]) -> None:
        self.prepared, self.rules, self.names = prepared, rules, Names(prepared)
        self.layers: list[Layer] = []

    def of(self, name: str, moments: Moments) -> IntArray:
        """Class of each moment (n,), MASKED where the rows from `end`, a step's first, to `limit` tell too little."""
        found = np.full(len(moments.end), s.MASKED)
        left = np.flatnonzero(moments.end < moments.limit)
        step = np.searchsorted(self.prepared.step_offsets, moments.end)
        number = 0
        while len(left):
            if number == len(self.layers):
                self.layers.append(self.new_layer())
            layer = self.layers[number]
            here = self.in_layer(layer, moments.end[left], moments.limit[left])
            found[left[here]] = layer.labels[name][step[left[here]]].astype(np.int64) - 1
            left, number = left[~here], number + 1
        return found

    def new_layer(self) -> Layer:
        steps, visitors = len(self.prepared.step_offsets) - 1, len(self.prepared.visitors["held_out"])
        return Layer(np.zeros(visitors, np.int64), {name: np.zeros(steps, np.int8) for name in self.rules})

    def in_layer(self, layer: Layer, end: IntArray, limit: IntArray) -> npt.NDArray[np.bool_]:
        """Whether a layer holds the labels up to each limit; it takes in visitors of whom it holds none."""
        visitor = np.asarray(self.prepared.rows["visitor"])[end]
        fresh = layer.limit[visitor] == 0
        if fresh.any():
            layer.limit[visitor[fresh]] = limit[fresh]
            new = np.unique(visitor[fresh])
            start = np.asarray(self.prepared.visitors["row_offsets"])[new]
            self.label(layer, Window(new, start, layer.limit[new]))
        return np.asarray(layer.limit[visitor] == limit)

    def label(self, layer: Layer, window: Window) -> None:
        for part in parts(self.prepared, self.names, window, steps=True):
            step = np.searchsorted(self.prepared.step_offsets, part.row[part.at])
            for name, rule in self.rules.items():
                layer.labels[name][step] = rule.labels(part) + 1
