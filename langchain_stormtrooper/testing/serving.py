"""Serve in the foreground, for command lines.

Runs a server that somebody else has set up until the process is told to end. Reads no options. Called by the package's
own command line.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from langchain_stormtrooper.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.server import TGIServer


def serve(server: TGIServer) -> None:
    """Serve until SIGTERM or SIGINT, after printing the URL; must be called from the main thread.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with closing(server):
            try:
                server.start()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not the name of a host"
                raise ConfigurationError(
                    f"Nothing can listen at {server.url} ({reason}): choose another port or host."
                ) from None
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
