"""How a row goes through a cascade: first to the cheap stage and, where that is not sure, to the strong one.

Each stage is asked for no more rows at once than it takes, while the other goes on. Called by `runnable` and
`learning`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from langchain_core.callbacks import Callbacks

from langchain_stormtrooper.cascade.stages import Ready, StageFailedError
from langchain_stormtrooper.errors import OverlongInputError, PromptError, RowError
from langchain_stormtrooper.mishaps import Mishaps
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.rows import RowAnswering, RowInput


@dataclass(frozen=True, slots=True)
class StagePrompts(Prompt):
    """What both stages are asked for a row, as one thing: rows that are equal for both share their answers.

    Attributes:
        cheap: What the cheap stage is asked; None where it cannot read the row.
        strong: What the strong one is asked.
    """

    cheap: Prompt | None = field(default=None, repr=False)
    strong: Prompt = field(default_factory=Prompt, repr=False)


class CascadeAnswering:
    """Answers rows, both stages being ready.

    Args:
        cheap: The cheap stage.
        strong: The strong one.
        cut: The confidence from which on the cheap one's answers stay.
        first: How many rows the cheap one is asked for at once.
        second: The same of the strong one.
        before: How many classifiers the cheap stage consists of.
        mishaps: What the cheap stage raised in earlier calls.
    """

    def __init__(
        self,
        cheap: Ready,
        strong: RowAnswering,
        cut: float,
        *,
        first: int,
        second: int,
        before: int,
        mishaps: Mishaps,
    ) -> None:
        self._cheap, self._strong, self._cut, self._before = cheap, strong, cut, before
        # Of this call as well: what worked yesterday may be broken today.
        self._mishaps = (mishaps, Mishaps())
        self._first, self._second = asyncio.Semaphore(first), asyncio.Semaphore(second)

    def render(self, row: RowInput) -> StagePrompts:
        """What both stages are asked for a row.

        Raises:
            PromptError: The strong stage cannot read it.
        """
        strong = self._strong.render(row)
        try:
            cheap = self._cheap.render(row, strong.text)
        except PromptError:
            cheap = None
        return StagePrompts(text=strong.text, cheap=cheap, strong=strong)

    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Answer one row."""
        prompts = cast("StagePrompts", prompt)
        if self._cut <= 1:
            answer = await self.ask_cheap(prompts, callbacks)
            if answer.label is not None and answer.confidence is not None and answer.confidence >= self._cut:
                return answer.model_copy(update={"stage": answer.stage or 0})
        answer = await self.ask_strong(prompts, callbacks)
        return answer.model_copy(update={"stage": self._before + (answer.stage or 0)})

    async def ask_cheap(self, prompts: StagePrompts, callbacks: Callbacks = None) -> Classification:
        """The cheap stage's answer; what only this row is to blame for is a reason."""
        if prompts.cheap is None:
            return Classification(reason=Reason.FAILED, error="The cheap stage cannot read the row.")
        try:
            async with self._first:
                answer = await self._cheap.answer(prompts.cheap, callbacks)
        except StageFailedError as error:
            complaint = f"The cheap stage raised {error}."
            for mishaps in self._mishaps:
                mishaps.failed(complaint)
            return Classification(reason=Reason.FAILED, error=complaint)
        except OverlongInputError as error:
            return Classification(reason=Reason.OVERLONG, error=str(error))
        except (RowError, PromptError) as error:
            return Classification(reason=Reason.FAILED, error=str(error))
        for mishaps in self._mishaps:
            mishaps.answered()
        return answer

    def announce(self, prompts: Iterable[Prompt]) -> None:
        """Tell the stage that is asked about every row; what the other will be asked nobody knows yet."""
        both = (cast("StagePrompts", prompt) for prompt in prompts)
        if self._cut <= 1:
            self._cheap.announce(one.cheap for one in both if one.cheap is not None)
        else:
            self._strong.announce(one.strong for one in both)

    async def ask_strong(self, prompts: StagePrompts, callbacks: Callbacks = None) -> Classification:
        """The strong stage's answer."""
        async with self._second:
            answer: Classification = await self._strong.answer(prompts.strong, callbacks)
        return answer
