"""What all that talk to a server know of it: whose fault a dropped connection is, and who waits for its return."""

from __future__ import annotations

import asyncio

import pytest

from langchain_stormtrooper import servers
from langchain_stormtrooper.servers import Server

URL = "http://unit.test"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that servers look at."""
    clock = Clock()
    monkeypatch.setattr(servers, "time", clock)
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.0)
    return clock


@pytest.mark.parametrize(("apart", "shared"), [(0.0, True), (0.09, True), (0.11, False), (5.0, False)])
def test_drops_at_the_same_moment_are_shared(clock: Clock, apart: float, shared: bool) -> None:
    """Two requests dropped together have one cause, apart they have each its own, whoever was first."""
    server = Server(URL)
    first = server.dropped("a")
    clock.now += apart
    second = server.dropped("b")
    assert server.was_shared(first, "a") is shared
    assert server.was_shared(second, "b") is shared


def test_a_request_does_not_excuse_itself(clock: Clock) -> None:
    """One request that is dropped again and again, as quickly as may be, has nobody else to blame."""
    server = Server(URL)
    moments = [server.dropped("a") for _ in range(5)]
    assert not any(server.was_shared(moment, "a") for moment in moments)


@pytest.mark.parametrize(("later", "shared"), [(-0.2, False), (-0.05, True), (0.0, True), (3.0, True)])
def test_a_drop_of_a_server_that_went_is_shared(clock: Clock, later: float, shared: bool) -> None:
    """A drop is the server's doing if it is gone by the time that somebody looks, not if it was gone long before."""
    server = Server(URL)
    dropped_at = clock.now
    clock.now += later
    if later < 0:
        server.refused("refused the connection")
    clock.now = dropped_at
    moment = server.dropped("a")
    clock.now = max(dropped_at, dropped_at + later)
    if later >= 0:
        server.refused("refused the connection")
    assert server.was_shared(moment, "a") is shared


async def test_an_unhealthy_server_excuses_a_drop(clock: Clock) -> None:
    """That the server's health fails after a drop counts like a refused connection."""
    server = Server(URL)
    moment = server.dropped("a")
    answers = [False, False, True]

    async def is_healthy() -> bool:
        clock.now += 0.2
        return answers.pop(0)

    assert await server.wait_until_back(is_healthy, 5, is_down=False)
    assert server.was_shared(moment, "a")
    assert answers == []
    assert not server.is_down


async def test_a_healthy_server_excuses_nothing(clock: Clock) -> None:
    """A drop by a server that is well is the request's own, and nobody else is held up while it is asked."""
    server = Server(URL)
    moment = server.dropped("a")
    seen: list[bool] = []

    async def is_healthy() -> bool:
        await asyncio.sleep(0)
        seen.append(server.is_down)
        return True

    assert await server.wait_until_back(is_healthy, 5, is_down=False)
    assert seen == [False]
    assert not server.was_shared(moment, "a")


@pytest.mark.parametrize("status", [429, 502, None])
def test_time_in_vain_is_counted_for_all(clock: Clock, status: int | None) -> None:
    """One that comes late has waited as long as the trouble of all, until somebody has success."""
    server = Server(URL)

    def trouble() -> None:
        server.dropped("a") if status is None else server.answered(status)

    for _ in range(5):
        trouble()
        clock.now += 4
    trouble()
    assert server.seconds_in_vain(clock.now) == 20
    server.answered(200)
    clock.now += 3
    trouble()
    assert server.seconds_in_vain(clock.now) == 3
    assert server.seconds_in_vain(clock.now - 100) == 3


def test_trouble_long_ago_is_another_trouble(clock: Clock) -> None:
    """When nobody asked for a while, time in vain begins anew, but not for one who has waited through it."""
    server = Server(URL)
    server.dropped("a")
    waiting_since = clock.now
    clock.now += 6
    server.dropped("b")
    assert server.seconds_in_vain(clock.now) == 0
    assert server.seconds_in_vain(waiting_since) == 6


def test_a_gateways_word_does_not_say_that_the_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the server itself answers makes it one that is worth waiting for, and tells how much it takes."""
    monkeypatch.setattr(servers, "_reached", set())
    server = Server(URL)
    server.limiter.seed(2)
    for status in (502, 503, 504) * 10:
        server.answered(status)
    assert not servers.was_reached(URL)
    assert server.limiter.limit == 2
    server.answered(429)
    assert servers.was_reached(URL)


async def test_what_goes_wrong_in_asking_reaches_all_that_wait() -> None:
    """An error of whoever asks is raised to each that waits, and the next asks anew."""
    server = Server(URL)

    async def broken() -> bool:
        await asyncio.sleep(0)
        raise LookupError("broken")

    async def well() -> bool:
        return True

    waits = await asyncio.gather(*(server.wait_until_back(broken, 5) for _ in range(3)), return_exceptions=True)
    assert [type(wait) for wait in waits] == [LookupError] * 3
    assert await server.wait_until_back(well, 5)


async def test_the_last_to_leave_ends_the_asking() -> None:
    """Those with little patience leave, who asks goes on for the others, and ends with the last of them."""
    server = Server(URL)
    asked = 0

    async def is_healthy() -> bool:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return False

    before = asyncio.all_tasks()
    patient = asyncio.create_task(server.wait_until_back(is_healthy, 60))
    assert not await server.wait_until_back(is_healthy, 0.05)
    assert server.is_down
    assert len(asyncio.all_tasks() - before) == 2
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient
    assert asyncio.all_tasks() == before
    assert not server.is_down
    ended = asked
    await asyncio.sleep(0.05)
    assert asked == ended
