"""`on_overlong="truncate"` where servers tell little: what is tried, and when it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import LABELS, FakeLLM, say_label
from pydantic import Field

from langchain_stormtrooper import Classification, OverlongInputError, OverlongInputWarning, ZeroShotClassifier, budget
from langchain_stormtrooper.prompts import Prompt

HEAD = len("sport, politics, science.: ")


def at_most(limit: int, *, told: bool = True) -> Callable[[Prompt], str]:
    """Answers what has no more characters, and refuses the rest with the numbers or without."""

    def answer(prompt: Prompt) -> str:
        if (size := len(str(prompt))) > limit:
            raise OverlongInputError("Too long.", tokens=size if told else None, limit=limit if told else None)
        return say_label(prompt)

    return answer


class Counting(FakeLLM):
    """Counts characters, so many times."""

    counts: int = 1000
    counted: list[int] = Field(default_factory=list)

    async def acount_tokens(self, prompt: Prompt) -> int | None:
        """The number of characters, or nothing."""
        self.counted.append(len(str(prompt)))
        return self.counted[-1] if len(self.counted) <= self.counts else None


async def classify(llm: FakeLLM, text: str) -> Classification:
    """The answer to a text with the labels before it."""
    task = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels}: {text}", method="generate", on_overlong="truncate")
    return await task.with_details().ainvoke(text)


@pytest.mark.parametrize("counts", [0, 1, 2, 3, 1000])
async def test_a_count_that_fails_on_the_way_costs_no_row(counts: int) -> None:
    """Whether the server counts always, never, or stops in the middle, a text is cut so that it fits."""
    llm = Counting(answer=at_most(HEAD + 100), counts=counts)
    row = await classify(llm, "word " * 400)
    assert row.truncated
    assert row.label in LABELS
    assert 0 < len(llm.log.texts[-1]) <= 100


async def test_without_numbers_a_text_is_halved_until_it_fits() -> None:
    """A server that says only that it is too much gets half of the text, and half of that."""
    llm = Counting(answer=at_most(HEAD + 100, told=False), counts=0)
    row = await classify(llm, "word " * 400)
    assert row.truncated
    assert [len(text) for text in llm.log.texts] == [2000, 1000, 500, 250, 125, 62]


@pytest.mark.parametrize(("size", "requests"), [(1, 1), (7, 3), (100_000, 1 + budget.ROUNDS)])
async def test_a_server_that_takes_no_text_at_all_is_given_up(size: int, requests: int) -> None:
    """Nothing is asked without a text, and no row for ever: it is too long like any other."""
    llm = Counting(answer=at_most(0, told=False), counts=0)
    with pytest.warns(OverlongInputWarning):
        assert (await classify(llm, "x" * size)).reason == "overlong"
    assert len(llm.log.prompts) == requests


async def test_a_prompt_without_room_for_a_text_is_not_asked_again() -> None:
    """Where the prompt alone has as many tokens as are allowed, no part of the text can be kept."""
    llm = Counting(answer=at_most(HEAD))
    with pytest.warns(OverlongInputWarning):
        assert (await classify(llm, "word " * 9)).reason == "overlong"
    assert len(llm.log.prompts) == 1
