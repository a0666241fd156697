"""A listening socket in a thread of its own, which can go away and come back.

Owns the thread, the event loop and the socket of one server, and leaves none of them behind. What is served is none of
its business. Used by `server` only.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from langchain_stormtrooper.testing.sabotage import reset

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_BACKLOG = 4096
_LAST_TURNS = 100
_AT_ONCE = 100
# TGI sets no limit on idle connections; aiohttp wants a number.
_KEEP_ALIVE = 24 * 3600.0


@dataclass(frozen=True)
class Address:
    """Where to listen: a host and a port, where port 0 takes any free one."""

    host: str
    port: int


class Listener:
    """Serves HTTP on one address from a background thread.

    Args:
        handle: Answers each request, in the background thread.
        address: Where to listen.
        body_limit: The largest request body that is read.
    """

    def __init__(self, handle: Handle, address: Address, body_limit: int) -> None:
        self._handle = handle
        self._address = address
        self._body_limit = body_limit
        self._thread: threading.Thread | None = None
        self._serving: _Serving | None = None
        self._failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port in use, 0 before the start."""
        return self._address.port

    def start(self) -> None:
        """Start serving; returns when the port is open.

        Raises:
            OSError: If the port cannot be had.
            RuntimeError: If it is serving already.
        """
        if self._thread is not None:
            raise RuntimeError("the server is running already")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="tgi-server", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._thread.join()
            self._thread = None
            raise failure

    def stop(self) -> None:
        """Stop serving, cut all connections and wait for the thread to end."""
        thread, serving = self._thread, self._serving
        if thread is None or serving is None:
            return
        serving.loop.call_soon_threadsafe(serving.stop.set)
        thread.join()
        self._thread = self._serving = None

    def go_away(self, seconds: float, on_down: Callable[[], None] | None = None) -> None:
        """Close the port for a while and cut all connections; returns when it is closed.

        Args:
            seconds: For how long new connections are refused.
            on_down: Called in the server's thread while it is down.

        Raises:
            RuntimeError: If the server is not running.
        """
        serving = self._serving
        if serving is None:
            raise RuntimeError("the server is not running")
        if threading.current_thread() is self._thread:
            # A fault calls from a handler, and its client must not get a new connection in before the port is closed.
            serving.leave(seconds, on_down)
            return
        left = threading.Event()

        def leave() -> None:
            serving.leave(seconds, on_down)
            left.set()

        serving.loop.call_soon_threadsafe(leave)
        left.wait()

    def wait_until_up(self, timeout: float | None = None) -> bool:
        """Wait until the port is open again; returns whether it is."""
        return self._serving is not None and self._serving.up.wait(timeout)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that called start()
            self._failure = error
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._serving = serving = _Serving(self._handle, self._address, self._body_limit)
        try:
            serving.open()
            self._address = serving.address
            ready.set()
            await serving.stop.wait()
        finally:
            await serving.end()


class _Serving:
    """What exists only while the background thread runs."""

    def __init__(self, handle: Handle, address: Address, body_limit: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        self.up = threading.Event()
        self.address = address
        self._body_limit = body_limit
        self._http = web.Server(
            handle,
            request_factory=self._make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
        )
        self._socket: socket.socket | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._absence: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Bind and listen, on the same port as before if there was one."""
        self._socket = self._bind()
        self._socket.listen(_BACKLOG)
        self.loop.add_reader(self._socket, self._accept, self._socket)
        self.up.set()

    async def end(self) -> None:
        """Close everything."""
        if self._absence is not None:
            self._absence.cancel()
            await asyncio.gather(self._absence, return_exceptions=True)
        self._close_port()
        await self._cut_the_rest()
        await self._http.shutdown(1.0)

    def leave(self, seconds: float, on_down: Callable[[], None] | None) -> None:
        """Go off the network and come back by itself."""
        if self._absence is not None and not self._absence.done():
            # Already away; a second reason to be away does not make it longer.
            return
        self.up.clear()
        self._close_port()
        # Holding the port without listening refuses connections and keeps other programs from taking it.
        placeholder = self._bind()
        self._cut_connections()
        if on_down is not None:
            on_down()
        self._absence = asyncio.ensure_future(self._come_back(seconds, placeholder))

    async def _come_back(self, seconds: float, placeholder: socket.socket) -> None:
        with placeholder:
            await self._cut_the_rest()
            await asyncio.sleep(seconds)
        self.open()

    def _accept(self, listening: socket.socket) -> None:
        """Accept what is waiting; by hand, since closing an `asyncio.Server` can leak what it is just accepting."""
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except OSError:
                # Nothing is waiting, or the client has gone again.
                return
            connection.setblocking(False)
            task = asyncio.ensure_future(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(self._http, connection)
        except OSError:
            connection.close()

    def _bind(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self.address.host, self.address.port))
        except OSError:
            sock.close()
            raise
        self.address = Address(self.address.host, sock.getsockname()[1])
        return sock

    def _close_port(self) -> None:
        if self._socket is None:
            return
        # The selector must forget the socket before its number is free for another.
        self.loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None

    def _cut_connections(self) -> None:
        for connection in self._http.connections:
            reset(connection.transport)

    async def _cut_the_rest(self) -> None:
        """Cut the connections that were just being accepted too, and let all cut ones close."""
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for _ in range(_LAST_TURNS):
            self._cut_connections()
            await asyncio.sleep(0)
            if not self._http.connections:
                break
        await asyncio.sleep(0)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self.loop, client_max_size=self._body_limit)
