"""The OpenAI-style routes: chat, completions, models, and the server's own rendering of a chat.

Each handler reads a body, has `service` run it, and answers in the shape of its version. Mounted by `routes`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.answers import Answers, Call, dumps
from langchain_stormtrooper.testing.openai_bodies import ChatBody, CompletionBody, OpenAIReader
from langchain_stormtrooper.testing.openai_shapes import Shapes
from langchain_stormtrooper.testing.replies import RouterError
from langchain_stormtrooper.testing.tokens import tokenized

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aiohttp import web

    from langchain_stormtrooper.testing.service import Service

_SUMMED = (
    "x-compute-characters",
    "x-total-time",
    "x-validation-time",
    "x-queue-time",
    "x-inference-time",
    "x-time-per-token",
    "x-prompt-tokens",
    "x-generated-tokens",
)


class OpenAIRoutes:
    """Handlers of the OpenAI-style routes of one server.

    Args:
        service: What runs generations.
        answers: What writes responses.
        count_error: Called with the type of each error inside a stream.
    """

    def __init__(self, service: Service, answers: Answers, count_error: Callable[[str], None]) -> None:
        self._service = service
        self._answers = answers
        self._config = service.config
        self._reader = OpenAIReader(service.config)
        self._shapes = Shapes(service.config, service.shard.decoder)
        self._count_error = count_error
        # Up to 2.2.0 the tokenizer adds its special tokens to the rendered chat, once more if the template has them.
        self._special_tokens = not service.config.release.since("2.3.0")

    async def models(self, call: Call) -> web.StreamResponse:
        """`GET /v1/models`."""
        name = self._config.model_id
        model = {"id": name, "object": "model", "created": 0, "owned_by": name}
        return self._answers.json({"object": "list", "data": [model]})

    async def chat_tokenize(self, call: Call) -> web.StreamResponse:
        """`POST /chat_tokenize`."""
        body = self._reader.chat(call.raw)
        tokens = tokenized(body.prompt, None, self._config, special_tokens=False)
        return self._answers.json({"tokenize_response": tokens, "templated_text": body.prompt})

    async def chat(self, call: Call) -> web.StreamResponse:
        """`POST /v1/chat/completions`."""
        body = self._reader.chat(call.raw)
        if body.stream:
            return await self._answers.send_events(call, self._chat_events(call, body), len(body.prompt))
        _, best = await self._service.complete(body.generate, call.trouble, special_tokens=self._special_tokens)
        return self._answers.json(self._shapes.chat(body, best), self._answers.headers(call, best, len(body.prompt)))

    async def _chat_events(self, call: Call, body: ChatBody) -> AsyncGenerator[bytes, None]:
        index = 0
        try:
            running = self._service.stream(body.generate, call.trouble, special_tokens=self._special_tokens)
            async with aclosing(running) as steps:
                async for job, generation, step, last in steps:
                    index += 1
                    finished = generation if last else None
                    for event in self._shapes.chat_chunk(body, step, index, finished, job.input_length):
                        yield dumps(event)
        except RouterError as error:
            self._count_error(error.error_type)
            failure = self._shapes.error_event(error, chat=True)
            if failure is not None:
                yield dumps(failure)
        if self._config.release.done_event:
            yield b"[DONE]"

    async def completions(self, call: Call) -> web.StreamResponse:
        """`POST /v1/completions`."""
        body = self._reader.completion(call.raw)
        characters = sum(len(item.inputs) for item in body.generate)
        if body.stream:
            return await self._answers.send_events(call, self._completion_events(call, body), characters)
        runs = [asyncio.ensure_future(self._service.complete(item, call.trouble)) for item in body.generate]
        try:
            outcomes = [best for _, best in await asyncio.gather(*runs)]
        finally:
            # One failure fails the request, and a client that leaves ends it: nothing may go on running.
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
        each = [
            self._answers.headers(call, outcome, len(item.inputs))
            for outcome, item in zip(outcomes, body.generate, strict=True)
        ]
        if self._config.release.since("2.0.1"):
            headers = {"x-compute-type": each[0]["x-compute-type"]}
            headers |= {name: str(sum(int(one[name]) for one in each)) for name in _SUMMED}
        else:
            headers = each[0]
        return self._answers.json(self._shapes.completion(body.model, outcomes), headers)

    async def _completion_events(self, call: Call, body: CompletionBody) -> AsyncGenerator[bytes, None]:
        """Stream the prompts one after another; TGI interleaves them, in no order that a client could rely on."""
        for index, item in enumerate(body.generate):
            try:
                async with aclosing(self._service.stream(item, call.trouble)) as steps:
                    async for job, generation, step, last in steps:
                        finished = generation if last else None
                        yield dumps(self._shapes.completion_chunk(body.model, step, index, finished, job.input_length))
            except RouterError as error:
                self._count_error(error.error_type)
                failure = self._shapes.error_event(error, chat=False)
                if failure is not None:
                    yield dumps(failure)
        if self._config.release.done_event:
            yield b"[DONE]"
