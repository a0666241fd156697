"""An LLM behind several servers: one LLM of the same kind for each, and a balancer over them.

What is asked for a row is asked by the LLM of one server, from its first request to its last, so that abilities, tokens
and limits are never taken from another's word. `remote` keeps a `Several` where `base_url` is a list; the methods that
talk to a server are marked by `on_one_server` and `streamed_by_one_server`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from langchain_stormtrooper.agreement import Agreement
from langchain_stormtrooper.balancing import Balancer
from langchain_stormtrooper.errors import ServerWarning
from langchain_stormtrooper.llms.abilities import PROBE
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.tasks import Once, run_all

if TYPE_CHECKING:
    from langchain_stormtrooper.llms.remote import RemoteLLM

P = ParamSpec("P")
T = TypeVar("T")
LLM = TypeVar("LLM", bound="RemoteLLM")


class _One(Generic[LLM]):
    """One server of several, as `balanced.Balanced`.

    Attributes:
        llm: The LLM that asks it.
        address: Where it listens.
    """

    def __init__(self, llm: LLM, address: str, agreement: Agreement) -> None:
        self.llm = llm
        self.address = address
        self._agreement = agreement
        self._has_answered = False

    def places(self) -> tuple[float, int]:
        """How many places there are, and how many of them are taken."""
        return self.llm._transport.places()

    async def tell(self) -> Mapping[str, object]:
        """What must be the same on all servers."""
        told = await self.llm._atell_identity()
        if not self._has_answered:
            # A wrong key or path is the user's to mend, and would show with some of the rows only.
            await self.llm.agenerate_row(Prompt(before=PROBE), max_new_tokens=1)
            self._has_answered = True
        if self._agreement.wants_abilities:
            told |= await self.llm._atell_abilities()
        return told

    def forget(self) -> None:
        """Take nothing for granted any more."""
        self.llm._get_known().forget()
        self._has_answered = False

    def trouble(self) -> str:
        """Why it has not told anything yet."""
        return self.llm._transport.trouble()

    async def is_healthy(self) -> bool:
        """Whether it is there and well."""
        return await self.llm._transport.is_healthy()

    async def wait_until_back(self) -> None:
        """Wait until it is there and well."""
        await self.llm._transport.wait_until_back()


class Several(Generic[LLM]):
    """The servers of one LLM.

    Args:
        llms: An LLM for each of them.
        addresses: Where they listen.
        agreement: What holds for all of them.
        max_downtime: As for `Balancer`.
    """

    def __init__(
        self, llms: Sequence[LLM], addresses: Sequence[str], agreement: Agreement, max_downtime: float
    ) -> None:
        self._agreement = agreement
        self._servers = [_One(llm, address, self._agreement) for llm, address in zip(llms, addresses, strict=True)]
        self._max_downtime = max_downtime
        self._balancers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Balancer[_One[LLM]]]
        self._balancers = weakref.WeakKeyDictionary()
        self._assembled: Once[bool] = Once()
        self._compared: Once[bool] = Once()

    async def run(self, work: Callable[[LLM], Awaitable[T]], *, abilities: bool) -> T:
        """Have one server do some work.

        Args:
            work: What is asked of it.
            abilities: Whether the servers must be able to do the same for that.

        Raises:
            ConfigurationError: The servers are not alike.
            ServerUnreachableError: None of them answers.
        """
        return await (await self._ready(abilities)).run(lambda server: work(server.llm))

    async def stream(self, work: Callable[[LLM], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """As `run`, for what comes in pieces."""
        balancer = await self._ready(False)
        async with aclosing(balancer.stream(lambda server: work(server.llm))) as parts:
            async for part in parts:
                yield part

    async def is_any_healthy(self) -> bool:
        """Whether a server is there and well."""
        return any(await run_all(lambda server: server.is_healthy(), self._servers))

    async def _ready(self, abilities: bool) -> Balancer[_One[LLM]]:
        balancer = self._balancer()
        if self._assembled.peek() is None:
            await self._assembled.get(lambda: _done(balancer.assemble()))
        if abilities and self._compared.peek() is None:
            await self._compared.get(lambda: self._compare(balancer))
        return balancer

    async def _compare(self, balancer: Balancer[_One[LLM]]) -> bool:
        self._agreement.wants_abilities = True
        return await _done(balancer.compare())

    def _balancer(self) -> Balancer[_One[LLM]]:
        loop = asyncio.get_running_loop()
        balancer = self._balancers.get(loop)
        if balancer is None:
            balancer = self._balancers[loop] = Balancer(
                self._servers,
                self._agreement,
                max_downtime=self._max_downtime,
                hint=self._servers[0].llm._transport.unreachable_hint,
                warn=lambda sentence: warn_caller(ServerWarning, sentence),
            )
        return balancer


async def _done(work: Awaitable[None]) -> bool:
    await work
    return True


def on_one_server(
    *, abilities: bool = False
) -> Callable[
    [Callable[Concatenate[LLM, P], Coroutine[Any, Any, T]]], Callable[Concatenate[LLM, P], Coroutine[Any, Any, T]]
]:
    """Mark a method of an LLM that one server answers, whichever it is.

    Args:
        abilities: Whether it goes by what the servers can do, which must then be the same.
    """

    def mark(
        method: Callable[Concatenate[LLM, P], Coroutine[Any, Any, T]],
    ) -> Callable[Concatenate[LLM, P], Coroutine[Any, Any, T]]:
        @wraps(method)
        def ask(self: LLM, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            several = self._several()
            if several is None:
                return method(self, *args, **kwargs)
            return several.run(lambda llm: method(llm, *args, **kwargs), abilities=abilities)

        return ask

    return mark


def streamed_by_one_server(
    method: Callable[Concatenate[LLM, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[LLM, P], AsyncGenerator[T, None]]:
    """As `on_one_server`, for a method that yields."""

    @wraps(method)
    def ask(self: LLM, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        several = self._several()
        if several is None:
            return method(self, *args, **kwargs)
        return several.stream(lambda llm: method(llm, *args, **kwargs))

    return ask
