"""The limit on requests in flight: what it learns from refusals."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.limits import AdaptiveLimiter


class Server:
    """Refuses what goes beyond its permits, at once, and takes a moment for the rest."""

    def __init__(self, permits: int) -> None:
        self.permits, self.busy, self.refused, self.answered, self.peak = permits, 0, 0, 0, 0

    async def ask(self) -> bool:
        """Whether there was a permit."""
        if self.busy >= self.permits:
            self.refused += 1
            await asyncio.sleep(0)
            return False
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(random.uniform(0.0005, 0.0015))
        self.busy -= 1
        self.answered += 1
        return True


async def row(server: Server, limiter: AdaptiveLimiter, ceiling: int) -> None:
    """One row, asked until it is answered."""
    while True:
        await limiter.acquire(ceiling)
        try:
            answered = await server.ask()
            if answered:
                limiter.succeeded()
            else:
                limiter.overloaded()
        finally:
            limiter.release()
        if answered:
            return
        await asyncio.sleep(0.0005)


@pytest.mark.parametrize("permits", [1, 3, 8, 40])
async def test_the_limit_finds_the_servers_permits(permits: int) -> None:
    """With 64 rows at once on fewer permits, few requests are refused and the permits are kept busy."""
    server, limiter = Server(permits), AdaptiveLimiter()
    rows = iter(range(600))

    async def work() -> None:
        for _ in rows:
            await row(server, limiter, 64)

    await asyncio.gather(*(work() for _ in range(64)))
    assert server.answered == 600
    assert server.peak == permits
    assert server.refused <= 64 + 600 / permits / 2
    assert limiter.in_flight == 0
    assert permits <= limiter.limit <= permits + 2


async def test_the_limit_grows_when_permits_come_free() -> None:
    """A server that has more permits than before is used more, without being asked to."""
    server, limiter = Server(2), AdaptiveLimiter()
    rows = iter(range(2000))

    async def work() -> None:
        for number in rows:
            if number == 200:
                server.permits = 64
            await row(server, limiter, 64)

    await asyncio.gather(*(work() for _ in range(64)))
    assert server.peak >= 20


async def test_ceilings_hold_beside_the_limit() -> None:
    """A caller with a small ceiling waits, one with a larger does not wait behind it."""
    limiter = AdaptiveLimiter()
    await limiter.acquire(2)
    await limiter.acquire(2)
    small = asyncio.create_task(limiter.acquire(2))
    await asyncio.sleep(0)
    await asyncio.wait_for(limiter.acquire(3), 1)
    assert not small.done()
    limiter.release()
    await asyncio.sleep(0)
    assert not small.done()
    limiter.release()
    await asyncio.wait_for(small, 1)


async def test_a_seed_bounds_the_first_burst_only() -> None:
    """What the server says it has is the limit to start from; what was learnt is not overruled by it."""
    limiter = AdaptiveLimiter()
    assert math.isinf(limiter.limit)
    limiter.seed(5)
    assert limiter.limit == 5
    limiter.seed(50)
    assert limiter.limit == 5


async def test_a_server_started_anew_with_fewer_permits_is_not_overrun() -> None:
    """Another number of permits than before lowers the limit; the same number leaves what was learnt."""
    limiter = AdaptiveLimiter()
    limiter.seed(2)
    for _ in range(8):
        limiter.succeeded()
    limiter.seed(2)
    assert limiter.limit == 3
    limiter.seed(1)
    assert limiter.limit == 1
    for _ in range(8):
        limiter.succeeded()
    limiter.seed(2)
    limiter.seed(1)
    assert limiter.limit > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["acquire", "cancel", "release", "overloaded", "succeeded"]), max_size=60))
def test_places_are_neither_lost_nor_given_twice(actions: list[str]) -> None:
    """Whatever is cancelled or refused when, places taken and given back balance."""

    async def play() -> None:
        limiter, waiting, held = AdaptiveLimiter(), [], 0
        limiter.seed(3)
        for action in actions:
            if action == "acquire":
                waiting.append(asyncio.create_task(limiter.acquire(4)))
            elif action == "cancel" and waiting:
                waiting[-1].cancel()
            elif action == "release" and held:
                held -= 1
                limiter.release()
            elif action == "overloaded" and held:
                limiter.overloaded()
            elif action == "succeeded" and held:
                limiter.succeeded()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            got = [task for task in waiting if task.done() and not task.cancelled()]
            held += len(got)
            waiting = [task for task in waiting if not task.done()]
            assert limiter.in_flight == held <= 4
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(held):
            limiter.release()
        assert limiter.in_flight == 0
        await asyncio.wait_for(limiter.acquire(4), 1)

    asyncio.run(play())
