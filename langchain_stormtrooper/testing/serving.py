"""Serve in the foreground, for command lines.

Runs a server that somebody else has set up until the process is told to end. Reads no options. Called by
`python -m langchain_stormtrooper.testing` and by the package's own command line.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.server import TGIServer


def serve(server: TGIServer) -> None:
    """Serve until SIGTERM or SIGINT, after printing the URL; must be called from the main thread."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
