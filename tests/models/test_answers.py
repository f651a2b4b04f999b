"""What is told besides items, by a model whose numbers are given."""

import math

import torch
from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.models.answers import tell
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.contract import FitData, SessionModel

OUTCOMES = [Outcome("intent", ("none", "purchase")), Outcome("segment:income", ("low", "high"))]
RULES = Calibration(
    ks=[0, 1],
    scales={"intent": [1, 1], "segment:income": [1, 1]},
    temperature={"purchase": [1, 2]},
    sets={"purchase": [0.7, 0.7]},
    depth=DepthThresholds(segments={"segment:income": 0.8}, one_to_one=0.5),
)
SCORES = torch.tensor([4.0, 2.0, 1.0, 1.0]).log().expand(3, 1, 4)


class Given(SessionModel):
    """Says that everybody is of high income with probability 0.8."""

    family = "given"

    def fit(self, data: FitData) -> None:
        del data

    def prior_scores(self) -> Tensor:
        return torch.zeros(1, 4)

    def score(self, batch: Batch) -> Tensor:
        return SCORES[: len(batch.length)]

    def classify(self, batch: Batch) -> list[Tensor]:
        return [torch.tensor([[0.5, 0.5]]).log().expand(len(batch.length), 2)] + [
            torch.tensor([[0.2, 0.8]]).log().expand(len(batch.length), 2)
        ] * (len(self.outcomes) - 1)


def model(rules: Calibration | None) -> Given:
    made = Given(vocabulary=Vocabulary(4, 1, (2,)), tasks=["purchase"], max_len=3, outcomes=OUTCOMES)
    made.calibration = rules
    return made


def batch() -> Batch:
    """One of whom nothing is known, one with a context, and one with an item besides."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(
        event=torch.tensor([[1, 0], [1, 0], [1, 1]]),
        context=torch.tensor([[[0], [0]], [[1], [0]], [[1], [0]]]),
        time=torch.full((3, 2), -1),
        length=torch.tensor([1, 1, 2]),
        bag_item=nothing,
        bag_cell=nothing,
        bag_slot=nothing,
        seen=torch.tensor([[0], [0], [2]]),
        last_item=torch.tensor([0, 0, 2]),
        targets=(),
    )


def test_sets_and_depth_are_by_the_rules_of_as_many_steps() -> None:
    told = tell(model(RULES), batch(), SCORES)

    # probabilities 4, 2, 1, 1 of 8; after a step 16, 4, 1, 1 of 22
    assert told.sets["purchase"].tolist() == [2, 2, 1]
    assert [s.DEPTHS[place] for place in told.depth] == ["welcome", "segment", "one_to_one"]
    assert told.addressed["segment:income"].tolist() == [False, True, True]
    assert math.isclose(float(told.probabilities["segment:income"][1, 1]), 0.8, abs_tol=1e-6)


def test_slack_moves_every_decision_and_no_probability() -> None:
    bold, shy = (tell(model(RULES), batch(), SCORES, slack=by) for by in (0.25, -0.25))

    assert bold.sets["purchase"].tolist() == [1, 1, 1]  # 0.45 is reached by the first
    assert shy.sets["purchase"].tolist() == [4, 4, 3]  # 0.95 by all, or by 16 + 4 + 1 of 22
    assert [s.DEPTHS[place] for place in shy.depth] == ["welcome", "welcome", "one_to_one"]
    assert torch.equal(bold.probabilities["intent"], shy.probabilities["intent"])


def test_without_a_calibration_everybody_is_welcome() -> None:
    told = tell(model(None), batch(), SCORES)

    assert told.sets == {}
    assert told.depth.tolist() == [0, 0, 0]
    assert list(told.probabilities) == ["intent", "segment:income"]
