"""What comes over a connection: bodies and events of bounded size, and the names of what can go wrong.

Whatever a server sends ends here in bytes of a sane length or in one of our errors; the HTTP library's own errors can
quote an answer, or show the headers of the request, and are not passed on. Called by `transport` only.
"""

from __future__ import annotations

import ssl
import time
from collections import deque

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from langchain_stormtrooper.errors import RequestFailedError, ResponseFormatError

MAX_RESPONSE_BYTES = 64 * 2**20
"""Largest answer that is read; a label's answer has a few hundred bytes."""

MAX_EVENT_BYTES = 2**20
"""Longest event of a stream that is read; a token's event has a few hundred bytes."""

PROBLEMS = (TimeoutError, aiohttp.ClientError, HttpProcessingError)
"""What the HTTP library raises."""


async def read_body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, if it is of a sane length."""
    stream = answer.content
    content = await stream.readany()
    if stream.at_eof():
        return content
    whole = bytearray(content)
    async for chunk in stream.iter_any():
        whole += chunk
        if len(whole) > MAX_RESPONSE_BYTES:
            raise _too_long(answer.status)
    return bytes(whole)


class EventReader:
    """The data of server-sent events, one after the other; one line each, as TGI and its successors send them.

    Args:
        content: The body of an answer.
        deadline: When, by the monotonic clock, the last event must have come: also while data flows.
    """

    def __init__(self, content: aiohttp.StreamReader, deadline: float) -> None:
        self._content = content
        self._deadline = deadline
        self._bytes = 0
        self._line = bytearray()
        self._read: deque[str] = deque()

    async def read(self) -> str | None:
        """The next event's data, None at the end.

        Raises:
            TimeoutError: It comes too late.
            RequestFailedError: It, or all together, are longer than anything a server has to say.
        """
        while not self._read:
            chunk = await self._content.readany()
            if time.monotonic() > self._deadline:
                raise TimeoutError
            if not chunk:
                # What has no line end at the end of the stream is a line, too.
                self._take(b"\n" if self._line else b"")
                return self._read.popleft() if self._read else None
            self._take(chunk)
        return self._read.popleft()

    def _take(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MAX_RESPONSE_BYTES:
            raise _too_long(200)
        # Only what is new is searched: a line that drips in would else be gone through again and again.
        searched, start = len(self._line), 0
        self._line += chunk
        while (end := self._line.find(b"\n", max(start, searched))) >= 0:
            if self._line.startswith(b"data:", start):
                self._read.append(self._line[start + 5 : end].strip().decode("utf-8", "replace"))
            start = end + 1
        del self._line[:start]
        if len(self._line) > MAX_EVENT_BYTES:
            raise ResponseFormatError(
                f"The server's stream has a line that is longer than {MAX_EVENT_BYTES // 2**20} MiB.", status=200
            )


def _too_long(status: int) -> RequestFailedError:
    return RequestFailedError(f"The server's answer is longer than {MAX_RESPONSE_BYTES // 2**20} MiB.", status=status)


def broken_off(error: Exception, what: str) -> RequestFailedError:
    """What to say of an answer that began and did not end as it should.

    Args:
        error: What the HTTP library raised.
        what: "answer" or "stream".
    """
    if has_unreadable_encoding(error):
        return unreadable_encoding()
    return RequestFailedError(f"The connection broke off in the middle of the {what}.", retryable=True)


def has_unreadable_encoding(error: Exception) -> bool:
    """Whether an answer was compressed, and not in a way that can be read."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ContentEncodingError):
        cause = cause.__cause__
    return cause is not None


def unreadable_encoding() -> ResponseFormatError:
    """What to say of such an answer."""
    return ResponseFormatError(
        "The server's answer has a content encoding that cannot be read: turn off the compression of the proxy in "
        "front of it."
    )


def is_not_http(error: Exception) -> bool:
    """Whether something was answered that is no HTTP."""
    return isinstance(error, aiohttp.ClientResponseError | HttpProcessingError)


def name_problem(error: Exception) -> str:
    """What is wrong with a server that did not begin an answer, without the error's own words."""
    if isinstance(error, aiohttp.ClientSSLError):
        cause = getattr(error, "certificate_error", None) or error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a TLS certificate that is not trusted ({cause.verify_message})"
        return "does not speak TLS (is it http:// rather than https://?)"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "cannot be found (is the host name spelled right?)"
    if is_not_http(error):
        return "does not speak HTTP"
    return "refused or dropped the connection"
