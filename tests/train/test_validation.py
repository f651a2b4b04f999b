import numpy as np
import pytest

from shopkeeper.config import ProtocolConfig, UserError
from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.contract import FitData
from shopkeeper.train.validation import Validation

PROTOCOL = ProtocolConfig(ks=[0, 1, 2], cutoff=20, max_examples=1000, resamples=10, seed=0)


def popularity(prepared: Prepared, tasks: list[str]) -> Popularity:
    vocabulary = Vocabulary.of(prepared, refit=False)
    model = Popularity(vocabulary=vocabulary, tasks=tasks, max_len=10, window_days=None)
    model.fit(FitData(prepared, train_window(prepared), vocabulary))
    return model


def test_the_primary_metric_pools_the_next_purchase_over_k_from_one(shops: dict[str, Prepared]) -> None:
    validation = Validation.of(shops["clicks"], ["purchase", "next"], PROTOCOL, primary="purchase")
    found = validation.metrics(popularity(shops["clicks"], ["purchase", "next"]))

    k = validation.examples["purchase"][0].k
    weights = np.bincount(k)[1:]
    by_k = [found["val/purchase/ndcg_at_20/k1"], found["val/purchase/ndcg_at_20/k2"]]
    assert found["val/primary"] == found["val/purchase/ndcg_at_20"]
    assert found["val/primary"] == pytest.approx(np.average(by_k, weights=weights))
    assert "val/next/ndcg_at_20/k0" in found
    assert validation.mean(found) == pytest.approx((found["val/primary"] + found["val/next/ndcg_at_20"]) / 2)


def test_a_model_without_the_primary_head_has_no_primary_metric(shops: dict[str, Prepared]) -> None:
    validation = Validation.of(shops["clicks"], ["next"], PROTOCOL, primary="purchase")
    found = validation.metrics(popularity(shops["clicks"], ["next"]))

    assert "val/primary" not in found
    assert "val/next/ndcg_at_20" in found
    assert validation.mean(found) == found["val/next/ndcg_at_20"]


def test_nothing_to_judge_is_an_error(shops: dict[str, Prepared]) -> None:
    protocol = ProtocolConfig(ks=[0], cutoff=20, max_examples=1000, resamples=10, seed=0)

    with pytest.raises(UserError, match="no stranger with a target of task 'purchase' after one step or more"):
        Validation.of(shops["clicks"], ["purchase"], protocol, primary="purchase")
