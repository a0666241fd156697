"""What classifying a file will take: rows, tokens, texts that are too long, and the time.

All rows are read, and of each different one eight bytes are kept. Tokens are counted by the model's own tokenizer where
it can be asked: of all different rows, or of a random sample of them, and then scaled by bytes. Only the command line
calls this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig

from langchain_stormtrooper.budget import cannot_exceed
from langchain_stormtrooper.errors import OverlongInputError, PromptError, RowError
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.runs import Ledger
from langchain_stormtrooper.runs.keys import row_key, task_key
from langchain_stormtrooper.text_files import Columns, Row

if TYPE_CHECKING:
    from langchain_stormtrooper.text_classifier import TextClassifier

SAMPLE = 1000
"""Different rows whose tokens are counted at most."""

ASKED = 64
"""Rows that are asked at most, to see how long one takes."""

_LONGEST = 3
_BYTES_A_TOKEN = 4.0
"""Where nothing is known: what English has with most tokenizers."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected.

    Attributes:
        rows: How many rows there are.
        without_text: How many of them hold no text or no value for a variable of the prompt, or cannot be read.
        different: How many different ones there are to ask for.
        kept: How many of these are in the ledger.
        prompt_tokens: Tokens of the prompts that are still to be asked.
        tokens_are: How they were found: "counted", "scaled" from a sample, or "guessed" from bytes.
        overlong: How many different rows are too long; None where the model does not tell its limit.
        overlong_is: How that was found: "counted", "scaled" or "guessed".
        asked: How many rows were asked to see how long they take.
        rows_per_second: How many different rows were answered in a second; None if none was.
        seconds: How long the rest will take; None where that is not known.
    """

    rows: int
    without_text: int
    different: int
    kept: int
    prompt_tokens: int
    tokens_are: str
    overlong: int | None
    overlong_is: str
    asked: int
    rows_per_second: float | None
    seconds: float | None


class _Seen:
    """What is remembered of the rows: counts, and a few prompts with their inputs."""

    def __init__(self, limit: int) -> None:
        self.rows = self.without_text = self.different = self.kept = self.bytes = 0
        self.sample: list[tuple[Any, Prompt]] = []
        self.longest: list[tuple[int, Prompt]] = []
        self._limit = limit
        self._hashes: set[bytes] = set()
        self._random = random.Random(0)  # noqa: S311  # a sample, no secret

    def is_new(self, key: bytes) -> bool:
        """Whether no earlier row puts the same into its prompt."""
        name = hashlib.blake2b(key, digest_size=8).digest()
        if name in self._hashes:
            return False
        self._hashes.add(name)
        return True

    def draw(self, most: int) -> list[tuple[Any, Prompt]]:
        """Some of the sample, which has the order of the file: rows at its head may be other than the rest."""
        return self._random.sample(self.sample, min(most, len(self.sample)))

    def take(self, given: Any, prompt: Prompt) -> None:
        """Take note of a row that is to be asked for."""
        size = _size(prompt)
        self.bytes += size
        number = self.different - self.kept
        if len(self.sample) < self._limit:
            self.sample.append((given, prompt))
        elif (place := self._random.randrange(number)) < self._limit:
            self.sample[place] = given, prompt
        if len(self.longest) < _LONGEST or size > self.longest[-1][0]:
            self.longest = sorted([*self.longest, (size, prompt)], key=lambda found: -found[0])[:_LONGEST]


async def aforecast(
    classifier: TextClassifier,
    rows: Callable[[], Iterable[Row]],
    columns: Columns,
    *,
    ledger: Ledger | None = None,
    at_once: int | None = None,
    sample: int = SAMPLE,
) -> Forecast:
    """Find out what classifying rows will take.

    Args:
        classifier: The classifier.
        rows: Gives the rows; called twice where texts may be too long.
        columns: Where records have their texts.
        ledger: Where earlier answers are; none is added to it.
        at_once: Rows that will be worked on at once; None for what the LLM says.
        sample: How many different rows to count the tokens of at most.

    Raises:
        ServerError: The model cannot be asked.
    """
    if columns.text != classifier.text_key:
        classifier = classifier.model_copy(update={"text_key": columns.text})
    render = (await classifier._aprepare()).render
    arranged = await classifier._aarranged()
    constant = not arranged.prompt.input_variables
    looked_at = [columns.text, *arranged.prompt.input_variables]
    places = at_once or classifier._concurrency
    seen = _Seen(sample)
    task = "" if ledger is None else await task_key(classifier, arranged)
    for row in rows():
        seen.rows += 1
        if row.blank:
            seen.without_text += 1
            continue
        # A copy, since a row of Parquet keeps a thousand others in memory.
        given: Any = row.text
        if row.record is not None:
            given = {name: row.record.fields[name] for name in looked_at if name in row.record.fields}
            if arranged.prompt.nulls(given):
                seen.without_text += 1
                continue
        prompt = render(given)
        key = row_key(prompt, constant=constant)
        if not seen.is_new(key):
            continue
        seen.different += 1
        if ledger is not None and ledger.get(ledger.name(task, key)) is not None:
            seen.kept += 1
        else:
            seen.take(given, prompt)
    limit, fits = await _limit(arranged, seen)
    tried = seen.draw(ASKED)
    asked, rate, told = await _try(classifier, [given for given, _ in tried], places)
    left = seen.different - seen.kept
    counts = await _count(classifier.llm, [prompt for _, prompt in seen.sample], places)
    if counts is not None:
        sampled = sum(_size(prompt) for _, prompt in seen.sample)
        density = sum(counts) / max(1, sampled)
        tokens_are = "counted" if left == len(seen.sample) else "scaled"
    else:
        tokens_are = "scaled" if told is not None else "guessed"
        density = 1 / _BYTES_A_TOKEN if told is None else told / max(1, sum(_size(prompt) for _, prompt in tried))
    prompt_tokens = sum(counts) if counts is not None and tokens_are == "counted" else round(density * seen.bytes)
    overlong: int | None = 0
    overlong_is = "counted"
    if not fits:
        # Each order of the labels is a prompt of its own.
        density /= len(seen.longest[0][1].in_all_orders())
        overlong, overlong_is = await _overlong(
            classifier, render, rows, constant, limit, density, places, counted=counts is not None, most=sample
        )
    seconds = 0.0 if not left else None if rate is None else left / rate
    return Forecast(
        seen.rows,
        seen.without_text,
        seen.different,
        seen.kept,
        prompt_tokens,
        tokens_are,
        overlong,
        overlong_is,
        asked,
        rate,
        seconds,
    )


async def _limit(arranged: Any, seen: _Seen) -> tuple[int | None, bool]:
    """How many tokens a prompt may have, if the model tells, and whether the longest ones fit."""
    fits = True
    for _, prompt in seen.longest:
        try:
            await arranged.answer(prompt, None)
        except OverlongInputError as error:
            fits = False
            if error.limit is not None:
                return error.limit, False
        except RowError:
            # It is not for its length.
            continue
    return None, fits


async def _try(classifier: TextClassifier, inputs: list[Any], places: int) -> tuple[int, float | None, int | None]:
    """How many rows were asked, how many a second were answered, and the tokens of their prompts, if they are told."""
    if not inputs:
        return 0, None, None
    detailed = classifier.with_details()
    config = RunnableConfig(max_concurrency=places)
    # The first one finds the server cold.
    answers = await detailed.abatch(inputs[:1], config)
    started = time.perf_counter()
    answers += await detailed.abatch(inputs[1:] or inputs, config)
    seconds = time.perf_counter() - started
    timed = len(inputs) - 1 or 1
    if all(answer.reason is Reason.FAILED for answer in answers):
        return len(answers), None, None
    tokens = [answer.prompt_tokens for answer in answers[: len(inputs)]]
    known = [count for count in tokens if count is not None]
    return len(answers), timed / seconds, sum(known) if len(known) == len(tokens) else None


async def _count(llm: Any, prompts: list[Prompt], places: int) -> list[int] | None:
    """Tokens of prompts; None where the model cannot be asked for them."""
    if not isinstance(llm, SelfHostedLLM):
        return None
    room = asyncio.Semaphore(places)

    async def count(prompt: Prompt) -> int | None:
        async with room:
            counts = [await llm.acount_tokens(order) for order in prompt.in_all_orders()]
        known = [tokens for tokens in counts if tokens is not None]
        return sum(known) if len(known) == len(counts) else None

    if prompts and await count(prompts[0]) is None:
        return None
    found = await asyncio.gather(*map(count, prompts))
    known = [tokens for tokens in found if tokens is not None]
    return known if len(known) == len(found) else None


async def _overlong(
    classifier: TextClassifier,
    render: Callable[[Any], Prompt],
    rows: Callable[[], Iterable[Row]],
    constant: bool,
    limit: int | None,
    density: float,
    places: int,
    *,
    counted: bool,
    most: int,
) -> tuple[int | None, str]:
    """How many different rows are too long, and how that was found."""
    if limit is None:
        return None, "counted"
    again = _Seen(most)
    for row in rows():
        if row.blank:
            continue
        try:
            prompt = render(row.text if row.record is None else row.record.fields)
        except PromptError:  # it has no value for a variable, and was counted before
            continue
        if cannot_exceed(str(prompt), limit) or not again.is_new(row_key(prompt, constant=constant)):
            continue
        again.different += 1
        again.take(None, prompt)
    prompts = [prompt for _, prompt in again.sample]
    # One order of the labels at a time goes to the model.
    first = [prompt.in_all_orders()[0] for prompt in prompts]
    counts = await _count(classifier.llm, first, places) if counted else None
    tokens = [density * _size(prompt) for prompt in first] if counts is None else counts
    over = sum(number > limit for number in tokens)
    if len(prompts) < again.different:
        return round(over * again.different / len(prompts)), "guessed" if counts is None else "scaled"
    return over, "guessed" if counts is None else "counted"


def _size(prompt: Prompt) -> int:
    return len(str(prompt).encode("utf-8", "replace"))
