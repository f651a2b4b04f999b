"""The YAML of a proposal: values with comments that say what they were taken from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

PLAIN = re.compile(r"/?[^\W\d]\w*(?:[/.-]\w+)*")
WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}
MISSING = "???"


@dataclass(frozen=True)
class Entry:
    """A key with its value and a comment; of a block the value is a list of entries.

    Without a key the comment stands on a line of its own; `off` comments the entry itself out.
    """

    key: str = ""
    value: Any = None
    said: str = ""
    off: bool = False

    @property
    def settings(self) -> Any:
        """What the entry sets, without what is said about it."""
        if not isinstance(self.value, list) or not all(isinstance(entry, Entry) for entry in self.value):
            return self.value
        return {entry.key: entry.settings for entry in self.value if entry.key and not entry.off}


@dataclass(frozen=True)
class Proposal:
    """The text of the YAML, and what its reader has to decide before it can be used."""

    text: str
    warnings: list[str] = field(default_factory=list)


def remark(text: str) -> Entry:
    return Entry(said=text)


def render(entries: Sequence[Entry]) -> str:
    return "".join(f"{line}\n" for line in lines(entries, indent=0))


def lines(entries: Sequence[Entry], *, indent: int) -> Iterator[str]:
    """The lines of a block; comments of its values stand one under the other."""
    space = " " * indent
    heads = [f"{'# ' if e.off else ''}{scalar(e.key)}: {flow(e.value)}" for e in entries if e.key and not is_block(e)]
    width = max((len(head) for head in heads if len(head) <= 48), default=0) if indent else 0
    for entry in entries:
        comment = f"  # {plain(entry.said)}" if entry.said else ""
        if not entry.key:
            yield f"{space}# {plain(entry.said)}"
        elif is_block(entry):
            yield f"{space}{scalar(entry.key)}:{comment}"
            yield from lines(entry.value, indent=indent + 2)
        else:
            head = f"{'# ' if entry.off else ''}{scalar(entry.key)}: {flow(entry.value)}"
            yield (space + head.ljust(width if comment else 0) + comment).rstrip()


def is_block(entry: Entry) -> bool:
    return isinstance(entry.value, list) and bool(entry.value) and isinstance(entry.value[0], Entry)


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    return MISSING if value == MISSING else scalar(value)


def scalar(value: Any) -> str:
    """A scalar; text is quoted where YAML or Hydra would read something else."""
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS_OF_YAML:
        return value
    escaped = value.replace("${", "\\${")  # Hydra would look for a key
    quoted: str = yaml.safe_dump(escaped, default_style='"', allow_unicode=True, width=float("inf"))
    return quoted.strip()


def plain(comment: str) -> str:
    """A comment on one line; what no terminal shows is left out."""
    return "".join(letter for letter in " ".join(comment.split()) if letter.isprintable())
