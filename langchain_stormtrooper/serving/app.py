"""The FastAPI app: its routes, and what stands around them. Called by `create_app` only.

`/classify` reads its body itself: one pass over the bytes, and errors that show nothing of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from typing_extensions import override

from langchain_stormtrooper.errors import StormtrooperError
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.serving.answers import answer_many, answer_one
from langchain_stormtrooper.serving.bodies import (
    ClassifiedRow,
    ClassifyRequest,
    Info,
    LabelInfo,
    LimitsInfo,
    Problem,
    Status,
)
from langchain_stormtrooper.serving.gate import Gate, Places
from langchain_stormtrooper.serving.hosts import HostCheck
from langchain_stormtrooper.serving.keys import OPEN_BELOW, KeyCheck
from langchain_stormtrooper.serving.metrics import CONTENT_TYPE, Metrics, Telemetry
from langchain_stormtrooper.serving.page import add_page
from langchain_stormtrooper.serving.readiness import Readiness
from langchain_stormtrooper.serving.refusals import NOT_JSON, RefusedError, refusal_of
from langchain_stormtrooper.serving.sending import is_json
from langchain_stormtrooper.serving.tasks import Tasks

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from langchain_stormtrooper.classifiers import TextClassifier
    from langchain_stormtrooper.serving.settings import Settings

_PATHS = ("/", "/classify", "/health", "/ready", "/info", "/metrics", "/openapi.json")
_REFS = "#/components/schemas/{model}"
_LINES = "application/x-ndjson"


def build(classifier: TextClassifier, settings: Settings) -> FastAPI:
    """The app of a classifier; see `create_app`."""
    tasks = Tasks(classifier)
    readiness = Readiness(tasks.own)
    places = Places()
    metrics = Metrics(lambda: places.taken)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # Nobody waits for it: what is wrong is told by /ready and by whoever asks first.
        preparing = asyncio.create_task(readiness.reason())
        yield
        await readiness.close()
        await asyncio.wait({preparing})

    app = App(
        title="langchain-stormtrooper",
        description="Zero- and few-shot text classification with a self-hosted language model.",
        version=version("langchain-stormtrooper"),
        lifespan=life,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.settings = settings
    app.state.readiness = readiness
    _add_classify(app, tasks, settings, metrics)
    _add_reports(app, tasks.own, settings, readiness, metrics)
    if settings.langserve is not None:
        # LangServe is imported where it is used only.
        from langchain_stormtrooper.serving.langserve_routes import make_langserve

        app.mount(settings.langserve, make_langserve(tasks.own))
    add_page(app)
    # From the inside to the outside.
    app.add_middleware(Gate, settings=settings, places=places)
    app.add_middleware(KeyCheck, key=settings.key)
    app.add_middleware(HostCheck, hosts=settings.allowed_hosts)
    below = (OPEN_BELOW, *([] if settings.langserve is None else [f"{settings.langserve}/"]))
    app.add_middleware(Telemetry, metrics=metrics, paths=_PATHS, below=below, is_closing=lambda: readiness.is_closing)
    return app


class App(FastAPI):
    """FastAPI, with the schema of the body that `/classify` reads by itself."""

    settings: Settings

    @override
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            _, models = models_json_schema(
                [(ClassifyRequest, "validation"), (ClassifiedRow, "serialization")], ref_template=_REFS
            )
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(models["$defs"])
            body = components["schemas"]["ClassifyRequest"]["properties"]
            body["texts"]["maxItems"] = self.settings.max_texts
            if self.settings.fixed_labels:
                for name in ("labels", "text_kind", "label_kind"):
                    del body[name]
            if self.settings.key is not None:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return super().openapi()


class _Direct(APIRoute):
    """A route whose function takes the request and returns the response: nothing is left for FastAPI to find out."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


class RowsResponse(Response):
    """JSON lines, each sent when it is there; that the client has gone away is noticed elsewhere.

    Args:
        first: The first line, which has been waited for.
        further: The other lines.
    """

    media_type = _LINES

    def __init__(self, first: bytes, further: AsyncGenerator[bytes, None]) -> None:
        self.status_code = 200
        self.background = None
        self._first = first
        self._further = further
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Lines that are there together are sent together: each sending costs as much as the line's whole making.
        waiting = [self._first]
        arrived = asyncio.Event()

        async def gather() -> None:
            async with aclosing(self._further) as further:
                async for line in further:
                    waiting.append(line)
                    arrived.set()

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as group:
            gathering = group.create_task(gather())
            gathering.add_done_callback(lambda _: arrived.set())
            while waiting or not gathering.done():
                if waiting:
                    lines = b"".join(waiting)
                    waiting.clear()
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
                else:
                    arrived.clear()
                    await arrived.wait()
        await send({"type": "http.response.body", "body": b""})


def _add_classify(app: FastAPI, tasks: Tasks, settings: Settings, metrics: Metrics) -> None:
    async def lines(classifier: TextClassifier, texts: list[str]) -> AsyncGenerator[bytes, None]:
        async with aclosing(answer_many(classifier, texts)) as rows:
            async for index, row in rows:
                metrics.add(row)
                yield b'{"index":%d,%s\n' % (index, row.model_dump_json().encode()[1:])

    async def classify(request: Request) -> Response:
        own_labels = False
        try:
            asked = await _read(request, settings)
            own_labels = bool(asked.changes)
            classifier = tasks.classifier_for(asked.changes)
            if asked.is_one:
                row = await answer_one(classifier, asked.text)
                metrics.add(row)
                return Response(row.model_dump_json(), media_type="application/json")
            further = lines(classifier, asked.texts)
            return RowsResponse(await anext(further), further)
        except (StormtrooperError, RefusedError) as error:
            return _refused(refusal_of(error, own_labels=own_labels))

    answers = {
        "description": "One object for `text`; for `texts` one JSON line for each, as it finishes.",
        "content": {_LINES: {"schema": {"$ref": _REFS.format(model="ClassifiedRow")}}},
        "model": Classification,
    }
    refusals = {
        408: "The body did not come in time.",
        413: "The body is too long.",
        415: "The body is not sent as JSON.",
        422: "The body or its labels make no request.",
        429: "Too many requests are in work.",
        500: "Something unexpected happened.",
        502: "The model's server refuses the app.",
        503: "The model cannot be asked at the moment.",
    }
    body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REFS.format(model="ClassifyRequest")}}},
    }
    app.router.add_api_route(
        "/classify",
        classify,
        methods=["POST"],
        route_class_override=_Direct,
        summary="Classify one text, or many",
        responses={200: answers, **_problems(settings, refusals)},
        openapi_extra={"requestBody": body, **_security(settings)},
        response_class=JSONResponse,
        response_model=None,
    )


async def _read(request: Request, settings: Settings) -> ClassifyRequest:
    """The request that a body holds.

    Raises:
        RefusedError: It holds none, or one that is not allowed here.
    """
    if not is_json(request.scope):
        raise NOT_JSON
    try:
        asked = ClassifyRequest.model_validate_json(await request.body())
    except ValueError as error:
        raise refusal_of(error) from None
    if len(asked.texts) > settings.max_texts:
        raise RefusedError(
            422, f"texts: there are {len(asked.texts)}, and at most {settings.max_texts} are taken at once."
        )
    if settings.fixed_labels and asked.changes:
        raise RefusedError(422, f"{next(iter(asked.changes))}: this app has labels of its own and takes no others.")
    if asked.labels is not None and len(asked.labels) > settings.max_labels:
        raise RefusedError(422, f"labels: there are {len(asked.labels)}, and at most {settings.max_labels} are taken.")
    return asked


def _add_reports(
    app: FastAPI, classifier: TextClassifier, settings: Settings, readiness: Readiness, metrics: Metrics
) -> None:
    async def health() -> Status:
        return Status(status="alive")

    async def ready() -> Any:
        reason = await readiness.reason()
        if reason is not None:
            return _refused(RefusedError(503, reason, retry_after=1))
        return Status(status="ready")

    async def info() -> Info:
        await readiness.reason()
        return Info(
            version=version("langchain-stormtrooper"),
            labels=[LabelInfo(name=label.name, description=label.description) for label in classifier.labels.labels],
            text_kind=classifier.text_kind,
            label_kind=classifier.label_kind,
            model_id=readiness.model_id,
            method=readiness.method,
            labels_may_be_given=not settings.fixed_labels,
            needs_key=settings.key is not None,
            langserve=settings.langserve,
            limits=LimitsInfo(
                max_body_bytes=settings.max_body_bytes,
                max_texts=settings.max_texts,
                max_labels=settings.max_labels,
                max_requests=settings.max_requests,
            ),
        )

    async def show_metrics() -> Response:
        return Response(metrics.show(), headers={"content-type": CONTENT_TYPE})

    app.get("/health", summary="Whether the process is alive")(health)
    not_ready = _problems(None, {503: "Requests make no sense yet, or no more; the detail says why."})
    app.get("/ready", summary="Whether the model can be asked", responses=not_ready, response_model=Status)(ready)
    unauthorised = _problems(settings, {})
    extra = _security(settings)
    app.get("/info", summary="Labels, model and limits", responses=unauthorised, openapi_extra=extra)(info)
    app.get(
        "/metrics",
        summary="Figures for Prometheus",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **unauthorised},
        openapi_extra=extra,
        response_class=Response,
    )(show_metrics)


def _refused(refusal: RefusedError) -> Response:
    return Response(refusal.body, refusal.status, dict(refusal.headers), media_type="application/json")


def _problems(settings: Settings | None, refusals: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Refusals as OpenAPI has them."""
    if settings is not None and settings.key is not None:
        refusals = {401: "The key is missing or wrong.", **refusals}
    return {status: {"model": Problem, "description": what} for status, what in sorted(refusals.items())}


def _security(settings: Settings) -> dict[str, Any]:
    return {} if settings.key is None else {"security": [{"key": []}]}
