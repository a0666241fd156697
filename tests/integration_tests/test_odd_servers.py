"""Servers that are none, or speak oddly: whatever comes back is told in one sentence of ours, and quotes nothing."""

from __future__ import annotations

import asyncio
import random
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from aiohttp import web
from served import answering

from langchain_stormtrooper import (
    OpenAICompletions,
    RequestFailedError,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.errors import ResponseFormatError, StormtrooperError

MARK = b"confidential"
KEY = "KEYsecret"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER = b'{"generated_text": "confidential"}'
GOOD = HEAD + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(ANSWER) + ANSWER
RAW = {
    "nothing": b"",
    "junk": b"\x00\x01" + MARK + b"\r\n\r\n",
    "another protocol": b"220 " + MARK + b" ESMTP\r\n\r\n",
    "no status": b"HTTP/1.1 " + MARK + b"\r\n\r\n",
    "a large status": b"HTTP/1.1 99999 OK\r\n\r\n" + MARK,
    "only interim": b"HTTP/1.1 100 Continue\r\n\r\n",
    "another protocol later": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + MARK,
    "a header without end": HEAD + b"x: " + MARK * 20_000 + b"\r\n\r\n",
    "a bad header": HEAD + MARK + b"\r\n\r\n",
    "a bad length": HEAD + b"content-length: " + MARK + b"\r\n\r\n" + MARK,
    "too short": HEAD + b"content-length: 500\r\n\r\n" + MARK,
    "bad chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n" + MARK + b"\r\n",
    "a broken chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello" + MARK,
    "bad gzip": HEAD + b"content-encoding: gzip\r\ncontent-length: 12\r\n\r\n" + MARK,
    "brotli": HEAD + b"content-encoding: br\r\ncontent-length: 12\r\n\r\n" + MARK,
    "no stream": STREAM + b"0\r\n\r\n",
    "no chunks": STREAM + MARK,
    "a stream of something else": STREAM + b"12\r\ndata: confidential\r\n0\r\n\r\n",
    "a stream in gzip": STREAM.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n") + b"c\r\n" + MARK + b"\r\n",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses."""
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.001)


@asynccontextmanager
async def saying(answers: list[bytes]) -> AsyncIterator[str]:
    """A server that reads a request's head and answers with bytes, the last of them for ever; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            # Whoever asks for its health is told that it is well.
            writer.write(GOOD if b" /health " in head else answers.pop(0) if len(answers) > 1 else answers[0])
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(url: str, *, stream: bool) -> Any:
    """What comes of a row or of a stream; any error but ours goes through and fails the test."""
    model = TextGenerationInference(base_url=url, api_key=KEY, timeout=2, max_downtime=1)
    try:
        return [piece async for piece in model.astream("x")] if stream else await model.ainvoke("x")
    except StormtrooperError as error:
        behind = f"{error.__cause__!r} {error.__context__!r}"
        shown = "".join(traceback.format_exception(error)) + behind
        assert MARK.decode() not in shown
        assert KEY not in shown
        return error


@pytest.mark.parametrize("stream", [False, True], ids=["row", "stream"])
@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
async def test_any_answer_is_told_in_our_words(raw: bytes, known: bool, stream: bool) -> None:
    """Bytes that are no answer give an error of ours, from a server that was there before and from one that was not."""
    async with saying([GOOD, raw] if known else [raw]) as url:
        if known:
            assert await ask(url, stream=False) == MARK.decode()
        assert isinstance(await ask(url, stream=stream), ServerUnreachableError | RequestFailedError)


@pytest.mark.parametrize("seed", range(5))
async def test_answers_with_some_bytes_changed(seed: int) -> None:
    """A good answer with bytes changed, left out or put in gives a text or an error of ours."""
    rng = random.Random(seed)
    stream = STREAM + b'5c\r\ndata: {"token":{"text":"x"},"generated_text":"x"}' + b" " * 42 + b"\n\n\r\n0\r\n\r\n"
    for number in range(30):
        raw = bytearray(stream if number % 2 else GOOD)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        async with saying([GOOD, bytes(raw)]) as url:
            await ask(url, stream=False)
            await ask(url, stream=number % 2 == 1)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", ["brotli", "bad gzip"])
async def test_an_encoding_that_cannot_be_read(name: str, known: bool) -> None:
    """Compressed in a way that cannot be read is told apart from no HTTP at all, and not retried."""
    async with saying([GOOD, RAW[name]] if known else [RAW[name]]) as url:
        if known:
            await ask(url, stream=False)
        for stream in (False, True):
            error = await ask(url, stream=stream)
            assert isinstance(error, ResponseFormatError)
            assert "content encoding that cannot be read: turn off the compression" in str(error)


async def test_a_host_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no one knows is told apart from a server that refuses."""

    async def resolve(*_: Any, **__: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    classifier = ZeroShotClassifier(["a", "b"], llm=TextGenerationInference(base_url="http://no-such-host.invalid:80"))
    with pytest.raises(
        ServerUnreachableError,
        match=r"no-such-host\.invalid:80 cannot be found \(is the host name spelled right\?\): start ",
    ):
        await classifier.ainvoke("x")
    with pytest.raises(ServerUnreachableError, match="cannot be found"):
        [piece async for piece in classifier.llm.astream("x")]


@asynccontextmanager
async def with_a_model(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An HTTP server with one model that answers every other request as a function says; its URL."""

    async def any_route(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"data": [{"id": "m"}]})
        return await answer(request)

    async with answering(any_route) as url:
        yield url


async def test_a_server_that_does_not_stream() -> None:
    """Where a stream is asked for and the answer comes as a whole, the whole is the only piece."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert (await request.json())["stream"]
        return web.json_response({"choices": [{"text": " yes", "finish_reason": "stop"}]})

    async with with_a_model(answer) as url:
        llm = OpenAICompletions(base_url=url)
        assert [piece async for piece in llm.astream("x")] == [" yes"]


async def test_a_stream_that_ends_before_the_answer_does() -> None:
    """Pieces that came are handed out, and that the end is missing is told."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"text": " ye", "finish_reason": null}]}\n\n')
        return response

    pieces = []

    async def take(url: str) -> None:
        async for piece in OpenAICompletions(base_url=url).astream("x"):
            pieces.append(piece)  # noqa: PERF401  # seen although it raises

    async with with_a_model(answer) as url:
        with pytest.raises(ResponseFormatError, match="stream ended before the answer did"):
            await take(url)
    assert pieces == [" ye"]


async def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that comes in pieces is read up to a bound; what is longer is the row's failure."""
    monkeypatch.setattr("langchain_stormtrooper.reading.MAX_RESPONSE_BYTES", 100_000)
    sizes: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"generated_text": "')
        for _ in range(sizes[-1]):
            await response.write(b"x" * 10_000)
            await asyncio.sleep(0)
        await response.write(b'"}')
        return response

    async with with_a_model(answer) as url:
        llm = TextGenerationInference(base_url=url)
        sizes.append(5)
        assert await llm.ainvoke("x") == "x" * 50_000
        sizes.append(1000)
        with pytest.raises(RequestFailedError, match="The server's answer is longer than"):
            await llm.ainvoke("x")


async def test_large_bodies_warn_of_nothing() -> None:
    """Bodies of more than a MiB are sent whole and without a warning, by a retry too, as small ones are."""
    received: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(len((await request.json())["inputs"]))
        return web.Response(status=503) if len(received) % 2 else web.json_response({"generated_text": "yes"})

    application = web.Application(client_max_size=10**7)
    application.router.add_post("/generate", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        model = TextGenerationInference(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
        lengths = [10, 2**20 - 200, 2**20, 1_900_000]
        assert [await model.ainvoke("x" * length) for length in lengths] == ["yes"] * 4
    finally:
        await runner.cleanup()
    assert received == [length for length in lengths for _ in range(2)]
