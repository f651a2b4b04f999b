"""Answers to many histories as tables: the best items, the segments' probabilities, and the other outcomes.

B histories, C classes of an outcome.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shopkeeper.data import schema as s

if TYPE_CHECKING:
    from shopkeeper_serving.calibration import Calibration, Judged
    from shopkeeper_serving.predictor import Answers, Predictor

HISTORY = "history_id"
ITEMS, SEGMENTS, OUTCOMES = "items.parquet", "segments.parquet", "outcomes.parquet"
FILES = {
    ITEMS: pa.schema(
        [
            (HISTORY, pa.string()),
            ("task", pa.string()),
            ("rank", pa.int32()),
            (s.ITEM, pa.string()),
            ("score", pa.float32()),
        ]
    ),
    SEGMENTS: pa.schema(
        [(HISTORY, pa.string()), ("segment", pa.string()), ("class", pa.string()), ("probability", pa.float32())]
    ),
    OUTCOMES: pa.schema([(HISTORY, pa.string()), ("outcome", pa.string()), ("probability", pa.float32())]),
}
"""What is written, with the columns of each file."""


def tables(predictor: "Predictor", names: list[str], answers: "Answers") -> Iterator[tuple[str, pa.Table]]:
    """Parts of the files, each with the name of its file, for the histories called `names` (B,)."""
    histories = np.array(names, object)
    yield ITEMS, items_table(predictor, histories, answers)
    if answers.judged is not None and predictor.calibration is not None:
        yield SEGMENTS, segments_table(predictor.calibration, histories, answers.judged)
        yield OUTCOMES, outcomes_table(predictor.calibration, histories, answers.judged)


def items_table(predictor: "Predictor", histories: np.ndarray, answers: "Answers") -> pa.Table:
    ids, parts = pa.array(predictor.bundle.item_ids, pa.string()), []
    for task, best in answers.ranked.items():
        count, k = best.item.shape
        named = np.isfinite(best.score)
        parts.append(
            pa.table(
                {
                    HISTORY: pa.array(np.repeat(histories, k)[named.ravel()]),
                    "task": pa.array([task] * int(named.sum()), pa.string()),
                    "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int32), count)[named.ravel()]),
                    s.ITEM: ids.take(pa.array(best.item[named] - 1)),
                    "score": pa.array(best.score[named].astype(np.float32)),
                },
                schema=FILES[ITEMS],
            )
        )
    return pa.concat_tables(parts)


def segments_table(calibration: "Calibration", histories: np.ndarray, judged: "Judged") -> pa.Table:
    """Per history and segment the probability of each class; they sum to 1."""
    parts = []
    for name in calibration.segments:
        classes = calibration.classes[name]
        columns = long(histories, classes, judged.probability[:, calibration.places[name]])
        segment = pa.array([name.removeprefix(s.SEGMENT_PREFIX)] * len(columns[0]), pa.string())
        parts.append(pa.table([columns[0], segment, *columns[1:]], schema=FILES[SEGMENTS]))
    return pa.concat_tables(parts) if parts else FILES[SEGMENTS].empty_table()


def outcomes_table(calibration: "Calibration", histories: np.ndarray, judged: "Judged") -> pa.Table:
    """Per history `purchase`, `phase:<name>` and, as 0 or 1, `depth:<name>`, as far as the bundle tells them."""
    from shopkeeper_serving.calibration import DEPTHS

    places, told, names = calibration.places, [], []
    if s.INTENT in places:
        bought = calibration.classes[s.INTENT].index(s.PURCHASE)
        told.append(judged.probability[:, places[s.INTENT]][:, [bought]])
        names.append(s.PURCHASE)
    if s.PHASE in places:
        told.append(judged.probability[:, places[s.PHASE]])
        names += [f"{s.PHASE}:{phase}" for phase in calibration.classes[s.PHASE]]
    told.append(judged.depth[:, None] == np.arange(len(DEPTHS)))
    names += [f"depth:{depth}" for depth in DEPTHS]
    return pa.table(long(histories, names, np.concatenate(told, axis=1)), schema=FILES[OUTCOMES])


def long(histories: np.ndarray, names: list[str], values: np.ndarray) -> list[pa.Array]:
    """Columns of a table with a row for each history and name, from values (B, C)."""
    return [
        pa.array(np.repeat(histories, len(names)), pa.string()),
        pa.array(np.tile(np.array(names, object), len(histories)), pa.string()),
        pa.array(values.astype(np.float32).ravel()),
    ]
