from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shopkeeper.data import schema as s
from shopkeeper.export.predictions import FILES, tables
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import Event, Prediction

Bundles = Callable[[str, str], Path]
NAMES = ["nobody", "b", "a"]
HISTORIES = [
    [],
    [Event(event="purchase", item_id="item 3"), Event(event="purchase", item_id="item 4", timestamp=10**9)],
    [Event(event="session_start", context={"channel": "app"}), Event(event="purchase", item_id="no such")],
]


@pytest.fixture
def predictor(bundles: Bundles, shop: str) -> Predictor:
    return Predictor.load(bundles(shop, "sasrec"))


def written(predictor: Predictor) -> dict[str, pa.Table]:
    inputs = predictor.inputs(predictor.reader.read(HISTORIES))
    return dict(tables(predictor, NAMES, predictor.answer(inputs, k=5, sets=False)))


def one_by_one(predictor: Predictor) -> dict[str, Prediction]:
    return dict(zip(NAMES, predictor.predict_many(HISTORIES, k=5), strict=True))


def test_every_history_is_in_every_file_with_the_columns_promised(predictor: Predictor) -> None:
    found = written(predictor)

    assert {file: table.schema for file, table in found.items()} == FILES
    assert FILES["segments.parquet"].names == ["history_id", "segment", "class", "probability"]
    assert FILES["outcomes.parquet"].names == ["history_id", "outcome", "probability"]
    for table in found.values():
        assert set(table.column("history_id").to_pylist()) == set(NAMES)


def test_segments_are_those_of_the_single_answers_and_sum_to_one(predictor: Predictor) -> None:
    frame = written(predictor)["segments.parquet"].to_pandas()

    for name, answer in one_by_one(predictor).items():
        own = frame[frame["history_id"] == name]
        assert sorted(own["segment"].unique()) == ["income", "region"] == sorted(answer.segments)
        for segment, classes in answer.segments.items():
            rows = own[own["segment"] == segment]
            assert dict(zip(rows["class"], rows["probability"], strict=True)) == pytest.approx(classes, abs=1e-5)
    sums = frame.groupby(["history_id", "segment"])["probability"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-6)


def test_outcomes_are_those_of_the_single_answers(predictor: Predictor, shop: str) -> None:
    frame = written(predictor)["outcomes.parquet"].to_pandas()

    for name, answer in one_by_one(predictor).items():
        own = frame[frame["history_id"] == name].set_index("outcome")["probability"]
        depths = {d: own[f"depth:{d}"] for d in s.DEPTHS}
        assert depths == {d: float(d == answer.depth) for d in s.DEPTHS}
        phases = {o.removeprefix("phase:"): p for o, p in own.items() if str(o).startswith("phase:")}
        assert phases == pytest.approx(answer.phase or {}, abs=1e-5)
        assert not phases or sum(phases.values()) == pytest.approx(1, abs=1e-6)
        assert ("purchase" in own) == (answer.intent is not None) == (shop == "clicks")
        assert own.get("purchase") == pytest.approx(answer.intent, abs=1e-5)


def test_a_bundle_without_outcomes_fills_the_items_alone(bundles: Bundles) -> None:
    assert list(written(Predictor.load(bundles("clicks", "repeat")))) == ["items.parquet"]
