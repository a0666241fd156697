"""When a request is sent again, and when it is given up: one `Patience` per request that did not succeed at once.

The rules are the protocol's: what came as an answer is judged by its status; a connection that was refused, or dropped
before the answer began, may be tried again. It sends nothing itself. Called by `transport` only.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from langchain_stormtrooper.errors import RequestFailedError, ServerUnreachableError
from langchain_stormtrooper.pauses import backoff, retry_after
from langchain_stormtrooper.servers import GATEWAY_ERRORS, Server, was_reached
from langchain_stormtrooper.wire import Response

_SHARED = 4
"""How many times more drops a request bears that hit others too: a restart under load drops whoever is in flight."""

_ONE_QUESTION = 1.0
"""Seconds that a server has to say that it is healthy after it dropped a connection, however short the patience."""

_AT_LEAST = 5.0
"""Seconds that a server may refuse or drop all that is sent, however short the patience: a burst takes that long."""

_FREE_AGAIN = 2.0
"""Seconds after which a server that had no place is asked again at the latest: one may be free at any time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that brought no answer.

    Attributes:
        problem: What is wrong, as the end of "The server at ...".
        was_sent: Whether the server may have seen the request.
    """

    problem: str
    was_sent: bool


@dataclass(eq=False, slots=True)
class Patience:
    """What one request has been through, and how much more it bears.

    Attributes:
        server: The server.
        max_retries: How often the request is repeated at most for reasons of its own.
        max_downtime: Seconds to wait for a server that has answered before and is gone, or takes nothing from anybody.
        retries_allowed: From an answer that is not a 200 to the number of repeats that answers with its status allow.
        is_healthy: Asks the server once.
        unreachable: Makes the error from the problem.
        is_optional: Whether there is a way without the answer: then a busy or absent server is not waited for, and the
            pause that an answer asks for is not kept.
        has_others: Whether other servers could answer the request: then whoever chose this one is to look at it anew
            once it is gone, for it may come back as another, and is not to wait long while it has no place for anybody.
    """

    server: Server
    max_retries: int
    max_downtime: float
    retries_allowed: Callable[[Response], int | None]
    is_healthy: Callable[[], Awaitable[bool]]
    unreachable: Callable[[str], ServerUnreachableError]
    is_optional: bool = False
    has_others: bool = False
    _repeats: int = 0
    _shared: int = 0
    _refusals: int = 0
    _refused_since: float = math.inf
    _cut_since: float = math.inf
    _by_status: dict[int, int] = field(default_factory=dict)
    _deadline: float | None = None

    async def bear_answer(self, answer: Response) -> bool:
        """Wait for the right moment to repeat after an answer; False if it is to be taken as it is."""
        allowed = self.retries_allowed(answer)
        waits = allowed is None and not self.is_optional
        if waits and answer.status in GATEWAY_ERRORS:
            if self.has_others:
                raise self.unreachable(_says_gateway(answer))
            if was_reached(self.server.base_url):
                return await self._bear_gateway(answer)
        self._deadline = None
        if waits and answer.status == 429:
            return await self._bear_refusal(answer)
        before = self._by_status.get(answer.status, 0)
        if self._repeats >= self.max_retries or (allowed is not None and before >= allowed):
            return False
        self._by_status[answer.status] = before + 1
        await self._pause(answer)
        self._repeats += 1
        return True

    async def _bear_refusal(self, answer: Response) -> bool:
        """Wait for a place of a server that has none: by time and not by count, for the places are others' to free."""
        self._refused_since = min(self._refused_since, time.monotonic())
        if self._left(self._refused_since) <= 0:
            return False
        await asyncio.sleep(retry_after(answer) + backoff(self._refusals, _FREE_AGAIN))
        self._refusals += 1
        return True

    async def _bear_gateway(self, answer: Response) -> bool:
        """Wait for the server behind a gateway if it is gone; if it is well, the error is the request's own."""
        moment = time.monotonic()
        self._cut_since = min(self._cut_since, moment)
        self._refused_since = math.inf
        if self._repeats >= self.max_retries:
            return False
        await self._pause(answer)
        await self._wait(_says_gateway(answer), at_least=_ONE_QUESTION, is_down=False)
        self._deadline = None
        self._count(is_shared=self.server.was_gone(moment))
        return not self._is_exhausted()

    async def _pause(self, answer: Response) -> None:
        # Added, not instead: rows that were told the same moment do not all come back at it.
        await asyncio.sleep((0.0 if self.is_optional else retry_after(answer)) + backoff(self._repeats))

    async def bear_failure(self, failure: Failure) -> None:
        """Wait for the right moment to repeat after a try without an answer.

        Raises:
            ServerUnreachableError: It never was there, or stayed away for too long, or there are others.
            RequestFailedError: It is there, but drops this request whenever it comes.
        """
        server = self.server
        if self.has_others:
            raise self.unreachable(failure.problem)
        if not was_reached(server.base_url):
            # A server that never answered is not there: say so at once instead of making a newcomer wait. But one that
            # took a connection may only have dropped the first of many requests.
            if not (failure.was_sent and await self.is_healthy()):
                raise self.unreachable(failure.problem)
            server.reached()
        self._refused_since = math.inf
        if not failure.was_sent:
            server.refused(failure.problem)
            await asyncio.sleep(backoff(0))
            await self._wait(failure.problem)
            return
        moment = server.dropped(self)
        self._cut_since = min(self._cut_since, moment)
        await asyncio.sleep(backoff(0))
        await self._wait(failure.problem, at_least=_ONE_QUESTION, is_down=False)
        self._deadline = None
        self._count(is_shared=server.was_shared(moment, self))
        if self._is_exhausted():
            raise RequestFailedError("The server dropped the connection, also after retries.", retryable=True)
        # After the server is back and longer each time, so that rows that were dropped together come back apart: one
        # that makes the server drop all others then meets fewer of them.
        longest = self._left(self._cut_since) if self._shared else math.inf
        await asyncio.sleep(backoff(self._repeats + self._shared - 1, longest))

    async def wait_until_back(self) -> None:
        """Wait for a server that is known to be gone.

        Raises:
            ServerUnreachableError: It stayed away for longer than this request waits.
        """
        if self.has_others:
            raise self.unreachable(self.server.problem)
        await self._wait(self.server.problem)

    def _count(self, *, is_shared: bool) -> None:
        if is_shared:
            self._shared += 1
        else:
            self._repeats += 1

    def _is_exhausted(self) -> bool:
        """Whether it was cut off too often, alone or with others, or with others for too long."""
        return (
            self._repeats > self.max_retries
            or self._shared > _SHARED * self.max_retries
            or (self._shared > 0 and self._left(self._cut_since) <= 0)
        )

    def _left(self, since: float) -> float:
        """Seconds that it goes on without success of anybody, having met trouble first at a moment."""
        patience = _AT_LEAST if self.has_others else max(self.max_downtime, _AT_LEAST)
        return patience - self.server.seconds_in_vain(since)

    async def _wait(self, problem: str, *, at_least: float = 0.0, is_down: bool = True) -> None:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self.max_downtime
        left = max(self._deadline - now, at_least)
        if not await self.server.wait_until_back(self.is_healthy, left, is_down=is_down):
            raise self.unreachable(problem)


def _says_gateway(answer: Response) -> str:
    return f"is gone, says its gateway ({answer.status})"
