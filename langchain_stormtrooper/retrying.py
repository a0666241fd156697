"""When a request is sent again, and when it is given up: one `Patience` per request that did not succeed at once.

The rules are the protocol's: what came as an answer is judged by its status; a connection that was refused, or dropped
before the answer began, may be tried again. It sends nothing itself. Called by `transport` only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from langchain_stormtrooper.errors import RequestFailedError, ServerUnreachableError
from langchain_stormtrooper.pauses import backoff, retry_after
from langchain_stormtrooper.servers import Server, was_reached
from langchain_stormtrooper.wire import Response

_SHARED = 4
"""How many times more drops a request bears that hit others too: a restart under load drops whoever is in flight."""

_ONE_QUESTION = 1.0
"""Seconds that a server has to say that it is healthy after it dropped a connection, however short the patience."""


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
        max_downtime: Seconds to wait for a server that has answered before and is gone.
        retries_allowed: From an answer that is not a 200 to the number of repeats that answers with its status allow.
        is_healthy: Asks the server once.
        unreachable: Makes the error from the problem.
        heeds_retry_after: Whether the pause that an answer asks for is kept.
    """

    server: Server
    max_retries: int
    max_downtime: float
    retries_allowed: Callable[[Response], int | None]
    is_healthy: Callable[[], Awaitable[bool]]
    unreachable: Callable[[str], ServerUnreachableError]
    heeds_retry_after: bool = True
    _repeats: int = 0
    _shared: int = 0
    _by_status: dict[int, int] = field(default_factory=dict)
    _deadline: float | None = None

    async def bear_answer(self, answer: Response) -> bool:
        """Wait for the right moment to repeat after an answer; False if it is to be taken as it is."""
        self._deadline = None
        allowed = self.retries_allowed(answer)
        before = self._by_status.get(answer.status, 0)
        if self._repeats >= self.max_retries or (allowed is not None and before >= allowed):
            return False
        self._by_status[answer.status] = before + 1
        # Added, not instead: rows that were told the same moment do not all come back at it.
        await asyncio.sleep((retry_after(answer) if self.heeds_retry_after else 0.0) + backoff(self._repeats))
        self._repeats += 1
        return True

    async def bear_failure(self, failure: Failure) -> None:
        """Wait for the right moment to repeat after a try without an answer.

        Raises:
            ServerUnreachableError: It never was there, or stayed away for too long.
            RequestFailedError: It is there, but drops this request whenever it comes.
        """
        server = self.server
        # A server that never answered is not there: say so at once instead of making a newcomer wait.
        if not was_reached(server.base_url):
            raise self.unreachable(failure.problem)
        if not failure.was_sent:
            server.refused(failure.problem)
            await asyncio.sleep(backoff(0))
            await self._wait(0.0, failure.problem)
            return
        moment = server.dropped(self)
        await asyncio.sleep(backoff(0))
        await self._wait(_ONE_QUESTION, failure.problem)
        self._deadline = None
        if server.was_shared(moment, self):
            self._shared += 1
        else:
            self._repeats += 1
        if self._repeats > self.max_retries or self._shared > _SHARED * self.max_retries:
            raise RequestFailedError("The server dropped the connection, also after retries.", retryable=True)
        # After the server is back and longer each time, so that rows that were dropped together come back apart: one
        # that makes the server drop all others then meets fewer of them.
        await asyncio.sleep(backoff(self._repeats + self._shared - 1))

    async def wait_until_back(self) -> None:
        """Wait for a server that is known to be gone.

        Raises:
            ServerUnreachableError: It stayed away for longer than this request waits.
        """
        await self._wait(0.0, self.server.problem)

    async def _wait(self, at_least: float, problem: str) -> None:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self.max_downtime
        if not await self.server.wait_until_back(self.is_healthy, max(self._deadline - now, at_least)):
            raise self.unreachable(problem)
