"""The command `serve` as a process of its own, apps under uvicorn, and servers that answer as a function says."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web

COMMAND = [sys.executable, "-m", "langchain_stormtrooper.cli", "serve", "--labels", "music,weather"]


class Served:
    """A running `serve`.

    Args:
        process: The process.

    Attributes:
        process: The process.
        url: Its address.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._told: list[str] = []
        assert process.stderr is not None
        self.url = ""
        for line in process.stderr:
            self._told.append(line)
            if found := re.match(r"Serving at (http://\S+)$", line):
                self.url = found[1]
                break
        # What nobody reads would fill the pipe.
        self._reader = threading.Thread(target=lambda: self._told.extend(process.stderr or ()), daemon=True)
        self._reader.start()

    @property
    def told(self) -> str:
        """What it has written to standard error."""
        if self.process.poll() is not None:
            self._reader.join(5)
        return "".join(self._told)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def resident_bytes(self) -> int:
        """Memory that it holds (Linux)."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii"))
        assert found is not None
        return 1024 * int(found[1])


@contextmanager
def serve(llm: str, *options: str, **variables: str) -> Iterator[Served]:
    """Run `serve` on a free port.

    Args:
        llm: The model's address.
        options: Further options.
        variables: Variables of the environment.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TGI_", "LANGCHAIN_"))}
    command = [*COMMAND, "--llm", llm, "--port", "0", *options]
    # Children inherit it when Ctrl-C is ignored, as it is for tests in the background of a shell.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, encoding="utf-8", env={**kept, **variables}
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield Served(process)
        finally:
            process.kill()


@contextmanager
def under_uvicorn(app: Any) -> Iterator[str]:
    """Run an app under uvicorn in a thread, and give its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@asynccontextmanager
async def answering(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers everything as a function says; its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
