"""What servers say when a prompt is too long, in the words of many of them.

Sans-IO, see the package docstring. Status codes do not tell: 400, 413 and 422 stand for other mistakes as well. Each
sentence is looked for anywhere in a message, since gateways and client libraries put words around it; numbers of tokens
are read where the sentence has them.
"""

from __future__ import annotations

import re

from langchain_stormtrooper.errors import OverlongInputError

_N = r"(?P<{}>\d{{1,12}})"
_TOKENS, _LIMIT, _NEW = (_N.format(name) for name in ("tokens", "limit", "new"))

# The wording has been the same from 1.0.3 to 3.3.7.
TGI_TOTAL = re.compile(
    rf"`inputs` tokens \+ `max_new_tokens` must be <= {_LIMIT}\. Given: {_TOKENS} `inputs` tokens and {_NEW} "
    "`max_new_tokens`",
    re.ASCII,
)
"""What TGI says of a prompt that is too long together with the tokens to generate."""
TGI_INPUT = re.compile(rf"`inputs` must have less than {_LIMIT} tokens\. Given: {_TOKENS}", re.ASCII)
"""What TGI says of a prompt that is too long by itself."""

_SENTENCES = [TGI_TOTAL, TGI_INPUT] + [
    re.compile(pattern, re.ASCII)
    for pattern in (
        # vLLM, from the newest to the oldest, and OpenAI
        rf"You passed {_TOKENS} input tokens and requested {_NEW} output tokens\. However, the model's context length "
        rf"is only {_LIMIT} tokens",
        rf"maximum context length is {_LIMIT} tokens\. However, your prompt contains (?:at least \d+|{_TOKENS}) input",
        r"max_tokens must be at least 1, got 0",  # a prompt that fills the context to the last token
        rf"maximum context length is {_LIMIT} tokens\. However, your request has {_TOKENS} input tokens",
        rf"maximum context length is {_LIMIT} tokens\. However, you requested \d+ tokens \({_TOKENS} in the (?:messages"
        rf"|prompt), {_NEW} in the completion\)",
        rf"maximum context length is {_LIMIT} tokens\. However, your messages resulted in {_TOKENS} tokens",
        rf"prompt \(length {_TOKENS}\) is longer than the maximum model length of {_LIMIT}",
        # SGLang
        rf"maximum context length of {_LIMIT} tokens\. You requested a total of \d+ tokens: {_TOKENS} tokens from the "
        rf"input messages and {_NEW} tokens for the completion",
        rf"input \({_TOKENS} tokens\) is longer than the model's context length \({_LIMIT} tokens\)",
        # llama.cpp
        rf"the request exceeds the available context size(?: \({_LIMIT} tokens\))?",
        # Anthropic
        rf"prompt is too long: {_TOKENS} tokens > {_LIMIT} maximum",
        r"maximum context length",
        r"context_length_exceeded",
        r"exceed_context_size_error",
    )
]


def read_overlong(message: str) -> OverlongInputError | None:
    """The error that a server's message stands for, if it says that the prompt is too long.

    Args:
        message: The message; nothing of it but numbers gets into the error.

    Returns:
        None if it says something else.
    """
    for sentence in _SENTENCES:
        if found := sentence.search(message):
            counts = {name: int(number) for name, number in found.groupdict().items() if number is not None}
            limit = counts.get("limit")
            if limit is not None:
                limit = max(0, limit - counts.get("new", 0))
            return overlong(counts.get("tokens"), limit)
    return None


def overlong(tokens: int | None, limit: int | None) -> OverlongInputError:
    """The error for a prompt with more tokens than a server takes.

    Args:
        tokens: Its tokens; None where the server does not tell.
        limit: How many there may be; None where the server does not tell.
    """
    if tokens is None or limit is None:
        what = "The prompt is longer than the model accepts"
    else:
        what = f"The prompt has {tokens} tokens, the server takes at most {limit}"
    return OverlongInputError(
        f"{what}: shorten the text, or start the server with a larger context.", tokens=tokens, limit=limit
    )
