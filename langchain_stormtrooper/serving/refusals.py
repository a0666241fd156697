"""What a request is answered that gets no rows: a status and one sentence, never the text, never a key.

`RefusedError` is raised anywhere behind the routes; whatever else goes wrong becomes one here. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    MissingExtraError,
    RequestFailedError,
    ServerError,
    ServerUnreachableError,
)

RETRY_SECONDS = 5
"""What Retry-After says where nobody knows when the model is back."""

_PATH_SHOWN = 80


class RefusedError(Exception):
    """An answer without rows.

    Args:
        status: HTTP status.
        detail: One sentence that says what to do.
        retry_after: Seconds after which the same request may succeed.
        headers: Further headers.
    """

    def __init__(
        self, status: int, detail: str, *, retry_after: int | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = [*headers, *([] if retry_after is None else [("retry-after", str(retry_after))])]

    @property
    def body(self) -> bytes:
        """The body, as JSON."""
        return json.dumps({"detail": self.detail}).encode()


NOT_JSON = RefusedError(415, "Send the body as JSON, with the header `Content-Type: application/json`.")


def refusal_of(error: Exception, *, own_labels: bool = False) -> RefusedError:
    """The refusal that stands for an error of a whole request.

    Args:
        error: What was raised.
        own_labels: Whether the request brought labels or kinds of its own, so that settings it led to are its fault.
    """
    match error:
        case RefusedError():
            return error
        case ValidationError():
            return RefusedError(
                422, explain(error.errors(include_url=False, include_input=False, include_context=False))
            )
        case RequestValidationError():
            return RefusedError(422, explain(error.errors()))
        case ServerUnreachableError():
            # Where the model's server is, and what to set in Python, is nothing for clients.
            return RefusedError(503, "The model's server cannot be reached now.", retry_after=RETRY_SECONDS)
        case AuthenticationError() | EndpointNotFoundError():
            return RefusedError(502, str(error))
        case ServerError() | RequestFailedError():
            return RefusedError(503, str(error), retry_after=RETRY_SECONDS)
        case MissingExtraError():
            return RefusedError(500, str(error))
        case ConfigurationError():
            return RefusedError(422 if own_labels else 500, str(error))
        case _:
            return RefusedError(500, f"Unexpected error: {type(error).__name__}.")


def explain(details: Sequence[Any]) -> str:
    """Where a body is wrong and what should be there, in one sentence that shows nothing of what is there.

    Args:
        details: pydantic's errors.
    """
    first = details[0]
    path = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
    place = f"{path[:_PATH_SHOWN]}: " if path else ""
    said = f"{place}{message[:1].lower() + message[1:] if place else message}"
    more = len(details) - 1
    return f"{said} (and {more} more)." if more else f"{said}."
