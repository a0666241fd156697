"""What the errors of foreign LLMs mean: too long a prompt, no server, a wrong key, or something that passes.

Pure; every LangChain integration has errors of its own, so it goes by names, status codes and known sentences. No
message of theirs is ever shown: it may quote the prompt. `answering.foreign` is the only caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
)

from langchain_stormtrooper.errors import (
    AuthenticationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ServerUnreachableError,
    StormtrooperError,
)
from langchain_stormtrooper.pauses import retry_after
from langchain_stormtrooper.wire import Response

_DEEP = 6
"""Errors behind an error that are looked at."""

_SAID = 20_000
"""Characters of a message that are searched."""

_UNREACHABLE = {"ConnectError", "ConnectTimeout", "APIConnectionError", "ClientConnectorError", "NewConnectionError"}
"""What HTTP libraries call it when no server answers; few of them inherit Python's ConnectionError."""

_DROPPED = {
    "BrokenPipeError",
    "ClientOSError",
    "ConnectionResetError",
    "ReadError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
}
"""What they call it when a server breaks off."""

_OVERLOADED = {"OverloadedError", "RateLimitError", "ThrottlingException"}
# 424 is TGI's failed generation, 529 Anthropic's overload.
_PASSING = {424, 500, 502, 503, 504, 529}

_N = r"(\d{1,12})"


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.ASCII | re.IGNORECASE | re.DOTALL) for pattern in patterns)


# Named groups: tokens of the prompt, tokens that a prompt may have, tokens in all, new tokens.
_COUNTED = _compiled(
    # TGI
    rf"`inputs` tokens \+ `max_new_tokens` must be <= (?P<all>{_N})\. Given: (?P<tokens>{_N}) `inputs` tokens and "
    rf"(?P<new>{_N}) `max_new_tokens`",
    rf"`inputs` must have less than (?P<limit>{_N}) tokens\. Given: (?P<tokens>{_N})",
    # OpenAI, vLLM, SGLang
    rf"maximum context length is (?P<all>{_N}) tokens.{{1,80}}?\((?P<tokens>{_N}) in (?:the|your) (?:messages|prompt)"
    rf"[^)]{{0,80}}?(?P<new>{_N}) (?:in|for) the completion",
    rf"maximum context length of (?P<all>{_N}) tokens\. You requested a total of {_N} tokens: (?P<tokens>{_N}) tokens "
    rf"from the input messages and (?P<new>{_N}) tokens for the completion",
    rf"You passed (?P<tokens>{_N}) input tokens and requested (?P<new>{_N}) output tokens\. However, the model's "
    rf"context length is only (?P<all>{_N}) tokens",
    rf"maximum context length is (?P<limit>{_N}) tokens.{{1,80}}?"
    rf"(?:resulted in|your request has|you requested) (?P<tokens>{_N})",
    rf"decoder prompt \(length (?P<tokens>{_N})\) is longer than the maximum model length of (?P<limit>{_N})",
    rf"input \((?P<tokens>{_N}) tokens\) is longer than the model's context length \((?P<limit>{_N}) tokens\)",
    # llama.cpp: its server, an older one, in process
    rf"request \((?P<tokens>{_N}) tokens\) exceeds the available context size \((?P<limit>{_N}) tokens\)",
    rf"exceeds? the available context size.{{0,200}}?n_prompt_tokens\W{{1,4}}(?P<tokens>{_N}).{{1,20}}?n_ctx\W{{1,4}}"
    rf"(?P<limit>{_N})",
    rf"Requested tokens \((?P<tokens>{_N})\) exceed context window of (?P<limit>{_N})",
    # Anthropic
    rf"prompt is too long: (?P<tokens>{_N}) tokens > (?P<limit>{_N}) maximum",
    rf"input length and `max_tokens` exceed context limit: (?P<tokens>{_N}) \+ (?P<new>{_N}) > (?P<all>{_N})",
    # Google, Mistral, Cohere
    rf"input token count \((?P<tokens>{_N})\) exceeds the maximum number of tokens allowed \((?P<limit>{_N})\)",
    rf"Prompt contains (?P<tokens>{_N}) tokens.{{1,80}}?too large for model with (?P<limit>{_N}) maximum context",
    rf"tokens in the prompt cannot exceed (?P<limit>{_N}) - received (?P<tokens>{_N})",
)
_UNCOUNTED = re.compile(
    r"context_length_exceeded|exceed_context_size_error|maximum context length|exceeds? the (?:available )?context "
    r"(?:size|length)|\bprompt is too long\b|input is too long for requested model|longer than the maximum model "
    r"length",
    re.IGNORECASE,
)
_NEVER_PASSES = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Passing:
    """Trouble that may be over when the row is asked again.

    Attributes:
        error: What the row ends with if it is not.
        is_refusal: Whether the server had no place for it: then it is time that helps, and not another try.
        pause: Seconds that the server asks to wait.
    """

    error: RequestFailedError
    is_refusal: bool
    pause: float = 0.0


def read_error(error: Exception) -> Exception | Passing:
    """What an error of a foreign LLM means for its row.

    Args:
        error: What the LLM raised.

    Returns:
        What to raise, without the message of the LLM, or what passes. LangChain's own errors of authentication stay as
        they are.
    """
    if isinstance(
        error, StormtrooperError | ModelAuthenticationError | ModelPermissionDeniedError | ModelNotFoundError
    ):
        return error
    behind = list(_behind(error))
    status = next((code for one in behind if (code := _status(one)) is not None), None)
    said = "\n".join(_said(one) for one in behind)
    overlong = _read_overlong(said)
    if overlong is not None:
        return overlong
    if status == 413 or any(isinstance(one, ContextOverflowError) for one in behind):
        return OverlongInputError("The prompt is longer than the model accepts: shorten the text.")
    names = {kind.__name__ for one in behind for kind in type(one).__mro__}
    known = _of_every_row(behind, names, status)
    if known is not None:
        return known
    failed = RequestFailedError(f"The LLM raised {type(error).__name__}.", status=status)
    is_refusal = status == 429 or not names.isdisjoint(_OVERLOADED) or isinstance(error, ModelRateLimitError)
    if is_refusal and _NEVER_PASSES.search(said):
        return failed
    # An HTTP client that was used on an event loop before keeps connections that only this one can no longer use.
    is_stale = any(isinstance(one, RuntimeError) and "Event loop is closed" in str(one) for one in behind)
    if is_refusal or is_stale or status in _PASSING or not names.isdisjoint(_DROPPED):
        return Passing(failed, is_refusal, max((_pause(one) for one in behind), default=0.0))
    return failed


def said_by(error: BaseException) -> str:
    """What an error and those behind it say, for looking at only."""
    return "\n".join(_said(one) for one in _behind(error))


def _of_every_row(behind: list[BaseException], names: set[str], status: int | None) -> StormtrooperError | None:
    if status in (401, 403):
        return AuthenticationError(f"The LLM's server refused the credentials ({status}): check the LLM's key.")
    if status in (404, 405):
        return EndpointNotFoundError(
            f"The LLM's server does not have what the LLM asks for ({status}): check its address and model."
        )
    if names.isdisjoint(_DROPPED) and (
        not names.isdisjoint(_UNREACHABLE)
        or any(isinstance(one, ConnectionError | ModelConnectionError) for one in behind)
    ):
        name = type(behind[0]).__name__
        return ServerUnreachableError(
            f"The LLM cannot reach its server ({name}): check that it runs, and the LLM's address."
        )
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_DEEP):
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _status(error: BaseException) -> int | None:
    given: Any = error
    response = getattr(given, "response", None)
    for holder, name in ((given, "status_code"), (response, "status_code"), (given, "http_status"), (given, "status")):
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None


def _said(error: BaseException) -> str:
    parts = [str(error)[:_SAID]]
    response = getattr(error, "response", None)
    try:
        text = getattr(response, "text", None)
    except Exception:  # noqa: BLE001  # httpx raises if a stream was not read; others may raise anything
        text = None
    parts += [str(value)[:_SAID] for value in (text, getattr(error, "body", None)) if value]
    return "\n".join(parts)


def _pause(error: BaseException) -> float:
    response = getattr(error, "response", None)
    value = None
    try:
        value = response.headers.get("retry-after") if response is not None else None
    except Exception:  # noqa: BLE001  # an object of any kind
        return 0.0
    return retry_after(Response(429, {"retry-after": value}, b"")) if isinstance(value, str) else 0.0


def _read_overlong(said: str) -> OverlongInputError | None:
    for pattern in _COUNTED:
        if found := pattern.search(said):
            counts = {name: int(value) for name, value in found.groupdict().items()}
            tokens = counts["tokens"]
            limit = counts["limit"] if "limit" in counts else counts["all"] - counts["new"]
            if limit < 1:
                return OverlongInputError(
                    "The prompt and the tokens to generate are more than the model takes: lower `max_new_tokens=`.",
                    tokens=tokens,
                )
            return OverlongInputError(
                f"The prompt has {tokens} tokens, the model takes at most {limit}: shorten the text.",
                tokens=tokens,
                limit=limit,
            )
    if _UNCOUNTED.search(said):
        return OverlongInputError("The prompt is longer than the model accepts: shorten the text.")
    return None
