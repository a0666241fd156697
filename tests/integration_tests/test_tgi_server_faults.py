"""Injected faults look on the wire like the real thing, and hit only whom they should."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import RETRYABLE, Fault, FaultPlan, ScriptedEngine, TGIServer

BODY = {"inputs": "x", "parameters": {"max_new_tokens": 5, "details": True}}


async def ask(session: aiohttp.ClientSession, server: TGIServer, path: str = "/generate", body: Any = BODY) -> Any:
    """Send a request; return status, content type and text, or the error it met with."""
    try:
        async with session.post(server.url + path, json=body) as response:
            return response.status, response.content_type, await response.text()
    except aiohttp.ClientError as error:
        return error


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "start"),
    [
        ("424", 424, "application/json", '{"error":"Request failed during generation: Server error: boom"'),
        ("429", 429, "application/json", '{"error":"Model is overloaded"'),
        ("500", 500, "application/json", '{"error":"Incomplete generation"'),
        ("502", 502, "text/html", "<html>\r\n<head><title>502 Bad Gateway"),
        ("503", 503, "text/html", "<html>\r\n<head><title>503 Service"),
        ("504", 504, "text/html", "<html>\r\n<head><title>504 Gateway"),
        ("401", 401, "application/octet-stream", ""),
        ("403", 403, "application/json", '{"message":"Forbidden"}'),
        ("text_422", 422, "text/plain", "Failed to deserialize the JSON body"),
        ("content_type", 200, "text/html", '{"generated_text":" ok"'),
    ],
)
async def test_responses(kind: str, status: int, content_type: str, start: str) -> None:
    """Faults that are responses have the status, the content type and the body of the real thing, once."""
    async with TGIServer(faults=Fault(kind)) as server, aiohttp.ClientSession() as session:
        bad, good = await ask(session, server), await ask(session, server)
    assert bad[:2] == (status, content_type)
    assert bad[2].startswith(start)
    assert good[0] == 200
    assert server.counters.by_fault == {kind: 1}


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
@pytest.mark.parametrize("kind", ["reset_before", "refuse", "restart"])
async def test_resets(kind: str, path: str) -> None:
    """A reset before the first byte is a connection error; a server that went away refuses and comes back."""
    async with TGIServer(faults=Fault(kind, seconds=0.1)) as server, aiohttp.ClientSession() as session:
        first, second = await ask(session, server, path), await ask(session, server, path)
        await asyncio.sleep(0.2)
        third = await ask(session, server, path)
    assert isinstance(first, aiohttp.ClientOSError)
    assert not isinstance(first, aiohttp.ClientConnectorError)
    if kind == "reset_before":
        assert second[0] == 200
    else:
        assert isinstance(second, aiohttp.ClientConnectorError)
    assert third[0] == 200
    assert server.counters.restarts == (kind == "restart")


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
async def test_reset_in_the_middle(path: str) -> None:
    """A reset in the middle comes after the status and part of the body."""
    async with TGIServer(faults=Fault("reset_middle")) as server, aiohttp.ClientSession() as session:
        async with session.post(server.url + path, json=BODY) as response:
            assert response.status == 200
            assert (await response.content.read(5))[:1] in (b"{", b"d")
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (await ask(session, server, path))[0] == 200


async def test_truncated_json() -> None:
    """Truncated JSON is a complete response whose text stops half way."""
    async with TGIServer(faults=Fault("truncated_json")) as server, aiohttp.ClientSession() as session:
        bad, good = await ask(session, server), await ask(session, server)
    assert bad[0] == good[0] == 200
    assert good[2].startswith(bad[2])
    assert 0 < len(bad[2]) < len(good[2])


async def test_stall_and_drip() -> None:
    """A stall delays the first byte and a drip spreads the body; both end in the right answer."""
    faults = [Fault("stall", seconds=0.3), Fault("drip", seconds=0.3)]
    async with TGIServer(faults=faults) as server, aiohttp.ClientSession() as session:
        firsts = []
        for _ in range(2):
            begin = time.perf_counter()
            async with session.post(f"{server.url}/generate", json=BODY) as response:
                firsts.append(time.perf_counter() - begin)
                assert (await response.json())["generated_text"] == " ok"
            assert time.perf_counter() - begin >= 0.3
    assert firsts[0] >= 0.3 > firsts[1]


async def test_cancelling_a_stall() -> None:
    """A client that gives up on a stalled request frees its permit."""
    timeout = aiohttp.ClientTimeout(total=0.1)
    async with (
        TGIServer(faults=Fault("stall", seconds=30)) as server,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        with pytest.raises(TimeoutError):
            await ask(session, server)
        await asyncio.sleep(0.05)
        assert server.permits_in_use == 0


async def test_streams_show_errors_as_events() -> None:
    """Faults of the router and the model are events in a stream of status 200."""
    faults = [Fault("429"), Fault("424"), Fault("500")]
    async with TGIServer(faults=faults) as server, aiohttp.ClientSession() as session:
        replies = [await ask(session, server, "/generate_stream") for _ in range(3)]
    assert [reply[0] for reply in replies] == [200] * 3
    for reply, error_type in zip(replies, ["overloaded", "generation", "incomplete_generation_stream"], strict=True):
        assert f'"error_type":"{error_type}"' in reply[2]


async def test_retry_after() -> None:
    """A gateway's 429 or 503 can carry Retry-After, which TGI's own never does."""
    faults = [Fault("429", retry_after=2), Fault("503", retry_after=0.5), Fault("429")]
    async with TGIServer(faults=faults) as server, aiohttp.ClientSession() as session:
        found = []
        for _ in faults:
            async with session.post(f"{server.url}/generate", json=BODY) as response:
                found.append(response.headers.get("Retry-After"))
    assert found == ["2", "0.5", None]


async def test_faults_on_other_routes() -> None:
    """A fault can be put on `/info`, and then generation is left alone."""
    fault = Fault("503", path="/info", times=None)
    async with TGIServer(faults=fault) as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/info") as response:
            assert response.status == 503
        assert (await ask(session, server))[0] == 200


OTHER_ROUTES = ["429", "502", "401", "403", "text_422", "stall", "drip", "content_type", "truncated_json"]
RESETS = ["reset_before", "reset_middle", "refuse", "restart"]


async def got(session: aiohttp.ClientSession, method: str, url: str, body: Any) -> tuple[Any, ...]:
    """The answer as a client sees it, and whether it took long; the error where there is none."""
    begin = time.perf_counter()
    try:
        async with session.request(method, url, json=body) as response:
            seen = response.status, response.content_type, await response.text()
    except aiohttp.ClientError as error:
        return (type(error),)
    return *seen, time.perf_counter() - begin > 0.25


@pytest.mark.parametrize(("method", "path"), [("GET", "/info"), ("POST", "/tokenize"), ("POST", "/generate_stream")])
@pytest.mark.parametrize("kind", [*OTHER_ROUTES, *RESETS])
async def test_every_hit_is_seen(method: str, path: str, kind: str) -> None:
    """Whatever is put on a route, its client sees it, on routes that do not generate and in streams too."""
    fault = Fault(kind, path=path, seconds=0.3)
    body = BODY if method == "POST" else None
    async with TGIServer(faults=fault) as server, aiohttp.ClientSession() as session:
        hit = await got(session, method, server.url + path, body)
        await asyncio.sleep(0.4 if kind in ("refuse", "restart") else 0)
        honest = await got(session, method, server.url + path, body)
    assert fault.hits == 1
    assert honest[0] == 200
    # aiohttp repeats a GET that was reset by itself.
    assert hit != honest or server.requests == 3


async def test_spoilt_streams() -> None:
    """A stream drips to the same text, comes under another type, or ends within its last event."""
    faults = [Fault(kind, seconds=0.2) for kind in ("drip", "content_type", "truncated_json")]
    async with TGIServer(engine=ScriptedEngine("one two"), faults=faults) as server, aiohttp.ClientSession() as session:
        drip, mistyped, cut, whole = [await ask(session, server, "/generate_stream") for _ in range(4)]
        assert server.permits_in_use == 0
    assert drip == whole
    assert mistyped == (200, "text/html", whole[2])
    assert cut[:2] == whole[:2]
    assert whole[2].startswith(cut[2])
    assert cut[2].count("\n\n") == whole[2].count("\n\n") - 1


async def test_failing_batch_reaches_running_requests() -> None:
    """With chunked prefill a bad request fails all that run; without, only its own batch."""
    statuses = {}
    for version in ("2.4.1", "3.3.7"):
        fault = Fault("424", when=lambda prompt: prompt == "bad")
        server = TGIServer(version, latency_per_request=0.3, faults=fault)
        async with server, aiohttp.ClientSession() as session:
            early = asyncio.create_task(ask(session, server))
            await asyncio.sleep(0.1)
            bad = await ask(session, server, body={"inputs": "bad", "parameters": {}})
            statuses[version] = (await early)[0], bad[0]
    assert statuses == {"2.4.1": (200, 424), "3.3.7": (424, 424)}


async def test_chaos() -> None:
    """With a fifth of all requests failing in every retryable way, plain retries get every row through."""
    engine = ScriptedEngine(lambda prompt: " even" if int(prompt) % 2 == 0 else " odd")
    plan = FaultPlan(0.2, kinds=RETRYABLE, seconds=0.01, max_per_prompt=2)
    connector = aiohttp.TCPConnector(limit=32)
    async with TGIServer(engine=engine, faults=plan) as server, aiohttp.ClientSession(connector=connector) as session:

        async def row(number: int) -> str:
            for _ in range(100):
                reply = await ask(session, server, body={"inputs": str(number), "parameters": {}})
                if not isinstance(reply, Exception) and reply[0] == 200:
                    return str(reply[2])
                await asyncio.sleep(0.005)
            return "lost"

        rows = await asyncio.gather(*(row(number) for number in range(300)))
    assert rows == [f'{{"generated_text":" {"odd" if number % 2 else "even"}"}}' for number in range(300)]
    assert sum(plan.hits.values()) > 30
    assert max(plan.hits.values()) <= 2
    assert set(server.counters.by_fault) == {str(kind) for kind in RETRYABLE}
    assert server.permits_in_use == 0
