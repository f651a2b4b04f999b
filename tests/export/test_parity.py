"""Exported equals trained: the same visitors through training's code and through serving's."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.config import UserError
from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import stranger_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.bundle import write_bundle
from shopkeeper.export.card import Origin
from shopkeeper.export.golden import as_batch
from shopkeeper.export.parity import check_parity, raw_histories
from shopkeeper.models.contract import SessionModel, rank_ready
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event, Prediction

Models = Callable[[str, str], SessionModel]
Bundles = Callable[[str, str], Path]


def same_best(predictor: Predictor, model: SessionModel, trained: np.ndarray, answers: Sequence[Prediction]) -> None:
    """Served scores are the trained ones of the items named, and the highest (B, H, V): only ties may change places."""
    place = {item: i for i, item in enumerate(predictor.bundle.item_ids)}
    assert len(trained) == len(answers)
    for scores, given in zip(trained, answers, strict=True):
        for own, task in zip(scores, model.tasks, strict=True):
            served = np.array([item.score for item in given.items[task]])
            at = [place[item.item_id] for item in given.items[task]]
            assert len(set(at)) == len(at) == min(20, np.isfinite(own).sum())
            np.testing.assert_allclose(served, own[at], atol=1e-4)
            np.testing.assert_allclose(served, -np.sort(-own)[: len(served)], atol=1e-4)


def random_history(predictor: Predictor, rng: np.random.Generator, rows: int) -> list[Event]:
    """Rows half an hour to three days apart, any field of which may be absent or unknown to the bundle."""
    known = predictor.bundle
    moments = np.cumsum(rng.integers(30, 4320, rows)) * 60_000 + 1_760_000_000_000
    items, names = [*known.item_ids, *["no such item"] * 4], [*known.vocabulary.event, "no such event"]
    channels = [*known.vocabulary.context["channel"], "no such channel", None]

    def one(moment: int) -> Event:
        channel = channels[rng.integers(len(channels))]
        return Event(
            event=names[rng.integers(len(names))],
            timestamp=int(moment) if rng.random() < 0.8 else None,
            item_id=items[rng.integers(len(items))] if rng.random() < 0.9 else None,
            session_id=f"visit {moment // 10**8}" if rng.random() < 0.8 else None,
            context={"channel": channel} if rng.random() < 0.8 else {},
        )

    return [one(moment) for moment in moments]


def test_every_stranger_gets_the_trained_scores(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str, family: str
) -> None:
    prepared, model = shops[shop], models(shop, family)
    examples = stranger_examples(prepared, s.TEST, list(range(12)))
    pieces = example_pieces(examples, model.max_len)
    trained = rank_ready(model, collate(prepared, pieces, model.vocabulary)).numpy()

    predictor = Predictor.load(bundles(shop, family))
    answers = predictor.predict_many(raw_histories(prepared, examples), k=20)

    assert len(examples) > 20
    same_best(predictor, model, trained, answers)


def test_random_histories_get_the_trained_scores(models: Models, bundles: Bundles, shop: str, family: str) -> None:
    """Also such as no log holds: unknown items, events and values, gaps in time, nothing at all."""
    model, predictor = models(shop, family), Predictor.load(bundles(shop, family))
    rng = np.random.default_rng(7)
    histories = [random_history(predictor, rng, int(rng.integers(0, 14))) for _ in range(60)]
    trained = rank_ready(model, as_batch(predictor.inputs(predictor.reader.read(histories)))).numpy()
    sizes = [1, 2, 7, 20, 30]

    batches = np.split(np.arange(len(histories)), np.cumsum(sizes)[:-1])
    answers = [a for batch in batches for a in predictor.predict_many([histories[i] for i in batch])]

    assert min(map(len, histories)) == 0
    assert max(a.steps for a in answers) > model.max_len
    assert {a.cold_start.reason for a in answers} >= {None, "empty_history"}
    same_best(predictor, model, trained, answers)


def test_a_shop_that_changed_after_training_gets_the_trained_scores(
    changed: Prepared, build: Callable[[Prepared, str], SessionModel], family: str, tmp_path: Path
) -> None:
    """Strangers meet items, events and channels that came up after the train cut."""
    model, examples = build(changed, family), stranger_examples(changed, s.TEST, list(range(12)))
    origin = Origin("run-1", None, {})
    folder = write_bundle(model, changed, tmp_path / "bundle", origin=origin, golden=32, seed=0)
    predictor = Predictor.load(folder)
    trained = rank_ready(model, collate(changed, example_pieces(examples, model.max_len), model.vocabulary)).numpy()

    answers = predictor.predict_many(raw_histories(changed, examples))

    assert sum(a.cold_start.unknown_items for a in answers) > 20
    assert sum(a.cold_start.unknown_context for a in answers) > 20
    same_best(predictor, model, trained, answers)


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


def test_a_bundle_with_other_outcomes_is_found_out(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str
) -> None:
    folder, model = bundles(shop, "sasrec"), copy.copy(models(shop, "sasrec"))
    assert model.calibration is not None
    scales = {name: [scale + 0.1 for scale in own] for name, own in model.calibration.scales.items()}
    model.calibration = dataclasses.replace(model.calibration, scales=scales)

    with pytest.raises(UserError, match=r"does not answer as the trained one: \w+ differs by more than 0.0001"):
        check_parity(model, shops[shop], folder, tolerance=1e-4)
