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
from langchain_stormtrooper.wire.overlong import read_overlong

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
    overlong = read_overlong(said)
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
