import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from shopkeeper.data import schema as s
from shopkeeper.data.batches import collate, example_pieces
from shopkeeper.data.examples import stranger_examples
from shopkeeper.data.prepared import Prepared
from shopkeeper.export.golden import as_batch, make_requests
from shopkeeper.export.outcomes import expected_outcomes, outcomes_file
from shopkeeper.export.parity import raw_histories
from shopkeeper.models.answers import tell
from shopkeeper.models.contract import SessionModel, rank_ready
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event, PredictRequest

Models = Callable[[str, str], SessionModel]
Bundles = Callable[[str, str], Path]
NEURAL = ["sasrec", "gru4rec"]


@pytest.mark.parametrize("family", NEURAL)
def test_every_stranger_is_told_what_the_trained_model_says(
    shops: dict[str, Prepared], models: Models, bundles: Bundles, shop: str, family: str
) -> None:
    prepared, model = shops[shop], models(shop, family)
    examples = stranger_examples(prepared, s.TEST, list(range(12)))
    batch = collate(prepared, example_pieces(examples, model.max_len), model.vocabulary)
    with torch.no_grad():
        trained = dict(zip((o.name for o in model.outcomes), (p.exp() for p in model.classify(batch)), strict=True))
    told = tell(model, batch, rank_ready(model, batch))

    answers = Predictor.load(bundles(shop, family)).predict_many(raw_histories(prepared, examples), k=20)

    for name in ("income", "region"):
        served = np.array([list(answer.segments[name].values()) for answer in answers])
        np.testing.assert_allclose(served, trained[f"segment:{name}"].numpy(), atol=1e-5)
    if "intent" in trained:
        np.testing.assert_allclose([a.intent or 0.0 for a in answers], trained["intent"][:, 1].numpy(), atol=1e-5)
    if "phase" in trained:
        phases = np.array([list((answer.phase or {}).values()) for answer in answers])
        np.testing.assert_allclose(phases, trained["phase"].numpy(), atol=1e-5)
    # a decision may differ where a number lies on its threshold
    same = np.array([answer.depth for answer in answers]) == np.array(s.DEPTHS)[told.depth.numpy()]
    assert same.mean() > 0.99
    for task, sizes in told.sets.items():
        assert np.mean([answer.sets[task] for answer in answers] == sizes.numpy()) > 0.99
    if family == "sasrec":
        assert set(told.sets) == set(model.tasks)
        assert len({answer.depth for answer in answers}) > 1


def test_random_histories_are_told_the_same_one_by_one_and_together(
    models: Models, bundles: Bundles, shop: str
) -> None:
    model, predictor = models(shop, "sasrec"), Predictor.load(bundles(shop, "sasrec"))
    requests = msgspec.convert(make_requests(predictor.bundle, count=40, seed=3), list[PredictRequest], strict=False)
    histories = [request.events for request in requests]
    batch = as_batch(predictor.inputs(predictor.reader.read(histories)))
    told = tell(model, batch, rank_ready(model, batch))

    together = predictor.predict_many(histories)

    assert (histories[0], together[0].depth) == ([], "welcome")
    for i, (events, answer) in enumerate(zip(histories, together, strict=True)):
        alone = predictor.predict(events)
        assert alone.depth == answer.depth == s.DEPTHS[int(told.depth[i])]
        for name, classes in answer.segments.items():
            assert alone.segments[name] == pytest.approx(classes, abs=1e-5)
            assert list(classes.values()) == pytest.approx(told.probabilities[f"segment:{name}"][i].tolist(), abs=1e-5)


def test_the_explanation_is_the_trained_model_s_leave_one_event_out(
    models: Models, bundles: Bundles, shop: str
) -> None:
    model, predictor = models(shop, "sasrec"), Predictor.load(bundles(shop, "sasrec"))
    requests = msgspec.convert(make_requests(predictor.bundle, count=24, seed=4), list[PredictRequest], strict=False)

    def probability(history: list[Event], name: str, value: str) -> float:
        batch = as_batch(predictor.inputs(predictor.reader.read([history])))
        place = [o.name for o in model.outcomes].index(f"segment:{name}")
        with torch.no_grad():
            return float(model.classify(batch)[place][0, model.outcomes[place].classes.index(value)].exp())

    checked = 0
    for events in (request.events for request in requests[-8:]):
        for name, explanation in (predictor.predict(events, explain=True).explanation or {}).items():
            whole = probability(events, name, explanation.most_probable)
            for influence in explanation.influences:
                if influence.event is not None:
                    rest = events[: influence.event] + events[influence.event + 1 :]
                else:
                    rest = [msgspec.structs.replace(event, context={}) for event in events]
                less = probability(rest, name, explanation.most_probable)
                assert influence.change == pytest.approx(whole - less, abs=1e-5)
                checked += 1
    assert checked > 20


def test_the_file_holds_priors_and_rules(models: Models, bundles: Bundles, shop: str) -> None:
    model = models(shop, "sasrec")
    content = json.loads((bundles(shop, "sasrec") / "outcomes.json").read_text())

    assert model.calibration is not None
    assert content == outcomes_file(model)
    assert content["ks"] == model.calibration.ks
    assert [(o["name"], tuple(o["classes"])) for o in content["outcomes"]] == model.outcomes
    for outcome in content["outcomes"]:
        assert np.exp(outcome["prior"]).sum() == pytest.approx(1, abs=1e-5)
        assert outcome["scale"] == model.calibration.scales[outcome["name"]]


def test_an_uncalibrated_model_answers_in_its_own_words_and_welcomes_everybody(models: Models, shop: str) -> None:
    content = outcomes_file(models(shop, "gru4rec"))

    assert content is not None
    assert content["ks"] == [0]
    assert [outcome["scale"] for outcome in content["outcomes"]] == [[1.0]] * len(content["outcomes"])
    assert (content["sets"], content["temperature"]) == ({}, {})
    assert content["depth"] == {"segments": {}, "one_to_one": None}


@pytest.mark.parametrize("family", ["popularity", "repeat", "item_knn", "vmis_knn"])
def test_a_model_that_only_ranks_has_no_such_file(models: Models, bundles: Bundles, shop: str, family: str) -> None:
    assert outcomes_file(models(shop, family)) is None
    assert not (bundles(shop, family) / "outcomes.json").exists()


def test_what_may_be_told_leaves_room_for_rounding_alone(models: Models, shops: dict[str, Prepared], shop: str) -> None:
    model, prepared = models(shop, "sasrec"), shops[shop]
    examples = stranger_examples(prepared, s.VAL, [0, 1, 3])
    batch = collate(prepared, example_pieces(examples, model.max_len), model.vocabulary)
    scores = rank_ready(model, batch)
    told = tell(model, batch, scores)

    exact, rough = (expected_outcomes(model, batch, scores, tolerance=by) for by in (0.0, 1e-4))

    for i, (case, wide) in enumerate(zip(exact, rough, strict=True)):
        assert case["depths"] == (s.DEPTHS[int(told.depth[i])],)
        assert set(case["depths"]) <= set(wide["depths"])
        for task, sizes in told.sets.items():
            assert case["sets"][task] == [int(sizes[i])] * 2
            assert wide["sets"][task][0] <= int(sizes[i]) <= wide["sets"][task][1]
    assert np.mean([len(case["depths"]) == 1 for case in rough]) > 0.8
