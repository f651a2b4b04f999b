"""Exported equals trained: the same visitors through training's code and through serving's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import stranger_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.parity import check_parity, raw_histories
from shopkeeper.models.contract import SessionModel, rank_ready
from shopkeeper_serving.predictor import Predictor

Models = Callable[[str, str], SessionModel]
Bundles = Callable[[str, str], Path]


def test_every_stranger_gets_the_trained_scores(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str, family: str
) -> None:
    prepared, model = shops[shop], models(shop, family)
    examples = stranger_examples(prepared, s.TEST, list(range(12)))
    pieces = example_pieces(examples, model.max_len)
    trained = rank_ready(model, collate(prepared, pieces, model.vocabulary)).numpy()

    predictor = Predictor.load(bundles(shop, family))
    place = {item: i for i, item in enumerate(predictor.bundle.item_ids)}
    answers = predictor.predict_many(raw_histories(prepared, examples), k=20)

    assert len(examples) > 20
    for scores, given in zip(trained, answers, strict=True):
        for own, task in zip(scores, model.tasks, strict=True):
            served = np.array([item.score for item in given.items[task]])
            at = [place[item.item_id] for item in given.items[task]]
            np.testing.assert_allclose(served, own[at], atol=1e-4)
            np.testing.assert_allclose(served, -np.sort(-own)[: len(served)], atol=1e-4)


def test_serving_reads_a_history_as_training_does(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str
) -> None:
    prepared, model = shops[shop], models(shop, "repeat")
    examples = stranger_examples(prepared, s.TEST, list(range(12)))
    batch = collate(prepared, example_pieces(examples, model.max_len), model.vocabulary)

    predictor = Predictor.load(bundles(shop, "repeat"))
    inputs = predictor.inputs(predictor.reader.read(raw_histories(prepared, examples)))

    for name in ("event", "context", "time", "length", "seen"):
        np.testing.assert_array_equal(getattr(inputs, name), getattr(batch, name).numpy(), err_msg=name)
    # the entries of a bag have no order
    entries = [np.stack([getattr(x, f"bag_{n}") for n in ("cell", "item", "slot")]) for x in (inputs, batch)]
    served, trained = (e[:, np.lexsort(e[::-1])] for e in entries)
    np.testing.assert_array_equal(served, trained)


def test_a_bundle_of_another_model_is_found_out(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str
) -> None:
    with pytest.raises(UserError, match="the exported model does not answer as the trained one"):
        check_parity(models(shop, "repeat"), shops[shop], bundles(shop, "item_knn"), tolerance=1e-4)
