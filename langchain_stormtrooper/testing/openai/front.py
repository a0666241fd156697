"""The HTTP face of the server: which routes a flavour has, who may call them, and how answers are written.

Checks keys, carries out faults, reads requests and has `answering` and `facts` do the rest. It decides nothing about
models. Called by `OpenAIServer` for every request.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from typing_extensions import override

from langchain_stormtrooper.testing.answers import JSON, dumps
from langchain_stormtrooper.testing.faults import GENERATING, Fault, FaultKind
from langchain_stormtrooper.testing.openai.answering import Answering
from langchain_stormtrooper.testing.openai.bodies import Reader
from langchain_stormtrooper.testing.openai.facts import Facts
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import (
    ROUTING,
    ApiError,
    busy,
    error_body,
    failed,
    invalid,
    mistyped,
    no_such_route,
    unauthorized,
    wrong_method,
)
from langchain_stormtrooper.testing.reception import Reception
from langchain_stormtrooper.testing.replies import RouterError
from langchain_stormtrooper.testing.sabotage import NEED_ANSWER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_stormtrooper.testing.answers import Call
    from langchain_stormtrooper.testing.faults import Faults
    from langchain_stormtrooper.testing.ledger import Counters, Permits, Record
    from langchain_stormtrooper.testing.openai.asks import Ask
    from langchain_stormtrooper.testing.openai.options import Options

    Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_SCORES = {Flavour.VLLM: "/generative_scoring", Flavour.SGLANG: "/v1/score"}


class Front(Reception):
    """Answers every request of one server.

    Args:
        options: The server's settings.
        permits: The requests that may run at once.
        counters: What to count in.
        faults: What goes wrong on purpose.
        record: Where requests are kept.
        go_away: Called with seconds and whether to forget everything, to take the server off the network.
    """

    def __init__(
        self,
        options: Options,
        permits: Permits,
        counters: Counters,
        faults: Faults,
        record: Record,
        go_away: Callable[[float, bool], None],
    ) -> None:
        super().__init__(counters, faults, record, go_away)
        self._options = options
        self._reader = Reader(options)
        self._answering = Answering(options, self._reader, permits)
        self._facts = Facts(options, self._reader, self._answering.generator.piece)
        self._table = self._routes()

    def close(self) -> None:
        """Stop the worker thread, if there is one."""
        self._answering.close()

    def _routes(self) -> dict[str, tuple[str, Handler]]:
        """Return the method and the handler of each route."""
        options, flavour, facts = self._options, self._options.flavour, self._facts
        table: dict[str, tuple[str, Handler]] = {"/health": ("GET", self._health)}
        if options.models:
            table["/v1/models"] = ("GET", partial(_told, facts.models))
        if options.completions:
            table["/v1/completions"] = ("POST", partial(self._generate, self._reader.completion))
        if options.chat:
            table["/v1/chat/completions"] = ("POST", partial(self._generate, self._reader.chat))
        if options.tokenize:
            # SGLang has both under two names.
            for prefix in ("", "/v1") if flavour is Flavour.SGLANG else ("",):
                table[f"{prefix}/tokenize"] = ("POST", partial(_told, facts.tokenize))
                table[f"{prefix}/detokenize"] = ("POST", partial(_told, facts.detokenize))
        if options.scores and flavour in _SCORES:
            table[_SCORES[flavour]] = ("POST", self._score)
        if flavour is Flavour.VLLM:
            table["/ping"] = ("GET", self._health)
            table["/version"] = ("GET", partial(_told, facts.version))
        if flavour is Flavour.SGLANG:
            table["/get_model_info"] = table["/model_info"] = ("GET", partial(_told, facts.model_info))
        if flavour is Flavour.LLAMA_CPP:
            table["/props"] = ("GET", partial(_told, facts.props))
            table["/apply-template"] = ("POST", partial(_told, facts.apply_template))
        return table

    # --- every request ---

    @override
    async def answered(self, call: Call) -> web.StreamResponse:
        try:
            return await self._dispatch(call)
        except RouterError:
            return self._refused(busy(self._options))
        except ApiError as refusal:
            return self._refused(refusal)

    def _refused(self, refusal: ApiError) -> web.Response:
        body = error_body(refusal, self._options)
        self.counters.by_error[refusal.code or refusal.kind or str(refusal.status)] += 1
        return web.Response(body=dumps(body), status=refusal.status, content_type=JSON, headers=refusal.headers)

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        request, options = call.request, self._options
        method, handler = self._table.get(request.path, ("", None))
        posted = request.method == "POST"
        if posted:
            await self._read(call)
        else:
            self.remember(call, b"")
        # vLLM guards its OpenAI routes alone: `/tokenize` and `/generative_scoring` are open to all.
        guarded = request.path.startswith("/v1") or options.flavour is not Flavour.VLLM
        if options.api_key is not None and guarded and request.path != "/health":
            self._admit(request)
        if handler is None:
            raise no_such_route(options)
        if request.method != method:
            raise wrong_method(options)
        if posted and call.raw is None:
            raise mistyped("body", "json_invalid", "JSON decode error", {}, options)
        if self.faults.active:
            await self._sabotage(call)
            if call.fault is not None and call.fault.kind not in NEED_ANSWER:
                # Proxies and resets do not wait for the model; what is returned here is never sent.
                return web.Response()
        return await handler(call)

    def _admit(self, request: web.BaseRequest) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key != self._options.api_key:
            raise unauthorized(self._options)

    async def _read(self, call: Call) -> None:
        """Read a JSON body; what is none is left at None."""
        data = await call.request.read()
        garbled = False
        try:
            call.raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            garbled = isinstance(error, UnicodeDecodeError)
        self.remember(call, data)
        if garbled and self._options.flavour in (Flavour.VLLM, Flavour.SGLANG):
            raise ApiError(400, "There was an error parsing the body", kind=ROUTING)
        if self._options.flavour is Flavour.VLLM and call.request.content_type != JSON:
            say = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise ApiError(400, say, kind="Bad Request")
        for prompt in prompts_of(call.raw):
            self.count_prompt(prompt)

    async def _sabotage(self, call: Call) -> None:
        """See whether a fault hits this request, and do what must be done before it runs.

        Raises:
            ApiError: If the fault is an error that the server words itself.
        """
        path = call.request.path
        fault = self.faults.take(path, next(iter(prompts_of(call.raw)), ""), generates=path in GENERATING)
        if fault is None:
            return
        self.counters.by_fault[fault.kind] += 1
        if fault.kind is FaultKind.STALL:
            await asyncio.sleep(fault.seconds)
            return
        refusal = self._worded(fault)
        if refusal is not None:
            raise refusal
        call.fault = fault

    def _worded(self, fault: Fault) -> ApiError | None:
        """Return the error that a fault stands for, where it is the server itself that fails."""
        if fault.kind is FaultKind.OVERLOADED:
            wait = fault.retry_after
            return busy(self._options, {} if wait is None else {"Retry-After": f"{wait:g}"})
        if fault.kind is FaultKind.GENERATION:
            return failed(fault.message)
        if fault.kind is FaultKind.INCOMPLETE:
            return failed("EngineCore encountered an issue. See stack trace (above) for the root cause.")
        if fault.kind is FaultKind.UNAUTHORIZED:
            return unauthorized(self._options)
        if fault.kind is FaultKind.TEXT_422:
            return invalid("The request could not be processed.")
        return None

    # --- handlers ---

    async def _generate(self, read: Callable[[Any], Ask], call: Call) -> web.StreamResponse:
        answer = await self._answering.generate(read(call.raw), call)
        return _json(answer) if isinstance(answer, dict) else answer

    async def _score(self, call: Call) -> web.StreamResponse:
        return _json(await self._answering.score(call.raw))

    async def _health(self, call: Call) -> web.StreamResponse:
        return web.Response(status=200 if self.healthy else 503)


async def _told(fact: Callable[[Any], dict[str, Any]], call: Call) -> web.StreamResponse:
    return _json(fact(call.raw))


def _json(value: Any) -> web.Response:
    return web.Response(body=dumps(value), content_type=JSON)


def prompts_of(raw: Any) -> list[str]:
    """Return the texts that tell a request apart: its prompts, its last chat message, or the items of a scoring."""
    if not isinstance(raw, dict):
        return []
    found = raw.get("prompt", raw.get("items"))
    messages = raw.get("messages")
    if found is None and isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        found = messages[-1].get("content")
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list):
        return []
    if found and isinstance(found[0], int):
        return [json.dumps(found)]
    return [item if isinstance(item, str) else json.dumps(item) for item in found]
