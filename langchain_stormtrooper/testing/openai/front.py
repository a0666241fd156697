"""The HTTP face of the server: which routes a flavour has, who may call them, and how answers are written.

Reads requests, has `bodies`, `generating`, `scores` and `shapes` do the work, and writes JSON or event streams. It
decides nothing about models. Called by `OpenAIServer` for every request.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web
from typing_extensions import override

from langchain_stormtrooper.testing.answers import JSON, Call, dumps, send_stream
from langchain_stormtrooper.testing.faults import Fault, FaultKind
from langchain_stormtrooper.testing.openai.bodies import Fields, Reader
from langchain_stormtrooper.testing.openai.generating import Generation, Generator
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import (
    ApiError,
    busy,
    error_body,
    failed,
    invalid,
    mistyped,
    no_such_route,
    unauthorized,
)
from langchain_stormtrooper.testing.openai.scores import Scorer
from langchain_stormtrooper.testing.openai.shapes import Shapes
from langchain_stormtrooper.testing.reception import Reception
from langchain_stormtrooper.testing.replies import RouterError
from langchain_stormtrooper.testing.sabotage import NEED_ANSWER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from langchain_stormtrooper.testing.faults import Faults
    from langchain_stormtrooper.testing.ledger import Counters, Permits, Record
    from langchain_stormtrooper.testing.openai.bodies import Ask, Prompt
    from langchain_stormtrooper.testing.openai.generating import Step
    from langchain_stormtrooper.testing.openai.options import Options

    Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_GENERATING = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/score", "/generative_scoring"})
_CREATED = 1_790_000_000


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
        self._permits = permits
        self._reader = Reader(options)
        self._generator = Generator(options)
        self._shapes = Shapes(options, self._generator)
        self._scorer = Scorer(options, self._reader, self._generator)
        self._worker = ThreadPoolExecutor(1, "openai-model") if options.engine.blocking else None
        self._table = self._routes()

    def close(self) -> None:
        """Stop the worker thread, if there is one."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    def _routes(self) -> dict[tuple[str, str], Handler]:
        options, flavour = self._options, self._options.flavour
        table: dict[tuple[str, str], Handler] = {("GET", "/health"): self._health}
        if options.models:
            table["GET", "/v1/models"] = self._models
        if options.completions:
            table["POST", "/v1/completions"] = partial(self._generate, self._reader.completion)
        if options.chat:
            table["POST", "/v1/chat/completions"] = partial(self._generate, self._reader.chat)
        if options.tokenize:
            table["POST", "/tokenize"] = self._tokenize
            table["POST", "/detokenize"] = self._detokenize
        if flavour is Flavour.VLLM:
            table["GET", "/version"] = self._version
            if options.scores:
                table["POST", "/generative_scoring"] = self._score
        if flavour is Flavour.SGLANG:
            table["GET", "/get_model_info"] = table["GET", "/model_info"] = self._model_info
            if options.scores:
                table["POST", "/v1/score"] = self._score
            if options.tokenize:
                table["POST", "/v1/tokenize"] = self._tokenize
                table["POST", "/v1/detokenize"] = self._detokenize
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
        handler = self._table.get((request.method, request.path))
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
        if posted and call.raw is None:
            raise mistyped("body", "json_invalid", "JSON decode error", {}, options)
        if self.faults.active:
            await self._sabotage(call)
            if call.fault is not None and call.fault.kind not in NEED_ANSWER:
                # Proxies and resets do not wait for the model; what is returned here is never sent.
                return web.Response()
        return await handler(call)

    def _admit(self, request: web.BaseRequest) -> None:
        if request.headers.get("Authorization") != f"Bearer {self._options.api_key}":
            raise unauthorized(self._options)

    async def _read(self, call: Call) -> None:
        """Read a JSON body; what is none is left at None."""
        data = await call.request.read()
        try:
            call.raw = json.loads(data)
        except (ValueError, RecursionError):
            call.raw = None
        self.remember(call, data)
        for prompt in prompts_of(call.raw):
            self.count_prompt(prompt)

    async def _sabotage(self, call: Call) -> None:
        """See whether a fault hits this request, and do what must be done before it runs.

        Raises:
            ApiError: If the fault is an error that the server words itself.
        """
        path = call.request.path
        fault = self.faults.take(path, next(iter(prompts_of(call.raw)), ""), generates=path in _GENERATING)
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

    @staticmethod
    def _json(value: Any) -> web.Response:
        return web.Response(body=dumps(value), content_type=JSON)

    # --- generating ---

    async def _generate(self, read: Callable[[Any], Ask], call: Call) -> web.StreamResponse:
        ask = read(call.raw)
        with self._permits.held(1):
            # A grammar that does not compile is refused before a stream has begun.
            self._generator.guide(ask)
            await self._pause(self._options.latency_per_request)
            generations = [Generation() for _ in range(len(ask.prompts) * ask.n)]
            steps = [
                self._generator.run(ask, ask.prompts[index // ask.n], generation, index % ask.n)
                for index, generation in enumerate(generations)
            ]
            if ask.stream:
                return await self._stream(call, ask, generations, steps)
            prompts = await self._scored(ask)
            for running in steps if ask.max_tokens else ():
                await self._exhaust(running)
            self._count(ask.prompts, generations)
            await self._pause(self._options.latency_per_token * max(len(item.steps) for item in generations))
            return self._json(self._shapes.answer(ask, generations, prompts))

    async def _scored(self, ask: Ask) -> list[list[Step]]:
        """Score the prompts, if the answer is to show that."""
        count = ask.prompt_logprobs if self._options.flavour is Flavour.VLLM else ask.logprobs if ask.echo else None
        if count is None:
            return []
        return [await self._ask_model(partial(self._generator.score, prompt, count)) for prompt in ask.prompts]

    async def _exhaust(self, steps: Iterator[Step]) -> None:
        while await self._ask_model(partial(next, steps, None)) is not None:
            pass

    async def _ask_model(self, work: Callable[[], Any]) -> Any:
        """Do something that asks the engine, on the worker thread if that takes long."""
        if self._worker is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    @staticmethod
    async def _pause(seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _count(self, prompts: Sequence[Prompt], generations: Sequence[Generation]) -> None:
        counters = self.counters
        counters.generations += max(len(generations), len(prompts))
        counters.prompt_tokens += sum(len(prompt.ids) for prompt in prompts)
        counters.computed_tokens += sum(len(prompt.ids) for prompt in prompts)
        counters.generated_tokens += sum(len(generation.steps) for generation in generations)

    async def _stream(
        self, call: Call, ask: Ask, generations: list[Generation], steps: list[Iterator[Step]]
    ) -> web.StreamResponse:
        events = (b"data: " + event + b"\n\n" async for event in self._events(ask, generations, steps))
        return await send_stream(call, events, {"Cache-Control": "no-cache"}, keepalive=None)

    async def _events(
        self, ask: Ask, generations: list[Generation], steps: list[Iterator[Step]]
    ) -> AsyncGenerator[bytes, None]:
        """Make the events of a stream, taking turns between the answers as a batch does."""
        envelope, shapes = self._shapes.envelope(ask, chunk=True), self._shapes
        sent = [0] * len(generations)
        # A stop sequence is not shown, so what might be the start of one is held back.
        hold = max((len(stop) - 1 for stop in ask.stop), default=0)
        if ask.chat:
            for index in range(len(generations)):
                yield dumps(shapes.opening(envelope, index))
        prompts = await self._scored(ask)
        for index, scored in enumerate(prompts):
            steps[index] = _joined(scored, steps[index])
        running = set(range(len(generations)))
        while running:
            await self._pause(self._options.latency_per_token)
            for index in sorted(running):
                generation = generations[index]
                step = await self._ask_model(partial(next, steps[index], None))
                if step is None:
                    running.discard(index)
                    continue
                done = self._done(ask, generation)
                until = len(generation.text) if done else max(len(generation.text) - hold, sent[index])
                delta = generation.text[sent[index] : until]
                sent[index] = max(until, sent[index])
                yield dumps(shapes.chunk(ask, envelope, index, step, delta, generation if done else None))
                if done:
                    running.discard(index)
        self._count(ask.prompts, generations)
        if ask.include_usage:
            yield dumps({**envelope, "choices": [], "usage": shapes.usage(ask, generations)})
        yield b"[DONE]"

    def _done(self, ask: Ask, generation: Generation) -> bool:
        room = self._options.max_model_len - len(ask.prompts[0].ids)
        return generation.finish_reason == "stop" or len(generation.steps) >= min(ask.max_tokens, room)

    # --- the rest ---

    async def _score(self, call: Call) -> web.StreamResponse:
        with self._permits.held(1):
            await self._pause(self._options.latency_per_request)
            answer, prompts = await self._ask_model(partial(self._scorer.score, call.raw))
            self._count(prompts, [])
            return self._json(answer)

    async def _tokenize(self, call: Call) -> web.StreamResponse:
        fields, options = Fields(call.raw, self._options), self._options
        self._reader.model(fields)
        if "messages" in fields.raw and options.flavour is Flavour.VLLM:
            special = fields.get("add_special_tokens", bool, False)
            prompt = self._reader.prompt(self._reader.rendered(fields), special=special)
        else:
            text = fields.need("prompt")
            special = fields.get("add_special_tokens", bool, True)
            if isinstance(text, list) and options.flavour is Flavour.SGLANG:
                several = [list(self._reader.prompt(item, special=special).ids) for item in text]
                counts = [len(ids) for ids in several]
                return self._json({"tokens": several, "count": counts, "max_model_len": options.max_model_len})
            if not isinstance(text, str):
                raise mistyped("prompt", "string_type", "Input should be a valid string", text, options)
            prompt = self._reader.prompt(text, special=special)
        ids = list(prompt.ids)
        answer: dict[str, Any] = {"count": len(ids), "max_model_len": options.max_model_len, "tokens": ids}
        if options.flavour is Flavour.VLLM:
            named = fields.get("return_token_strs", bool, False)
            answer["token_strs"] = [self._generator.piece(token) for token in ids] if named else None
        return self._json(answer)

    async def _detokenize(self, call: Call) -> web.StreamResponse:
        fields = Fields(call.raw, self._options)
        self._reader.model(fields)
        fields.need("tokens")
        prompt = self._reader.prompt(fields.ids("tokens") or [])
        return self._json({"text" if self._options.flavour is Flavour.SGLANG else "prompt": prompt.text})

    async def _models(self, call: Call) -> web.StreamResponse:
        options, flavour = self._options, self._options.flavour
        owners = {Flavour.LLAMA_CPP: "llamacpp", Flavour.GENERIC: "gateway"}
        card: dict[str, Any] = {
            "id": options.model_id,
            "object": "model",
            "created": _CREATED if flavour is Flavour.GENERIC else int(time.time()),
            "owned_by": owners.get(flavour, str(flavour)),
        }
        if flavour in (Flavour.VLLM, Flavour.SGLANG):
            card |= {"root": options.model_id, "parent": None, "max_model_len": options.max_model_len}
        if flavour is Flavour.VLLM:
            card["permission"] = []
        return self._json({"object": "list", "data": [card]})

    async def _version(self, call: Call) -> web.StreamResponse:
        return self._json({"version": self._options.version})

    async def _model_info(self, call: Call) -> web.StreamResponse:
        name = self._options.model_id
        return self._json(
            {
                "model_path": name,
                "tokenizer_path": name,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
            }
        )

    async def _health(self, call: Call) -> web.StreamResponse:
        return web.Response(status=200 if self.healthy else 503)


def _joined(first: Sequence[Step], then: Iterator[Step]) -> Iterator[Step]:
    yield from first
    yield from then


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
