import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.examples import judged_examples, stranger_examples
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Targets
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.judge import classify_all, judge
from shopkeeper.evaluate.ranks import MISS
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.contract import FitData


@pytest.fixture(scope="module")
def model(shops: dict[str, Prepared]) -> Popularity:
    prepared = shops["clicks"]
    vocabulary = Vocabulary.of(prepared, refit=False)
    fitted = Popularity(vocabulary=vocabulary, tasks=["purchase", "next"], max_len=5, window_days=None)
    fitted.fit(FitData(prepared, train_window(prepared), vocabulary))
    return fitted


def test_ranks_are_in_the_order_of_the_targets(shops: dict[str, Prepared], model: Popularity) -> None:
    prepared = shops["clicks"]
    examples, wanted, _ = judged_examples(
        prepared, Targets(prepared), "purchase", "strangers", s.TEST, ks=[0, 1, 4], at_most=1000
    )
    ranks = judge(model, prepared, examples, wanted, task="purchase")

    # popularity scores everyone alike: an item's rank is its place among the scores, whoever asks
    scores = model.prior_scores()[0].numpy()
    place = np.array([(scores >= score).sum() for score in scores])
    expected = [place[item - 1] if item <= len(scores) else MISS for item in wanted.items]
    assert ranks.tolist() == expected


class LastItem(Popularity):
    """Says of a visitor's luck whether the last item has an odd number; sure of nothing."""

    def outcome_priors(self) -> list[Tensor]:
        return [torch.tensor([0.5, 0.5]).log()]

    def classify(self, batch: Batch) -> list[Tensor]:
        odd = batch.last_item % 2
        return [torch.stack([0.8 - 0.6 * odd, 0.2 + 0.6 * odd], dim=1).log()]


def test_what_is_said_of_outcomes_is_in_the_order_of_the_examples(
    shops: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = shops["clicks"]
    vocabulary = Vocabulary.of(prepared, refit=False)
    model = LastItem(vocabulary=vocabulary, tasks=["next"], max_len=5, window_days=None)
    model.outcomes = [Outcome("segment:luck", ("even", "odd"))]
    examples = stranger_examples(prepared, s.TEST, [1, 3])
    monkeypatch.setattr("shopkeeper.evaluate.judge.AT_ONCE", 7)

    (found,) = classify_all(model, prepared, examples)

    # every row of this shop names an item: the last one is that of the row before `end`
    item = np.asarray(prepared.rows["item"])[examples.moments(prepared).end - 1]
    known = np.where(item <= vocabulary.num_items, item, 0)
    np.testing.assert_allclose(np.exp(found[:, 1]), np.where(known % 2, 0.8, 0.2), atol=1e-6)


def test_blocks_change_nothing(shops: dict[str, Prepared], model: Popularity, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = shops["clicks"]
    examples, wanted, _ = judged_examples(
        prepared, Targets(prepared), "next", "known", s.TEST, ks=[0, 1, 2, 3], at_most=1000
    )
    whole = judge(model, prepared, examples, wanted, task="next")
    monkeypatch.setattr("shopkeeper.evaluate.judge.SCORES_AT_ONCE", 1)

    assert judge(model, prepared, examples, wanted, task="next").tolist() == whole.tolist()
