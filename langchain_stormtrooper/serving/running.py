"""An app under uvicorn, from the first to the last request, for the command line.

The end is graceful: no new connection is taken, what was accepted is answered in full, and connections that are kept
open by their clients are closed with an answer rather than between two requests. Called by `cli_serve` only.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from typing_extensions import override

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    ModelFileError,
    StormtrooperError,
    StormtrooperWarning,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

    from langchain_stormtrooper.serving.readiness import Readiness

_BACKLOG = 2048

_GARBAGE = (20_000, 20, 50)
"""How often the garbage collector looks; by default so often that it takes a quarter of a request's time."""

_LAST_WORD_SECONDS = 1.0
"""How long a connection that is kept open may still bring a request once the end has begun."""

_LOOK_SECONDS = 0.02

_LEAST_SECONDS = 0.1


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 takes any free one.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not the name of a host"
        raise ConfigurationError(
            f"Nothing can listen at {address_of(host, port)} ({reason}): choose another --port or --host."
        ) from None


def address_of(host: str, port: int) -> str:
    """The URL of an address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def run(app: FastAPI, listening: socket.socket, *, grace: float, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, and then until what was accepted is answered.

    Args:
        app: The app, of `create_app`.
        listening: Where it listens.
        grace: Seconds that requests may take to end; what is not answered by then is cut off.
        tell: Told what a person at a terminal wants to know.

    Raises:
        StormtrooperError: What keeps the classifier from ever answering, found out when it was prepared.
        KeyboardInterrupt: It was SIGINT that ended it.
    """
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("langchain_stormtrooper.serving").addHandler(log)
    # Rows without a label are in the answers; nobody reads warnings.
    warnings.simplefilter("ignore", StormtrooperWarning)
    readiness: Readiness = app.state.readiness
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="on",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
        ),
        readiness,
        grace,
        tell,
    )
    preparing = asyncio.create_task(_prepare(readiness, server, tell))
    try:
        await server.serve([listening])
    finally:
        preparing.cancel()
        await asyncio.wait({preparing})
    if not preparing.cancelled() and (error := preparing.exception()) is not None:
        raise error
    if server.was_interrupted:
        raise KeyboardInterrupt


async def _prepare(readiness: Readiness, server: uvicorn.Server, tell: Callable[[str], None]) -> None:
    """Prepare the classifier; a server of the model that is not there yet may come, other troubles stay."""
    try:
        await readiness.prepare()
    except (ConfigurationError, ModelFileError, AuthenticationError):
        server.should_exit = True
        raise
    except StormtrooperError as error:
        tell(f"Not ready yet: {error}")
    # What is there now stays: a look through all of it for garbage holds up every request that is in work.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


class _Server(uvicorn.Server):
    """uvicorn, with an end that gives clients that keep connections open a last answer."""

    def __init__(self, config: uvicorn.Config, readiness: Readiness, grace: float, tell: Callable[[str], None]) -> None:
        super().__init__(config)
        self.was_interrupted = False
        self._readiness = readiness
        self._grace = grace
        self._tell = tell

    @contextmanager
    @override
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn's own raises the signal again at the end, which would end the process by it instead of with 0.
        def stop(number: int, frame: Any) -> None:
            # The second time somebody is in a hurry.
            self.force_exit = self.should_exit
            self.should_exit = True
            self.was_interrupted = self.was_interrupted or number == signal.SIGINT

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._readiness.is_closing = True
        # Who has connected already has been promised an answer by the system: let the loop take them in first.
        await asyncio.sleep(0)
        for listening in self.servers:
            listening.close()
        for accepted in sockets or []:
            accepted.close()
        if self.server_state.tasks:
            self._tell(f"Ending: {len(self.server_state.tasks)} requests are finished first.")
        started = time.monotonic()
        await self._drain(started + self._grace)
        left = started + self._grace - time.monotonic()
        self.config.timeout_graceful_shutdown = max(_LEAST_SECONDS, left)  # type: ignore[assignment]  # it is waited for
        await super().shutdown(sockets)

    async def _drain(self, end: float) -> None:
        """Wait until every connection is closed, or nothing has come over those that are left for a moment.

        An answer that begins from now on closes its connection and says so. One that has begun before could not: its
        client takes the connection for open, and may have sent the next request already.
        """
        state, quiet_since = self.server_state, time.monotonic()
        while state.connections and not self.force_exit and (now := time.monotonic()) < end:
            if state.tasks:
                quiet_since = now
            elif now - quiet_since > _LAST_WORD_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)
