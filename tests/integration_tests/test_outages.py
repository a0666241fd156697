"""A server that is gone for a while: who waits, for how long, and what is left of the waiting."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from served import answering

from langchain_stormtrooper import (
    FailedRequestWarning,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
ENGINE = ScriptedEngine(lambda _: "science")


def llm(server: TGIServer, **kwargs: Any) -> TextGenerationInference:
    """An LLM for a server."""
    return TextGenerationInference(base_url=server.url, **kwargs)


async def finished(awaitable: Any) -> tuple[Any, float]:
    """What comes of a call, and after how many seconds."""
    started = time.monotonic()
    try:
        return await awaitable, time.monotonic() - started
    except ServerUnreachableError as error:
        return error, time.monotonic() - started


@pytest.mark.parametrize("first", ["patient", "impatient"])
async def test_each_waits_as_long_as_it_was_told(tgi_server: StartServer, first: str) -> None:
    """The impatient gives up in its own time, the patient sees the server's return, whoever of them notices first."""
    server = tgi_server("3.3.7", ENGINE)
    models = {"patient": llm(server, max_downtime=20), "impatient": llm(server, max_downtime=0.3)}
    assert await models["patient"].ainvoke("x") == "science"
    server.restart(down_for=1.2)
    calls: dict[str, asyncio.Task[tuple[Any, float]]] = {}
    for name in sorted(models, key=lambda name: name != first):
        calls[name] = asyncio.create_task(finished(models[name].ainvoke("x")))
        await asyncio.sleep(0.05)
    gone, after = await calls["impatient"]
    assert isinstance(gone, ServerUnreachableError)
    assert 0.3 <= after < 1.1
    assert (await calls["patient"])[0] == "science"


async def test_all_that_wait_share_one_who_asks(tgi_server: StartServer) -> None:
    """Sixty rows of two classifiers wait for one server's health, and it is asked a few times, not by each."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.3)
    first, second = (
        ZeroShotClassifier(["politics", "science"], llm=llm(server), prompt="{text}", method="generate")
        for _ in range(2)
    )
    assert await first.ainvoke("x") == "science"
    server.healthy = False
    batches = [
        asyncio.create_task(task.abatch([f"{name} {n}" for n in range(30)]))
        for name, task in (("a", first), ("b", second))
    ]
    await asyncio.sleep(0.15)
    server.restart(down_for=0.2, wait=True)
    await asyncio.sleep(0.5)
    assert 1 <= server.counters.by_route["/health"] <= 8
    server.healthy = True
    assert await asyncio.gather(*batches) == [["science"] * 30] * 2


@pytest.mark.parametrize("leave", ["cancel", "give up"])
async def test_nobody_asks_when_nobody_waits(tgi_server: StartServer, leave: str) -> None:
    """When the last that waits leaves, cancelled or out of patience, no task goes on and none is told to fail."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    server = tgi_server("3.3.7", ENGINE)
    waiting = llm(server, max_downtime=0.3 if leave == "give up" else 60)
    assert await waiting.ainvoke("x") == "science"
    before = asyncio.all_tasks()
    server.close()
    batch = asyncio.create_task(waiting.abatch(["x", "y", "z"]))
    if leave == "cancel":
        await asyncio.sleep(0.4)
        assert len(asyncio.all_tasks()) > len(before)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    else:
        with pytest.raises(ServerUnreachableError):
            await batch
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_one_that_leaves_does_not_take_the_others_along(tgi_server: StartServer) -> None:
    """Cancelling the row that noticed first leaves its neighbours waiting, and they are answered."""
    server = tgi_server("3.3.7", ENGINE)
    model = llm(server)
    assert await model.ainvoke("x") == "science"
    server.restart(down_for=0.8)
    first = asyncio.create_task(model.ainvoke("x"))
    await asyncio.sleep(0.2)
    others = asyncio.create_task(model.abatch(["y", "z"]))
    await asyncio.sleep(0.1)
    first.cancel()
    assert await others == ["science"] * 2


def test_a_server_that_was_there_is_known_on_the_next_loop(tgi_server: StartServer) -> None:
    """A server that restarts between two event loops is waited for: it was reached before, in this process."""
    server = tgi_server("3.3.7", ENGINE)
    assert asyncio.run(llm(server).ainvoke("x")) == "science"
    server.restart(down_for=0.5)
    assert asyncio.run(llm(server).ainvoke("x")) == "science"
    assert llm(server).invoke("x") == "science"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_of_all_requests_is_dropped(tgi_server: StartServer, stream: bool) -> None:
    """A server that drops the very first request and is well is there: the request is retried."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault("reset_before", times=2))
    model = llm(server)
    assert ("".join([piece async for piece in model.astream("x")]) if stream else await model.ainvoke("x")) == "science"


async def test_a_port_that_drops_all_connections_is_said_at_once() -> None:
    """Where connections are taken and dropped, as by a container whose server is not there, nobody waits."""

    async def drop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server:
        model = TextGenerationInference(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        gone, after = await finished(model.ainvoke("x"))
    assert isinstance(gone, ServerUnreachableError)
    assert after < 1


async def test_no_patience_at_all(tgi_server: StartServer) -> None:
    """With max_downtime=0 a server that is gone is said to be at once, and a dropped connection is still retried."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault("reset_before", times=2, skip=1))
    model = llm(server, max_downtime=0)
    assert [await model.ainvoke("x") for _ in range(2)] == ["science"] * 2
    server.close()
    gone, after = await finished(model.ainvoke("x"))
    assert isinstance(gone, ServerUnreachableError)
    assert after < 1


@asynccontextmanager
async def behind_a_gateway(statuses: list[int], headers: dict[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """A gateway whose /info gives some statuses first; its URL, and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/info":
            if statuses:
                return web.Response(status=statuses.pop(0), text="<html>", headers=headers)
            return web.json_response({"model_id": "google/flan-t5-xl", "version": "3.3.7"})
        return web.json_response({"generated_text": "science"})

    async with answering(answer) as url:
        yield url, asked


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_without_info_costs_little(status: int) -> None:
    """A gateway's error for /info, which nobody needs, holds nobody up for long, whatever pause it asks for."""
    async with behind_a_gateway([status] * 9, {"Retry-After": "30"}) as (url, asked):
        model = TextGenerationInference(base_url=url)
        task = ZeroShotClassifier(["politics", "science"], llm=model, method="generate")
        assert await task.ainvoke("x") == "science"
        assert asked.count("/info") == 3
        # It may have been the gateway's bad moment: whoever asks next asks again.
        assert (await model.ainfo()).model_id is None
        assert asked.count("/info") == 6


async def test_a_gateways_bad_moment_is_not_its_last_word() -> None:
    """What a gateway could not tell at first is asked again, and then kept."""
    async with behind_a_gateway([503] * 4, {}) as (url, asked):
        model = TextGenerationInference(base_url=url)
        assert [(await model.ainfo()).model_id for _ in range(3)] == [None, "google/flan-t5-xl", "google/flan-t5-xl"]
        assert asked.count("/info") == 5


async def test_health_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one row's dropped connection makes us ask for health in vain, its neighbours go on."""
    monkeypatch.setattr("langchain_stormtrooper.transport._HEALTH_SECONDS", 1.0)

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/health":
            await asyncio.sleep(30)
        if "bad" in await request.text():
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"generated_text": "science"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    model = TextGenerationInference(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}", max_downtime=2)
    try:
        assert await model.ainvoke("x") == "science"
        bad = asyncio.create_task(finished(model.ainvoke("bad")))
        await asyncio.sleep(0.3)
        text, after = await finished(model.ainvoke("y"))
        assert (text, after < 0.5) == ("science", True)
        bad.cancel()
    finally:
        await runner.cleanup()


async def test_a_port_that_takes_connections_and_never_answers(tgi_server: StartServer) -> None:
    """Where something listens and says nothing, a row ends as failed after its timeout."""
    server = tgi_server("3.3.7", ENGINE)
    assert await llm(server).ainvoke("x") == "science"
    port = server.port
    server.close()
    with socket.create_server(("127.0.0.1", port)):
        task = ZeroShotClassifier(
            ["politics", "science"], llm=llm(server, timeout=0.5), prompt="{text}", method="generate"
        )
        with pytest.warns(FailedRequestWarning, match=r"did not answer within 0\.5 s"):
            assert await task.ainvoke("x") is None


def task(model: TextGenerationInference) -> ZeroShotClassifier:
    """A classifier that asks the server for nothing but answers."""
    return ZeroShotClassifier(["politics", "science"], llm=model, prompt="{text}", method="generate")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and no time but `max_downtime`, so that all of it passes quickly."""
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.01)
    monkeypatch.setattr("langchain_stormtrooper.retrying._AT_LEAST", 0.0)


@pytest.mark.usefixtures("quick")
async def test_a_busy_server_is_asked_until_it_has_a_place(tgi_server: StartServer) -> None:
    """Rows that meet more refusals than they have retries are answered when the other client has gone."""
    server = tgi_server("2.4.1", ENGINE, max_concurrent_requests=1)
    busy = Fault("429", times=None)
    server.faults.add(busy)
    rows = asyncio.create_task(task(llm(server)).abatch([f"row {n}" for n in range(5)]))
    for _ in range(500):
        if max(server.counters.by_prompt.values(), default=0) > 8:
            break
        await asyncio.sleep(0.02)
    server.faults.clear()
    assert await rows == ["science"] * 5
    assert max(server.counters.by_prompt.values()) > 8


@pytest.mark.usefixtures("quick")
async def test_success_of_others_keeps_a_refused_row_hoping(tgi_server: StartServer) -> None:
    """As long as the server answers anybody, a row that is refused goes on for longer than max_downtime."""
    server = tgi_server("2.4.1", ENGINE)
    server.faults.add(Fault("429", times=None, when=lambda prompt: "unlucky" in prompt))
    model = llm(server, max_downtime=0.4)
    unlucky = asyncio.create_task(task(model).ainvoke("unlucky"))
    for n in range(12):
        assert await model.ainvoke(f"lucky {n}") == "science"
        await asyncio.sleep(0.1)
    assert not unlucky.done()
    with pytest.warns(FailedRequestWarning, match="overloaded"):
        assert await unlucky is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["429", "reset_before"])
async def test_a_server_that_takes_nothing_is_given_up_in_time(tgi_server: StartServer, kind: str) -> None:
    """Where nobody has success, all rows end as failed about when max_downtime is over, also those that come late."""
    server = tgi_server("2.4.1", ENGINE)
    assert await llm(server).ainvoke("x") == "science"
    server.faults.add(Fault(kind, times=None))
    with pytest.warns(FailedRequestWarning, match=r"^150 of 150"):
        rows, after = await finished(task(llm(server, max_downtime=0.5)).abatch([f"row {n}" for n in range(150)]))
    assert rows == [None] * 150
    assert after < 8
    # Of the rows that came when the time was over, each was asked once or twice.
    assert server.counters.by_fault[kind] < 150 * 7


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", ["502", "503", "504"])
async def test_a_restart_behind_a_gateway_costs_no_row(tgi_server: StartServer, status: str) -> None:
    """While a gateway says that the server is gone, its health is asked for by one, and each row waits."""
    server = tgi_server("2.4.1", ENGINE)
    model = llm(server)
    assert await model.ainvoke("x") == "science"
    for path in ("/generate", "/health"):
        server.faults.add(Fault(status, times=None, path=path))
    rows = asyncio.create_task(task(model).abatch([f"row {n}" for n in range(30)]))
    await asyncio.sleep(1.5)
    assert max(server.counters.by_prompt.values()) <= 2
    assert 7 < server.counters.by_route["/health"] < 40
    server.faults.clear()
    assert await rows == ["science"] * 30


@pytest.mark.usefixtures("quick")
async def test_a_server_that_stays_gone_behind_its_gateway(tgi_server: StartServer) -> None:
    """It is given up after max_downtime like one that refuses connections; one never seen is not waited for."""
    server = tgi_server("2.4.1", ENGINE)
    for path in ("/generate", "/health"):
        server.faults.add(Fault("502", times=None, path=path))
    model = llm(server, max_downtime=0.3)
    with pytest.warns(FailedRequestWarning, match="502"):
        assert await task(model).ainvoke("x") is None
    assert server.counters.by_route["/health"] == 0
    server.faults.clear()
    assert await model.ainvoke("x") == "science"
    for path in ("/generate", "/health"):
        server.faults.add(Fault("502", times=None, path=path))
    gone, after = await finished(model.ainvoke("x"))
    assert isinstance(gone, ServerUnreachableError)
    assert "says its gateway (502)" in str(gone)
    assert after < 3
