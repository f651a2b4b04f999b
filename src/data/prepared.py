"""The prepared dataset: a folder of memory-mapped arrays, side tables and a manifest with a content hash."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shopkeeper.config import UserError
from shopkeeper.data import schema as s

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
IDENTITIES = "identities.parquet"
"""Which ids were taken for one person; only where a table of identities was given."""
SEGMENTS = "segments.json"
"""The rules that say which segments a visitor belongs to, as fitted on the train customers."""
ROW_ARRAYS = ("visitor", "time", "event", "item", "session", "order", "phase", *s.PROPERTIES)
SESSION_ARRAYS = ("visitor", "time", "split")

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Rows [start, end) of each visitor that one use of the data may see; both (n,), rows of `Prepared.rows`."""

    visitor: IntArray
    start: IntArray
    end: IntArray

    def __len__(self) -> int:
        return len(self.visitor)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Window":
        return Window(self.visitor[chosen], self.start[chosen], self.end[chosen])


class Prepared:
    """Read side of a prepared dataset; every array is memory-mapped and read-only.

    `rows[...]` are events sorted by visitor, time and source row: visitor, time (microseconds UTC), event and item
    codes (0 = none), session, order (-1 where it is no purchase), phase (place in schema.PHASES plus one), price,
    quantity, discount and coupon.
    `sessions[...]` hold visitor, time, split and entry context. `context(kind)` stacks the context codes as (n, C).
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.rows = load_arrays(path / "rows")
        self.sessions = load_arrays(path / "sessions")
        self.visitors = load_arrays(path / "visitors")

    @classmethod
    def read(cls, path: str | Path) -> "Prepared":
        """Open a prepared dataset.

        Raises:
            UserError: when the folder is missing, incomplete, or of another format version.
        """
        folder = Path(path)
        manifest_file = folder / MANIFEST
        if not manifest_file.exists():
            raise UserError(f"prepared={folder} is not a prepared dataset (no {MANIFEST}); run: shopkeeper prepare")
        try:
            manifest = json.loads(manifest_file.read_text())
            if manifest["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{manifest_file}: format {manifest['format_version']}, expected {FORMAT_VERSION}: prepare again"
                )
            prepared = cls(folder, manifest)
            prepared.check_complete()
            return prepared
        except (OSError, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"prepared={folder} is damaged ({error}); prepare it again") from error

    def check_complete(self) -> None:
        """Raise UserError naming the first file that is missing or has another length than the manifest says."""
        counts, context = self.manifest["counts"], [f"context_{c}" for c in self.context_columns]
        wanted = {
            "rows": (self.rows, [*ROW_ARRAYS, *context], counts["events"]),
            "sessions": (self.sessions, [*SESSION_ARRAYS, *context], counts["sessions"]),
            "visitors": (self.visitors, ["held_out"], counts["visitors"]),
        }
        for kind, (arrays, names, count) in wanted.items():
            for name in names:
                if name not in arrays or len(arrays[name]) != count:
                    raise UserError(f"{self.path / kind / name}.npy is missing or cut short; prepare the dataset again")
        for name in ("items.parquet", "visitors.parquet", "visitors/row_offsets.npy", SEGMENTS):
            if not (self.path / name).is_file():
                raise UserError(f"{self.path / name} is missing; prepare the dataset again")

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    @property
    def order_only(self) -> bool:
        return bool(self.manifest["order_only"])

    @property
    def context_columns(self) -> list[str]:
        return list(self.manifest["context"])

    @property
    def segments(self) -> list[str]:
        """Columns of the visitors that say which class of a segment they belong to; those by a rule come besides."""
        return list(self.manifest["segments"])

    def num_items(self, *, refit: bool = False) -> int:
        """Items a model may know: those of the train cut, or all of them for a refit."""
        return int(self.manifest["counts"]["items" if refit else "items_known"])

    def vocabulary(self, column: str, *, refit: bool = False) -> list[str]:
        """Values of `event` or of a context column that a model may know; code = position + 1."""
        entry = self.manifest["vocab"][column]
        return list(entry["values"] if refit else entry["values"][: entry["known"]])

    @cached_property
    def purchase_code(self) -> int:
        """Code of the purchase event; -1 where the log has none."""
        values = self.manifest["vocab"][s.EVENT]["values"]
        return int(values.index(s.PURCHASE)) + 1 if s.PURCHASE in values else -1

    @cached_property
    def step_offsets(self) -> IntArray:
        """Row at which each step begins, and the number of rows (steps + 1,).

        A step is a session's purchases on order-only logs (rows of one session are neighbours there), else a row.
        """
        if not self.order_only:
            return np.arange(len(self.rows["time"]) + 1, dtype=np.int64)
        session = self.rows["session"]
        return np.concatenate([[0], np.flatnonzero(np.diff(session)) + 1, [len(session)]]).astype(np.int64)

    @cached_property
    def row_split(self) -> npt.NDArray[np.int8]:
        """Split of each row's session (rows,)."""
        split: npt.NDArray[np.int8] = np.asarray(self.sessions["split"])[self.rows["session"]]
        return split

    def context(self, kind: Mapping[str, np.ndarray], at: npt.ArrayLike) -> IntArray:
        """Context codes of `rows` or `sessions` at the given positions (n, C)."""
        index = np.asarray(at)
        columns = [np.asarray(kind[f"context_{c}"])[index] for c in self.context_columns]
        return np.stack(columns, axis=-1).astype(np.int64) if columns else np.zeros((*index.shape, 0), np.int64)

    def cut(self, name: str) -> int:
        """A cut of the manifest (`val_start`, `test_start`) in microseconds UTC."""
        return int(np.datetime64(self.manifest["cuts"][name], "us").astype(np.int64))

    def item_ids(self) -> list[str]:
        """External ids in index order; item index i is at position i - 1."""
        return pd.read_parquet(self.path / "items.parquet", columns=[s.ITEM])[s.ITEM].tolist()

    def items_frame(self) -> pd.DataFrame:
        """The catalogue as a frame indexed by item index."""
        return pd.read_parquet(self.path / "items.parquet").set_index("item")

    def visitors_frame(self) -> pd.DataFrame:
        """Visitors with their ids and segments, indexed by visitor number."""
        return pd.read_parquet(self.path / "visitors.parquet").set_index("visitor")

    def events_frame(self, visitors: npt.ArrayLike | None = None) -> pd.DataFrame:
        """Events in the design's names for notebooks; of the given visitors, or (large!) of all."""
        offsets = self.visitors["row_offsets"]
        chosen = np.arange(len(offsets) - 1) if visitors is None else np.asarray(visitors)
        index = ragged_ranges(offsets[chosen], offsets[chosen + 1])
        frame = pd.DataFrame({name: np.asarray(column)[index] for name, column in self.rows.items()})
        frame.insert(0, s.TIMESTAMP, pd.to_datetime(frame.pop("time"), unit="us", utc=True))
        frame[s.ITEM] = np.array([None, *self.item_ids()], dtype=object)[frame.pop("item")]
        for column in (s.EVENT, *self.context_columns):
            code = frame.pop(f"context_{column}" if column != s.EVENT else s.EVENT)
            frame[column] = np.array([None, *self.manifest["vocab"][column]["values"]], dtype=object)[code]
        return frame


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def ragged_ranges(start: npt.ArrayLike, end: npt.ArrayLike) -> IntArray:
    """Concatenate the ranges [start_i, end_i): ragged_ranges([0, 5], [2, 7]) -> [0, 1, 5, 6]."""
    first, last = np.asarray(start, np.int64), np.asarray(end, np.int64)
    sizes = np.maximum(last - first, 0)
    if not sizes.sum():
        return np.empty(0, np.int64)
    shift = np.repeat(first - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    ranges: IntArray = np.arange(sizes.sum(), dtype=np.int64) + shift
    return ranges
