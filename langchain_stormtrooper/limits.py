"""How many requests may be in flight to one server, learnt from what it refuses.

TGI answers 429 at once when all its permits are taken, shared by all clients, and never says when to come back. So the
limit falls to what the server has just been seen to carry, and is raised by one when a while has passed without a
refusal. No I/O; `transport` keeps one limiter per server and event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

_PATIENT, _EAGER = 64.0, 0.25


class AdaptiveLimiter:
    """Gives out places for requests to one server.

    Every caller has a ceiling of its own; the learnt limit holds for all together.

    Attributes:
        in_flight: Places taken.
        limit: Places that there are; infinite until the server refuses or tells.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.limit = math.inf
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        self._successes = 0
        self._told: set[int] = set()
        # Rounds (as many answers as there are places) to wait before trying one place more.
        self._rounds = 4.0
        self._is_trying = False

    def seed(self, permits: int) -> None:
        """Start from the number of permits that the server says it has.

        What was learnt since is kept, until the server says a number that is new: then it was started anew, and what
        its predecessor carried says nothing. A number counts once, so that whoever still goes by an older one does
        not bring it back with every request.
        """
        if permits in self._told:
            return
        self._told.add(permits)
        if self.limit > permits:
            self.limit = max(1, permits)

    def take(self, ceiling: int) -> bool:
        """Take a place if one is free and nobody waits for it.

        Args:
            ceiling: As in `acquire`.
        """
        if self.in_flight >= self.limit or self.in_flight >= ceiling or self._waiting.get(ceiling):
            return False
        self.in_flight += 1
        return True

    async def acquire(self, ceiling: int) -> None:
        """Wait for a place.

        Args:
            ceiling: Places that this caller may see taken at most.
        """
        if self.take(ceiling):
            return
        queue = self._waiting.setdefault(ceiling, deque())
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # The place came together with the cancellation: pass it on.
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        if self._waiting:
            self._wake()

    def succeeded(self) -> None:
        """Note that the server answered, to be called while the place is held."""
        if math.isinf(self.limit):
            return
        self._successes += 1
        if self._successes < self._rounds * self.limit:
            return
        if self._is_trying:
            # The place that was tried has held: be quicker with the next.
            self._rounds = max(_EAGER, self._rounds / 2)
        self._successes, self._is_trying = 0, True
        self.limit += 1
        self._wake()

    def overloaded(self) -> None:
        """Note that the server had no place for a request, to be called while its place is held.

        Of many refused together, each lowers the limit by itself, so that it ends at the number of those that were not
        refused: the permits of the server.
        """
        if self._is_trying:
            self._rounds = min(_PATIENT, self._rounds * 2)
        self._successes, self._is_trying = 0, False
        self.limit = max(1, min(self.limit, self.in_flight - 1))

    def _wake(self) -> None:
        for ceiling, queue in self._waiting.items():
            while queue and self.in_flight < min(self.limit, ceiling):
                place = queue.popleft()
                if not place.done():
                    self.in_flight += 1
                    place.set_result(None)
