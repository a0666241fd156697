"""What LangChain carries of our rows: prompts that know their parts, and generations that are no answers. Pure.

`base` makes and reads them for LLMs, `answering` for classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, Generation

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
    if len(usage) == 2:
        # As LangSmith and other counters know them.
        usage["completion_tokens"] = usage["generated_tokens"]
        usage["total_tokens"] = usage["prompt_tokens"] + usage["generated_tokens"]
    return {"token_usage": usage} if usage else None


def counted(row: Generation, model: str) -> Generation:
    """A generation as a message with its tokens, where counters of tokens look for them; as it is if not counted.

    Args:
        row: The generation.
        model: What the counters are to call the model.
    """
    usage = (token_usage([row]) or {}).get("token_usage", {})
    if "total_tokens" not in usage:
        return row
    tokens = UsageMetadata(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
    )
    message = AIMessage(row.text, usage_metadata=tokens, response_metadata={"model_name": model})
    return ChatGeneration(message=message, generation_info=row.generation_info)


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
