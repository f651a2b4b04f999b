"""Named formats of public logs: each reshapes the raw tables of its log; the names are mapped in its YAML."""

from collections.abc import Callable

from shopkeeper.data.log import RawLog
from shopkeeper.data.settings import DataConfig

Reshape = Callable[[RawLog, DataConfig], None]


def as_it_is(log: RawLog, config: DataConfig) -> None:
    """A log whose tables hold a row per event already."""


FORMATS: dict[str, Reshape] = {"events": as_it_is}
"""By `data.source`."""
