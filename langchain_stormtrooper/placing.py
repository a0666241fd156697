"""`Places`: the places at several servers, and the queue of those that wait for one. No I/O.

Each piece of work gets a place at the server with the most free ones, in the order in which it came. Which servers are
there, and what becomes of work that fails, is `balancing`'s business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic

from langchain_stormtrooper.balanced import BalancedT, Member, Work


class Places(Generic[BalancedT]):
    """The places at several servers, on one event loop.

    Args:
        members: The servers; of those that have as many free places the first gets the work.
    """

    def __init__(self, members: Sequence[Member[BalancedT]]) -> None:
        self._members = members
        self._waiting: deque[tuple[Work[BalancedT], asyncio.Future[Member[BalancedT] | None]]] = deque()

    def take(self, piece: Work[BalancedT]) -> Member[BalancedT] | None:
        """Take a place at the server that has the most; None if there is none."""
        member = self.best(piece)
        if member is not None:
            member.in_work += 1
        return member

    async def wait(self, piece: Work[BalancedT], seconds: float | None) -> Member[BalancedT] | None:
        """Wait for a place; None where it is to be found out anew what is waited for.

        Args:
            piece: The work.
            seconds: How long at most; None for any time.
        """
        place: asyncio.Future[Member[BalancedT] | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((piece, place))
        try:
            await asyncio.wait({place}, timeout=seconds)
        except asyncio.CancelledError:
            if place.done() and (given := place.result()) is not None:
                # The place came together with the cancellation: pass it on.
                self.give_back(given)
            raise
        finally:
            place.cancel()
        return place.result() if place.done() and not place.cancelled() else None

    def best(self, piece: Work[BalancedT]) -> Member[BalancedT] | None:
        """The server with the most free places, the first of several; None if there is no place."""
        members = [member for member in self._members if member.is_in]
        if piece.failed_at:
            others = [member for member in members if member not in piece.failed_at]
            if not others and any(not member.is_in and not member.was_asked for member in self._members):
                return None  # one that was left out is looked at this moment, and may be back in the next
            members = others or members
        best: Member[BalancedT] | None = None
        most = 0.0
        for member in members:
            there, taken = member.server.places()
            # Places that others have taken are waited for where ours come free: theirs are not told to us.
            if member.in_work < there and (best is None or there - max(taken, member.in_work) > most):
                best, most = member, there - max(taken, member.in_work)
        return best

    def give_back(self, member: Member[BalancedT]) -> None:
        """Have a place at a server free for the next."""
        member.in_work -= 1
        self.give_out()

    def give_out(self) -> None:
        """Give free places to those who wait, first come, first served."""
        kept: list[tuple[Work[BalancedT], asyncio.Future[Member[BalancedT] | None]]] = []
        while self._waiting:
            piece, place = self._waiting.popleft()
            if place.done():
                continue
            member = self.take(piece)
            if member is not None:
                place.set_result(member)
                continue
            kept.append((piece, place))
            if not piece.failed_at:
                break  # no place for anybody
        self._waiting.extendleft(reversed(kept))

    def wake_all(self) -> None:
        """Have all that wait find out anew what they wait for."""
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
