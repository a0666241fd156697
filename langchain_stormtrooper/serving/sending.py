"""Small ASGI tools for what stands around the app: headers, and answers to requests whose body nobody has read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from langchain_stormtrooper.serving.refusals import RefusedError

_DISCARDED_BYTES = 2**24
_DISCARDING_SECONDS = 2.0


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of a name, which is in lower case."""
    return next((value for key, value in scope["headers"] if key == name), None)


def is_json(scope: Scope) -> bool:
    """Whether a request says that its body is JSON."""
    kind = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    return kind == b"application/json"


async def refuse(refusal: RefusedError, receive: Receive, send: Send) -> None:
    """Send a refusal, after what is left of the body has been read and forgotten, if that is not too much.

    A connection that is closed while its client still sends is cut, often before the client has seen the answer.
    """
    try:
        async with asyncio.timeout(_DISCARDING_SECONDS):
            await _discard(receive)
    except TimeoutError:
        pass
    body = refusal.body
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *refusal.headers]
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _discard(receive: Receive) -> None:
    seen = 0
    while seen < _DISCARDED_BYTES:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        seen += len(message.get("body", b""))
