"""Tell tables of items and of users from tables of events, and propose how they are to be read."""

from dataclasses import dataclass, field

from shopkeeper.data import schema as s
from shopkeeper.data.columns import as_text
from shopkeeper.inspection.feeds import Seen, csv_settings, quoted
from shopkeeper.inspection.looks import Look
from shopkeeper.inspection.proposal import Entry, remark
from shopkeeper.inspection.roles import find_roles, is_personal, likeness, only_time
from shopkeeper.inspection.settings import InspectConfig

HAPPENS = (s.EVENT, s.SESSION, s.ORDER, s.QUANTITY, s.DISCOUNT, s.COUPON)
"""Columns that only events have."""


@dataclass
class Side:
    """What is proposed for a table of items or of users."""

    seen: Seen
    kind: str  # items or users
    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    csv: dict[str, object] = field(default_factory=dict)


def side_of(seen: Seen, config: InspectConfig) -> Side | None:
    """The table as one of items or of users, if it is one: its id is filled and unique, and nothing in it happens."""
    names = {ours: theirs for ours, theirs in config.words.columns.items() if ours not in s.DEFAULT_CONTEXT}
    names = {ours: names[ours] for ours in names if ours not in (s.TIMESTAMP, s.PRICE)}
    picks = find_roles(seen.looks, names, config.words).picks
    item, user = picks.get(s.ITEM), picks.get(s.USER)
    if any(ours in picks for ours in HAPPENS):
        return None
    timed = bool(only_time(seen.looks)) or any(
        look.clock is not None and likeness(look.name, config.words.columns[s.TIMESTAMP]) for look in seen.looks
    )
    if item is not None and user is None and is_unique(seen, item):
        side = propose_items(seen, item, config)
        described = any(entry.key == s.TITLE for block in side.entries for entry in block.value or []) or any(
            look.name.lower() == s.TITLE for look in seen.looks
        )
        return side if described or not timed else None
    if user is not None and item is None and not timed and is_unique(seen, user):
        return propose_users(seen, user, config)
    return None


def is_unique(seen: Seen, look: Look) -> bool:
    """Whether every row of the whole table has a value of its own."""
    if look.distinct < look.filled or look.filled < seen.looked:
        return False
    text = as_text(seen.table[look.name])
    found = seen.table.aggregate(filled=text.count(), distinct=text.nunique()).execute().iloc[0]
    return bool(found["filled"] == found["distinct"] == seen.rows)


def propose_items(seen: Seen, item: Look, config: InspectConfig) -> Side:
    """The id and what is known of items; the rest is not read."""
    side = Side(seen=seen, kind="items", csv=csv_settings(seen.csv))
    found = find_roles([look for look in seen.looks if look is not item], config.words.item_columns, config.words)
    picks = {s.ITEM: item} | {ours: look for ours, look in found.picks.items() if ours in s.ITEM_COLUMNS}
    block = [Entry(ours, look.name, shown(look, config)) for ours, look in picks.items() if look.name != ours]
    block += aside(seen.looks, picks, {s.ITEM, *s.ITEM_COLUMNS})
    price = picks.get(s.PRICE)
    if price is not None and price.decimal == ",":
        side.csv["decimal"] = ","
    side.entries = [Entry("item_columns", block)] if block else []
    rest = [look.name for look in seen.looks if look not in picks.values()]
    if rest:
        side.entries.append(remark(f"not used of {seen.path}: {', '.join(rest[:40])}"))
    return side


def propose_users(seen: Seen, user: Look, config: InspectConfig) -> Side:
    """The id; every other column is read as a segment."""
    side = Side(seen=seen, kind="users", csv=csv_settings(seen.csv))
    block = [Entry(s.USER, user.name, user.describe())] if user.name != s.USER else []
    others = [look for look in seen.looks if look is not user]
    block += aside(seen.looks, {s.USER: user}, {s.USER})
    for look in others:
        if look.name in s.RESERVED:
            block.append(Entry(f"{look.name}_as_given", look.name, "a name shopkeeper uses itself"))
    side.entries = [Entry("user_columns", block)] if block else []
    private = [look.name for look in others if is_personal(look, config.words) or look.distinct > config.max_values]
    if private:
        said = (
            f"every other column becomes a segment: take out of {seen.path} what tells a person: {', '.join(private)}"
        )
        side.entries.append(remark(said))
        side.warnings.append(said)
    return side


def aside(looks: list[Look], picks: dict[str, Look], ours_all: set[str]) -> list[Entry]:
    """Other names for columns that bear one of ours and hold something else."""
    return [
        Entry(f"{look.name.lower()}_as_given", look.name, f"set aside: {look.describe()}")
        for look in looks
        if look.name.lower() in ours_all and look not in picks.values()
    ]


def shown(look: Look, config: InspectConfig) -> str:
    return look.describe() if is_personal(look, config.words) else quoted(look.example)
