"""Protocols without I/O: bytes in, outcomes out.

One module per protocol turns what is to be asked into a request body, and a server's answer into a `Generated` or one
of our errors. Nothing here opens a connection, waits or retries; `transport` does that, driven by `llms`. No bytes
from a server may raise anything but the errors of `errors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_stormtrooper.errors import ResponseFormatError


# Every row has one of each of these: not frozen, since that makes them several times as expensive to create.
@dataclass(slots=True)
class Response:
    """An HTTP answer.

    Attributes:
        status: HTTP status code.
        headers: Header fields, looked up without regard to case.
        body: The whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def is_json(self) -> bool:
        """Whether the server says that the body is JSON."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return media_type == "application/json" or (media_type.startswith("application/") and "+json" in media_type)

    def json(self) -> Any:
        """The body parsed as JSON.

        Raises:
            ResponseFormatError: The body is not JSON.
        """
        try:
            # As text: of bytes, Python would first guess the encoding.
            return json.loads(self.body.decode())
        # RecursionError: deeply nested brackets; ValueError: bad JSON, bad UTF-8, numbers of absurd length
        except (ValueError, RecursionError):
            raise ResponseFormatError(
                f"The server answered {self.status} with a body that is not JSON; a proxy in between may have answered "
                "instead of the server.",
                status=self.status,
            ) from None

    def json_or_none(self) -> Any:
        """The body parsed as JSON; None if the server does not say that it is JSON, or if it is not."""
        try:
            return self.json() if self.is_json else None
        except ResponseFormatError:
            return None


@dataclass(slots=True)
class Generated:
    """What a server generated for one prompt.

    Attributes:
        text: The generated text.
        finish_reason: Why generation ended, in the server's word; None if it did not say.
        prompt_tokens: Tokens of the prompt as the server counted them; None if it did not say.
        generated_tokens: Tokens that were generated; None if the server did not say.
    """

    text: str = field(repr=False)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


# One encoder for all: `json.dumps` makes a new one for every call with settings.
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(body: Any) -> bytes:
    """A request body as UTF-8 JSON. Lone surrogates, which no server accepts, become U+FFFD."""
    return encode_text(to_json(body))


def encode_text(text: str) -> bytes:
    """JSON as UTF-8, with U+FFFD for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def as_count(value: object) -> int | None:
    """A token count from a header or a JSON field, None if it is not one."""
    if isinstance(value, str):
        return int(value) if len(value) <= 12 and value.isascii() and value.isdigit() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None
