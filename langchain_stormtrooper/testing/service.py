"""What the router does with a read request: permits, checks, the model, and the JSON of the answer.

The part of the server between the sockets (`routes`) and the model (`shard`). It speaks in dictionaries and streams of
events, never in HTTP responses. Called by `routes` for the generate family and by `chat` for the OpenAI family.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.decoding import Generation, Step
from langchain_stormtrooper.testing.replies import RouterError
from langchain_stormtrooper.testing.validation import Job, check_best_of, check_streaming, validate
from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_stormtrooper.testing.bodies import GenerateBody
    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.ledger import Held, Permits
    from langchain_stormtrooper.testing.shard import Outcome, Shard, Trouble

Event = dict[str, Any]


class Service:
    """Answers generate requests.

    Args:
        config: The server's settings.
        permits: The semaphore.
        shard: The model.
    """

    def __init__(self, config: Config, permits: Permits, shard: Shard) -> None:
        self.config = config
        self.permits = permits
        self.shard = shard
        self._shown = shard.decoder.shown

    async def complete(
        self, body: GenerateBody, trouble: Trouble, *, special_tokens: bool = True
    ) -> tuple[list[Outcome], Outcome]:
        """Run a request to its end.

        Returns:
            All outcomes (more than one with `best_of`), and the best of them.

        Raises:
            RouterError: If it cannot be run or fails.
        """
        best_of = check_best_of(body.parameters, self.config)
        with self._permits(max(best_of, 1), trouble):
            job = validate(body, self.config, special_tokens=special_tokens)
            if best_of <= 1:
                outcome = await self.shard.run(job, trouble)
                return [outcome], outcome
            jobs = [validate(body, self.config, special_tokens=special_tokens) for _ in range(best_of)]
            outcomes = await asyncio.gather(*(self.shard.run(job, trouble) for job in jobs))
            return outcomes, max(outcomes, key=_mean_logprob)

    async def stream(
        self, body: GenerateBody, trouble: Trouble, *, special_tokens: bool = True
    ) -> AsyncGenerator[tuple[Job, Generation, Step, bool], None]:
        """Run a request token by token, telling with each whether it is the last.

        Raises:
            RouterError: If it cannot be run or fails.
        """
        check_streaming(body.parameters)
        with self._permits(1, trouble):
            job = validate(body, self.config, special_tokens=special_tokens)
            generation = Generation()
            # Closed explicitly at every level, or a client that leaves would free its permit only at the next
            # garbage collection.
            async with aclosing(self.shard.stream(job, generation, trouble)) as steps:
                async for step in steps:
                    yield job, generation, step, step is generation.steps[-1]

    async def events(self, body: GenerateBody, trouble: Trouble) -> AsyncGenerator[Event, None]:
        """Run a request as `/generate_stream` does: tokens as events, errors too."""
        release = self.config.release
        index = 0
        try:
            async with aclosing(self.stream(body, trouble)) as steps:
                async for job, generation, step, last in steps:
                    index += 1
                    event: Event = {"index": index} if release.stream_index else {}
                    event["token"] = self.token(step)
                    if step.top:
                        event["top_tokens"] = [self._shown(*item) for item in step.top]
                    event["generated_text"] = self.text(job, generation) if last else None
                    event["details"] = self._stream_details(job, generation) if last and _detailed(job) else None
                    yield event
        except RouterError as refusal:
            yield refusal.body()

    def _permits(self, count: int, trouble: Trouble) -> Held:
        if trouble.refusal is not None:
            raise trouble.refusal
        return self.permits.held(count)

    # --- JSON shapes ---

    @staticmethod
    def token(step: Step) -> dict[str, Any]:
        """Write a generated token."""
        return {"id": step.token, "text": step.text, "logprob": step.logprob, "special": step.special}

    @staticmethod
    def text(job: Job, generation: Generation) -> str:
        """Return the generated text, with the prompt before it if that was asked for."""
        return job.inputs + generation.text if job.parameters.return_full_text else generation.text

    def generate_response(self, outcomes: list[Outcome], best: Outcome) -> dict[str, Any]:
        """Write the answer of `/generate`."""
        job = best.job
        result: dict[str, Any] = {"generated_text": self.text(job, best.generation)}
        if not _detailed(job):
            return result
        details = self._sequence(best)
        if len(outcomes) > 1:
            details["best_of_sequences"] = [
                {"generated_text": self.text(other.job, other.generation), **self._sequence(other)}
                for other in outcomes
                if other is not best
            ]
        result["details"] = details
        return result

    def _sequence(self, outcome: Outcome) -> dict[str, Any]:
        generation, job = outcome.generation, outcome.job
        details: dict[str, Any] = {
            "finish_reason": generation.finish_reason,
            "generated_tokens": len(generation.steps),
            "seed": generation.seed,
            "prefill": self.prefill(job),
            "tokens": [self.token(step) for step in generation.steps],
        }
        if job.parameters.top_n_tokens:
            shown = self._shown
            details["top_tokens"] = [[shown(*item) for item in step.top] for step in generation.steps]
        return details

    def prefill(self, job: Job) -> list[dict[str, Any]]:
        """Write the prompt's tokens, if they were asked for and this server gives them."""
        config = self.config
        if not job.parameters.decoder_input_details:
            return []
        if config.family is Family.FLASH and config.release.prefill_flag_needed and not config.prefill_logprobs:
            return []
        return self.shard.decoder.prefill(job)

    def _stream_details(self, job: Job, generation: Generation) -> dict[str, Any]:
        details: dict[str, Any] = {
            "finish_reason": generation.finish_reason,
            "generated_tokens": len(generation.steps),
            "seed": generation.seed,
        }
        if self.config.release.stream_input_length:
            details["input_length"] = job.input_length
        return details


def _detailed(job: Job) -> bool:
    return job.parameters.details or job.parameters.decoder_input_details


def _mean_logprob(outcome: Outcome) -> float:
    steps = outcome.generation.steps
    return sum(step.logprob for step in steps) / len(steps)
