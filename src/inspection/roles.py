"""Which column is which: by its name in several languages, and by whether its values fit."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shopkeeper.data import schema as s
from shopkeeper.inspection.looks import Look
from shopkeeper.inspection.settings import WordsConfig

OURS, SAME, CONTENT, ENDING = 4, 3, 2, 1
"""How well a column is known: by our name, by a word of the list, by its values, by the end of its name."""

KNOWN_SHARE = 0.5
"""Share of a column's values that must be known event names for it to be the event column whatever its name."""

Picks = dict[str, Look]


@dataclass(frozen=True)
class Candidate:
    """A column that may be the one wanted; the higher (strength, -order), the likelier."""

    look: Look
    strength: int
    order: int


@dataclass(frozen=True)
class Roles:
    """The column of each of our names, how well each is known, and others that would have fitted."""

    picks: Picks
    strength: dict[str, int]
    others: dict[str, list[Look]]


def words_of(name: str) -> list[str]:
    """The words of a name without case and accents: "userId" -> user, id; "Stück-Nr." -> stuck, nr.

    German ae, oe and ue become what the umlauts become, in all names alike.
    """
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    letters = unicodedata.normalize("NFKD", split.replace("ß", "ss")).lower()
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    for pair in ("ae", "oe", "ue"):
        plain = plain.replace(pair, pair[0])
    return re.findall(r"[^\W_]+", plain)


def joined(name: str) -> str:
    return "".join(words_of(name))


def likeness(name: str, words: Sequence[str]) -> tuple[int, int] | None:
    """How well a name is known (SAME or ENDING) and by which word; None where by none."""
    whole, parts = joined(name), words_of(name)
    for order, word in enumerate(words):
        if joined(word) == whole:
            return SAME, order
    for order, word in enumerate(words):
        end = words_of(word)
        if len(parts) > len(end) > 0 and parts[-len(end) :] == end:
            return ENDING, order
    return None


def find_roles(looks: Sequence[Look], names: Mapping[str, Sequence[str]], words: WordsConfig) -> Roles:
    """Give every column of `names` (ours -> words) the best column that fits; none is used twice."""
    candidates = {ours: candidates_for(ours, looks, theirs, words) for ours, theirs in names.items()}
    likely = [(c.strength, -c.order, ours, c.look) for ours, found in candidates.items() for c in found]
    picks: Picks = {}
    strength: dict[str, int] = {}
    for strong, _, ours, look in sorted(likely, key=lambda found: found[:2], reverse=True):
        if ours not in picks and look not in picks.values():
            picks[ours], strength[ours] = look, strong
    used = list(picks.values())
    others = {
        ours: [c.look for c in sorted(found, key=lambda c: (-c.strength, c.order)) if c.look not in used]
        for ours, found in candidates.items()
    }
    return Roles(picks=picks, strength=strength, others=others)


def candidates_for(ours: str, looks: Sequence[Look], names: Sequence[str], words: WordsConfig) -> list[Candidate]:
    found = []
    for look in looks:
        if not FITS.get(ours, is_value)(look):
            continue
        known = (OURS, 0) if look.name.lower() == ours else likeness(look.name, names)
        speaks = ours == s.EVENT and bool(look.values) and known_share(look, words) >= KNOWN_SHARE
        if speaks and (known is None or known[0] == ENDING):
            known = CONTENT, 0
        if ours == s.EVENT and known is not None and known[0] < OURS and not look.values:
            known = None  # too many values for events
        if ours == s.EVENT and known is not None and known[0] == ENDING:
            known = None  # "page_action_type" may be anything
        if known is not None:
            found.append(Candidate(look, *known))
    return found


def is_time(look: Look) -> bool:
    return look.clock is not None


def is_id(look: Look) -> bool:
    """Text or whole numbers; not times as text."""
    return look.is_id and (look.clock is None or look.clock.unit is not None)


def is_event(look: Look) -> bool:
    return look.kind in ("text", "whole")


def is_number(look: Look) -> bool:
    return look.is_number


def is_value(look: Look) -> bool:
    return look.kind != "nested"


FITS: Mapping[str, Callable[[Look], bool]] = (
    {s.TIMESTAMP: is_time, s.EVENT: is_event} | dict.fromkeys(s.IDS, is_id) | dict.fromkeys(s.PROPERTIES, is_number)
)


def event_of(value: str, words: WordsConfig) -> str | None:
    """Our name of an event, where it is known; the list that names it first wins."""
    plain = joined(value)
    if plain in {joined(ours) for ours in words.events}:
        return next(ours for ours in words.events if joined(ours) == plain)
    return next((ours for ours, theirs in words.events.items() if plain in {joined(word) for word in theirs}), None)


def known_share(look: Look, words: WordsConfig) -> float:
    """Share of a column's rows whose value is a known event."""
    known = sum(count for value, count in look.values.items() if event_of(value, words))
    return known / max(sum(look.values.values()), 1)


def event_of_file(stem: str, words: WordsConfig) -> str | None:
    """The event that all rows of a file are, where its name says one: "train-item-views" are views."""
    found = [event for word in reversed(words_of(stem)) if (event := event_of(word, words))]
    return found[0] if found else None


def only_time(looks: Sequence[Look]) -> list[Look]:
    """The columns that tell a time whatever their names; numbers may be anything."""
    return [look for look in looks if look.clock is not None and look.clock.unit is None]


def repeating_ids(looks: Sequence[Look], used: Sequence[Look], *, max_values: int) -> list[Look]:
    """Columns that may name visitors though their names say nothing: ids that repeat and are more than a few."""
    return [
        look
        for look in looks
        if look not in used and is_id(look) and max_values < look.distinct <= 0.9 * look.filled and look.decimal != ","
    ]


def is_personal(look: Look, words: WordsConfig) -> bool:
    """Whether the values may tell a person: by the column's name, or as addresses."""
    return likeness(look.name, words.personal) is not None or "@" in look.example


def few_words(looks: Sequence[Look], used: Sequence[Look], words: WordsConfig) -> list[Look]:
    """Columns of a few values that may be known before the first click."""
    free = [look for look in looks if look not in used and look.kind == "text" and look.values and look.clock is None]
    return [look for look in free if look.distinct > 1 and look.decimal is None and not is_personal(look, words)]
