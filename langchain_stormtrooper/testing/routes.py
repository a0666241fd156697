"""The HTTP face of the server: which route exists, who may call it, and how answers are written.

Reads requests as axum does, hands them to `service` (or `chat`), and writes JSON, text or event streams with the
headers of the imitated version. It decides nothing about models. Called by `server` for every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from typing_extensions import override

from langchain_stormtrooper.testing.answers import CORS, JSON, Answers, Call, dumps
from langchain_stormtrooper.testing.bodies import BodyReader, GenerateBody, parse_json
from langchain_stormtrooper.testing.faults import FaultKind, Faults
from langchain_stormtrooper.testing.info import info
from langchain_stormtrooper.testing.ledger import Counters, Record
from langchain_stormtrooper.testing.metrics import metrics
from langchain_stormtrooper.testing.openai_routes import OpenAIRoutes
from langchain_stormtrooper.testing.reception import Reception
from langchain_stormtrooper.testing.replies import (
    RejectionError,
    RouterError,
    mistyped,
    no_fast_tokenizer,
    overloaded,
    unhealthy,
)
from langchain_stormtrooper.testing.sabotage import NEED_ANSWER
from langchain_stormtrooper.testing.shard import Trouble
from langchain_stormtrooper.testing.tokens import tokenized

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.service import Service

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its handler by method, and whether the api key protects it."""

    methods: dict[str, Handler]
    protected: bool = False
    generates: bool = False


class Routes(Reception):
    """Answers every request of one server.

    Args:
        config: The server's settings.
        service: What runs generations.
        counters: What to count in.
        faults: What goes wrong on purpose.
        record: Where requests are kept.
        go_away: Called with seconds and whether to forget everything, to take the server off the network.
    """

    def __init__(
        self,
        config: Config,
        service: Service,
        counters: Counters,
        faults: Faults,
        record: Record,
        go_away: Callable[[float, bool], None],
    ) -> None:
        super().__init__(counters, faults, record, go_away)
        self.config = config
        self.service = service
        self._bodies = BodyReader(config.release)
        self._bearer = None if config.api_key is None else f"bearer {config.api_key}".lower()
        self._answers = Answers(config)
        self._openai = OpenAIRoutes(service, self._answers, self._count_error)
        self._table = self._routes()

    def _routes(self) -> dict[str, Route]:
        release = self.config.release
        get_root = {"GET": self._health} if release.has_get_root else {}
        table = {
            "/": Route({"POST": self._compat, **get_root}, protected=True, generates=True),
            "/generate": Route({"POST": self._generate}, protected=True, generates=True),
            "/generate_stream": Route({"POST": self._generate_stream}, protected=True, generates=True),
            "/invocations": Route({"POST": self._invocations}, protected=release.invocations_any, generates=True),
            "/info": Route({"GET": self._info}),
            "/health": Route({"GET": self._health}),
            "/ping": Route({"GET": self._health}),
            "/metrics": Route({"GET": self._metrics}),
        }
        openai = self._openai
        if release.has_tokenize:
            table["/tokenize"] = Route({"POST": self._tokenize}, protected=True)
        if release.has_chat:
            table["/v1/chat/completions"] = Route({"POST": openai.chat}, protected=True, generates=True)
        if release.has_completions:
            table["/v1/completions"] = Route({"POST": openai.completions}, protected=True, generates=True)
        if release.has_models:
            table["/v1/models"] = Route({"GET": openai.models})
            table["/chat_tokenize"] = Route({"POST": openai.chat_tokenize})
        return table

    # --- every request ---

    @override
    async def answered(self, call: Call) -> web.StreamResponse:
        try:
            return await self._dispatch(call)
        except RouterError as refusal:
            self._count_error(refusal.error_type)
            return web.Response(body=refusal.encoded(), status=refusal.status, content_type=JSON, headers=CORS)
        except RejectionError as refusal:
            return _text(refusal)

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        request = call.request
        route = self._table.get(request.path)
        if route is None:
            return web.Response(status=404, headers=CORS)
        handler = route.methods.get(request.method)
        if handler is None:
            return web.Response(status=405, headers={"Allow": ",".join(route.methods), **CORS})
        posted = request.method == "POST"
        if posted and route.protected and not self._admits(request):
            self.remember(call, b"")
            return web.Response(status=401, headers=CORS)
        if posted:
            await self._read(call)
        if self.faults.active:
            await self._sabotage(call, generates=posted and route.generates)
            if call.fault is not None and call.fault.kind not in NEED_ANSWER:
                # Proxies and resets do not wait for the model; what is returned here is never sent.
                return web.Response()
        return await handler(call)

    def _admits(self, request: web.BaseRequest) -> bool:
        """Tell whether the bearer token is right; TGI compares without regard to case."""
        return self._bearer is None or request.headers.get("Authorization", "").lower() == self._bearer

    async def _read(self, call: Call) -> None:
        """Read a JSON body, refusing what axum refuses."""
        request = call.request
        kind = request.content_type
        if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
            self.remember(call, b"")
            raise RejectionError(415, "Expected request with `Content-Type: application/json`")
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self.remember(call, b"")
            raise RejectionError(413, "Failed to buffer the request body: length limit exceeded") from None
        try:
            call.raw = parse_json(data)
        finally:
            self.remember(call, data)
        prompt = prompt_of(call.raw)
        if prompt is not None:
            self.count_prompt(prompt)

    async def _sabotage(self, call: Call, *, generates: bool) -> None:
        """See whether a fault hits this request, and do what must be done before it runs."""
        prompt = prompt_of(call.raw) or ""
        fault = self.faults.take(call.request.path, prompt, generates=generates)
        if fault is None:
            return
        self.counters.by_fault[fault.kind] += 1
        if fault.kind is FaultKind.GENERATION:
            call.trouble = Trouble(exception=fault.message)
        elif fault.kind is FaultKind.INCOMPLETE:
            call.trouble = Trouble(incomplete=True)
        elif fault.kind is FaultKind.STALL and generates:
            call.trouble = Trouble(stall=fault.seconds)
        elif fault.kind is FaultKind.STALL:
            await asyncio.sleep(fault.seconds)
        elif fault.kind is FaultKind.OVERLOADED and fault.retry_after is None and generates:
            call.trouble = Trouble(refusal=overloaded())
        else:
            call.fault = fault

    # --- the generate family ---

    async def _generate(self, call: Call) -> web.StreamResponse:
        return await self._answer(call, self._bodies.generate(call.raw), wrap=False)

    async def _compat(self, call: Call) -> web.StreamResponse:
        body = self._bodies.generate(call.raw)
        if body.parameters.return_full_text is None:
            tag = self.config.pipeline_tag
            known = tag == "text-generation"
            body.parameters.return_full_text = (
                known if tag is not None else self.config.release.root_full_text_without_tag
            )
        if body.stream:
            return await self._stream(call, body)
        return await self._answer(call, body, wrap=True)

    async def _invocations(self, call: Call) -> web.StreamResponse:
        """SageMaker's route: one of three bodies in late versions, whichever fits first."""
        release, raw = self.config.release, call.raw
        if release.has_chat and not release.invocations_any and self.config.messages_api:
            return await self._openai.chat(call)
        if not release.invocations_any or (isinstance(raw, dict) and "inputs" in raw):
            return await self._compat(call)
        if isinstance(raw, dict) and "messages" in raw:
            return await self._openai.chat(call)
        if isinstance(raw, dict) and "prompt" in raw:
            return await self._openai.completions(call)
        raise mistyped("data did not match any variant of untagged enum SagemakerRequest")

    async def _generate_stream(self, call: Call) -> web.StreamResponse:
        return await self._stream(call, self._bodies.generate(call.raw))

    async def _answer(self, call: Call, body: GenerateBody, *, wrap: bool) -> web.StreamResponse:
        outcomes, best = await self.service.complete(body, call.trouble)
        answer = self.service.generate_response(outcomes, best)
        return self._answers.json([answer] if wrap else answer, self._answers.headers(call, best, len(body.inputs)))

    async def _stream(self, call: Call, body: GenerateBody) -> web.StreamResponse:
        async def encoded() -> AsyncGenerator[bytes, None]:
            async with aclosing(self.service.events(body, call.trouble)) as events:
                async for event in events:
                    if "error_type" in event:
                        self._count_error(event["error_type"])
                    yield dumps(event)

        return await self._answers.send_events(call, encoded(), len(body.inputs))

    async def _tokenize(self, call: Call) -> web.StreamResponse:
        body = self._bodies.generate(call.raw)
        if not self.config.counts_tokens:
            raise no_fast_tokenizer()
        return self._answers.json(tokenized(body.inputs, body.parameters.truncate, self.config))

    # --- the rest ---

    def _count_error(self, error_type: str) -> None:
        self.counters.by_error[error_type] += 1

    async def _metrics(self, call: Call) -> web.StreamResponse:
        text = metrics(self.counters, self.config, self.service.permits.in_use)
        return web.Response(text=text, headers=CORS)

    async def _info(self, call: Call) -> web.StreamResponse:
        return self._answers.json(info(self.config))

    async def _health(self, call: Call) -> web.StreamResponse:
        if not self.healthy:
            raise unhealthy()
        return web.Response(headers=CORS)


def _text(refusal: RejectionError) -> web.Response:
    if not refusal.text:
        return web.Response(status=refusal.status, headers=CORS)
    return web.Response(status=refusal.status, text=refusal.text, headers=CORS)


def prompt_of(raw: Any) -> str | None:
    """Return the text that tells requests apart: the prompt, or the last chat message."""
    if not isinstance(raw, dict):
        return None
    for key in ("inputs", "prompt"):
        if isinstance(raw.get(key), str):
            return str(raw[key])
    messages = raw.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return str(messages[-1].get("content"))
    return None
