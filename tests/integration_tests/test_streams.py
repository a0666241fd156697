"""Streams: what is retried before the first event, what never is after it, and how long and large they may be."""

from __future__ import annotations

import asyncio
import json
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from langchain_stormtrooper import (
    ConfigurationError,
    RequestFailedError,
    ServerUnreachableError,
    TextGenerationInference,
    sessions,
)
from langchain_stormtrooper.errors import ResponseFormatError
from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
ENGINE = ScriptedEngine(lambda _: "one two three")
TEXT = "TEXTsecret"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses."""
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.001)


def llm(url: str, **kwargs: Any) -> TextGenerationInference:
    """An LLM for a server."""
    return TextGenerationInference(base_url=url, **kwargs)


async def streamed(model: TextGenerationInference, prompt: str = "x") -> str:
    """The pieces of a stream, joined."""
    return "".join([piece async for piece in model.astream(prompt)])


def limiter(url: str) -> AdaptiveLimiter:
    """What the running loop has learnt of a server."""
    return sessions._states[asyncio.get_running_loop()].servers[url].limiter


@pytest.mark.parametrize("version", ["1.4.5", "3.3.7"])
@pytest.mark.parametrize("kind", ["429", "424", "502", "503", "504", "reset_before", "refuse", "restart"])
async def test_what_passes_before_the_first_event_is_retried(tgi_server: StartServer, kind: str, version: str) -> None:
    """An error as the first event, an HTTP error, a drop and a restart cost a stream time, not the answer."""
    server = tgi_server(version, ENGINE)
    assert await streamed(llm(server.url)) == "one two three"
    server.faults.add(Fault(kind, times=2, seconds=0.05))
    assert await streamed(llm(server.url)) == "one two three"
    assert server.counters.by_fault[kind] == 2
    assert limiter(server.url).in_flight == 0


@pytest.mark.parametrize(
    ("kind", "asked", "says"),
    [
        ("424", 3, "424"),
        ("503", 7, "503"),
        ("500", 1, "ended the gen"),
        ("text_422", 1, "422"),
    ],
)
async def test_a_stream_is_asked_for_as_often_as_a_row(
    tgi_server: StartServer, kind: str, asked: int, says: str
) -> None:
    """What stays is raised after as many tries as the protocol allows; an ended generation has streamed before."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault(kind, times=None))
    with pytest.raises(RequestFailedError, match=says):
        await streamed(llm(server.url))
    assert server.counters.by_fault[kind] == asked
    assert server.permits_in_use == 0
    assert limiter(server.url).in_flight == 0


async def test_a_stream_bears_refusals_for_a_time(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses a stream is asked until the time is over, more often than its faults may be repeated."""
    monkeypatch.setattr("langchain_stormtrooper.retrying._AT_LEAST", 0.0)
    server = tgi_server("3.3.7", ENGINE, faults=Fault("429", times=None))
    with pytest.raises(RequestFailedError, match="429"):
        await streamed(llm(server.url, max_downtime=0.8))
    assert 7 < server.counters.by_fault["429"] < 30
    server.faults.clear()
    passing = Fault("429", times=9)
    server.faults.add(passing)
    assert await streamed(llm(server.url)) == "one two three"
    assert passing.hits == 9
    assert limiter(server.url).in_flight == 0


async def test_a_server_that_never_was_there() -> None:
    """A newcomer's stream says at once that there is no server."""
    with pytest.raises(ServerUnreachableError, match="start Text Generation Inference"):
        await streamed(llm("http://127.0.0.1:9"))


async def test_streams_learn_the_permits(tgi_server: StartServer) -> None:
    """Forty streams against four permits are all answered, and the limit comes down to about the permits."""
    server = tgi_server("3.3.7", ENGINE, max_concurrent_requests=4, latency_per_token=0.005)
    model = llm(server.url, max_concurrency=40)
    texts = await asyncio.gather(*(streamed(model, str(number)) for number in range(40)))
    assert texts == ["one two three"] * 40
    assert limiter(server.url).limit <= 6
    assert not math.isinf(limiter(server.url).limit)


def test_refused_settings_are_told(tgi_server: StartServer) -> None:
    """A stream tells settings that the server refuses in the server's words, as a row does."""
    server = tgi_server("3.3.7", ENGINE)
    with pytest.raises(ConfigurationError, match=r"`stop` supports up to 4 stop sequences\. Given: 5"):
        list(llm(server.url, stop=list("abcde")).stream("x"))


Write = Callable[[web.StreamResponse], Awaitable[None]]


@asynccontextmanager
async def streaming(write: Write) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that begins a stream for every request and writes into it; its URL, and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(await request.text())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await write(response)
            await response.write_eof()
        except ConnectionError:
            pass
        return response

    application = web.Application()
    application.router.add_post("/generate_stream", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def event(text: str, whole: str | None = None) -> bytes:
    """An event with a token, and with the whole text if it is the last."""
    body = {"token": {"id": 1, "text": text, "logprob": 0, "special": False}, "generated_text": whole}
    return f"data: {json.dumps(body)}\n\n".encode()


def cut(response: web.StreamResponse) -> None:
    """Break the connection off."""
    assert response._req is not None
    assert response._req.transport is not None
    response._req.transport.abort()


async def test_what_was_streamed_is_not_asked_for_again() -> None:
    """A stream that breaks off after a piece is an error, and a stream that breaks off before one is retried."""
    begun: list[bool] = []

    async def write(response: web.StreamResponse) -> None:
        begun.append(len(begun) < 2)
        if not begun[-1]:
            await response.write(event("piece"))
            await asyncio.sleep(0.05)
        cut(response)

    async with streaming(write) as (url, asked):
        model = llm(url)
        pieces = aiter(model.astream("x"))
        assert await anext(pieces) == "piece"
        with pytest.raises(RequestFailedError, match="broke off in the middle of the stream"):
            await anext(pieces)
        assert begun == [True, True, False]
        assert len(asked) == 3


async def test_a_stream_that_ends_early() -> None:
    """A stream whose last event never came is an error, not a shorter answer."""

    async def write(response: web.StreamResponse) -> None:
        await response.write(event("piece"))

    async with streaming(write) as (url, _):
        with pytest.raises(ResponseFormatError, match="ended before the answer did"):
            await streamed(llm(url))


@pytest.mark.parametrize("after", [b"data: [DONE]\n\n", event("more"), b": kept open\n\n", b"data: {{{\n\n"])
async def test_the_last_event_ends_a_stream(after: bytes) -> None:
    """What follows the last event is not read, and a connection that is held open is not waited for."""
    left = asyncio.Event()

    async def write(response: web.StreamResponse) -> None:
        await response.write(event("one") + event(" two", "one two"))
        await response.write(after)
        await left.wait()

    async with streaming(write) as (url, asked):
        assert await streamed(llm(url, timeout=5)) == "one two"
        left.set()
        assert len(asked) == 1
        assert limiter(url).in_flight == 0


async def test_lines_as_they_come() -> None:
    """Events in any pieces, with any line ends and comments between them, give the same text."""
    whole = event("one") + b":\n\n" + event(" two").replace(b"\n", b"\r\n") + b"event: x\n" + event("!", "one two!")

    async def write(response: web.StreamResponse) -> None:
        for number in range(0, len(whole), 7):
            await response.write(whole[number : number + 7])
            await asyncio.sleep(0)

    async with streaming(write) as (url, _):
        assert await streamed(llm(url)) == "one two!"


@pytest.mark.parametrize("before", [b"", event("piece")], ids=["at once", "after a piece"])
async def test_a_line_without_end(before: bytes) -> None:
    """A line of megabytes is an error of ours, which quotes nothing of it, and is not read to its end."""
    written = 0

    async def write(response: web.StreamResponse) -> None:
        nonlocal written
        await response.write(before + b"data: ")
        for _ in range(200):
            await response.write(TEXT.encode() * 10_000)
            written += len(TEXT) * 10_000

    async with streaming(write) as (url, asked):
        with pytest.raises(ResponseFormatError, match="longer than 1 MiB") as caught:
            await streamed(llm(url))
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
        assert TEXT not in shown
        assert len(asked) == 1
        assert written < 15_000_000
        assert limiter(url).in_flight == 0


async def test_a_stream_that_flows_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that never end are ended by the timeout, or by their size if they are quick."""

    async def write(response: web.StreamResponse) -> None:
        while True:
            await response.write(event("piece") * 100)
            await asyncio.sleep(0)

    async with streaming(write) as (url, _):
        started = time.monotonic()
        with pytest.raises(RequestFailedError, match=r"did not finish within 0\.5 s"):
            await streamed(llm(url, timeout=0.5))
        assert time.monotonic() - started < 3
        monkeypatch.setattr("langchain_stormtrooper.reading.MAX_RESPONSE_BYTES", 2**20)
        with pytest.raises(RequestFailedError, match="longer than 1 MiB"):
            await streamed(llm(url))
        assert limiter(url).in_flight == 0


@pytest.mark.parametrize("before", [b"", event("piece")], ids=["before the first", "after it"])
async def test_a_stream_that_stalls(before: bytes) -> None:
    """Silence is ended by the timeout, wherever it comes."""

    async def write(response: web.StreamResponse) -> None:
        await response.write(before + b":\n\n")
        await asyncio.sleep(30)

    async with streaming(write) as (url, asked):
        with pytest.raises(RequestFailedError, match=r"within 0\.3 s"):
            await streamed(llm(url, timeout=0.3))
        assert len(asked) == 1
