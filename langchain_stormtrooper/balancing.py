"""Several servers of one model: who answers which request, who is left out, and who is taken back.

A `Balancer` gives each piece of work to the server with the most free places, and repeats it on another when that one
is gone. It sends nothing itself and knows no protocol: a server is whatever can be asked as `balanced` says, and what
is known of one server stays with it (`servers`, `limits`, `retrying`). Called by `llms.several`, which has one balancer
per list and event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from langchain_stormtrooper.agreement import Agreement
from langchain_stormtrooper.balanced import BalancedT, Member, Work
from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    RequestFailedError,
    ServerUnreachableError,
    StormtrooperError,
)
from langchain_stormtrooper.placing import Places
from langchain_stormtrooper.servers import was_reached

T = TypeVar("T")

_MOST_MOVES = 8
"""How often one piece of work is taken to another server since its own went away: one that fells each server that it
comes to must not go on for ever."""

_LATE = 3.0
"""Seconds that servers are waited for at the start once the first has answered."""

_AGAIN = 5.0
"""Seconds until a server is looked at again that is there but cannot be used."""


class Balancer(Generic[BalancedT]):
    """Gives work to several servers, on one event loop.

    Args:
        servers: The servers; of those that have as many free places the first gets the work.
        agreement: What they have in common; shared with the balancers of other event loops.
        max_downtime: Seconds that work waits while all of them are gone, if one has ever answered.
        hint: What to do when none answers, as the end of a sentence.
        warn: Called with a sentence when a server is left out that the user should look at.
    """

    def __init__(
        self,
        servers: Iterable[BalancedT],
        agreement: Agreement,
        *,
        max_downtime: float,
        hint: str,
        warn: Callable[[str], None],
    ) -> None:
        self._members = [Member(server) for server in servers]
        self._places = Places(self._members)
        self._agreement = agreement
        self._max_downtime = max_downtime
        self._hint = hint
        self._warn = warn
        self._users = 0
        self._untold: list[str] = []
        self._told: set[str] = set()

    async def run(self, work: Callable[[BalancedT], Awaitable[T]]) -> T:
        """Have one server do a piece of work that does no harm when it is done twice.

        Raises:
            ServerUnreachableError: No server is there.
            StormtrooperError: What the work raises, if another server could not do it either.
        """
        piece: Work[BalancedT] = Work()
        self._enter()
        try:
            while True:
                member = await self._place(piece)
                before, failure = member.times_out, None
                try:
                    result = await work(member.server)
                except StormtrooperError as error:
                    failure = self._failed(member, error)
                finally:
                    self._places.give_back(member)
                if member.times_out != before:
                    # What answered its last request may already have been another server.
                    self._move(piece)
                elif failure is None:
                    return result
                else:
                    await self._bear(piece, member, failure)
        finally:
            await self._leave()

    async def stream(self, work: Callable[[BalancedT], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """As `run`, for what comes in pieces: repeated until the first, and never after it."""
        piece: Work[BalancedT] = Work()
        self._enter()
        try:
            while True:
                member = await self._place(piece)
                has_begun = False
                try:
                    async with aclosing(work(member.server)) as parts:
                        async for part in parts:
                            has_begun = True
                            yield part
                except StormtrooperError as error:
                    if has_begun:
                        raise
                    failure = self._failed(member, error)
                else:
                    return
                finally:
                    self._places.give_back(member)
                await self._bear(piece, member, failure)
        finally:
            await self._leave()

    async def assemble(self) -> None:
        """Look at all servers before the first work: they must be alike, and those that are not there are left out.

        Raises:
            ConfigurationError: They are not alike.
            ServerUnreachableError: None answers, and none ever has.
            AuthenticationError: One refuses the key.
            EndpointNotFoundError: One has no such route.
        """
        looks = {member: asyncio.create_task(self._ask(member)) for member in self._members}
        waiting = set(looks.values())
        try:
            while waiting and not any(look.done() and member.problem is None for member, look in looks.items()):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if waiting:
                _, waiting = await asyncio.wait(waiting, timeout=_LATE)
        finally:
            await _cancel(waiting)
        for member in [member for member, look in looks.items() if look in waiting]:
            member.problem = member.server.trouble()
            del looks[member]
        self._agree(looks)
        there = [member for member in self._members if member.problem is None]
        if not there and not self._was_any_reached():
            raise self._unreachable()
        if there:
            self._agreement.settle()
        for member in self._members:
            member.is_in = member in there
            if there and not member.is_in:
                self._note(member)

    async def compare(self) -> None:
        """Ask the servers that are in once more, since more of what they tell is of interest now.

        Raises:
            StormtrooperError: As for `assemble`.
        """
        self._enter()
        try:
            looks = {member: asyncio.create_task(self._ask(member)) for member in self._members if member.is_in}
            try:
                if looks:
                    await asyncio.wait(looks.values())
            finally:
                await _cancel(looks.values())
            self._agree(looks)
            for member in looks:
                if member.problem is not None:
                    self._leave_out(member, member.problem)
        finally:
            await self._leave()

    def _agree(self, looks: Mapping[Member[BalancedT], asyncio.Task[Mapping[str, object]]]) -> None:
        """Compare what servers told, in their order, so that an error is the same each time."""
        for look in looks.values():
            look.exception()  # of several one is raised, and asyncio would complain of the others
        try:
            for member, look in looks.items():
                self._agreement.check(member.server.address, look.result())
        except StormtrooperError:
            # All are asked anew by whoever comes next: what was not right may be mended by then.
            self._agreement.forget()
            for member in self._members:
                member.server.forget()
            raise

    async def _ask(self, member: Member[BalancedT]) -> Mapping[str, object]:
        """What a server tells. What is wrong with it is its problem, or an error if it is the user's to mend."""
        try:
            told = await member.server.tell()
        except (ConfigurationError, AuthenticationError, EndpointNotFoundError) as error:
            raise _named(error, member.server.address) from None
        except StormtrooperError as error:
            member.problem = _problem(error)
            return {}
        member.problem = None
        return told

    def _enter(self) -> None:
        self._users += 1
        if self._users == 1:
            for member in self._members:
                if not member.is_in:
                    self._watch(member)

    async def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            # Nobody wants to know any more, so nothing goes on.
            watches = [member.watch for member in self._members if member.watch is not None]
            for member in self._members:
                member.watch = None
            await _cancel(watches)

    def _watch(self, member: Member[BalancedT]) -> None:
        member.was_asked = False
        member.watch = asyncio.create_task(self._bring_in(member))

    async def _bring_in(self, member: Member[BalancedT]) -> None:
        """Wait until a server is back and as it should be."""
        while True:
            if member.problem is not None:
                if not await member.server.is_healthy():
                    self._news(member)
                    await member.server.wait_until_back()
                member.server.forget()
            try:
                self._agreement.check(member.server.address, await self._ask(member))
            except StormtrooperError as error:
                # In the middle of the work of others: it is not spoilt for them.
                member.problem = f"cannot be used: {str(error).rstrip('.')}"
                self._note(member)
            if member.problem is None:
                self._agreement.settle()
                member.is_in, member.watch = True, None
                self._places.give_out()
                return
            self._news(member)
            if await member.server.is_healthy():
                await asyncio.sleep(_AGAIN)

    def _news(self, member: Member[BalancedT]) -> None:
        """Note that a server was asked, in vain: who waits for any must know whether there may be one."""
        member.was_asked = True
        self._places.wake_all()

    def _note(self, member: Member[BalancedT]) -> None:
        """Have the user told of a server that is left out, once: by whoever works next, not by a task of ours."""
        sentence = f"The server at {member.server.address} is left out for now: it {member.problem}."
        if sentence not in self._told:
            self._told.add(sentence)
            self._untold.append(sentence)

    def _leave_out(self, member: Member[BalancedT], problem: str) -> None:
        if not member.is_in:
            return
        member.is_in, member.problem = False, problem
        member.times_out += 1
        self._watch(member)
        if not any(other.is_in for other in self._members):
            self._places.wake_all()

    async def _place(self, piece: Work[BalancedT]) -> Member[BalancedT]:
        """Wait for a place at any server."""
        while True:
            while self._untold:
                self._warn(self._untold.pop(0))
            if (member := self._places.take(piece)) is not None:
                return member
            left: float | None = None
            if any(member.is_in for member in self._members):
                piece.deadline = None
            elif all(member.was_asked for member in self._members):
                now = time.monotonic()
                if piece.deadline is None:
                    piece.deadline = now + (self._max_downtime if self._was_any_reached() else 0.0)
                left = piece.deadline - now
                if left <= 0:
                    raise self._unreachable()
            if (member := await self._places.wait(piece, left)) is not None:
                return member

    def _failed(self, member: Member[BalancedT], error: StormtrooperError) -> StormtrooperError:
        """Leave out a server that is gone before its place is given to the next."""
        if isinstance(error, ServerUnreachableError):
            self._leave_out(member, _problem(error))
        return error

    async def _bear(self, piece: Work[BalancedT], member: Member[BalancedT], error: StormtrooperError) -> None:
        """Return if the work is to be repeated on another server, else raise.

        Raises:
            StormtrooperError: The error, with the server's address if it is one of settings.
        """
        if isinstance(error, AuthenticationError | EndpointNotFoundError):
            raise _named(error, member.server.address) from None
        passes = isinstance(error, RequestFailedError) and error.is_retryable
        if not passes and not isinstance(error, ServerUnreachableError):
            raise error
        is_refusal = isinstance(error, RequestFailedError) and error.status == 429
        is_gone = isinstance(error, ServerUnreachableError)
        if not is_gone and not is_refusal and not await member.server.is_healthy():
            self._leave_out(member, _problem(error))
            is_gone = True
        if is_gone:
            self._move(piece)
            return
        now = time.monotonic()
        if is_refusal and now - (piece.refused_since or now) < self._max_downtime:
            piece.refused_since = piece.refused_since or now
            piece.failed_at = {member}
            return
        piece.failed_at.add(member)
        piece.failures += 1
        if piece.failures > 1:
            raise error

    def _move(self, piece: Work[BalancedT]) -> None:
        """Have work repeated whose server went away.

        Raises:
            RequestFailedError: That has happened too often.
        """
        piece.moves += 1
        if piece.moves > _MOST_MOVES:
            raise RequestFailedError(
                f"A server went away {piece.moves} times with this text in work, which may be why.", retryable=True
            )

    def _was_any_reached(self) -> bool:
        return any(was_reached(member.server.address) for member in self._members)

    def _unreachable(self) -> ServerUnreachableError:
        problems: Sequence[str] = [f"{member.server.address} {member.problem}" for member in self._members]
        return ServerUnreachableError(f"None of the servers can be used ({'; '.join(problems)}): {self._hint}")


def _problem(error: StormtrooperError) -> str:
    """What an error says of a server, as the end of "The server at ..."."""
    if isinstance(error, ServerUnreachableError) and error.problem is not None:
        return error.problem
    return f"failed: {str(error).rstrip('.')}"


def _named(error: ConfigurationError | AuthenticationError | EndpointNotFoundError, address: str) -> StormtrooperError:
    """An error that says which server it is about."""
    message = str(error)
    start = "The server "
    if not message.startswith(start):
        return type(error)(f"{address}: {message}")
    return type(error)(f"{start}at {address} {message.removeprefix(start)}")


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = [task for task in tasks if not task.done()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
