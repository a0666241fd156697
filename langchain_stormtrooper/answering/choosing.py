"""`Choosing`: few-shot examples around another way of answering; chosen for each row, and as many as there is room for.

The choice is `selecting`'s. A prompt that is refused for its length is asked with fewer examples, as many as the LLM's
own count says fit, before anybody cuts the text; where it cannot count, the length in characters tells. How many stood
in the prompt is in the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate, count, takewhile
from typing import Any, Self, TypeVar

from langchain_core.callbacks import Callbacks
from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering
from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.errors import OverlongInputError, SettingsWarning
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.selecting import Ahead, ExampleChooser
from langchain_stormtrooper.tasks import Once

T = TypeVar("T")

_ALIKE = 16
"""Tokens by which two counts of a prompt may differ: some are with special tokens, or with the start of an answer."""

_PROMPTS_KEPT = 64
"""Prompts that are kept filled in: a fixed set needs one for each number of examples that rows have room for."""


class Choosing(Answering):
    """Answers rows with examples in the prompt.

    Args:
        inner: What answers prompts, whatever examples they have.
        make: The prompt of the task with some examples, in this order.
        chooser: Chooses the examples.
    """

    def __init__(
        self, inner: Answering, make: Callable[[tuple[Example, ...]], TaskPrompt], chooser: ExampleChooser
    ) -> None:
        self._chooser = chooser
        self._make = lru_cache(_PROMPTS_KEPT)(make)
        super().__init__(self._with(chooser.shown))
        self.method = inner.method
        self._inner = inner
        self._room: Once[int] = Once()
        self._ahead = Ahead()

    def _with(self, examples: Sequence[Example]) -> TaskPrompt:
        return self._make(tuple(self._chooser.in_order(examples)))

    @property
    @override
    def common_start(self) -> str:
        start = super().common_start
        if self._chooser.is_fixed:
            return start
        bare = self._with(()).blank()
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(start, bare.before + bare.head, strict=False))
        return "".join(one for one, _ in pairs)

    @override
    def for_call(self, ahead: Ahead | None = None) -> Choosing:
        one = copy(self)
        one._ahead = Ahead() if ahead is None else ahead
        return one

    @override
    def announce(self, prompts: Iterable[Prompt]) -> None:
        if self.looks_ahead:
            self._ahead.announce(prompt.text for prompt in prompts)

    @override
    def demanding(self, demands: Demands) -> Self:
        other = self._twin()
        other._inner = self._inner.demanding(demands)
        return other

    @override
    def details(self) -> dict[str, Any]:
        return {**self._inner.details(), **self._chooser.details()}

    @property
    @override
    def without_examples(self) -> TaskPrompt:
        return self._with(())

    @property
    def looks_ahead(self) -> bool:
        """Whether it has a use for texts that are still to come."""
        return self._chooser.looks_ahead

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        answer, used = await self.fitted(prompt, lambda fitting: self._inner.answer(fitting, callbacks))
        return answer.model_copy(update={"n_examples": used})

    @override
    async def answer_shortened(
        self, prompt: Prompt, refusal: OverlongInputError, callbacks: Callbacks
    ) -> Classification:
        # Refused without any examples, too.
        answer = await self._inner.answer_shortened(self._filled(prompt, ()), refusal, callbacks)
        return answer.model_copy(update={"n_examples": 0})

    async def fitted(self, prompt: Prompt, ask: Callable[[Prompt], Awaitable[T]]) -> tuple[T, int]:
        """Ask something about a text, with as many examples as there is room for.

        Args:
            prompt: A prompt of the text, as `render` made it.
            ask: Asks about a prompt.

        Returns:
            What came of it, and how many examples there were.

        Raises:
            OverlongInputError: Not even the prompt without examples fits.
        """
        chosen = await self._chooser.achoose(prompt.text, self._ahead)
        is_shown = chosen is self._chooser.shown
        used = len(chosen)
        if is_shown and (room := self._room.peek()) is not None:
            used = room
        while True:
            fitting = prompt if is_shown and used == len(chosen) else self._filled(prompt, chosen[:used])
            try:
                return await ask(fitting), used
            except OverlongInputError as refusal:
                if not used:
                    raise
                if is_shown and self._room.peek() is None:
                    used = await self._room.get(partial(self._measure_room, prompt, refusal))
                    if used < len(chosen):
                        continue
                used = await self._fewer(prompt, chosen[:used], refusal)

    def _filled(self, prompt: Prompt, examples: Sequence[Example]) -> Prompt:
        """The prompt of the same row with other examples."""
        return self._with(examples).render(prompt.text, prompt.variables)

    async def _measure_room(self, prompt: Prompt, refusal: OverlongInputError) -> int:
        """How many of the fixed examples fit with no text at all: no row need be asked with more."""
        shown = self._chooser.shown
        if refusal.tokens is None or refusal.limit is None or prompt.variables is not None:
            return len(shown)
        blank = replace(prompt, text="")
        own, tokens = await self._inner.count(prompt), await self._inner.count(blank)
        # What a server says of one row is taken for all rows only if it counts as we do.
        if own is None or tokens is None or abs(own - refusal.tokens) > _ALIKE or tokens <= refusal.limit:
            return len(shown)
        told = OverlongInputError("", tokens=tokens, limit=refusal.limit)
        room = await self._fewer(blank, shown, told)
        warn_caller(
            SettingsWarning,
            f"{room or 'None'} of the {len(shown)} examples fit into the prompt, of which the model takes "
            f"{refusal.limit} tokens: give fewer or shorter ones, or a model with a longer context.",
        )
        return room

    async def _fewer(self, prompt: Prompt, refused: Sequence[Example], refusal: OverlongInputError) -> int:
        """How many examples to ask with next: as many as fit, if the LLM counts, else as many as seem to.

        Args:
            prompt: A prompt of the text.
            refused: The examples that were too many.
            refusal: What the LLM said of them.
        """
        sizes = self._chooser.sizes(refused)[:-1]
        tokens, limit = refusal.tokens, refusal.limit
        if tokens is None or limit is None or tokens <= limit:
            return max(size for size in sizes if size <= len(refused) // 2)
        lengths = self._lengths(prompt, refused)
        known = len(refused)
        low, high = -1, len(sizes)
        for number in count():
            density = tokens / max(1, lengths[known])
            seem_to_fit = [
                index
                for index, size in enumerate(sizes)
                if tokens - (lengths[known] - lengths[size]) * density <= limit
            ]
            index = (low + high) // 2 if number % 3 == 2 else max(seem_to_fit, default=0)
            index = min(max(index, low + 1), high - 1)
            known = sizes[index]
            counted = await self._inner.count(self._filled(prompt, refused[:known]))
            if counted is None:
                return known
            tokens = counted
            low, high = (index, high) if tokens <= limit else (low, index)
            if high - low == 1:
                break
        return sizes[max(low, 0)]

    def _lengths(self, prompt: Prompt, examples: Sequence[Example]) -> list[float]:
        """The characters of a prompt with none, one, ... and all of some examples, the first as given."""
        bare, full = (len(str(self._filled(prompt, some))) for some in ((), examples))
        own = [len(example.text) + len(example.label) for example in examples]
        around = (full - bare - sum(own)) / len(own)
        return list(accumulate((length + around for length in own), initial=bare))
