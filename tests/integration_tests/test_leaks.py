"""Many times over: make a classifier or an LLM, use it, drop it. Nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from langchain_stormtrooper import (
    OverlongInputError,
    TextGenerationInference,
    ZeroShotClassifier,
    bridge,
    sessions,
    transport,
)
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["politics", "science"]
ENGINE = ScriptedEngine(lambda _: "science")
DESCRIPTORS = next((path for path in (Path("/proc/self/fd"), Path("/dev/fd")) if path.exists()), None)


async def _tasks() -> int:
    """Tasks on the running loop besides this one."""
    return len(asyncio.all_tasks()) - 1


def census() -> dict[str, int]:
    """How much there is of what could leak."""
    gc.collect()
    things: list[Any] = gc.get_objects()
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir(DESCRIPTORS)) if DESCRIPTORS else 0,  # noqa: PTH208  # closes what it opens
        "loops known": len(sessions._states),
        "tasks of sync calls": bridge.run(_tasks),
        "sessions": sum(type(thing) is aiohttp.ClientSession for thing in things),
        "open sessions": sum(type(thing) is aiohttp.ClientSession and not thing.closed for thing in things),
        "transports": sum(type(thing) is transport.Transport for thing in things),
        "classifiers": sum(type(thing) is ZeroShotClassifier for thing in things),
        "LLMs": sum(type(thing) is TextGenerationInference for thing in things),
    }


@contextmanager
def nothing_left() -> Iterator[None]:
    """What is made inside is gone soon after."""
    before, more = census(), {}
    yield
    # The server closes its end in a thread of its own.
    for _ in range(100):
        more = {thing: count for thing, count in census().items() if count > before[thing]}
        if not more:
            return
        time.sleep(0.05)
    assert not more, before


def classifier(server: TGIServer) -> ZeroShotClassifier:
    """A new classifier on a new LLM."""
    return ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=server.url, api_key="k"))


@pytest.fixture
def server(tgi_server: StartServer) -> TGIServer:
    """A server that was asked before, by sync calls too: what the first call of a process starts stays for its life."""
    running = tgi_server("3.3.7", ENGINE, record=0)
    assert classifier(running).batch(["x", "y"]) == ["science"] * 2
    asyncio.run(classifier(running).ainvoke("x"))
    return running


def test_many_event_loops(server: TGIServer) -> None:
    """Loops that come and go take all that was made on them along: sessions, connections, tasks."""
    with nothing_left():
        for number in range(20):
            assert asyncio.run(classifier(server).abatch(["x", "y", str(number)])) == ["science"] * 3


def test_many_on_one_loop(server: TGIServer) -> None:
    """What is made and dropped on one loop shares its session and leaves no task there."""

    async def cycles() -> None:
        await classifier(server).ainvoke("x")
        tasks, session = await _tasks(), sessions._states[asyncio.get_running_loop()].session
        for number in range(30):
            assert await classifier(server).ainvoke(str(number)) == "science"
            assert await TextGenerationInference(base_url=server.url).ainvoke(str(number)) == "science"
        assert await _tasks() == tasks
        assert sessions._states[asyncio.get_running_loop()].session is session
        assert len(sessions._states[asyncio.get_running_loop()].servers) == 1

    with nothing_left():
        asyncio.run(cycles())


def test_many_sync(server: TGIServer) -> None:
    """Sync calls share one thread and one session, batches and streams included."""
    with nothing_left():
        for number in range(40):
            assert classifier(server).invoke(str(number)) == "science"
        for number in range(15):
            assert list(classifier(server).stream(str(number))) == ["science"]
            assert "".join(TextGenerationInference(base_url=server.url).stream(str(number))) == "science"


@pytest.mark.parametrize("leave", ["error", "cancel", "stream", "close"])
def test_uses_that_end_badly(server: TGIServer, leave: str) -> None:
    """Errors, cancelled calls, streams left half way and sessions closed by hand leave nothing either."""
    server.faults.add(Fault("stall", times=None, seconds=60, when=lambda prompt: "slow" in prompt))

    async def use() -> None:
        model = TextGenerationInference(base_url=server.url)
        if leave == "error":
            model = TextGenerationInference(base_url=server.url, on_overlong="raise")
            with pytest.raises(OverlongInputError):
                await model.abatch(["good", "bad " * 5000, "slow"])
        elif leave == "cancel":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model.abatch(["good", "slow"]), 0.02)
        elif leave == "stream":
            async for _ in model.astream("good"):
                break
        else:
            await model.ainvoke("good")
            await sessions.aclose()
            assert asyncio.get_running_loop() not in sessions._states
            await model.ainvoke("good")

    with nothing_left():
        for _ in range(10):
            asyncio.run(use())
    assert server.permits_in_use == 0
