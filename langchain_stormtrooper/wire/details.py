"""What a server tells about a generation beyond its text: chosen tokens, alternatives, and scores of the prompt.

The same for every protocol, so that labels are scored in one way on all of them; the parsers of `wire` fill it in. A
log-probability of None means that the server showed none, or one that is not a number or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from langchain_stormtrooper.errors import ResponseFormatError


class NoDetailsError(ResponseFormatError):
    """A whole answer that has a text alone: the server, or what is in front of it, shows no details."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its natural log-probability; None where the server sent null."""

    id: int
    text: str = field(repr=False)
    logprob: float | None
    special: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """The details of one generation.

    Attributes:
        text: The generated text.
        tokens: The generated tokens.
        top_tokens: The likeliest tokens at each step, the likeliest first; empty if the server sent none.
        prefill: The prompt's tokens; empty if the server sent none.
        prompt_tokens: Tokens of the prompt as the server counted them; None if it did not say.
    """

    text: str = field(repr=False)
    tokens: tuple[Token, ...]
    top_tokens: tuple[tuple[Token, ...], ...]
    prefill: tuple[Token, ...]
    prompt_tokens: int | None = None
