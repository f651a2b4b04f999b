"""What every model family promises, on a shop with clicks and on one with orders alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.data.batches import Batch
from shopkeeper.data.examples import Examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.models.checkpoint import load_model, save_model
from shopkeeper.models.contract import SessionModel, last_items, nothing_known, rank_ready

Build = Callable[..., SessionModel]
BatchOf = Callable[..., Batch]
AllExamples = dict[str, Examples]

pytestmark = [
    pytest.mark.parametrize("family", ["popularity", "repeat", "item_knn", "sasrec"]),
    pytest.mark.parametrize("shop", ["clicks", "orders"]),
]


@pytest.fixture
def model(shops: dict[str, Prepared], build: Build, shop: str, family: str) -> SessionModel:
    return build(shops[shop], family)


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_every_item_gets_a_finite_score_for_every_task(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    batch = batch_of(shop, examples[shop])
    scores = model.score(batch)

    assert scores.shape == (len(examples[shop]), len(model.tasks), model.vocabulary.num_items)
    assert torch.isfinite(scores).all()
    assert model.prior_scores().shape == scores.shape[1:]


def test_padding_and_company_change_nothing(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    together = rank_ready(model, batch_of(shop, examples[shop]))

    for i in range(0, len(examples[shop]), 5):
        alone = rank_ready(model, batch_of(shop, examples[shop].only([i])))
        close(alone[0], together[i])


def test_what_comes_later_changes_nothing(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    own = examples[shop]
    some = own.only(np.flatnonzero(own.k == 2))
    before = rank_ready(model, batch_of(shop, some))
    # the same histories beside longer ones of the same visitors
    longer = own.only(np.flatnonzero(np.isin(own.visitor, some.visitor)))
    place = np.flatnonzero(longer.k == 2)

    close(rank_ready(model, batch_of(shop, longer))[place], before)


def test_items_of_a_step_have_no_order(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str, rng: np.random.Generator
) -> None:
    batch = batch_of(shop, examples[shop])
    mixed = torch.from_numpy(rng.permutation(len(batch.bag_item)))
    shuffled = batch._replace(
        bag_item=batch.bag_item[mixed], bag_cell=batch.bag_cell[mixed], bag_slot=batch.bag_slot[mixed]
    )

    close(model.score(shuffled), model.score(batch))


def test_where_nothing_is_known_the_prior_answers(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    fresh = examples[shop].only(np.flatnonzero(examples[shop].k == 0)[:3])
    batch = batch_of(shop, fresh)
    blank = batch._replace(context=torch.zeros_like(batch.context))

    assert nothing_known(blank).all()
    close(rank_ready(model, blank), model.prior_scores().expand(3, -1, -1))


def test_next_never_names_the_last_item(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    batch = batch_of(shop, examples[shop])
    scores, last = rank_ready(model, batch), last_items(batch)
    rows = torch.nonzero(last)[:, 0]

    assert len(rows)
    for h, task in enumerate(model.tasks):
        own = scores[rows, h, last[rows] - 1]
        assert torch.isinf(own).all() if task == "next" else torch.isfinite(own).all()


def test_an_unknown_item_counts_as_none(
    model: SessionModel, batch_of: BatchOf, examples: AllExamples, shops: dict[str, Prepared], shop: str
) -> None:
    # collate drops what is outside the vocabulary before a model sees it: no index is out of its range
    batch = batch_of(shop, examples[shop])

    assert int(batch.bag_item.max()) <= model.vocabulary.num_items
    assert (batch.bag_item > 0).all()


def test_the_same_seed_gives_the_same_model(
    model: SessionModel, shops: dict[str, Prepared], build: Build, batch_of: BatchOf, examples: AllExamples, shop: str
) -> None:
    again = build(shops[shop], model.family)
    batch = batch_of(shop, examples[shop])

    assert torch.equal(again.score(batch), model.score(batch))


def test_a_checkpoint_scores_the_same(
    model: SessionModel,
    batch_of: BatchOf,
    examples: AllExamples,
    shops: dict[str, Prepared],
    shop: str,
    config: Callable[[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    facts = {"purchase_code": shops[shop].purchase_code}
    save_model(tmp_path / "model.pt", model, config=config(model.family), facts=facts)
    loaded = load_model(tmp_path / "model.pt")
    batch = batch_of(shop, examples[shop])

    assert (loaded.tasks, loaded.max_len, loaded.vocabulary) == (model.tasks, model.max_len, model.vocabulary)
    assert torch.equal(loaded.score(batch), model.score(batch))
