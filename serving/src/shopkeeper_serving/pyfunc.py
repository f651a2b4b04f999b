"""A bundle as an MLflow model: `mlflow.pyfunc.load_model` and `mlflow models serve` come here, not the other way round.

MLflow finds `_load_pyfunc` by the module's name, which stands in the model's MLmodel file; nothing is pickled, and
nothing of MLflow or pandas is imported here. Each row of the input has a request as JSON text in the column `request`,
as `POST /v1/predict` takes it; its answer is JSON text too, so that it passes through Spark and HTTP alike.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.schemas import PredictRequest

COLUMN = "request"


class BundleModel:
    """Answers rows of requests from a bundle."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """An answer per row, as JSON text (n,).

        Args:
            model_input: a data frame, or a mapping of columns, with the column `request`.
            params: none are known.

        Raises:
            ValueError: naming the row whose text is no request.
        """
        requests = [read(text, row) for row, text in enumerate(model_input[COLUMN])]
        return np.array([self.answer(request) for request in requests], dtype=object)

    def answer(self, request: PredictRequest) -> str:
        found = self.predictor.predict(
            request.events, k=request.k, tasks=request.tasks, exclude_seen=request.exclude_seen
        )
        return msgspec.json.encode(found).decode()


def read(text: str, row: int) -> PredictRequest:
    try:
        return msgspec.json.decode(text, type=PredictRequest)
    except (msgspec.DecodeError, TypeError) as error:
        raise ValueError(f"row {row}: {error}") from error


def _load_pyfunc(path: str) -> BundleModel:
    """The bundle that MLflow keeps at `path`, checked like any other."""
    return BundleModel(Predictor.load(Path(path)))
