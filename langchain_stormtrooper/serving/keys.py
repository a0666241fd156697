"""The bearer key: who may ask. Plain ASGI around the app, so that it holds for routes that others have added, too."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from langchain_stormtrooper.serving.refusals import RefusedError
from langchain_stormtrooper.serving.sending import header, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/", "/health", "/ready", "/openapi.json")
"""Paths that need no key: they hold nothing of a task, and probes and browsers send none."""

OPEN_BELOW = "/static/"


class KeyCheck:
    """Lets requests through that bring the key.

    Args:
        app: The app behind.
        key: The key; None lets everybody through.
    """

    def __init__(self, app: ASGIApp, key: bytes | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if self._key is None or scope["type"] != "http" or is_open(scope["path"]) or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        challenge = [("www-authenticate", "Bearer")]
        refusal = RefusedError(401, "Send the key of this app as `Authorization: Bearer KEY`.", headers=challenge)
        await refuse(refusal, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        assert self._key is not None  # noqa: S101  # looked at before
        scheme, _, key = (header(scope, b"authorization") or b"").partition(b" ")
        return hmac.compare_digest(key.strip(), self._key) and scheme.lower() == b"bearer"


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN or path.startswith(OPEN_BELOW)
