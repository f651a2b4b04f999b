"""outcomes.json of a bundle, and what its golden requests hold besides items."""

from typing import Any

from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch
from shopkeeper.models.answers import tell
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.contract import SessionModel

MODEL_S_OWN_WORD = 1.0
"""Scale of an outcome that is not calibrated."""


def outcomes_file(model: SessionModel) -> dict[str, Any] | None:
    """Content of outcomes.json; None for a model that tells nothing besides items."""
    if not model.outcomes and model.calibration is None:
        return None
    rules = model.calibration or uncalibrated(model)
    return {
        "ks": rules.ks,
        "outcomes": [
            {"name": o.name, "classes": list(o.classes), "prior": prior.tolist(), "scale": rules.scales[o.name]}
            for o, prior in zip(model.outcomes, model.outcome_priors(), strict=True)
        ],
        "sets": rules.sets,
        "temperature": rules.temperature,
        "depth": {"segments": rules.depth.segments, "one_to_one": rules.depth.one_to_one},
    }


def uncalibrated(model: SessionModel) -> Calibration:
    """The rules of a model that was not calibrated: its own word, no sets, nobody but welcomed."""
    scales = {outcome.name: [MODEL_S_OWN_WORD] for outcome in model.outcomes}
    return Calibration(ks=[0], scales=scales, temperature={}, sets={}, depth=DepthThresholds())


def expected_outcomes(model: SessionModel, batch: Batch, scores: Tensor, *, tolerance: float) -> list[dict[str, Any]]:
    """What an exported model may tell of each history, as fields of a golden request.

    Scores that are `tolerance` off make items about twice as much, times the temperature, more or less probable. Where
    that would change a decision, every outcome of it is allowed.
    """
    if not model.outcomes and model.calibration is None:
        return [{}] * len(batch.length)
    temperatures = model.calibration.temperature.values() if model.calibration else []
    slack = 2 * tolerance * max([1.0, *(value for values in temperatures for value in values)])
    told, bold, shy = (tell(model, batch, scores, slack=by) for by in (0.0, slack, -slack))
    classes = {outcome.name: outcome.classes for outcome in model.outcomes}
    cases = []
    for i in range(len(batch.length)):
        named = {n: dict(zip(classes[n], p[i].tolist(), strict=True)) for n, p in told.probabilities.items()}
        cases.append(
            {
                "segments": {
                    name.removeprefix(s.SEGMENT_PREFIX): own
                    for name, own in named.items()
                    if name.startswith(s.SEGMENT_PREFIX)
                },
                "intent": named[s.INTENT][s.PURCHASE] if s.INTENT in named else None,
                "phase": named.get(s.PHASE),
                "sets": {task: [int(bold.sets[task][i]), int(shy.sets[task][i])] for task in told.sets},
                "depths": s.DEPTHS[int(shy.depth[i]) : int(bold.depth[i]) + 1],
            }
        )
    return cases
