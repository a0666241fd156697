"""What LangChain carries of our rows: prompts that know their parts, and generations that are no answers. Pure.

`base` makes and reads them for LLMs, `answering` for classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.outputs import Generation

from langchain_stormtrooper.errors import FailedRequestWarning, OverlongInputWarning, StormtrooperWarning
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Reason

OVERLONG = "got no answer: the prompt is longer than the model accepts"
"""What happened to overlong rows, for warnings."""

WARNINGS: dict[Reason, tuple[type[StormtrooperWarning], str]] = {
    Reason.OVERLONG: (OverlongInputWarning, OVERLONG),
    Reason.FAILED: (FailedRequestWarning, "got no answer: the request failed"),
}
"""Why a prompt can have no answer, and what is said then."""


class RenderedPrompt(str):
    """A whole prompt as text that still knows its parts, for the way through LangChain's callbacks and cache.

    Without them, an engine would read special tokens out of a row's text whenever somebody watches.

    Args:
        parts: The prompt.
    """

    parts: Prompt

    def __new__(cls, parts: Prompt) -> Self:
        """Make the text."""
        text = super().__new__(cls, parts)
        text.parts = parts
        return text

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What copies and pickles are made from."""
        return (self.parts,)


def plain(prompt: str) -> Prompt:
    """The parts of a prompt; one that the user wrote whole has only one: special tokens in it are meant."""
    return prompt.parts if isinstance(prompt, RenderedPrompt) else Prompt(before=prompt)


def token_usage(rows: Sequence[Generation]) -> dict[str, dict[str, int]] | None:
    """What LangChain's results say of the tokens of some generations; None if some were not counted."""
    counts = [row.generation_info or {} for row in rows]
    usage = {
        name: sum(count[name] for count in counts)
        for name in ("prompt_tokens", "generated_tokens")
        if all(isinstance(count.get(name), int) for count in counts)
    }
    return {"token_usage": usage} if usage else None


def unanswered(reason: Reason, **info: Any) -> Generation:
    """A generation that stands for a prompt that has no answer.

    Args:
        reason: Why it has none.
        **info: What else is known, for its `generation_info`.
    """
    return Generation(text="", generation_info={"finish_reason": reason.value, **info})


def why_unanswered(generation: Generation) -> Reason | None:
    """Why a generation stands for a prompt that has no answer; None if it is an answer."""
    reason = (generation.generation_info or {}).get("finish_reason")
    return next((missing for missing in WARNINGS if missing.value == reason), None)
