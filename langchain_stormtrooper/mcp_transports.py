"""Serving an MCP server: over standard input and output to the client that started it, or over HTTP to many.

It keeps standard output for the protocol, ends when told to, and lets in whom it should. What the server says is
`mcp_server`'s business. The extra `mcp` brings all that this needs. `cli_mcp` calls it.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any

from langchain_stormtrooper.addresses import LOOPBACK
from langchain_stormtrooper.errors import ConfigurationError

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"
"""Where the protocol is spoken over HTTP."""

_SECONDS_TO_FINISH = 10


async def aserve_stdio(server: Server[Any, Any]) -> None:
    """Speak the protocol over standard input and output until the client closes them, or SIGTERM comes.

    Nothing else gets to standard output meanwhile: what is printed, also by C libraries and other processes, goes to
    standard error.

    Args:
        server: What `make_server` made.
    """
    import anyio
    from mcp.server.stdio import stdio_server

    with _wire() as (lines, output), _cancelled_by_sigterm():
        stdin: Any = _Lines(lines)
        stdout = anyio.wrap_file(TextIOWrapper(output, encoding="utf-8", newline="\n"))
        try:
            async with stdio_server(stdin=stdin, stdout=stdout) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        except BaseExceptionGroup as group:
            # A client that went away before it had its answers is no error.
            _, others = group.split((anyio.ClosedResourceError, anyio.BrokenResourceError, BrokenPipeError))
            if others is not None:
                raise others from None


@contextmanager
def _wire() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Standard input and output for the protocol alone."""
    sys.stdout.flush()
    lines = os.fdopen(os.dup(0), "rb", closefd=False)  # a thread may read from it to the end of the process
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        yield lines, output
    finally:
        sys.stdout.flush()
        with suppress(ValueError, OSError):  # closed with what wraps it
            os.dup2(output.fileno(), 1)


class _Lines:
    """What a client sends, read by a thread that nobody waits for: the SDK's own would keep the process from ending."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue()

        def read() -> None:
            with suppress(RuntimeError):  # the loop is closed
                for line in self._stream:
                    loop.call_soon_threadsafe(queue.put_nowait, line.decode("utf-8", "replace"))
                loop.call_soon_threadsafe(queue.put_nowait, None)

        threading.Thread(target=read, name="reading requests", daemon=True).start()
        while (line := await queue.get()) is not None:
            yield line


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """End what is inside when SIGTERM comes, as if it had come to its end."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # it runs in one
    loop = asyncio.get_running_loop()
    came = False

    def stop() -> None:
        nonlocal came
        came = True
        task.cancel()

    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not came:
            raise
        task.uncancel()
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)


def http_app(server: Server[Any, Any], *, hosts: Sequence[str] = (), key: str | None = None) -> Starlette:
    """An ASGI application that speaks the protocol over streamable HTTP at `/mcp`.

    It keeps no sessions. Requests whose `Host` or `Origin` names another host than the loopback or one of `hosts` are
    refused, so that no web page reaches it under a name of its own (DNS rebinding).

    Args:
        server: What `make_server` made.
        hosts: Further names that clients reach it by, without ports.
        key: The bearer token that every request must show; None for no check.
    """
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    names = [*LOOPBACK, *hosts]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    manager = StreamableHTTPSessionManager(
        app=server,
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(
            allowed_hosts=[*names, *(f"{name}:*" for name in names)],
            allowed_origins=[*origins, *(f"{origin}:*" for origin in origins)],
        ),
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running: AbstractAsyncContextManager[None] = manager.run()
        async with running:
            yield

    # No GET: there is nothing that the server would say on its own.
    route = Route(PATH, endpoint=_Endpoint(manager.handle_request), methods=["POST"])
    middleware = [] if key is None else [Middleware(_Keyed, key=key)]
    return Starlette(routes=[route], middleware=middleware, lifespan=lifespan)


class _Endpoint:
    """An ASGI application of a function; starlette takes a bare one for something else."""

    def __init__(self, handle: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(scope, receive, send)


class _Keyed:
    """Lets requests pass that show the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = b"Bearer " + key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import PlainTextResponse

        shown = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "http" and not hmac.compare_digest(shown, self._expected):
            refusal = PlainTextResponse("The bearer key is missing or wrong.", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def aserve_http(app: Starlette, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve an application until SIGTERM or SIGINT, in the main thread; requests in work are finished first.

    Args:
        app: What `http_app` made.
        host: The address to listen at.
        port: The port; 0 for one that is free.
        ready: Told the URL once requests are accepted.

    Raises:
        ConfigurationError: The address cannot be had.
        KeyboardInterrupt: SIGINT came.
    """
    import uvicorn

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "there is no such address"
        raise ConfigurationError(
            f"Nothing can listen at {host}, port {port} ({reason}): choose another --port or --host."
        ) from None
    shown = f"[{host}]" if ":" in host else host
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=_SECONDS_TO_FINISH
        )
    )

    came: set[int] = set()

    def stop(number: int, _frame: Any) -> None:
        # Called before uvicorn listens to signals, and when it raises again what ended it.
        came.add(number)
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if ready is not None:
            ready(f"http://{shown}:{listening.getsockname()[1]}{PATH}")
        await server.serve(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listening.close()
    if signal.SIGINT in came:
        raise KeyboardInterrupt
