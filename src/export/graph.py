"""The encoder as an ONNX graph: pooled item vectors and a history's codes in; queries, repeat bonuses and the logits
of all outcomes out.

The item table stays outside, so the graph's size does not depend on the catalogue.
"""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from shopkeeper.models.neural import NeuralModel
from shopkeeper.models.repeats import Seen


class Answer(nn.Module):
    """`NeuralModel.answer` with flat inputs, as the exporter wants them."""

    def __init__(self, model: NeuralModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        vectors: Tensor,
        event: Tensor,
        context: Tensor,
        time: Tensor,
        length: Tensor,
        times: Tensor,
        bought: Tensor,
        steps_ago: Tensor,
        seconds_ago: Tensor,
        last_event: Tensor,
        steps: Tensor,
        popularity: Tensor,
    ) -> tuple[Tensor, ...]:
        seen = Seen(times, bought, steps_ago, seconds_ago, last_event, steps, popularity)
        return self.model.answer(vectors, event, context, time, length, seen)[: len(outputs(self.model))]


def outputs(model: NeuralModel) -> list[str]:
    """Names of what the graph answers; logits of all outcomes in a row where the model has any."""
    return ["query", "bonus", *(["logits"] if model.outcomes else [])]


def write_graph(model: NeuralModel, path: Path) -> None:
    """Export with dynamic batch, length and number of seen items; one file, standard operators, opset 20."""
    batch, tokens, slots = 3, min(17, model.max_len + 1), 5  # never 1: the exporter would take it for a constant
    dim, context = model.dim, len(model.vocabulary.context)
    steps = torch.full((batch, slots), float(tokens - 1))
    example: dict[str, Tensor] = {
        "vectors": torch.randn(batch, tokens, dim),
        "event": torch.ones(batch, tokens, dtype=torch.int64),
        "context": torch.zeros(batch, tokens, context, dtype=torch.int64),
        "time": torch.arange(batch * tokens).view(batch, tokens) * 3600,
        "length": torch.tensor([tokens, 2, 1]),
        "times": torch.ones(batch, slots),
        "bought": torch.ones(batch, slots),
        "steps_ago": torch.ones(batch, slots),
        "seconds_ago": torch.ones(batch, slots),
        "last_event": torch.ones(batch, slots, dtype=torch.int64),
        "steps": steps,
        "popularity": torch.randn(batch, slots),
    }
    with quiet_exporter():
        # positions bound the tokens: a longer history never reaches the graph
        many, long = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1, max=model.max_len + 1)
        wide = torch.export.Dim("slots", min=1)
        by_token, whole = {"vectors", "event", "context", "time"}, {"length"}
        shapes = {
            name: {0: many} if name in whole else {0: many, 1: long if name in by_token else wide} for name in example
        }
        program = torch.onnx.export(
            Answer(model).eval(),
            kwargs=example,
            input_names=list(example),
            output_names=outputs(model),
            dynamic_shapes=shapes,
            opset_version=20,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


class quiet_exporter(warnings.catch_warnings):
    """Silence the exporter's notes to its own developers; errors still raise."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
