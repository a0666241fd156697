"""A server that answers every POST at once (or after a fixed time) with the same TGI answer, in a process of its own.

It measures clients, so it does as little as HTTP/1.1 with keep-alive allows: no routing of generations, no JSON read.
`langchain_stormtrooper.testing.TGIServer` is the one that behaves like TGI.

    python instant_server.py [seconds]

It prints its URL and runs until its input ends. `GET /cpu` tells the CPU seconds that it has used.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import urllib.request
from contextlib import AbstractContextManager

from own_process import own_process, until_input_ends

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
INFO = {
    "model_id": "stabilityai/StableBeluga-7B",
    "version": "3.3.7",
    "max_concurrent_requests": 128,
    "max_input_tokens": 4095,
    "max_total_tokens": 4096,
}
# The headers of a TGI answer: reading them is part of a client's work.
GENERATED = (
    "x-compute-type: gpu+optimized\r\nx-compute-time: 0.000000001\r\nx-compute-characters: 420\r\n"
    "x-total-time: 0\r\nx-validation-time: 0\r\nx-queue-time: 0\r\nx-inference-time: 0\r\nx-time-per-token: 0\r\n"
    "x-prompt-tokens: 105\r\nx-generated-tokens: 2\r\naccess-control-allow-origin: *\r\n"
    "vary: origin, access-control-request-method, access-control-request-headers\r\n"
)


def answer(status: str, body: object, headers: str = "") -> bytes:
    """An HTTP answer."""
    content = json.dumps(body, separators=(",", ":"))
    lengths = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return f"HTTP/1.1 {status}\r\n{headers}{lengths}\r\n{content}".encode()


TO_POST = answer("200 OK", {"generated_text": " politics"}, GENERATED)
TO_INFO = answer("200 OK", INFO)
TO_HEALTH = answer("200 OK", None)
NOT_FOUND = answer("404 Not Found", {"error": "Not found", "error_type": "not_found"})


class InstantServer(asyncio.Protocol):
    """One connection.

    Args:
        seconds: What a generation takes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        received = self._received + data if self._received else data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(received, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(received) < whole:
                break
            if received.startswith((b"POST /generate ", b"POST / ")):
                if self._seconds:
                    self._loop.call_later(self._seconds, self._transport.write, TO_POST)
                else:
                    self._transport.write(TO_POST)
            else:
                self._transport.write(self._other(received[: received.find(b" HTTP/")]))
            received = received[whole:]
        self._received = received

    def _other(self, request: bytes) -> bytes:
        if request == b"GET /cpu":
            return answer("200 OK", time.process_time())
        return {b"GET /info": TO_INFO, b"GET /health": TO_HEALTH}.get(request, NOT_FOUND)


async def serve(seconds: float) -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantServer(seconds), "127.0.0.1", 0, backlog=256)
    await until_input_ends(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def instant_server(seconds: float = 0.0) -> AbstractContextManager[str]:
    """Run the server in a process of its own.

    Args:
        seconds: What a generation takes.

    Returns:
        A context that gives its URL.
    """
    return own_process(__file__, str(seconds))


def cpu_seconds(url: str) -> float:
    """CPU seconds that a server has used so far."""
    with urllib.request.urlopen(f"{url}/cpu") as reply:  # noqa: S310  # our own server
        return float(reply.read())


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
