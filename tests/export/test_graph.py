from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from shopkeeper.data.batches import Vocabulary
from shopkeeper.data.outcomes import Outcome
from shopkeeper.export.graph import write_graph
from shopkeeper.models.repeats import Seen
from shopkeeper.models.sasrec import SASRec

OUTCOMES = [Outcome("intent", ("none", "purchase")), Outcome("segment:tier", ("gold", "silver", "tin"))]
HEADS = {"hidden": 4, "dropout": 0.1, "encoder_gradient": 0.1, "penalty": 5.0, "early": 1.0}


def make_model(
    max_len: int, *, context: tuple[int, ...] = (3,), items: int = 7, outcomes: Sequence[Outcome] = OUTCOMES
) -> SASRec:
    torch.manual_seed(0)
    model = SASRec(
        vocabulary=Vocabulary(num_items=items, num_events=3, context=context),
        tasks=["purchase", "next"],
        max_len=max_len,
        embed_dim=8,
        num_layers=2,
        num_heads=2,
        dropout=0.1,
        likeness={"purchase": 2.0, "next": 6.0},
        repeat_start={"purchase": 5.0, "next": 0.0},
        half_life_days=1.0,
        context_dropout=0.1,
        purchase_code=2,
        outcomes=outcomes,
        heads=HEADS,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def random_inputs(batch: int, tokens: int, slots: int, columns: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + tokens)
    floats = ("times", "bought", "steps_ago", "seconds_ago")
    return {
        "vectors": torch.randn(batch, tokens, 8, generator=generator),
        "event": torch.randint(0, 4, (batch, tokens), generator=generator),
        "context": torch.randint(0, 4, (batch, tokens, columns), generator=generator),
        "time": torch.randint(0, 10**6, (batch, tokens), generator=generator).cumsum(1),
        "length": torch.randint(1, tokens + 1, (batch,), generator=generator),
        **{name: torch.rand(batch, slots, generator=generator) for name in floats},
        "last_event": torch.randint(0, 4, (batch, slots), generator=generator),
        "steps": torch.ones(batch, slots),
        "popularity": torch.randn(batch, slots, generator=generator),
    }


@pytest.mark.parametrize("max_len", [1, 4, 30])
@pytest.mark.parametrize("columns", [0, 2])
def test_the_graph_answers_as_the_model_at_any_size(max_len: int, columns: int, tmp_path: Path) -> None:
    model = make_model(max_len, context=(3,) * columns)
    write_graph(model, tmp_path / "encoder.onnx")
    session = ort.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}

    for batch, tokens, slots in [(1, 1, 1), (1, max_len + 1, 3), (5, 2, 4), (2, max_len + 1, 9)]:
        inputs = random_inputs(batch, tokens, slots, columns)
        seen = Seen(*(inputs[name] for name in Seen._fields))
        with torch.no_grad():
            history = [inputs[name] for name in ("vectors", "event", "context", "time", "length")]
            expected = model.answer(history[0], history[1], history[2], history[3], history[4], seen)
        found = session.run(["query", "bonus", "logits"], {k: v.numpy() for k, v in inputs.items() if k in wanted})
        for own, trained in zip(found, expected, strict=True):
            np.testing.assert_allclose(own, trained.numpy(), atol=1e-4)


def test_without_outcomes_it_answers_rankings_alone(tmp_path: Path) -> None:
    write_graph(make_model(4, outcomes=()), tmp_path / "encoder.onnx")
    session = ort.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])

    assert [output.name for output in session.get_outputs()] == ["query", "bonus"]


def test_the_graph_is_standard_and_does_not_grow_with_the_catalogue(tmp_path: Path) -> None:
    for items in (7, 70_000):
        write_graph(make_model(4, items=items), tmp_path / f"{items}.onnx")
    graph = onnx.load(tmp_path / "7.onnx")

    assert {opset.domain for opset in graph.opset_import} <= {"", "ai.onnx"}
    sizes = [(tmp_path / f"{items}.onnx").stat().st_size for items in (7, 70_000)]
    assert sizes[1] < sizes[0] * 1.01
