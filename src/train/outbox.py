"""Records of a run that the tracking server has not taken: numbered lines in a file, handed over in their order.

Nothing is lost: a record stands in the file, whole and flushed, before training goes on. Nothing is logged twice: each
record carries its own time, so the server takes one that it has seen for the same, and what was handed over is counted.
The lines stay where they are; a kill between a delivery and its count repeats that one delivery.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTBOX_FILE, DELIVERED_FILE = "outbox.jsonl", "outbox.delivered"


@dataclass(frozen=True)
class Record:
    """The number-th thing that a run has to tell: metrics, params, tags, a file, or its end."""

    number: int
    kind: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Outbox:
    """The records kept in one run's folder; one process adds to it, any may deliver from it."""

    folder: Path

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Keep a record, safe from a kill once this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((record.number for record in self.records()), default=0) + 1
        line = json.dumps({"number": number, "kind": kind, "content": content})
        with (self.folder / OUTBOX_FILE).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # the first line break ends what a kill may have left of a line
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[Record]:
        """All records ever kept; a line that a kill cut off is none."""
        file = self.folder / OUTBOX_FILE
        if not file.exists():
            return []
        found = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(Record(**json.loads(line)))
            except json.JSONDecodeError:
                continue
        return found

    @property
    def delivered(self) -> int:
        """Number of the last record that was handed over."""
        file = self.folder / DELIVERED_FILE
        return int(file.read_text()) if file.exists() else 0

    def pending(self) -> list[Record]:
        """The records still to be handed over, oldest first."""
        records = self.records()
        if not records:
            return []
        done = self.delivered
        return [record for record in records if record.number > done]

    def mark(self, record: Record) -> None:
        """Count a record, and all before it, as handed over."""
        partial = self.folder / f"{DELIVERED_FILE}.{os.getpid()}"
        partial.write_text(str(record.number))
        partial.replace(self.folder / DELIVERED_FILE)
