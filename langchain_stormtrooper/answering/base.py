"""What the ways of answering a row share: the prompt of the task, and cutting a text that is too long."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from typing_extensions import override

from langchain_stormtrooper import budget
from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.calibration import PRIOR_TEXTS, PriorName
from langchain_stormtrooper.errors import OverlongInputError
from langchain_stormtrooper.fingerprints import task_fingerprint
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Method

_PATIENCE = 2.0
"""Seconds that rows wait for the first: one that stalls must not hold up the others."""


@dataclass(slots=True)
class _First:
    """The first row of all; shared by copies that ask the same."""

    goes_alone: bool = False
    done: asyncio.Future[None] | None = None


class Answering(ABC):
    """Answers rows of one task.

    Attributes:
        prompt: The prompt with everything filled in but the text.
        method: How rows are answered.
    """

    method: Method

    def __init__(self, prompt: TaskPrompt) -> None:
        self.prompt = prompt
        self._first = _First()

    @property
    def first_goes_alone(self) -> bool:
        """Whether rows wait for the first, but never long.

        Servers keep the start of a prompt only when it has been answered: sent at once, all rows would have it computed
        anew.
        """
        return self._first.goes_alone

    @first_goes_alone.setter
    def first_goes_alone(self, whether: bool) -> None:
        self._first.goes_alone = whether

    @property
    def common_start(self) -> str:
        """What all prompts start with."""
        blank = self.prompt.blank()
        return blank.before + blank.head

    def for_call(self) -> Answering:
        """What answers the rows of one call, if it is to know of all of them; else the same for all calls."""
        return self

    def render(self, text: str, variables: Mapping[str, Any] | None = None) -> Prompt:
        """The prompt of a row; arguments and errors as in `TaskPrompt.render`."""
        return self.prompt.render(text, variables)

    def announce(self, prompts: Iterable[Prompt]) -> None:  # noqa: B027  # most have no use for it
        """Say which rows are going to be asked, in this order; for those who can prepare many at once."""

    def demanding(self, demands: Demands) -> Self:
        """The same with other demands on an answer; those that know no demands are their own."""
        return self

    def _twin(self) -> Self:
        """A copy that asks the same, whose first row goes like any other."""
        twin = copy(self)
        twin._first = _First()
        return twin

    async def answer_row(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Like `answer`, as long as the first row goes alone, so that others find their common start computed."""
        loop, first = asyncio.get_running_loop(), self._first
        if first.done is None:
            first.done = loop.create_future()
            try:
                return await self.answer(prompt, callbacks)
            finally:
                # Whatever came of it: the others are not to fail with it.
                first.goes_alone = False
                first.done.set_result(None)
        if first.done.get_loop() is loop:
            await asyncio.wait([first.done], timeout=_PATIENCE)
            first.goes_alone = False
        return await self.answer(prompt, callbacks)

    async def answer_fitting(self, prompt: Prompt, callbacks: Callbacks, *, truncate: bool) -> Classification:
        """Answer one row, with as much of its text as fits where that is wanted.

        Args:
            prompt: The rendered prompt.
            callbacks: As in `answer`.
            truncate: Whether a text that is too long is cut.

        Raises:
            RowError: This row cannot be answered.
            ServerError: No row can be answered.
        """
        try:
            return await (self.answer_row if self.first_goes_alone else self.answer)(prompt, callbacks)
        except OverlongInputError as refusal:
            if not truncate:
                raise
            return await self.answer_shortened(prompt, refusal, callbacks)

    @abstractmethod
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Answer one row.

        Args:
            prompt: The rendered prompt.
            callbacks: For the LLM's own run; None if nobody listens.

        Raises:
            RowError: This row cannot be answered.
            ServerError: No row can be answered.
        """

    def fingerprint(self, labels: Sequence[str]) -> str:
        """What this task has that others have not, for what is learnt about it; see `fingerprints`."""
        return task_fingerprint(self.prompt, labels, self.method, **self.details())

    def details(self) -> dict[str, Any]:
        """What answers depend on beside prompt, labels and method, as plain data that tells no text."""
        return {}

    def among(self, prompt: TaskPrompt, labels: LabelSet) -> Self:
        """The same with some of its labels.

        Args:
            prompt: The prompt of the task with these labels.
            labels: The labels.
        """
        other = self._twin()
        other.prompt = prompt
        return other

    @property
    def without_examples(self) -> TaskPrompt:
        """The prompt at its shortest."""
        return self.prompt

    def neutral_prompts(self, prior: PriorName) -> list[Prompt]:
        """Prompts whose texts have no content: the answers show how the model leans."""
        blank = dict.fromkeys(self.prompt.input_variables, "")
        return [self.prompt.render(text, blank) for text in PRIOR_TEXTS[prior]()]

    async def answer_shortened(
        self, prompt: Prompt, refusal: OverlongInputError, callbacks: Callbacks
    ) -> Classification:
        """Answer a row that was refused for its length with as much of its text as fits.

        Args:
            prompt: The refused prompt.
            refusal: Why it was refused.
            callbacks: As in `answer`.

        Raises:
            OverlongInputError: Not even the prompt without its text fits.
        """
        constant = await self.count(replace(prompt, text=""))
        # White space before a text says nothing, and could be all that is kept.
        prompt = replace(prompt, text=prompt.text.lstrip())
        if constant is not None and refusal.limit is not None:
            text = await self._longest(prompt, constant, refusal.limit)
            try:
                answer = await self.answer(replace(prompt, text=text), callbacks) if text else None
            except OverlongInputError as error:
                prompt, refusal = replace(prompt, text=text), error
            else:
                if answer is None:
                    raise refusal
                return answer.model_copy(update={"truncated": True})
        for number in range(budget.ROUNDS):
            text = prompt.text
            if refusal.tokens is None or refusal.limit is None or number > budget.ROUNDS / 2:
                text = text[: len(text) // 2]
            else:
                # Without a count, the instruction is taken to be as dense as the text.
                share = (len(str(prompt)) - len(text)) / max(1, len(str(prompt)))
                known = refusal.tokens * share if constant is None else constant
                text = budget.shorten(text, tokens=refusal.tokens, limit=refusal.limit, constant=math.ceil(known))
            if not text:
                break
            prompt = replace(prompt, text=text)
            try:
                answer = await self.answer(prompt, callbacks)
            except OverlongInputError as error:
                refusal = error
            else:
                return answer.model_copy(update={"truncated": True})
        raise refusal

    async def _longest(self, prompt: Prompt, constant: int, limit: int) -> str:
        """As much of a prompt's text as fits, found by counting."""
        text = prompt.text
        tokens = await self.count(prompt)
        if tokens is None or tokens <= limit:
            return text
        low, high = (0, constant), (len(text), tokens)
        for number in range(budget.ROUNDS):
            if high[0] - low[0] <= 1 or budget.is_used(low[1], limit):
                break
            keep = budget.between(low, high, limit, middle=number % 2 == 1)
            counted = await self.count(replace(prompt, text=text[:keep]))
            if counted is None:
                # No longer told: the beginning is taken to be as dense as the whole.
                return budget.shorten(text, tokens=tokens, limit=limit, constant=constant)
            if counted <= limit:
                low = keep, counted
            else:
                high = keep, counted
        return budget.at_word(text, low[0])

    async def count(self, prompt: Prompt) -> int | None:
        """Tokens of a prompt, None where that cannot be told."""
        return None


class Overlong(Answering):
    """Refuses every row, because the prompt leaves no room for a text.

    Args:
        prompt: The prompt of the task.
        method: How rows would be answered.
        refusal: What the LLM said.
    """

    def __init__(self, prompt: TaskPrompt, method: Method, refusal: OverlongInputError) -> None:
        super().__init__(prompt)
        self.method = method
        self._refusal = refusal

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        raise self._refusal

    @override
    async def answer_shortened(
        self, prompt: Prompt, refusal: OverlongInputError, callbacks: Callbacks
    ) -> Classification:
        raise self._refusal


def spell_answers(prompt: Prompt, names: Sequence[str]) -> tuple[str, ...]:
    """The labels as they follow a prompt.

    Running text has a space before them, unless the prompt ends with white space or an opening quote.
    """
    last = str(prompt)[-1:]
    joined = "" if last.isspace() or last in "\"'([{<“‘«" else " "
    return tuple(joined + name for name in names)
