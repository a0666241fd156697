"""The command `serve` under load: no errors, bounded memory, honest overload, and places that come back."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from instant_server import instant_server
from served import serve
from serving import generate_load, one_text

from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

ENGINE = {"jazz": " music", "rain": " weather"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_thousands_of_requests_leave_no_trace() -> None:
    """1,600 requests, 64 at once, are all answered with 200, and memory is what it was after the first 800."""
    with instant_server() as backend, serve(backend, "--method", "generate") as served:
        url = f"{served.url}/classify"
        first = await generate_load(url, one_text(0, 800), 64)
        before = served.resident_bytes()
        then = await generate_load(url, one_text(800, 800), 64)
        grown = served.resident_bytes() - before
    assert first.statuses == {200: 800}
    assert then.statuses == {200: 800}
    assert grown < 6 * 2**20


async def test_overload_is_a_429_and_no_row_is_lost(tgi_server: Callable[..., TGIServer]) -> None:
    """64 clients at an app that takes 4 at once get their label or a 429 with Retry-After, never anything else."""
    server = tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)), latency_per_request=0.02)
    statuses: Counter[int] = Counter()

    async def insist(session: aiohttp.ClientSession, url: str, text: str) -> str:
        while True:
            async with session.post(url, json={"text": text}) as answer:
                statuses[answer.status] += 1
                if answer.status == 200:
                    return str((await answer.json())["label"])
                assert answer.status == 429
                assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.1)

    with serve(server.url, "--method", "generate", "--max-requests", "4") as served:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
            texts = [f"{word} {n}" for n in range(60) for word in ENGINE]
            labels = await asyncio.gather(*(insist(session, f"{served.url}/classify", text) for text in texts))
    assert labels == ["music", "weather"] * 60
    assert statuses[200] == 120
    assert statuses[429] > 50
    assert server.peak_permits <= 4


async def test_clients_that_leave_free_their_places(tgi_server: Callable[..., TGIServer]) -> None:
    """Rows of clients that have gone are given up at the model's server, too, and others get in at once."""
    stall = Fault("stall", times=None, when=lambda prompt: "endless" in prompt, seconds=60)
    server = tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)), faults=stall)
    with serve(server.url, "--method", "generate", "--max-requests", "4") as served:
        url = f"{served.url}/classify"
        async with aiohttp.ClientSession() as session:
            bodies = [{"text": "endless"}, {"texts": ["endless 1", "endless 2", "rain"]}] * 2
            asking = [asyncio.create_task(_read(session, url, body)) for body in bodies]
            await asyncio.sleep(1.0)
            async with session.post(url, json={"text": "jazz"}) as answer:
                assert answer.status == 429
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        async with aiohttp.ClientSession() as session, asyncio.timeout(5):
            while True:
                async with session.post(url, json={"text": "jazz"}) as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.05)
            async with session.get(f"{served.url}/metrics") as told:
                shown = await told.text()
    assert 'stormtrooper_http_requests_total{method="POST",path="/classify",status="499"} 4.0' in shown
    assert "stormtrooper_http_requests_in_flight 0.0" in shown


async def _read(session: aiohttp.ClientSession, url: str, body: object) -> None:
    async with session.post(url, json=body) as answer:
        await answer.read()


async def test_a_long_body_is_answered_and_not_cut_off(tgi_server: Callable[..., TGIServer]) -> None:
    """A client that sends far too much gets its 413, with a length and in chunks, and the next request is fine."""
    server = tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 2**16

    headers = {"content-type": "application/json"}
    with serve(server.url, "--max-body-bytes", "1000") as served:
        url = f"{served.url}/classify"
        async with aiohttp.ClientSession() as session:
            for body in (b"x" * 1_000_000, chunks()):
                async with session.post(url, data=body, headers=headers) as answer:
                    assert answer.status == 413
                    assert "1000 bytes" in (await answer.json())["detail"]
            async with session.post(url, json={"text": "jazz"}) as answer:
                assert (await answer.json())["label"] == "music"
