"""Answer completions, chats and scorings: run the engine, take the time it should take, write JSON or a stream.

Joins `bodies`, `generating`, `scores` and `shapes`. It knows no routes, keys or faults (see `front`, which calls it).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.answers import dumps, send_stream
from langchain_stormtrooper.testing.openai.generating import Generation, Generator
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.scores import Scorer
from langchain_stormtrooper.testing.openai.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from aiohttp import web

    from langchain_stormtrooper.testing.answers import Call
    from langchain_stormtrooper.testing.ledger import Counters, Permits
    from langchain_stormtrooper.testing.openai.asks import Ask, Prompt
    from langchain_stormtrooper.testing.openai.bodies import Reader
    from langchain_stormtrooper.testing.openai.generating import Step
    from langchain_stormtrooper.testing.openai.options import Options


class Answering:
    """Answers the requests of one server that need its model.

    Args:
        options: The server's settings.
        reader: What reads bodies.
        permits: The requests that may run at once.
    """

    def __init__(self, options: Options, reader: Reader, permits: Permits) -> None:
        self.generator = Generator(options)
        self._options = options
        self._permits = permits
        self._shapes = Shapes(options, self.generator)
        self._scorer = Scorer(options, reader, self.generator)
        self._worker = ThreadPoolExecutor(1, "openai-model") if options.engine.blocking else None

    def close(self) -> None:
        """Stop the worker thread, if there is one."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    @property
    def _counters(self) -> Counters:
        return self._permits.counters

    async def generate(self, ask: Ask, call: Call) -> web.StreamResponse | dict[str, Any]:
        """Answer a completions or chat request; returns the JSON, or the stream that was sent.

        Raises:
            ApiError: If it is refused.
            RouterError: If no permit is left.
        """
        with self._permits.held(1):
            # A grammar that does not compile is refused before a stream has begun.
            self.generator.guide(ask)
            await _pause(self._options.latency_per_request)
            generations = [Generation() for _ in range(len(ask.prompts) * ask.n)]
            steps = [
                self.generator.run(ask, ask.prompts[index // ask.n], generation, index % ask.n)
                for index, generation in enumerate(generations)
            ]
            if ask.stream:
                async with aclosing(self._events(ask, generations, steps)) as events:
                    framed = (b"data: " + event + b"\n\n" async for event in events)
                    return await send_stream(call, framed, {"Cache-Control": "no-cache"}, keepalive=None)
            scored = await self._scored(ask)
            for running in steps:
                while await self._ask_model(partial(next, running, None)) is not None:
                    pass
            self._count(ask.prompts, generations)
            await _pause(self._options.latency_per_token * max(len(item.steps) for item in generations))
            return self._shapes.answer(ask, generations, scored)

    async def score(self, raw: Any) -> dict[str, Any]:
        """Answer a scoring request.

        Raises:
            ApiError: If it is refused.
            RouterError: If no permit is left.
        """
        with self._permits.held(1):
            await _pause(self._options.latency_per_request)
            answer, prompts = await self._ask_model(partial(self._scorer.score, raw))
            self._count(prompts, [])
            result: dict[str, Any] = answer
            return result

    async def _scored(self, ask: Ask) -> list[list[Step]]:
        """Score the prompts, if the answer is to show that."""
        count = ask.logprobs if ask.echo else None
        if self._options.flavour is Flavour.VLLM:
            count = ask.prompt_logprobs
        if count is None:
            return []
        return [await self._ask_model(partial(self.generator.score, prompt, count)) for prompt in ask.prompts]

    async def _ask_model(self, work: Callable[[], Any]) -> Any:
        """Do something that asks the engine, on the worker thread if that takes long."""
        if self._worker is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _count(self, prompts: Sequence[Prompt], generations: Sequence[Generation]) -> None:
        counters = self._counters
        counters.generations += max(len(generations), len(prompts))
        counters.prompt_tokens += sum(len(prompt.ids) for prompt in prompts)
        counters.computed_tokens += sum(len(prompt.ids) for prompt in prompts)
        counters.generated_tokens += sum(len(generation.steps) for generation in generations)

    async def _events(
        self, ask: Ask, generations: list[Generation], steps: list[Iterator[Step]]
    ) -> AsyncGenerator[bytes, None]:
        """Make the events of a stream, taking turns between the answers as a batch does."""
        shapes, envelope = self._shapes, self._shapes.envelope(ask, chunk=True)
        # A stop sequence is not shown, so what might be the start of one is held back.
        hold = max((len(stop) - 1 for stop in ask.stop), default=0)
        scored = await self._scored(ask)
        running: dict[int, _Stream] = {}
        for index, generation in enumerate(generations):
            prompt = ask.prompts[index // ask.n]
            limit = min(ask.max_tokens, self._options.max_model_len - len(prompt.ids))
            running[index] = _Stream(generation, limit, hold)
            if ask.echo:
                running[index].echo(prompt, scored[index // ask.n] if scored else [])
            if ask.chat:
                yield dumps(shapes.opening(envelope, index))
        while running:
            await _pause(self._options.latency_per_token)
            for index, stream in list(running.items()):
                step = None if stream.complete else await self._ask_model(partial(next, steps[index], None))
                place = stream.shown
                shown, delta, done = stream.take(step)
                yield dumps(shapes.chunk(ask, envelope, index, shown, delta, done, place))
                if done is not None:
                    del running[index]
        self._count(ask.prompts, generations)
        if ask.include_usage:
            yield dumps(shapes.closing(ask, envelope, generations))
        yield b"[DONE]"


class _Stream:
    """How far one answer of a stream is.

    Args:
        generation: The answer.
        limit: The most tokens it will have.
        hold: Characters that may be the start of a stop sequence and must wait.
    """

    def __init__(self, generation: Generation, limit: int, hold: int) -> None:
        self.shown = 0
        self._generation = generation
        self._limit = limit
        self._hold = hold
        self._sent = 0
        self._before: tuple[str, list[Step]] = ("", [])

    def echo(self, prompt: Prompt, scored: list[Step]) -> None:
        """Show the prompt with the first token."""
        self._before = (prompt.echoed, scored)

    @property
    def complete(self) -> bool:
        """Whether no token is to come."""
        generation = self._generation
        return generation.finish_reason == "stop" or len(generation.steps) >= self._limit

    def take(self, step: Step | None) -> tuple[list[Step], str, Generation | None]:
        """Take a token; returns the tokens and the text to show, and the answer if it is complete."""
        text, steps = self._before
        self._before = ("", [])
        said, done = self._generation.text, self.complete
        until = len(said) if done else max(len(said) - self._hold, self._sent)
        delta = text + said[self._sent : until]
        self._sent = max(until, self._sent)
        self.shown += len(delta)
        return [*steps, *([] if step is None else [step])], delta, self._generation if done else None


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
