from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from shopkeeper_serving.bundle import Bundle, BundleError, read_bundle
from shopkeeper_serving.history import Inputs, Reader, to_inputs
from shopkeeper_serving.schemas import Event
from shopkeeper_serving.scorers import EncoderScorer, event_code, make_scorer

MakeBundle = Callable[..., Path]


def view(item: str, *, at: int | None = None, name: str = "page_view") -> Event:
    return Event(event=name, item_id=item, timestamp=None if at is None else at * 1000)


def inputs_of(bundle: Bundle, *histories: Sequence[Event], order_only: bool = False) -> Inputs:
    return to_inputs(Reader(bundle).read(histories), order_only=order_only, gap_seconds=3600, max_len=4)


def near(found: npt.NDArray[Any], expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.fixture
def encoder(make_bundle: MakeBundle, tiny_graph: bytes) -> Bundle:
    bundle = read_bundle(make_bundle())
    (bundle.path / "encoder.onnx").write_bytes(tiny_graph)
    arrays = {
        "prior": np.array([[0.5, -1, 2, 0, 0]], np.float32),
        "items": np.array([[1, 0], [0, 1], [1, 1], [2, 0], [0, 0]], np.float32),
        "bias": np.array([[0.1, 0.2, 0.3, 0.4, 0.5]], np.float32),
        "repeat": np.array([[10, 20, 30, 40, 50]], np.float32),
    }
    manifest = msgspec.structs.replace(bundle.manifest, kind="encoder", family="sasrec", tasks=["purchase"])
    return msgspec.structs.replace(bundle, manifest=manifest, arrays=arrays)


def test_the_encoder_s_query_meets_items_bias_and_bonus(encoder: Bundle) -> None:
    inputs = inputs_of(encoder, [view("apple", at=0), view("bread", at=100)], [])

    scores = make_scorer(encoder).score(inputs)

    # query (1/3, 1/3); the apple was seen once and one step ago, the bread once and just now
    near(scores[0], [[1 / 3 + 0.1 + 10 + 2, 1 / 3 + 0.2 + 20 + 1, 2 / 3 + 0.3, 2 / 3 + 0.4, 0.5]])
    near(scores[1], [[0.1, 0.2, 0.3, 0.4, 0.5]])


def test_the_vector_of_a_trip_is_the_mean_of_its_items(encoder: Bundle) -> None:
    inputs = inputs_of(encoder, [view("apple", at=0), view("dates", at=0), view("unknown", at=9999)], order_only=True)

    near(EncoderScorer(encoder).pool(inputs), [[[0, 0], [1.5, 0], [0, 0]]])


def test_what_is_told_of_the_items_seen(encoder: Bundle) -> None:
    history = [view("apple", at=0), view("apple", at=60, name="purchase"), view("bread", at=100)]

    seen = EncoderScorer(encoder).observe(inputs_of(encoder, history))

    expected = {
        "times": [[2, 1]],
        "bought": [[1, 0]],
        "steps_ago": [[1, 0]],
        "seconds_ago": [[40, 0]],
        "last_event": [[4, 2]],
        "steps": [[3, 3]],
        "popularity": [[0.5, -1]],
    }
    assert {name: array.tolist() for name, array in seen.items()} == expected


def test_a_purchase_event_the_log_never_had_is_no_event(encoder: Bundle) -> None:
    assert event_code(encoder, "purchase") == 4
    assert event_code(encoder, "order") == -1


def test_a_graph_that_is_none_is_refused(encoder: Bundle, tiny_graph: bytes) -> None:
    for content in (b"", b"no graph", tiny_graph[:-20]):
        (encoder.path / "encoder.onnx").write_bytes(content)

        with pytest.raises(BundleError) as caught:
            make_scorer(encoder)

        assert str(encoder.path / "encoder.onnx") in str(caught.value)
        assert "\n" not in str(caught.value)


# ---- blends ----


def test_a_blend_weighs_logs_of_shares_by_task_and_steps_seen(blend: Path) -> None:
    bundle = read_bundle(blend)
    one, two = [view("apple")], [view("apple"), view("apple")]

    scores = make_scorer(bundle).score(inputs_of(bundle, one, two))

    prior = np.array([0.5, 0.4, 0.3, 0.2, 0.1])  # the mean is 0.3; two apples make 2.5 of 3.5 in all
    popular, own = np.log(1 + prior / 0.3), np.log(1 + np.array([2.5, 0.4, 0.3, 0.2, 0.1]) / 0.7)
    near(scores[0], [popular, popular[::-1]])
    near(scores[1, 0], own)
    own_next = np.log(1 + np.array([2.1, 0.2, 0.3, 0.4, 0.5]) / 0.7)
    near(scores[1, 1], 0.5 * own_next + 0.5 * popular[::-1])
