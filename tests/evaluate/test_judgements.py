from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.data import schema as s
from shopkeeper.data.examples import JudgedExamples, judged_examples, visible_items
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Ragged, Targets
from shopkeeper.evaluate.judge import judge
from shopkeeper.evaluate.judgements import Judgement, judge_whole, log_probabilities, select, sets_of
from shopkeeper.evaluate.ranks import MISS
from shopkeeper.models.calibration import Calibration, DepthThresholds
from shopkeeper.models.contract import SessionModel

Heads = Callable[..., SessionModel]


@pytest.fixture(scope="module")
def found(shops: dict[str, Prepared]) -> JudgedExamples:
    prepared = shops["clicks"]
    return judged_examples(prepared, Targets(prepared), "purchase", s.STRANGERS, s.TEST, ks=[0, 1, 4], at_most=100)


def whole(prepared: Prepared, model: SessionModel, found: JudgedExamples, **options: Any) -> Judgement:
    visible = visible_items(prepared, found.examples)
    return judge_whole(model, prepared, found.examples, found.targets, task="purchase", visible=visible, **options)


def test_ranks_are_those_of_judge_and_better_without_what_was_seen(
    shops: dict[str, Prepared], heads: Heads, found: JudgedExamples
) -> None:
    prepared = shops["clicks"]
    model = heads(prepared)
    judgement = whole(prepared, model, found, with_sets=True)

    assert judgement.ranks.tolist() == judge(model, prepared, *found[:2], task="purchase").tolist()
    new = judgement.unseen_ranks < MISS
    assert (judgement.unseen_ranks[new] <= judgement.ranks[new]).all()
    assert judgement.sets is None  # nothing was calibrated
    first = np.repeat(found.examples.k == 0, found.targets.sizes)
    assert (judgement.unseen_ranks[first] == judgement.ranks[first]).all()  # nothing was seen


def test_probabilities_of_the_whole_catalogue_sum_to_one(shops: dict[str, Prepared], heads: Heads) -> None:
    scores, everything = torch.tensor([[0.0, 1.0, 2.0]]), Ragged(np.array([0, 4]), np.array([1, 2, 3, 4]))
    told = log_probabilities(scores, torch.tensor([2.0]), everything)

    # softmax of (0, 2, 4); the fourth item is outside the catalogue
    assert np.exp(told[:3]) == pytest.approx(np.exp([0, 2, 4]) / np.exp([0, 2, 4]).sum())
    assert np.isnan(told[3])


def test_a_set_holds_the_best_items_until_it_is_likely_enough(shops: dict[str, Prepared], heads: Heads) -> None:
    model = heads(shops["clicks"])
    model.calibration = Calibration(
        ks=[0], scales={}, temperature={"purchase": [1.0]}, sets={"purchase": [0.7]}, depth=DepthThresholds()
    )
    scores = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1]]))
    # 0.5 + 0.3 reach 0.7: items 2 and 3; in the last row item 1 alone does
    targets = Ragged(np.array([0, 1, 3, 4, 5]), np.array([3, 1, 2, 1, 99]))
    sets = sets_of(model, scores, torch.zeros(4, dtype=torch.int64), targets, "purchase")

    assert sets.size.tolist() == [2, 2, 2, 1]
    assert sets.covers.tolist() == [True, True, False, False]  # the last has a target outside the catalogue alone


def test_sets_of_a_calibrated_model_cover_what_ranks_inside_them(
    shops: dict[str, Prepared], heads: Heads, found: JudgedExamples
) -> None:
    prepared = shops["clicks"]
    judgement = whole(prepared, heads(prepared, calibrated=True), found, with_sets=True)

    assert judgement.sets is not None
    best = np.minimum.reduceat(judgement.ranks, found.targets.offsets[:-1])
    assert judgement.sets.covers.tolist() == (best <= judgement.sets.size).tolist()


def test_scores_of_counts_are_no_logits(shops: dict[str, Prepared], heads: Heads, found: JudgedExamples) -> None:
    prepared = shops["clicks"]
    model = heads(prepared)
    assert whole(prepared, model, found, with_sets=False).log_probability is not None
    model.scores_are_logits = False  # type: ignore[misc]

    assert whole(prepared, model, found, with_sets=False).log_probability is None


def test_select_keeps_the_order_that_is_asked_for() -> None:
    lists = select(Ragged(np.array([0, 2, 2, 5]), np.array([7, 8, 1, 2, 3])), np.array([2, 1, 0]))

    assert (lists.offsets.tolist(), lists.items.tolist()) == ([0, 3, 3, 5], [1, 2, 3, 7, 8])
