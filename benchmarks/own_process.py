"""A server in a process of its own, so that what it costs is not the client's: it prints its URL, then serves.

It runs until its input ends, so that it goes with whoever has started it. Both ends of that are here.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


async def until_input_ends(url: str) -> None:
    """In the server's process: tell its URL, and wait until nobody wants it any more."""
    print(url, flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def own_process(script: str, *arguments: str) -> Iterator[str]:
    """Run a script that calls `until_input_ends`.

    Args:
        script: The script's file.
        *arguments: Its arguments.

    Yields:
        The server's URL.
    """
    command = [sys.executable, script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # ours
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.communicate()
