"""The life of a test server: starting, counting, restarting, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import Prediction, ScriptedEngine, TGIServer
from langchain_stormtrooper.testing.__main__ import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytest_plugins = ["langchain_stormtrooper.testing.fixtures"]


async def generate(session: aiohttp.ClientSession, server: TGIServer, inputs: str = "x", **parameters: Any) -> Any:
    """Send one prompt and return the JSON of the answer."""
    body = {"inputs": inputs, "parameters": parameters}
    async with session.post(f"{server.url}/generate", json=body) as response:
        return await response.json()


def sockets_open() -> int:
    """Count the sockets that this process holds."""
    folder = Path("/proc/self/fd")
    entries = [entry for entry in folder.iterdir() if entry.is_symlink()] if folder.exists() else []
    return sum(str(entry.readlink()).startswith("socket:") for entry in entries)


def test_plain_context_manager() -> None:
    """A server answers inside its `with` block and refuses connections after it, with no thread or socket left."""
    gc.collect()  # of what tests before have left
    threads, sockets = threading.active_count(), sockets_open()
    with TGIServer() as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        assert threading.active_count() == threads + 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    gc.collect()
    assert (threading.active_count(), sockets_open()) == (threads, sockets)


async def test_closing_with_requests_under_way() -> None:
    """Closing cuts requests that are still waiting, at once and without a trace."""
    threads = threading.active_count()
    async with aiohttp.ClientSession() as session:
        async with TGIServer(latency_per_request=30) as server:
            waiting = [asyncio.create_task(generate(session, server)) for _ in range(5)]
            while server.permits_in_use < 5:  # noqa: ASYNC110 - another thread's number has no event
                await asyncio.sleep(0.005)
            begin = time.perf_counter()
        assert time.perf_counter() - begin < 10
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    assert threading.active_count() == threads


def test_start_twice_and_close_twice() -> None:
    """Starting a running server is an error, closing a closed one is not, and a closed one can start again."""
    server = TGIServer()
    with server, pytest.raises(RuntimeError, match="running already"):
        server.start()
    server.close()
    with server:
        socket.create_connection(("127.0.0.1", server.port)).close()


def test_port_in_use() -> None:
    """A port that is taken is reported to the caller, and no thread stays."""
    threads = threading.active_count()
    with TGIServer() as server, pytest.raises(OSError, match="in use"):
        TGIServer(port=server.port).start()
    assert threading.active_count() == threads


def test_restart_needs_a_running_server() -> None:
    """A server that does not run cannot restart."""
    with pytest.raises(RuntimeError, match="not running"):
        TGIServer().restart()


async def test_counters_and_record() -> None:
    """The server counts requests, tokens and prompts, and keeps what it received."""
    engine = ScriptedEngine(lambda _: " positive")
    async with TGIServer("3.3.7", engine, record=2) as server, aiohttp.ClientSession() as session:
        for inputs in ("a b", "a b", "", "c"):
            await generate(session, server, inputs, max_new_tokens=5)
        async with session.get(f"{server.url}/info") as response:
            assert response.status == 200
        counters = server.counters
        assert server.requests == counters.requests == 5
        assert counters.by_route == {"/generate": 4, "/info": 1}
        assert counters.by_status == {200: 4, 422: 1}
        assert counters.by_prompt == {"a b": 2, "": 1, "c": 1}
        assert counters.by_error == {"validation": 1}
        assert (counters.generations, counters.generated_tokens, counters.prompt_tokens) == (3, 6, 8)
        assert [received.path for received in server.received] == ["/generate", "/generate"]
        assert server.received[-1].json == {"inputs": "c", "parameters": {"max_new_tokens": 5}}
        assert server.received[-1].headers["content-type"] == "application/json"
        server.reset()
        assert (server.requests, server.received, server.counters.by_prompt) == (0, [], {})
        await generate(session, server)
        assert server.requests == 1


async def test_prefix_cache() -> None:
    """A prompt's prefix is found once another request with it is finished, and not by requests for prefill details."""
    engine = ScriptedEngine(lambda _: " positive")
    constant = engine.text_of(300)
    async with TGIServer("3.3.7", engine) as server, aiohttp.ClientSession() as session:
        await generate(session, server, constant + " one")
        assert (server.counters.cached_tokens, server.counters.computed_tokens) == (0, 301)
        await generate(session, server, constant + " two")
        assert (server.counters.cached_tokens, server.counters.cache_hits) == (300, 1)
        await generate(session, server, constant + " one", decoder_input_details=True)
        assert server.counters.cached_tokens == 300
    async with TGIServer("3.3.7", engine) as server, aiohttp.ClientSession() as session:
        await generate(session, server, constant + " one")
        server.restart(0.01, wait=True)
        # The pooled connection was cut; the client must notice before it sends again.
        await asyncio.sleep(0.05)
        await generate(session, server, constant + " one")
        assert (server.counters.cached_tokens, server.counters.computed_tokens) == (0, 602)


@pytest.mark.parametrize(
    ("version", "settings"),
    [("2.2.0", {}), ("3.3.7", {"family": "padded"}), ("3.3.7", {"prefix_caching": False})],
)
async def test_no_prefix_cache(version: str, settings: dict[str, Any]) -> None:
    """Old versions, padded models and servers told so reuse nothing."""
    async with TGIServer(version, **settings) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            await generate(session, server, "the same prompt")
    assert server.counters.cached_tokens == 0


async def test_concurrent_requests_share_nothing() -> None:
    """Requests that run at the same time over a cold server find nothing of each other in the cache."""
    async with TGIServer(latency_per_request=0.05) as server, aiohttp.ClientSession() as session:
        await asyncio.gather(*(generate(session, server, "the same prompt") for _ in range(5)))
        assert server.counters.cached_tokens == 0
        await generate(session, server, "the same prompt")
    assert server.counters.cached_tokens > 0


async def test_latency() -> None:
    """Latencies add up per request and per token, and requests wait side by side."""
    engine = ScriptedEngine(lambda _: " a b c")
    server = TGIServer("3.3.7", engine, latency_per_request=0.1, latency_per_token=0.025)
    async with server, aiohttp.ClientSession() as session:
        begin = time.perf_counter()
        await asyncio.gather(*(generate(session, server) for _ in range(20)))
        elapsed = time.perf_counter() - begin
    # One after another they would take 4 s.
    assert 0.2 <= elapsed < 2
    assert server.peak_permits == 20
    assert server.permits_in_use == 0


async def test_restart() -> None:
    """A restart cuts requests, refuses connections for its time, and comes back on the same port."""
    async with TGIServer(latency_per_request=0.05) as server, aiohttp.ClientSession() as session:
        url = server.url
        waiting = asyncio.create_task(generate(session, server))
        await asyncio.sleep(0.02)
        begin = time.perf_counter()
        server.restart(0.2)
        with pytest.raises(aiohttp.ClientOSError):
            await waiting
        with pytest.raises(aiohttp.ClientConnectorError):
            await generate(session, server)
        await asyncio.sleep(max(0.0, 0.3 - (time.perf_counter() - begin)))
        assert (await generate(session, server))["generated_text"] == " ok"
        assert server.url == url
        assert server.counters.restarts == 1
    with TGIServer() as other:
        other.restart(0.05, wait=True)
        socket.create_connection(("127.0.0.1", other.port)).close()


def test_close_while_down() -> None:
    """A server that is down for a restart can be closed."""
    with TGIServer() as server:
        server.restart(30)
    assert not any(thread.name == "tgi-server" for thread in threading.enumerate())


class Slow:
    """A blocking engine: the scripted one, with a pause in every step."""

    bos: int | None = 1
    eos, pad, blocking = 2, 0, True

    def __init__(self) -> None:
        self._script = ScriptedEngine(lambda _: " a b c")
        self.vocabulary = self._script.vocabulary
        self.threads: set[str] = set()

    def encode(self, text: str) -> list[int]:
        """Cut a text."""
        return self._script.encode(text)

    def name(self, token: int) -> str:
        """Name a token."""
        return self._script.name(token)

    def next_token(self, prompt: str, generated: Sequence[int]) -> Prediction:
        """Predict, slowly."""
        self.threads.add(threading.current_thread().name)
        time.sleep(0.02)
        prediction = self._script.next_token(prompt, generated)
        return Prediction({token: prediction.probability(token) for token in range(len(self.vocabulary))})


async def test_blocking_engine() -> None:
    """A slow engine runs on a thread of its own, and the server goes on answering meanwhile."""
    engine = Slow()
    async with TGIServer("3.3.7", engine) as server, aiohttp.ClientSession() as session:
        running = asyncio.create_task(generate(session, server))
        async with session.get(f"{server.url}/health") as response:
            assert response.status == 200
        assert not running.done()
        assert (await running)["generated_text"] == " a b c"
    assert len(engine.threads) == 1
    assert engine.threads.isdisjoint({"tgi-server", "MainThread"})
    assert not any(thread.name.startswith("tgi-model") for thread in threading.enumerate())


def test_fixture(tgi_server: Callable[..., TGIServer]) -> None:
    """The pytest fixture starts servers with the given settings."""
    first, second = tgi_server("2.0.4"), tgi_server(max_concurrent_requests=3)
    assert first.config.release.tag == "2.0.4"
    assert second.config.max_concurrent_requests == 3
    assert first.port != second.port


def test_command_line_options() -> None:
    """Each option of the command line becomes a setting of the server."""
    server = build(["--version", "2.4.1", "--answer", " yes", "--api-key", "k", "--fault-rate", "0.5"])
    assert (server.config.release.tag, server.config.api_key) == ("2.4.1", "k")
    assert server.faults.active


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_line(number: signal.Signals) -> None:
    """`python -m langchain_stormtrooper.testing` prints its URL, serves, and ends well when told to."""
    command = [sys.executable, "-W", "error", "-m", "langchain_stormtrooper.testing", "--answer", " yes"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        host, port = url.removeprefix("http://").split(":")
        socket.create_connection((host, int(port))).close()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


async def test_a_missing_grammar_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra that brings the grammar engine, a grammar is answered with what to install."""
    monkeypatch.setitem(sys.modules, "interegular", None)
    grammar = {"type": "regex", "value": "( yes| no)"}
    body = {"inputs": "Is it?", "parameters": {"max_new_tokens": 5, "grammar": grammar}}
    async with (
        TGIServer() as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/generate", json=body) as response,
    ):
        assert response.status == 424
        assert "pip install 'langchain-stormtrooper[testing]'" in (await response.json())["error"]
