"""How a record of a run reaches MLflow, and how to tell a server that is away from one that refuses.

Writing a record twice changes nothing: MLflow keeps a metric of the same name, step, time and value once, and a
parameter, tag, file or end of a run is what it was.
"""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS, PARAMS, TAGS, FILE, END = "metrics", "params", "tags", "file", "end"
"""Kinds of records."""
AT_ONCE = 100
"""Values a server takes in one request."""
ANSWER_SECONDS = 10
"""How long a tracking server may take to answer at all."""


def take(client: "MlflowClient", run_id: str, kind: str, content: dict[str, Any]) -> None:
    """Write one record."""
    from mlflow.entities import Metric, Param, RunTag

    values = list(content.get("values", {}).items())
    for begin in range(0, len(values), AT_ONCE):
        part = values[begin : begin + AT_ONCE]
        if kind == METRICS:
            metrics = [Metric(name, value, content["time"], content["step"]) for name, value in part]
            client.log_batch(run_id, metrics=metrics)
        elif kind == PARAMS:
            client.log_batch(run_id, params=[Param(name, value) for name, value in part])
        else:
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in part])
    if kind == FILE:
        client.log_artifact(run_id, content["path"])
    elif kind == END:
        client.set_terminated(run_id, content["status"], content["time"])


def troubles() -> tuple[type[Exception], ...]:
    """What a client raises when a server is away, among much else; see `is_away`."""
    from mlflow.exceptions import MlflowException

    return MlflowException, OSError


def is_away(uri: str, error: Exception) -> bool:
    """Whether one of the troubles means that a server does not answer, not that it refuses; a file is never away."""
    from mlflow.exceptions import MlflowException

    if uri.startswith(("sqlite:", "file:")) or "://" not in uri:
        return False
    if isinstance(error, MlflowException):
        status: Any = error.get_http_status_code  # carries no types
        return int(status()) >= 500
    return isinstance(error, OSError) and not error.filename  # of the network, not of a file of ours


def check_answer(uri: str) -> None:
    """Try a server once: MLflow itself would try for minutes.

    Raises:
        OSError: when nothing answers there.
    """
    if not uri.startswith(("http://", "https://")):
        return
    with suppress(HTTPError), urlopen(uri, timeout=ANSWER_SECONDS):  # an error page is an answer
        pass


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
