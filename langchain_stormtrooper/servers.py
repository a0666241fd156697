"""What is known of one server on one event loop, shared by all that talk to it: its limit, its absence, its cuts.

Sends nothing itself: whether the server is healthy is asked through a function of whoever notices that it is gone.
`transport` keeps one `Server` per base URL and event loop; `retrying` decides by it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.pauses import backoff

SAME_MOMENT = 0.1
"""Seconds within which things are taken to have one cause."""

_CUTS_KEPT = 64

# For the life of the process: a server that restarts between two event loops has not become one that never was.
_reached: set[str] = set()


def was_reached(base_url: str) -> bool:
    """Whether a server has ever answered in this process: only then is it worth waiting for."""
    return base_url in _reached


class _Watch:
    """One asks for the server's health, any number wait.

    Attributes:
        poll: Asks until the server is healthy.
        waiting: How many wait.
    """

    __slots__ = ("poll", "waiting")

    def __init__(self, poll: asyncio.Task[None]) -> None:
        self.poll = poll
        self.waiting = 0


class Server:
    """What is known of one server on one event loop.

    Args:
        base_url: Its address.

    Attributes:
        limiter: Gives out places for requests.
        is_down: Whether it is known to be gone: no request makes sense until it is back.
        problem: What was wrong when it was last seen to be gone, as the end of "The server at ...".
    """

    __slots__ = ("_cuts", "_seen_down", "_watch", "base_url", "is_down", "limiter", "problem")

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.limiter = AdaptiveLimiter()
        self.is_down = False
        self.problem = "is not healthy"
        self._watch: _Watch | None = None
        self._seen_down = float("-inf")
        self._cuts: deque[tuple[float, object]] = deque(maxlen=_CUTS_KEPT)

    def answered(self, status: int) -> None:
        """Learn from an answer that the server is there, and how much it takes; called while the place is held."""
        _reached.add(self.base_url)
        if status == 429:
            self.limiter.overloaded()
        else:
            self.limiter.succeeded()

    def refused(self, problem: str) -> None:
        """Note that it took no connection."""
        self._seen_down = time.monotonic()
        self.is_down, self.problem = True, problem

    def dropped(self, request: object) -> float:
        """Note that it dropped the connection of a request; returns when, for `was_shared`."""
        moment = time.monotonic()
        self._cuts.append((moment, request))
        return moment

    def was_shared(self, moment: float, request: object) -> bool:
        """Whether a drop was not about its request: others were dropped with it, or the server was gone."""
        return self._seen_down >= moment - SAME_MOMENT or any(
            other is not request and abs(when - moment) <= SAME_MOMENT for when, other in self._cuts
        )

    async def wait_until_back(self, is_healthy: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Wait until the server is healthy; all that wait share one who asks.

        Args:
            is_healthy: Asks it once.
            seconds: How long this caller waits at most, whatever the others do.

        Returns:
            Whether it is back.
        """
        watch = self._watch
        if watch is None or watch.poll.done():
            watch = self._watch = _Watch(asyncio.create_task(self._ask_until_healthy(is_healthy)))
        watch.waiting += 1
        try:
            await asyncio.wait({watch.poll}, timeout=max(0.0, seconds))
            if not watch.poll.done():
                return False
            watch.poll.result()
            return True
        finally:
            watch.waiting -= 1
            if not watch.waiting and not watch.poll.done():
                # Nobody wants to know any more, so nothing goes on, and what the server is like is open again.
                self._watch, self.is_down = None, False
                watch.poll.cancel()
                await asyncio.wait({watch.poll})

    async def _ask_until_healthy(self, is_healthy: Callable[[], Awaitable[bool]]) -> None:
        pauses = 0
        try:
            while not await is_healthy():
                self._seen_down = time.monotonic()
                self.is_down = True
                await asyncio.sleep(backoff(min(pauses, 4)))
                pauses += 1
        finally:
            self.is_down = False
