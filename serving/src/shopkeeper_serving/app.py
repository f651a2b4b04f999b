"""The HTTP service: a thin shell over `Predictor`, Starlette for HTTP and msgspec for JSON.

Inference runs on the event loop: an answer takes about a millisecond, and one thread per process is fastest (measured:
threads only make the slowest answers slower). Run a process per core behind a proxy.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shopkeeper_serving import openapi
from shopkeeper_serving.metrics import Metrics
from shopkeeper_serving.predictor import Predictor
from shopkeeper_serving.problems import Problem
from shopkeeper_serving.schemas import BatchPrediction, BatchRequest, ModelDescription, Prediction, PredictRequest

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes; `in_flight` requests at once, more are told to come back; `seconds` for a body to arrive."""

    body: int = 64 * 1024
    batch_body: int = 256 * 1024
    in_flight: int = 256
    seconds: float = 10.0


class Service:
    """The routes' handlers around one predictor."""

    def __init__(self, predictor: Predictor, *, token: str | None, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self.token = token.encode() if token else None
        self.metrics = Metrics(predictor.manifest)
        self.one = msgspec.json.Decoder(PredictRequest)
        self.many = msgspec.json.Decoder(BatchRequest)
        self.running = 0

    async def predict(self, request: Request) -> Response:
        asked = decode(self.one, await read_body(request, self.limits.body, seconds=self.limits.seconds))
        return json_response(self.answer([asked])[0])

    async def predict_batch(self, request: Request) -> Response:
        asked = decode(self.many, await read_body(request, self.limits.batch_body, seconds=self.limits.seconds))
        return json_response(BatchPrediction(self.answer(asked.requests, batch=True)))

    def answer(self, asked: list[PredictRequest], *, batch: bool = False) -> list[Prediction]:
        """Requests that differ only in their events share a pass of the encoder."""
        groups: dict[tuple[int, tuple[str, ...] | None, bool, bool], list[int]] = {}
        for i, request in enumerate(asked):
            self.check_tasks(request, f"requests[{i}].tasks" if batch else "tasks")
            tasks = tuple(request.tasks) if request.tasks is not None else None
            groups.setdefault((request.k, tasks, request.exclude_seen, request.explain), []).append(i)
        answers: dict[int, Prediction] = {}
        for (k, tasks, exclude_seen, explain), members in groups.items():
            found = self.predictor.predict_many(
                [asked[i].events for i in members], k=k, tasks=tasks, exclude_seen=exclude_seen, explain=explain
            )
            answers |= dict(zip(members, found, strict=True))
        predictions = [answers[i] for i in range(len(asked))]
        self.metrics.observe(predictions)
        return predictions

    def check_tasks(self, request: PredictRequest, field: str) -> None:
        known = self.predictor.manifest.tasks
        for task in request.tasks or []:
            if task not in known:
                raise Problem(422, f"{task!r} is not among this model's tasks: {', '.join(known)}", field=field)

    async def model(self, request: Request) -> Response:
        return json_response(ModelDescription.of(self.predictor.bundle))

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """The service exists only after the golden requests were answered as the trained model answers them."""
        return PlainTextResponse("ready\n")

    async def scrape(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return json_response(openapi.describe(self.predictor.manifest.version))

    def guarded(self, handler: Handler) -> Handler:
        """Admit only who has the token and while there is room; measure; turn problems into responses."""

        async def handle(request: Request) -> Response:
            begin, status = time.perf_counter(), 500  # where something is raised that is no problem of the client's
            self.running += 1
            self.metrics.in_flight.set(self.running)
            try:
                response = await self.admitted(handler, request)
                status = response.status_code
                return response
            finally:
                self.running -= 1
                self.metrics.in_flight.set(self.running)
                # the matched route; `request.url` would also hold what the client says its host is
                route = self.metrics.requests.labels(request.scope["path"], str(status))
                route.observe(time.perf_counter() - begin)

        return handle

    async def admitted(self, handler: Handler, request: Request) -> Response:
        try:
            self.admit(request)
            return await handler(request)
        except Problem as problem:
            return problem.to_response()

    def admit(self, request: Request) -> None:
        if self.running > self.limits.in_flight:
            raise Problem(503, "too many requests at once; try again", headers={"Retry-After": "1"})
        given = request.headers.get("authorization", "").encode("latin-1")  # the bytes as they came
        if self.token is not None and not hmac.compare_digest(given, b"Bearer " + self.token):
            raise Problem(401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


def make_app(predictor: Predictor, *, token: str | None = None, limits: Limits | None = None) -> Starlette:
    """The ASGI application. With a `token`, everything under /v1 needs it as `Authorization: Bearer <token>`."""
    service = Service(predictor, token=token, limits=limits or Limits())
    routes = [
        Route("/v1/predict", service.guarded(service.predict), methods=["POST"]),
        Route("/v1/predict:batch", service.guarded(service.predict_batch), methods=["POST"]),
        Route("/v1/model", service.guarded(service.model)),
        Route("/healthz", service.healthz),
        Route("/readyz", service.readyz),
        Route("/metrics", service.scrape),
        Route("/openapi.json", service.openapi),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: http_problem, Exception: bug})


async def http_problem(request: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods."""
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.scope['path']}: {error.detail}"
    return Problem(error.status_code, detail, headers=dict(error.headers or {})).to_response()


async def bug(request: Request, error: Exception) -> Response:
    """Whatever nobody foresaw: Starlette logs the trace, the client learns only that it was not its fault."""
    return Problem(500, "the request could not be answered; the service's log says why").to_response()


async def read_body(request: Request, limit: int, *, seconds: float) -> bytes:
    """The body.

    Raises:
        Problem: 413 as soon as it is known to be longer than `limit` bytes, 408 when it takes longer than `seconds`,
            400 when it does not come whole.
    """
    announced = request.headers.get("content-length", "")
    too_long = Problem(413, f"a request may have {limit} bytes")
    if announced.isdigit() and int(announced) > limit:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_long
    except TimeoutError as error:
        raise Problem(408, f"the request took longer than {seconds:g} s to arrive") from error
    except ClientDisconnect as error:  # nobody reads this answer; it only must not look like a bug
        raise Problem(400, "the connection ended before the request did") from error
    return bytes(body)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem.of(error) from error


def json_response(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
