"""What all that talk to one server share: its permits, and what was learnt of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from langchain_stormtrooper import FailedRequestWarning, TextGenerationInference, ZeroShotClassifier, sessions
from langchain_stormtrooper.errors import ServerError
from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.testing import RETRYABLE, Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["politics", "science"]
ENGINE = ScriptedEngine(lambda _: "science")
PERMITS = 8


def classifier(server: TGIServer, *, asks: bool, places: int = 64) -> ZeroShotClassifier:
    """A new classifier on a new LLM; one with a template of its own asks the server for nothing but answers."""
    return ZeroShotClassifier(
        LABELS,
        llm=TextGenerationInference(base_url=server.url, max_concurrency=places),
        prompt=None if asks else "Classify: {text}\n",
        method="generate",
    )


def texts(name: str, count: int) -> list[str]:
    """Different texts."""
    return [f"{name} {number}" for number in range(count)]


def limiter(server: TGIServer) -> AdaptiveLimiter:
    """What the running loop has learnt of a server."""
    return sessions._states[asyncio.get_running_loop()].servers[server.url].limiter


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds in the server's thread, five seconds at most."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


async def test_one_classifier_knows_what_another_has_learnt(tgi_server: StartServer) -> None:
    """After one classifier has found the permits of a silent server, another does not run against them."""
    server = tgi_server("3.3.7", ENGINE, max_concurrent_requests=PERMITS, latency_per_request=0.01)
    assert await classifier(server, asks=False).abatch(texts("first", 200)) == ["science"] * 200
    # Without any knowledge as many are sent as the client may, so that some are refused.
    refused = server.counters.by_status[429]
    assert refused >= 5
    server.reset()
    assert await classifier(server, asks=False).abatch(texts("second", 200)) == ["science"] * 200
    assert server.counters.by_status[429] < refused / 2
    assert server.peak_permits == PERMITS


async def test_classifiers_and_llms_at_once_share_the_places(tgi_server: StartServer) -> None:
    """Two classifiers and two LLMs at work together have the server's permits once, not each."""
    server = tgi_server("3.3.7", ENGINE, max_concurrent_requests=PERMITS, latency_per_request=0.01)
    first, second = classifier(server, asks=True), classifier(server, asks=True)
    llms = [TextGenerationInference(base_url=server.url) for _ in range(2)]
    await asyncio.gather(first.aget_prompt(), second.aget_prompt())
    rows: list[list[Any]] = await asyncio.gather(
        first.abatch(texts("a", 100)),
        second.abatch(texts("b", 100)),
        *(model.abatch(list(texts(f"llm {number}", 100))) for number, model in enumerate(llms)),
    )
    assert [len(answers) for answers in rows] == [100] * 4
    assert not [answer for answers in rows for answer in answers if answer != "science"]
    # Apart from each other, the four would have 32 in flight and more.
    assert server.counters.by_status[429] < 40
    assert limiter(server).limit <= PERMITS + 2
    assert limiter(server).in_flight == 0


async def test_a_server_that_tells_its_permits_is_not_overrun(tgi_server: StartServer) -> None:
    """The limit starts from /info: the first burst has as many requests as there are permits, and none is refused."""
    server = tgi_server("3.3.7", ENGINE, max_concurrent_requests=PERMITS, latency_per_request=0.02)
    assert await classifier(server, asks=True).abatch(texts("row", 30)) == ["science"] * 30
    assert server.counters.by_status[429] == 0
    assert server.peak_permits == PERMITS


def test_what_the_server_told_holds_on_the_next_loop_too(tgi_server: StartServer) -> None:
    """A classifier that asked on one event loop does not overrun the server from a second one."""
    server = tgi_server("3.3.7", ENGINE, max_concurrent_requests=PERMITS, latency_per_request=0.02)
    task = classifier(server, asks=True)
    assert asyncio.run(task.ainvoke("x")) == "science"
    assert asyncio.run(task.abatch(texts("row", 30))) == ["science"] * 30
    assert task.batch(texts("sync", 30)) == ["science"] * 30
    assert server.counters.by_route["/info"] == 1
    assert server.counters.by_status[429] == 0


async def test_two_servers_have_limits_of_their_own(tgi_server: StartServer) -> None:
    """A server with few permits does not slow down another."""
    few = tgi_server("3.3.7", ENGINE, max_concurrent_requests=2, latency_per_request=0.01)
    many = tgi_server("3.3.7", ENGINE, max_concurrent_requests=64, latency_per_request=0.05)
    await asyncio.gather(
        classifier(few, asks=False).abatch(texts("row", 40)),
        classifier(many, asks=False, places=40).abatch(texts("row", 200)),
    )
    assert limiter(few).limit <= 4
    assert math.isinf(limiter(many).limit)
    # All 40 are in work at once only where this process is quick enough to send them within an answer's time.
    assert 20 < many.peak_permits <= 40


async def test_cancelling_a_batch_frees_all_its_places(tgi_server: StartServer) -> None:
    """A cancelled batch leaves the server idle and the limit free, and nothing running; the next batch is answered."""
    server = tgi_server("3.3.7", ENGINE)
    server.faults.add(Fault("stall", times=None, seconds=60, when=lambda prompt: "slow" in prompt))
    task = classifier(server, asks=False, places=16)
    assert await task.ainvoke("x") == "science"
    before = asyncio.all_tasks()
    batch = asyncio.create_task(task.abatch(texts("slow", 100)))
    await until(lambda: server.counters.by_fault["stall"] == 16)
    assert limiter(server).in_flight == 16
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert limiter(server).in_flight == 0
    assert asyncio.all_tasks() == before
    await until(lambda: server.permits_in_use == 0 and server.counters.disconnects == 16)
    assert await task.abatch(texts("quick", 40)) == ["science"] * 40
    assert server.counters.by_fault["stall"] == 16


async def test_leaving_early_frees_the_places(tgi_server: StartServer) -> None:
    """Whoever stops reading rows as they complete leaves no request behind."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.01)
    server.faults.add(Fault("stall", times=None, seconds=60, when=lambda prompt: "slow" in prompt))
    task = classifier(server, asks=False)
    rows = task.abatch_as_completed([*texts("slow", 20), "quick"])
    async with aclosing(rows):  # type: ignore[type-var]  # LangChain calls its generators iterators
        assert await anext(rows) == (20, "science")
        await until(lambda: server.counters.by_fault["stall"] == 20)
    await until(lambda: server.permits_in_use == 0 and server.counters.disconnects == 20)
    assert limiter(server).in_flight == 0


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        *[("500", 7), ("502", 7), ("503", 7), ("504", 7), ("reset_before", 7), ("424", 3)],
        *[("text_422", 1), ("truncated_json", 1), ("reset_middle", 1), ("401", 1), ("403", 1)],
    ],
)
async def test_a_row_is_asked_as_often_as_the_protocol_allows(
    tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch, kind: str, asked: int
) -> None:
    """A fault that stays is retried six times if it may pass, twice for a failed generation, else not at all.

    Refusals (429) are bounded by time instead: see the outages. What is retried is what the test server calls
    retryable.
    """
    assert (kind in RETRYABLE) is (asked > 1)
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.001)
    server = tgi_server("3.3.7", ENGINE)
    task = classifier(server, asks=False)
    assert await task.ainvoke("x") == "science"
    server.faults.add(Fault(kind, times=None))
    if kind in ("401", "403"):
        with pytest.raises(ServerError):
            await task.ainvoke("y")
    else:
        with pytest.warns(FailedRequestWarning):
            assert await task.ainvoke("y") is None
    assert server.counters.by_fault.total() == asked


async def test_a_gateway_is_given_the_time_it_asks_for(
    tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Retry-After, a row comes back no sooner than told."""
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.001)
    server = tgi_server("3.3.7", ENGINE, faults=Fault("503", times=1, retry_after=1))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await classifier(server, asks=False).ainvoke("x") == "science"
    assert loop.time() - started >= 1
