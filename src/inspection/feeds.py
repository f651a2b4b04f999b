"""Propose how one event table is to be read: its columns, its events, its clock."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import ibis.expr.types as ir
import numpy as np
from ibis import _

from shopkeeper.data import schema as s
from shopkeeper.data.columns import as_text, microseconds
from shopkeeper.data.settings import CsvConfig
from shopkeeper.inspection.gaps import gap_counts, resolution
from shopkeeper.inspection.looks import Look
from shopkeeper.inspection.proposal import MISSING, Entry, remark
from shopkeeper.inspection.roles import (
    CONTENT,
    ENDING,
    OURS,
    Roles,
    event_of,
    event_of_file,
    few_words,
    find_roles,
    is_id,
    is_personal,
    known_share,
    likeness,
    only_time,
    repeating_ids,
)
from shopkeeper.inspection.settings import InspectConfig
from shopkeeper.inspection.times import UNITS, Clock, hour_counts, number_remark, quiet_hours, time_of

PRIVATE = (s.USER, s.SESSION, s.ORDER)
"""Columns whose values are never shown."""

TIME_OF_DAY = r"^\d{1,2}:\d{2}(:\d{2})?"


@dataclass(frozen=True)
class Seen:
    """A table of the log: all of it, the rows looked at, and what its columns look like."""

    path: str
    name: str
    table: ir.Table
    sample: ir.Table
    rows: int
    looked: int  # rows of the sample
    looks: list[Look]
    csv: CsvConfig | None  # None: of another kind


@dataclass
class Feed:
    """What is proposed for an event table; `warnings` is what its reader has to decide."""

    seen: Seen
    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    csv: dict[str, object] = field(default_factory=dict)
    clock: Clock | None = None
    quiet: tuple[int, int] | None = None
    orders_only: bool = False
    has_session: bool = False
    gaps: np.ndarray | None = None
    tick: float = 1.0


def propose_feed(seen: Seen, config: InspectConfig) -> Feed:
    """Propose the keys of one event table."""
    feed = Feed(seen=seen, csv=csv_settings(seen.csv))
    roles = find_roles(seen.looks, config.words.columns, config.words)
    columns = Columns(feed, roles, config)
    columns.find_time()
    columns.find_visitor()
    constants, names = propose_events(feed, columns, config)
    columns.set_aside(constants)
    feed.entries += columns.block() + constants + names + clock_entries(feed)
    note_numbers(feed, columns)
    note_empty_ids(feed, columns, config)
    if feed.csv:
        feed.entries.append(Entry("csv", feed.csv))
    feed.entries += columns.hints()
    measure_gaps(feed, columns, config)
    return feed


class Columns:
    """The columns of an event table under our names, and what is to be said about each."""

    def __init__(self, feed: Feed, roles: Roles, config: InspectConfig) -> None:
        self.feed, self.config, self.looks = feed, config, feed.seen.looks
        self.picks = {ours: look for ours, look in roles.picks.items() if ours not in s.DEFAULT_CONTEXT}
        self.context = {ours: look for ours, look in roles.picks.items() if ours in s.DEFAULT_CONTEXT}
        self.strength, self.others = roles.strength, roles.others
        self.said: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.aside: dict[str, Entry] = {}

    def find_time(self) -> None:
        """Where no name tells the time, take the only column that does."""
        if s.TIMESTAMP in self.picks:
            self.feed.clock = self.picks[s.TIMESTAMP].clock
            return
        found = [look for look in only_time(self.looks) if look not in self.picks.values()]
        named = [look for look in self.looks if likeness(look.name, self.config.words.columns[s.TIMESTAMP])]
        if len(found) == 1:
            self.picks[s.TIMESTAMP], self.strength[s.TIMESTAMP] = found[0], CONTENT
            self.feed.clock = found[0].clock
            self.said[s.TIMESTAMP] = "the only column that tells a time"
        elif found:
            self.miss(s.TIMESTAMP, "times stand in " + listed(found))
        elif named and named[0] not in self.picks.values():
            why = number_remark(named[0].low, named[0].high) if named[0].is_number else "a form of time that is unknown"
            self.miss(
                s.TIMESTAMP, f"{quoted(named[0].name)} cannot be read, for example {quoted(named[0].example)}: {why}"
            )
        else:
            nested = [quoted(look.name) for look in self.looks if look.kind == "nested"]
            inside = f", but {', '.join(nested)} is nested: write one row per event first" if nested else ""
            self.miss(s.TIMESTAMP, f"no column tells a time{inside}")

    def find_visitor(self) -> None:
        """Where no name tells the visitor, take the only column that repeats as ids do, if the items are known."""
        if s.USER in self.picks or s.SESSION in self.picks:
            return
        found = repeating_ids(self.looks, list(self.picks.values()), max_values=self.config.max_values)
        if len(found) == 1 and s.ITEM in self.picks:
            self.picks[s.USER], self.strength[s.USER] = found[0], CONTENT
            self.said[s.USER] = "check: the only column left whose values repeat as those of visitors do"
        else:
            hint = "; perhaps " + ", ".join(f"{quoted(c.name)} ({c.describe()})" for c in found) if found else ""
            self.miss(s.USER, f"neither a user nor a session was found{hint}")

    def miss(self, ours: str, why: str) -> None:
        self.missing[ours] = why
        self.feed.warnings.append(f"{self.feed.seen.path}: {ours} is not set: {why}")

    def set_aside(self, constants: list[Entry]) -> None:
        """Give columns that bear one of our names, and hold something else, another name."""
        given = {entry.key for block in constants if block.value for entry in block.value}
        ours_all = {s.TIMESTAMP, s.EVENT, *s.IDS, *s.PROPERTIES, *s.DEFAULT_CONTEXT}
        chosen = self.picks | self.context
        for look in self.looks:
            ours = look.name.lower()
            if ours in ours_all and chosen.get(ours) is not look and ours not in self.missing:
                used = look in chosen.values()
                if not used and (look.name != ours or ours not in given):
                    reason = f"set aside: {look.describe() if look.kind != 'nested' else 'nested'}"
                    self.aside[f"{ours}_as_given"] = Entry(f"{ours}_as_given", look.name, reason)

    def block(self) -> list[Entry]:
        """The mapping, and in a comment what needs none."""
        order = [s.TIMESTAMP, s.EVENT, s.USER, s.SESSION, s.ITEM, s.ORDER, *s.PROPERTIES]
        block, same = [], []
        for ours in order:
            if ours in self.missing:
                block.append(Entry(ours, MISSING, self.missing[ours]))
            elif ours in self.picks:
                name, said = self.picks[ours].name, self.comment(ours)
                block.append(Entry(ours, name, said)) if name != ours else same.append(f"{ours} ({said})")
        for ours, look in self.context.items():
            if look.name != ours:
                block.append(Entry(ours, look.name, f"{some_values(look)}; if known before the first click", off=True))
        block += self.aside.values()
        entries = [Entry("columns", block)] if block else []
        if same:
            entries.insert(0, remark("under our names already: " + ", ".join(same)))
        return entries

    def comment(self, ours: str) -> str:
        """What a column's values look like, and how sure it is."""
        look = self.picks[ours]
        shown = ours not in PRIVATE and not is_personal(look, self.config.words)
        parts = [example(look) if shown and look.example else look.describe()]
        if look.filled < 0.9 * self.feed.seen.looked:
            parts.append(f"{look.filled / self.feed.seen.looked:.0%} filled")
        if self.strength.get(ours) == ENDING:
            parts.append("check: known by the end of its name only")
        if self.strength.get(ours) == CONTENT and ours not in self.said:
            parts.append("known by its values")
        if ours in self.said:
            parts.append(self.said[ours])
        others = [other for other in self.others.get(ours, []) if other not in self.picks.values()]
        if others and self.strength.get(ours) != OURS:
            parts.append(f"or {listed(others[:5])}")
        return "; ".join(parts)

    def hints(self) -> list[Entry]:
        """What else is in the table, as comments."""
        used = [*self.picks.values(), *self.context.values()]
        few = few_words(self.looks, used, self.config.words)
        few = [look for look in few if look.name not in s.RESERVED]
        entries = []
        if few:
            names = [*self.context, *(look.name for look in few)]
            values = "; ".join(f"{look.name}: {some_values(look)}" for look in few[:8])
            entries.append(remark(f"few values each ({values}): keep of them what is known before the first click:"))
            entries.append(Entry("context", names, off=True))
        rest = [look.name for look in self.looks if look not in used and look not in few]
        rest = [name for name in rest if name not in [entry.value for entry in self.aside.values()]]
        missed = [ours for ours in (s.ITEM,) if ours not in self.picks]
        if missed:
            entries.append(remark("no column with the ids of items was found: give it as columns: {item_id: ...}"))
        if rest:
            entries.append(remark(f"not used: {', '.join(rest[:40])}{' ...' if len(rest) > 40 else ''}"))
        nested = [look.name for look in self.looks if look.kind == "nested" and look.name in rest]
        if nested:
            entries.append(remark(f"nested, and not read by YAML: {', '.join(nested)}; write one row per event first"))
        return entries


def propose_events(feed: Feed, columns: Columns, config: InspectConfig) -> tuple[list[Entry], list[Entry]]:
    """The event column's values under our names; without one the event that all rows are."""
    if s.EVENT in columns.picks:
        return [], name_events(feed, columns.picks[s.EVENT], config)
    event = event_of_file(feed.seen.name, config.words)
    if s.ORDER in columns.picks:
        event, why = s.PURCHASE, "no event column, but orders"
    elif event is not None:
        why = "no event column; by the file's name"
    elif columns.picks.keys() & {s.PRICE, s.QUANTITY} and s.SESSION not in columns.picks:
        event, why = s.PURCHASE, "no event column, but prices or quantities"
    else:
        columns.miss(s.EVENT, "no event column; if all rows are the same, write constants: {event: view_item}")
        return [], []
    feed.orders_only = event == s.PURCHASE
    return [Entry("constants", [Entry(s.EVENT, event, why)])], []


def name_events(feed: Feed, look: Look, config: InspectConfig) -> list[Entry]:
    """The mapping of the values, most frequent first; unknown ones are kept and said."""
    if not look.values:
        feed.warnings.append(
            f"{feed.seen.path}: {quoted(look.name)} has {look.distinct:,} different values: too many for events"
        )
        return []
    ours = {value: event_of(value, config.words) for value in look.values}
    ours = {value: event if event == value or event not in ours else None for value, event in ours.items()}
    feed.orders_only = set(ours.values()) == {s.PURCHASE}
    block = [
        Entry(value, event, f"{look.values[value]:,}") for value, event in ours.items() if event and event != value
    ]
    entries = [Entry("event_names", block)] if block else []
    as_is = [f"{value} ({look.values[value]:,})" for value, event in ours.items() if event == value]
    kept = [f"{value} ({look.values[value]:,})" for value, event in ours.items() if event is None]
    if as_is:
        entries.append(remark(f"events under our names: {', '.join(as_is)}"))
    if kept:
        entries.append(remark(f"events kept as they are: {', '.join(kept)}"))
    if s.PURCHASE not in ours.values():
        entries.append(remark("no event is known to be a purchase; if one is: event_names: {theirs: purchase}"))
    if not known_share(look, config.words):
        entries.append(remark(f"check that {quoted(look.name)} is the event: none of its values is known"))
    return entries


def clock_entries(feed: Feed) -> list[Entry]:
    """How the times are written, where `prepare` would not know."""
    clock = feed.clock
    if clock is None:
        return []
    entries = []
    if clock.unit is not None:
        entries.append(Entry("time_unit", clock.unit))
    if clock.form is not None:
        said = ""
        if clock.swapped is not None:
            said = f'which is the day and which the month cannot be told: this or "{clock.swapped}"'
            feed.warnings.append(f"{feed.seen.path}: time_format: {said}")
        entries.append(Entry("time_format", clock.form, said))
    if clock.in_utc:
        entries.append(Entry("time_zone", "UTC", "the times are in UTC whatever the zone of the others"))
    if clock.lost:
        said = f"{clock.lost:,} values are no times, for example {quoted(clock.lost_example)}: prepare will refuse them"
        feed.warnings.append(f"{feed.seen.path}: {said}")
        entries.append(remark(said))
    if clock.offset == "some":
        entries.append(remark("some times carry an offset, the others are in time_zone"))
    if clock.days:
        entries.append(remark("dates without a time of day: the events of a day keep the order of the file"))
        parts = [look.name for look in feed.seen.looks if look.kind == "text" and is_time_of_day(look)]
        if parts:
            entries.append(remark(f"the time of day stands in {quoted(parts[0])}: join the two in the log to use it"))
    return entries


def is_time_of_day(look: Look) -> bool:
    return re.match(TIME_OF_DAY, look.example) is not None and len(look.example) <= 15


def note_numbers(feed: Feed, columns: Columns) -> None:
    """Decimal commas, and columns that would be numbers but for their thousands separators."""
    if any(columns.picks[c].decimal == "," for c in s.PROPERTIES if c in columns.picks):
        feed.csv["decimal"] = ","
    for ours in s.PROPERTIES:
        odd = [
            look
            for look in feed.seen.looks
            if look.odd_number and likeness(look.name, columns.config.words.columns[ours])
        ]
        if odd and ours not in columns.picks:
            said = f"{ours} is left out: {quoted(odd[0].name)} has thousands separators, as in {odd[0].odd_number}"
            feed.entries.append(remark(said))
            feed.warnings.append(f"{feed.seen.path}: {said}")


def note_empty_ids(feed: Feed, columns: Columns, config: InspectConfig) -> None:
    """Words such as NA that stand for no id: they would be one visitor."""
    empty = [word.lower() for word in config.words.empty]
    found: dict[str, int] = {}
    for ours in (s.USER, s.SESSION, s.ITEM, s.ORDER):
        if ours not in columns.picks or not is_id(columns.picks[ours]):
            continue
        text = as_text(feed.seen.sample[columns.picks[ours].name]).name("id").as_table()
        counted = text.filter(_.id.lower().isin(empty)).group_by("id").agg(n=_.count()).order_by("id").execute()
        for word, count in zip(counted["id"], counted["n"], strict=True):
            found[word] = max(int(count), found.get(word, 0))
            feed.entries.append(
                remark(f"{quoted(word)} stands for no {ours} in {count / feed.seen.looked:.0%} of the rows")
            )
    if found and feed.seen.csv is not None:
        feed.csv["nulls"] = list(found)
    elif found:
        feed.warnings.append(f"{feed.seen.path}: ids {', '.join(map(quoted, found))} count as one each: make them null")


def csv_settings(csv: CsvConfig | None) -> dict[str, object]:
    """What is not as `prepare` takes it by itself."""
    if csv is None:
        return {}
    settings: dict[str, object] = {}
    if csv.separator not in (None, ","):
        settings["separator"] = csv.separator
    if csv.encoding != "utf-8":
        settings["encoding"] = csv.encoding
    if csv.nulls:
        settings["nulls"] = list(csv.nulls)
    return settings


def measure_gaps(feed: Feed, columns: Columns, config: InspectConfig) -> None:
    """Hours of the day in the rows looked at, and the gaps between events of users drawn by a hash of their id."""
    feed.has_session = s.SESSION in columns.picks
    if feed.clock is None:
        return
    times = columns.picks[s.TIMESTAMP].name
    if not feed.clock.days:
        feed.quiet = quiet_hours(hour_counts(time_of(feed.seen.sample[times], feed.clock)))
    if feed.has_session or s.USER not in columns.picks or feed.clock.days:
        return
    user = as_text(feed.seen.table[columns.picks[s.USER].name])
    time = microseconds(time_of(feed.seen.table[times], feed.clock))
    events = feed.seen.table.select(user=user, time=time)
    every = -(-feed.seen.rows // config.sample)
    events = events.filter(_.user.hash() % every == 0) if every > 1 else events
    feed.gaps, feed.tick = gap_counts(events), resolution(events.time)


def example(look: Look) -> str:
    """A value as it is written; of a number since 1970 also the time it is."""
    shown = quoted(look.example)
    if look.clock is None or look.clock.unit is None or look.low is None:
        return shown
    time = datetime.fromtimestamp(look.low / UNITS[look.clock.unit], UTC)
    return f"{shown} is {time:%Y-%m-%d %H:%M}"


def some_values(look: Look) -> str:
    values = [value if len(value) <= 20 else f"{value[:20]}..." for value in look.values]
    return ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")


def quoted(text: str) -> str:
    return f'"{text if len(text) <= 40 else text[:40] + "..."}"'


def listed(looks: list[Look]) -> str:
    return ", ".join(quoted(look.name) for look in looks)
