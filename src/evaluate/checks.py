"""What one check of an audit found: whether it holds, one line that says so, and the figures behind it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

OK: Final = "ok"
WARN: Final = "warn"
LEAK: Final = "LEAK"
NOT_APPLICABLE: Final = "n/a"

F = TypeVar("F")


@dataclass(frozen=True)
class Check(Generic[F]):
    """A check's status, its line, and its figures; `figures` is None where the check does not apply."""

    name: str
    status: str
    says: str
    figures: F | None

    @property
    def line(self) -> str:
        """The check on the terminal."""
        return f"{self.status:<5} {self.name}: {self.says}"


def not_applicable(name: str, reason: str) -> Check[F]:
    return Check(name, NOT_APPLICABLE, f"not applicable: {reason}", None)


def leak_when(name: str, leaks: bool, says: str, figures: F) -> Check[F]:
    return Check(name, LEAK if leaks else OK, says, figures)


def warn_when(name: str, warns: bool, says: str, figures: F) -> Check[F]:
    return Check(name, WARN if warns else OK, says, figures)


def leaks_of(checks: Iterable[Check[F]]) -> list[str]:
    """Names of the checks that found a leak."""
    return [check.name for check in checks if check.status == LEAK]


def percent(part: float, whole: float) -> str:
    """A share for people: `3.1%`; `0%` of nothing."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.2g}%" if 0 < share < 10 else f"{share:.1f}%"
