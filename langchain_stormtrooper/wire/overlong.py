"""What servers say when a prompt is too long, in the words of many of them.

Sans-IO, see the package docstring. Status codes do not tell: 400, 413 and 422 stand for other mistakes as well. Each
sentence is looked for anywhere in a message, since gateways and client libraries put words around it; numbers of tokens
are read where the sentence has them. Used by `openai`, by `tgi`, and for the errors of foreign LLMs.
"""

from __future__ import annotations

import re

from langchain_stormtrooper.errors import OverlongInputError

_N = r"\d{1,12}"
# Tokens of the prompt, tokens that a prompt may have, tokens in all, new tokens.
_TOKENS, _LIMIT, _ALL, _NEW = (rf"(?P<{name}>{_N})" for name in ("tokens", "limit", "all", "new"))

# The wording has been the same from 1.0.3 to 3.3.7.
TGI_TOTAL = re.compile(
    rf"`inputs` tokens \+ `max_new_tokens` must be <= {_ALL}\. Given: {_TOKENS} `inputs` tokens and {_NEW} "
    "`max_new_tokens`",
    re.ASCII,
)
"""What TGI says of a prompt that is too long together with the tokens to generate."""
TGI_INPUT = re.compile(rf"`inputs` must have less than {_LIMIT} tokens\. Given: {_TOKENS}", re.ASCII)
"""What TGI says of a prompt that is too long by itself."""

_SENTENCES = (
    TGI_TOTAL,
    TGI_INPUT,
    *(
        re.compile(pattern, re.ASCII | re.IGNORECASE | re.DOTALL)
        for pattern in (
            # vLLM, from the newest to the oldest, and OpenAI
            rf"maximum context length is {_LIMIT} tokens\. However, your prompt contains at least {_N} input tokens",
            rf"You passed {_TOKENS} input tokens and requested {_NEW} output tokens\. However, the model's context "
            rf"length is only {_ALL} tokens",
            rf"maximum context length is {_ALL} tokens.{{1,80}}?\({_TOKENS} in (?:the|your) (?:messages|prompt)"
            rf"[^)]{{0,80}}?{_NEW} (?:in|for) the completion",
            rf"maximum context length is {_LIMIT} tokens.{{1,80}}?"
            rf"(?:resulted in|your prompt contains|your request has|you requested) {_TOKENS}",
            rf"decoder prompt \(length {_TOKENS}\) is longer than the maximum model length of {_LIMIT}",
            r"max_tokens must be at least 1, got 0",  # a prompt that fills the context to the last token
            # SGLang
            rf"maximum context length of {_ALL} tokens\. You requested a total of {_N} tokens: {_TOKENS} tokens from "
            rf"the input messages and {_NEW} tokens for the completion",
            rf"input \({_TOKENS} tokens\) is longer than the model's context length \({_LIMIT} tokens\)",
            # llama.cpp: its server, an older one, in process
            rf"request \({_TOKENS} tokens\) exceeds the available context size \({_LIMIT} tokens\)",
            rf"exceeds? the available context size.{{0,200}}?n_prompt_tokens\W{{1,4}}{_TOKENS}.{{1,20}}?"
            rf"n_ctx\W{{1,4}}{_LIMIT}",
            rf"exceeds? the available context size \({_LIMIT} tokens\)",
            rf"Requested tokens \({_TOKENS}\) exceed context window of {_LIMIT}",
            # Anthropic
            rf"prompt is too long: {_TOKENS} tokens > {_LIMIT} maximum",
            rf"input length and `max_tokens` exceed context limit: {_TOKENS} \+ {_NEW} > {_ALL}",
            # Google, Mistral, Cohere
            rf"input token count \({_TOKENS}\) exceeds the maximum number of tokens allowed \({_LIMIT}\)",
            rf"Prompt contains {_TOKENS} tokens.{{1,80}}?too large for model with {_LIMIT} maximum context",
            rf"tokens in the prompt cannot exceed {_LIMIT} - received {_TOKENS}",
            # Anybody, without numbers
            r"context_length_exceeded|exceed_context_size_error|maximum context length|exceeds? the (?:available )?"
            r"context (?:size|length)|\bprompt is too long\b|input is too long for requested model|longer than the "
            r"maximum model length",
        )
    ),
)


def read_overlong(message: str) -> OverlongInputError | None:
    """The error that a server's message stands for, if it says that the prompt is too long.

    Args:
        message: The message; nothing of it but numbers gets into the error.

    Returns:
        None if it says something else.
    """
    for sentence in _SENTENCES:
        if found := sentence.search(message):
            counts = {name: int(number) for name, number in found.groupdict().items()}
            limit = counts["all"] - counts["new"] if "all" in counts else counts.get("limit")
            return overlong(counts.get("tokens"), limit)
    return None


def overlong(tokens: int | None, limit: int | None) -> OverlongInputError:
    """The error for a prompt with more tokens than a server takes.

    Args:
        tokens: Its tokens; None where the server does not tell.
        limit: How many there may be; None where the server does not tell.
    """
    if limit is not None and limit < 1:
        return OverlongInputError(
            "The prompt and the tokens to generate are more than the model takes: lower `max_new_tokens=`.",
            tokens=tokens,
        )
    if tokens is None or limit is None:
        what = "The prompt is longer than the model accepts"
    else:
        what = f"The prompt has {tokens} tokens, the model takes at most {limit}"
    return OverlongInputError(
        f"{what}: shorten the text, or give the model a larger context.", tokens=tokens, limit=limit
    )
