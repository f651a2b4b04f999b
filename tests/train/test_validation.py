import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.config import ProtocolConfig, UserError
from shopkeeper.data.batches import Batch, Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.windows import train_window
from shopkeeper.models.baselines import Popularity
from shopkeeper.models.contract import FitData
from shopkeeper.train.validation import Validation

PRIOR, SAID = (0.5, 0.5), (0.8, 0.2)


class Certain(Popularity):
    """Says the same of every visitor's card."""

    def outcome_priors(self) -> list[Tensor]:
        return [torch.tensor(PRIOR).log()]

    def classify(self, batch: Batch) -> list[Tensor]:
        return [torch.tensor(SAID).log().expand(len(batch.event), -1)]


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


def test_skill_is_what_log_loss_is_below_that_of_the_prior(shops: dict[str, Prepared]) -> None:
    prepared, card = shops["clicks"], Outcome("segment:card", ("no", "yes"))
    validation = Validation.of(prepared, ["purchase"], PROTOCOL, primary="purchase", outcomes=[card])
    model = Certain(vocabulary=Vocabulary.of(prepared, refit=False), tasks=["purchase"], max_len=10, window_days=None)
    model.outcomes = [card]
    found = validation.skills(model)

    column = prepared.visitors_frame()["card"].to_numpy()
    for k in (0, 1, 2):
        of_k = column[validation.moments.visitor[validation.moments.k == k]]
        no, yes = (of_k == "no").sum(), (of_k == "yes").sum()
        loss, prior = -no * np.log(0.8) - yes * np.log(0.2), (no + yes) * np.log(2)
        assert no > 0 < yes < len(of_k) - no
        assert found[f"val/segment.card/skill/k{k}"] == pytest.approx(1 - loss / prior)
    assert set(found) == {"val/segment.card/skill", *(f"val/segment.card/skill/k{k}" for k in (0, 1, 2))}


def test_an_outcome_nobody_is_known_by_has_no_skill(shops: dict[str, Prepared]) -> None:
    prepared, card = shops["clicks"], Outcome("segment:card", ("gold", "tin"))
    validation = Validation.of(prepared, ["purchase"], PROTOCOL, primary="purchase", outcomes=[card])
    model = Certain(vocabulary=Vocabulary.of(prepared, refit=False), tasks=["purchase"], max_len=10, window_days=None)
    model.outcomes = [card]

    assert validation.skills(model) == {}


def test_nothing_to_judge_is_an_error(shops: dict[str, Prepared]) -> None:
    protocol = ProtocolConfig(ks=[0], cutoff=20, max_examples=1000, resamples=10, seed=0)

    with pytest.raises(UserError, match="no stranger with a target of task 'purchase' after one step or more"):
        Validation.of(shops["clicks"], ["purchase"], protocol, primary="purchase")
