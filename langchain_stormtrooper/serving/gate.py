"""What one request may cost: a bounded body that comes in time, a bounded number at once, no work for who has left.

Plain ASGI around the app, so that it holds for every route that works, LangServe's included. The body is read here, up
to its limit; then the connection is watched, and the work is cancelled when the client goes away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_stormtrooper.serving.refusals import RefusedError
from langchain_stormtrooper.serving.sending import header, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from langchain_stormtrooper.serving.settings import Settings

_RETRY_SECONDS = 1


class ClientGoneError(Exception):
    """The client has gone away: nobody is there to be answered."""


class Places:
    """How many requests are in work."""

    def __init__(self) -> None:
        self.taken = 0


class Gate:
    """Lets requests through as there is room.

    Args:
        app: The app behind.
        settings: How much is allowed.
        places: Where the requests in work are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, places: Places) -> None:
        self._app = app
        self._settings = settings
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        if self._places.taken >= self._settings.max_requests:
            busy = "There are as many requests in work as this app takes at once: send it again in a moment."
            await refuse(RefusedError(429, busy, retry_after=_RETRY_SECONDS), receive, send)
            return
        self._places.taken += 1
        try:
            try:
                body = await self._read(scope, receive)
            except RefusedError as refusal:
                await refuse(refusal, receive, send)
            else:
                await self._work(body, scope, receive, send)
        finally:
            self._places.taken -= 1

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The body.

        Raises:
            RefusedError: It is too long, or does not come.
            ClientGoneError: The client has gone away.
        """
        limit, seconds = self._settings.max_body_bytes, self._settings.body_timeout
        too_long = RefusedError(
            413, f"The body is longer than {limit} bytes: send fewer texts at once, or shorter ones."
        )
        length = header(scope, b"content-length")
        # One that is no number is the server's business, and none comes with chunks.
        if length is not None and length.isdigit() and int(length) > limit:
            raise too_long
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ClientGoneError
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > limit:
                        raise too_long
                    pieces.append(piece)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            raise RefusedError(408, f"The body did not come within {seconds:g} seconds.") from None

    async def _work(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, until it is done or the client has gone away.

        Raises:
            ClientGoneError: The client has gone away.
        """
        work = asyncio.current_task()
        assert work is not None  # noqa: S101  # a coroutine runs in a task
        gone = asyncio.Event()
        is_read = is_answered = False

        async def receive_again() -> Message:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send_noting(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                is_answered = True
            try:
                async with asyncio.timeout(self._settings.body_timeout):
                    await send(message)
            except TimeoutError:
                # Who reads nothing for so long would keep the place for ever.
                is_answered = False
                gone.set()
                work.cancel()
                await asyncio.sleep(0)  # where it comes

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            # Servers say so after the answer, too.
            if not is_answered:
                work.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await self._app(scope, receive_again, send_noting)
        except asyncio.CancelledError:
            # Whoever else has cancelled wants it to be cancelled.
            if gone.is_set() and not is_answered and not work.uncancel():
                raise ClientGoneError from None
            raise
        finally:
            watcher.cancel()
