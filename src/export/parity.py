"""Exported equals trained, checked at every export: the same strangers, through training's code and serving's."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import Examples, stranger_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.outcomes import expected_outcomes
from shopkeeper.models.contract import SessionModel, rank_ready

if TYPE_CHECKING:
    from shopkeeper_serving.schemas import Event

HISTORIES = 64
KS = [0, 1, 2, 5, 10, 100]


def check_parity(model: SessionModel, prepared: Prepared, folder: Path, *, tolerance: float) -> None:
    """Compare the best 20 and the outcomes of validation strangers, from prepared rows and from raw events.

    Raises:
        UserError: when a score or probability differs by more than `tolerance`; the bundle is not written then.
    """
    import msgspec

    from shopkeeper_serving.golden import Golden
    from shopkeeper_serving.predictor import Predictor
    from shopkeeper_serving.schemas import PredictRequest

    predictor = Predictor.load(folder)
    examples = some_examples(prepared)
    pieces = example_pieces(examples, model.max_len)
    batch = collate(prepared, pieces, model.vocabulary)
    scored = rank_ready(model, batch)
    trained = scored.numpy()
    answers = predictor.predict_many(raw_histories(prepared, examples), k=20)
    index = {item: i for i, item in enumerate(predictor.bundle.item_ids)}
    for h, task in enumerate(model.tasks):
        for scores, given in zip(trained[:, h], answers, strict=True):
            named = np.array([index[item.item_id] for item in given.items[task]])
            served = np.array([item.score for item in given.items[task]])
            best = -np.sort(-scores[np.isfinite(scores)])[: len(served)]
            worst = max(np.abs(served - scores[named]).max(initial=0), np.abs(served - best).max(initial=0))
            if len(best) != len(served) or worst > tolerance:
                raise UserError(
                    f"the exported model does not answer as the trained one: {task} scores differ by {worst:.2g} "
                    f"(allowed {tolerance:g}); please report this with your config"
                )
    for told, given in zip(expected_outcomes(model, batch, scored, tolerance=tolerance), answers, strict=True):
        nobody = {"request": PredictRequest(events=[]), "item_ids": {}, "scores": {}}
        wrong = msgspec.convert({**nobody, **told}, Golden).disagreement(given, tolerance)
        if wrong is not None:
            raise UserError(
                f"the exported model does not answer as the trained one: {wrong} differs by more than {tolerance:g}; "
                "please report this with your config"
            )


def some_examples(prepared: Prepared) -> Examples:
    """Validation strangers at several k, spread evenly."""
    examples = stranger_examples(prepared, s.VAL, KS)
    return examples.only(np.unique(np.linspace(0, len(examples) - 1, HISTORIES).astype(int)))


def raw_histories(prepared: Prepared, examples: Examples) -> list[list["Event"]]:
    """Each example's visible rows as raw events, opened by the session_start of its first session."""
    from shopkeeper_serving.schemas import Event

    moments = examples.moments(prepared)
    item_ids, names = prepared.item_ids(), prepared.manifest["vocab"][s.EVENT]["values"]
    columns = prepared.context_columns
    values = [prepared.manifest["vocab"][c]["values"] for c in columns]

    def context(codes: np.ndarray) -> dict[str, str | None]:
        return {c: v[code - 1] if code else None for c, v, code in zip(columns, values, codes, strict=True)}

    def at(microseconds: int) -> dt.datetime:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(microseconds))

    histories = []
    rows = prepared.rows
    for first, start, end in zip(examples.first, moments.start, moments.end, strict=True):
        session = int(rows["session"][prepared.step_offsets[first]])
        opening = Event(
            event=s.SESSION_START,
            timestamp=at(prepared.sessions["time"][session]),
            context=context(prepared.context(prepared.sessions, session)),
        )
        events = [
            Event(
                event=names[rows["event"][row] - 1],
                timestamp=at(rows["time"][row]),
                item_id=item_ids[rows["item"][row] - 1] if rows["item"][row] else None,
                session_id=str(rows["session"][row]),
                context=context(prepared.context(rows, row)),
            )
            for row in range(start, end)
        ]
        histories.append([opening, *events])
    return histories
