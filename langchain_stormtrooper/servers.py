"""What is known of one server on one event loop, shared by all that talk to it: its limit, its absence, its cuts.

Sends nothing itself: whether the server is healthy is asked through a function of whoever notices that it is gone.
`transport` keeps one `Server` per base URL and event loop; `retrying` decides by it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.pauses import backoff

SAME_MOMENT = 0.1
"""Seconds within which things are taken to have one cause."""

GATEWAY_ERRORS = (502, 503, 504)
"""What a gateway says when the server behind it is not there, and a server that is not well."""

_CUTS_KEPT = 64

_QUIET = 5.0
"""Seconds without trouble after which the next trouble has nothing to do with the last: nobody asked in between."""

# For the life of the process: a server that restarts between two event loops has not become one that never was.
_reached: set[str] = set()
_returns: Counter[str] = Counter()


def was_reached(base_url: str) -> bool:
    """Whether a server has ever answered in this process: only then is it worth waiting for."""
    return base_url in _reached


def times_back(base_url: str) -> int:
    """How often a server came back in this process after it was gone: it may have become another each time."""
    return _returns.get(base_url, 0)


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
        is_down: Whether it is known to be gone, and somebody waits for it: no request makes sense until it is back.
        problem: What was wrong when it was last seen to be gone, as the end of "The server at ...".
        last_status: The status of its last answer; None before the first.
    """

    __slots__ = (
        "_cuts",
        "_last_success",
        "_last_trouble",
        "_seen_down",
        "_trouble_since",
        "_watch",
        "base_url",
        "is_down",
        "last_status",
        "limiter",
        "problem",
    )

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.limiter = AdaptiveLimiter()
        self.is_down = False
        self.problem = "is not healthy"
        self.last_status: int | None = None
        self._watch: _Watch | None = None
        self._seen_down = self._last_success = self._last_trouble = self._trouble_since = float("-inf")
        self._cuts: deque[tuple[float, object]] = deque(maxlen=_CUTS_KEPT)

    def reached(self) -> None:
        """Note that it is there."""
        _reached.add(self.base_url)

    def answered(self, status: int) -> None:
        """Learn from an answer that the server is there, and how much it takes; called while the place is held."""
        self.last_status = status
        if status in GATEWAY_ERRORS:
            # Possibly a gateway's word: it tells neither that the server is there nor how much it takes.
            self._trouble()
            return
        self.reached()
        if status == 429:
            self._trouble()
            self.limiter.overloaded()
        else:
            self._last_success = time.monotonic()
            self.limiter.succeeded()

    def refused(self, problem: str) -> None:
        """Note that it took no connection."""
        self._seen_down = time.monotonic()
        self.problem = problem

    def dropped(self, request: object) -> float:
        """Note that it dropped the connection of a request; returns when, for `was_shared`."""
        moment = self._trouble()
        self._cuts.append((moment, request))
        return moment

    def was_shared(self, moment: float, request: object) -> bool:
        """Whether a drop was not about its request: others were dropped with it, or the server was gone."""
        return self.was_gone(moment) or any(
            other is not request and abs(when - moment) <= SAME_MOMENT for when, other in self._cuts
        )

    def was_gone(self, moment: float) -> bool:
        """Whether it was seen to be gone at a moment or after it."""
        return self._seen_down >= moment - SAME_MOMENT

    def seconds_in_vain(self, since: float) -> float:
        """For how long nobody had success, up to now.

        Args:
            since: When the caller met trouble first. Counted from there, or from where the trouble of all began if
                that is earlier, so that those who come late do not wait all over again.
        """
        return time.monotonic() - max(self._last_success, min(since, self._trouble_since))

    def _trouble(self) -> float:
        now = time.monotonic()
        if now - self._last_trouble > _QUIET:
            self._trouble_since = now
        self._last_trouble = now
        return now

    async def wait_until_back(
        self, is_healthy: Callable[[], Awaitable[bool]], seconds: float | None, *, is_down: bool = True
    ) -> bool:
        """Wait until the server is healthy; all that wait share one who asks.

        Args:
            is_healthy: Asks it once.
            seconds: How long this caller waits at most, whatever the others do; None for as long as it takes.
            is_down: Whether it is known to be gone; else the first answer tells.

        Returns:
            Whether it is back.
        """
        watch = self._watch
        if watch is None or watch.poll.done():
            watch = self._watch = _Watch(asyncio.create_task(self._ask_until_healthy(is_healthy)))
        watch.waiting += 1
        self.is_down = self.is_down or is_down
        try:
            await asyncio.wait({watch.poll}, timeout=None if seconds is None else max(0.0, seconds))
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
        while not await is_healthy():
            self._seen_down = time.monotonic()
            self.is_down = True
            await asyncio.sleep(backoff(min(pauses, 4)))
            pauses += 1
        if self.is_down:
            _returns[self.base_url] += 1
        self.is_down = False
