from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shopkeeper.data import schema as s
from shopkeeper.data.batches import Vocabulary, collate, example_pieces
from shopkeeper.data.examples import outcome_examples
from shopkeeper.data.outcomes import Outcome, supported_outcomes
from shopkeeper.data.prepare import prepare
from shopkeeper.data.prepared import Prepared
from shopkeeper.data.settings import PrepareConfig
from shopkeeper.data.windows import train_window
from shopkeeper.evaluate.classified import blanked, classify, majority, telling_columns


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, compose: Callable[..., Any]) -> Prepared:
    """Forty visitors a week over three weeks; `nation` is told by the country, `tier` by nothing."""
    folder = tmp_path_factory.mktemp("telling")
    rng, count = np.random.default_rng(0), 120
    abroad = rng.random(count) < 0.4
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(count) * 4, unit="h"),
            "event": "view_item",
            "item_id": "x",
            "user_id": [f"u{i:03d}" for i in range(count)],
            "country": np.where(abroad, "FR", "DE"),
            "device": rng.choice(["phone", "desktop"], count),
        }
    )
    frame.to_parquet(folder / "log.parquet")
    nation, tier = np.where(abroad, "french", "german"), rng.choice(["gold", "tin"], count)
    pd.DataFrame({"user_id": frame["user_id"], "nation": nation, "tier": tier}).to_parquet(folder / "users.parquet")
    where = [f"data.events={folder / 'log.parquet'}", f"data.users={folder / 'users.parquet'}"]
    cuts = ["val_share=null", "test_share=null", "val_days=6", "test_days=6", "holdout_share=0"]
    cuts = [f"data.split.{cut}" for cut in cuts]
    return prepare(
        compose("prepare", PrepareConfig, "data=events", *where, f"output={folder / 'shop'}", "threads=1", *cuts),
        say=lambda text: None,
    )


def test_a_segment_that_a_column_gives_away_is_named_with_it(shop: Prepared) -> None:
    window = train_window(shop)
    outcomes, _ = supported_outcomes(shop, window)

    assert {"segment:nation", "segment:tier"} <= {outcome.name for outcome in outcomes}
    assert telling_columns(shop, window, outcomes) == {"segment:nation": "country"}


def test_a_new_value_takes_the_most_frequent_class_of_all() -> None:
    codes, label = np.array([1, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1])

    # code 1: mostly 0; code 2: 1; code 5 was never seen: three of five are 1
    assert majority(codes, label, np.array([1, 2, 5])).tolist() == [0, 1, 1]


def test_a_blanked_column_is_unknown_at_every_token_and_the_others_stay(shop: Prepared) -> None:
    examples = outcome_examples(shop, s.STRANGERS, s.TEST, ks=[0, 1], at_most=10).examples
    batch = collate(shop, example_pieces(examples, 5), Vocabulary.of(shop, refit=False))
    country = shop.context_columns.index("country")
    without = blanked(batch, country)

    assert (batch.context[:, :, country] > 0).any()
    assert not without.context[:, :, country].any()
    assert torch.equal(without.context[:, :, 1 - country], batch.context[:, :, 1 - country])
    assert torch.equal(without.event, batch.event)


def test_answers_are_in_the_order_of_the_moments(shops: dict[str, Prepared], heads: Callable[..., Any]) -> None:
    prepared = shops["clicks"]
    model = heads(prepared)
    examples = outcome_examples(prepared, s.STRANGERS, s.TEST, ks=[0, 1, 4], at_most=60).examples
    said = classify(model, prepared, examples).log_probabilities

    for number in (0, 11, 24):
        alone = classify(model, prepared, examples.only([number])).log_probabilities
        for name, found in said.items():
            assert found[number] == pytest.approx(alone[name][0], abs=1e-5)
            assert np.exp(found).sum(axis=1) == pytest.approx(np.ones(len(examples)), abs=1e-5)


def test_a_model_without_a_calibration_decides_no_depth(shops: dict[str, Prepared], heads: Callable[..., Any]) -> None:
    prepared = shops["clicks"]
    examples = outcome_examples(prepared, s.STRANGERS, s.TEST, ks=[0, 2], at_most=30).examples

    assert classify(heads(prepared), prepared, examples, with_depth=True).depth is None
    calibrated = classify(heads(prepared, calibrated=True), prepared, examples, with_depth=True)
    assert calibrated.depth is not None
    # with one_to_one at 0, every answer after a step is personal; before it nobody is
    assert calibrated.depth.tolist() == [2 if k else 0 for k in examples.k]


def test_outcomes_of_a_stranger_class_are_masked_at_entry(shop: Prepared) -> None:
    nobody = Outcome("segment:tier", ("silver", "bronze"))

    assert telling_columns(shop, train_window(shop), [nobody]) == {}
