"""The model process behind the router: batches, waiting, and failing together.

Runs jobs on the decoder, takes as long as the configured latencies say, keeps the prefix cache, and makes one request's
failure the failure of its batch mates where TGI does. It knows nothing of HTTP. Called by `service`.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.decoding import Decoder, Generation, Step
from langchain_stormtrooper.testing.guides import GrammarError, Guides
from langchain_stormtrooper.testing.radix import PrefixCache
from langchain_stormtrooper.testing.replies import RouterError, generation_failed, incomplete
from langchain_stormtrooper.testing.schema import SchemaError, to_regex
from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from langchain_stormtrooper.testing.bodies import Grammar
    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.guides import RegexGuide
    from langchain_stormtrooper.testing.ledger import Counters
    from langchain_stormtrooper.testing.validation import Job


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an injected fault does to a job inside the model process.

    Attributes:
        exception: The text of an exception to raise, which fails the whole batch.
        incomplete: Whether to stop answering half way.
        stall: Seconds to do nothing first.
        refusal: What the router answers instead of asking the model.
    """

    exception: str | None = None
    incomplete: bool = False
    stall: float = 0.0
    refusal: RouterError | None = None


NO_TROUBLE = Trouble()


@dataclass(slots=True, eq=False)
class _Flight:
    """One job on its way through the model."""

    job: Job
    trouble: Trouble
    batch: list[_Flight] = field(default_factory=list)
    failure: RouterError | None = None
    waiting: asyncio.Future[None] | None = None
    guide: RegexGuide | None = None


@dataclass(slots=True)
class Outcome:
    """A finished job with the times that the headers show, in seconds."""

    job: Job
    generation: Generation
    queued: float
    inference: float


class Shard:
    """Runs jobs for one server.

    Args:
        config: The server's settings.
        counters: Where to count tokens.
    """

    def __init__(self, config: Config, counters: Counters) -> None:
        self.decoder = Decoder(config)
        self.counters = counters
        self._config = config
        self._running: set[_Flight] = set()
        self._gathering: list[_Flight] = []
        self._cache = PrefixCache() if config.caches_prefixes else None
        self._guides = Guides(config.engine.vocabulary, config.engine.eos)
        self._worker = ThreadPoolExecutor(1, "tgi-model") if config.engine.blocking else None

    def close(self) -> None:
        """Stop the worker thread, if there is one."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Empty the prefix cache, as a restart does."""
        if self._cache is not None:
            self._cache = PrefixCache()

    async def run(self, job: Job, trouble: Trouble = NO_TROUBLE) -> Outcome:
        """Generate the whole answer to a job.

        Raises:
            RouterError: If generation fails.
        """
        generation = Generation()
        begin = time.perf_counter()
        flight = _Flight(job, trouble)
        try:
            await self._admit(flight)
            started = time.perf_counter()
            delay = self._prefill(flight)
            steps = self.decoder.run(job, generation, flight.guide)
            if self._worker is None:
                for _ in steps:
                    pass
            else:
                while await self._step(steps, flight) is not None:
                    pass
            delay += self._config.latency_per_token * len(generation.steps)
            if delay:
                await self._wait(flight, delay)
            if trouble.incomplete:
                raise incomplete(stream=False)
        finally:
            self._running.discard(flight)
        self._finish(job, generation)
        queued, inference = started - begin, time.perf_counter() - started
        self.counters.seconds_queued += queued
        self.counters.seconds_inference += inference
        return Outcome(job, generation, queued, inference)

    async def stream(
        self, job: Job, generation: Generation, trouble: Trouble = NO_TROUBLE
    ) -> AsyncGenerator[Step, None]:
        """Generate a job token by token; `generation` is complete when the last one has come.

        Raises:
            RouterError: If generation fails.
        """
        flight = _Flight(job, trouble)
        try:
            await self._admit(flight)
            delay = self._prefill(flight)
            steps = self.decoder.run(job, generation, flight.guide)
            held: Step | None = None
            while (step := await self._step(steps, flight)) is not None:
                # One token is held back so that a broken stream never shows its last.
                if held is not None:
                    yield held
                delay += self._config.latency_per_token
                if delay:
                    await self._wait(flight, delay)
                    delay = 0.0
                held = step
            if trouble.incomplete:
                raise incomplete(stream=self._config.release.stream_incomplete_type)
            self._finish(job, generation)
            if held is not None:
                yield held
        finally:
            self._running.discard(flight)

    async def _step(self, steps: Iterator[Step], flight: _Flight) -> Step | None:
        """Make one token, on the worker thread if the engine is slow."""
        if self._worker is None:
            return next(steps, None)
        step = await asyncio.get_running_loop().run_in_executor(self._worker, next, steps, None)
        if flight.failure is not None:
            raise flight.failure
        return step

    def _prefill(self, flight: _Flight) -> float:
        """Account for the prompt; return how long it takes."""
        job, counters, config = flight.job, self.counters, self._config
        ids = job.prompt_ids
        cached = 0
        if self._cache is not None and not job.parameters.decoder_input_details:
            # The last token is always computed, since its output is needed.
            cached = min(self._cache.match(ids), len(ids) - 1)
            if cached > 1:
                counters.cache_hits += 1
        counters.prompt_tokens += len(ids)
        counters.cached_tokens += cached
        counters.computed_tokens += len(ids) - cached
        return config.latency_per_request + config.latency_per_prompt_token * (len(ids) - cached)

    def _finish(self, job: Job, generation: Generation) -> None:
        self.counters.generations += 1
        self.counters.generated_tokens += len(generation.steps)
        if self._cache is not None and not job.parameters.decoder_input_details:
            self._cache.insert(job.prompt_ids)

    async def _admit(self, flight: _Flight) -> None:
        """Put a job into a batch, and fail with the batch if one of its members is bad."""
        window = self._config.batch_window
        if not window:
            flight.batch.append(flight)
            self._start([flight])
        else:
            self._gathering.append(flight)
            flight.batch = self._gathering
            if len(self._gathering) == 1:
                asyncio.get_running_loop().call_later(window, self._close_window, self._gathering)
            try:
                await self._wait(flight, None)
            except asyncio.CancelledError:
                flight.batch.remove(flight)
                raise
        if flight.failure is not None:
            raise flight.failure
        if flight.trouble.stall:
            await self._wait(flight, flight.trouble.stall)

    def _close_window(self, batch: list[_Flight]) -> None:
        if self._gathering is batch:
            self._gathering = []
        self._start(batch)
        for flight in batch:
            if flight.waiting is not None and not flight.waiting.done():
                flight.waiting.set_result(None)

    def _start(self, batch: list[_Flight]) -> None:
        """Run the prefill of a batch, where grammars are compiled and exceptions are raised."""
        self._running.update(batch)
        flash, release = self._config.family is Family.FLASH, self._config.release
        for flight in batch:
            message = flight.trouble.exception
            if message is None and flight.job.grammar is not None:
                message = self._compile(flight, flight.job.grammar)
            if message is not None:
                # With chunked prefill a batch is merged with all that runs before it is tried.
                self._fail({*batch, *self._running} if flash and release.chunks_prefill else {*batch}, message)
                return
        if flash and release.grammar_mix_fails:
            together = {*batch, *self._running}
            if len({flight.job.grammar is None for flight in together}) > 1:
                self._fail(together, "")

    def _compile(self, flight: _Flight, grammar: Grammar) -> str | None:
        """Compile a job's grammar; returns what went wrong, if anything."""
        if self._config.family is not Family.FLASH and not self._config.release.grammar_on_padded:
            return "list index out of range"
        try:
            pattern = grammar.value if grammar.kind == "regex" else to_regex(_loaded(grammar.value))
            flight.guide = self._guides.regex(pattern)
        except (GrammarError, SchemaError, ImportError) as error:  # the grammar engine is an extra
            return str(error)
        return None

    def _fail(self, victims: set[_Flight], message: str) -> None:
        for flight in victims:
            self._running.discard(flight)
            flight.failure = generation_failed(message)
            if flight.waiting is not None and not flight.waiting.done():
                flight.waiting.set_exception(flight.failure)

    async def _wait(self, flight: _Flight, seconds: float | None) -> None:
        """Wait for a time, or until woken; raise if the flight fails meanwhile."""
        loop = asyncio.get_running_loop()
        flight.waiting = waiting = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, waiting)
        try:
            await waiting
        finally:
            if timer is not None:
                timer.cancel()
            flight.waiting = None


def _loaded(value: object) -> object:
    """Parse a schema that was sent as a string; 1.4.1 alone leaves that to the model process."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise SchemaError(str(error)) from error
    return value


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
