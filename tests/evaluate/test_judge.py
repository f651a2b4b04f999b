import numpy as np
import pytest

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.examples import judged_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.targets import Targets
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.judge import judge
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


def test_blocks_change_nothing(shops: dict[str, Prepared], model: Popularity, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = shops["clicks"]
    examples, wanted, _ = judged_examples(
        prepared, Targets(prepared), "next", "known", s.TEST, ks=[0, 1, 2, 3], at_most=1000
    )
    whole = judge(model, prepared, examples, wanted, task="next")
    monkeypatch.setattr("shopkeeper.evaluate.judge.SCORES_AT_ONCE", 1)

    assert judge(model, prepared, examples, wanted, task="next").tolist() == whole.tolist()
