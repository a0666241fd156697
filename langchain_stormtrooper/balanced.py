"""One server of several and one piece of work, as `balancing` and `placing` see them. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Balanced(Protocol):
    """One server of several, as far as balancing goes."""

    @property
    def address(self) -> str:
        """Where it listens."""

    def places(self) -> tuple[float, int]:
        """How many places there are, and how many of them are taken."""

    async def tell(self) -> Mapping[str, object]:
        """What must be the same on all servers, by name; what it has told once is not asked again until `forget`."""

    def forget(self) -> None:
        """Take nothing that was learnt from it for granted any more: it may have become another."""

    def trouble(self) -> str:
        """Why it has not told anything yet, as the end of "The server at ..."."""

    async def is_healthy(self) -> bool:
        """Whether it is there and well, asked once."""

    async def wait_until_back(self) -> None:
        """Wait until it is there and well, for as long as it takes."""


BalancedT = TypeVar("BalancedT", bound=Balanced)


@dataclass(eq=False, slots=True)
class Member(Generic[BalancedT]):
    """What is known of one server.

    Attributes:
        server: The server.
        is_in: Whether it gets work.
        in_work: Pieces of work that it has.
        problem: Why it does not get any, as the end of "The server at ..."; None where it was not looked at yet.
        was_asked: Whether it was asked since it was found missing.
        times_out: How often it was left out.
        watch: Brings it back in.
    """

    server: BalancedT
    is_in: bool = False
    in_work: int = 0
    problem: str | None = None
    was_asked: bool = False
    times_out: int = 0
    watch: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class Work(Generic[BalancedT]):
    """What one piece of work has been through.

    Attributes:
        failed_at: Servers that could not do it though they are well, as far as it has to be kept from them.
        failures: How often that was.
        moves: How often its server went away.
        refused_since: When a server had no place for it first.
        deadline: Until when it waits for any server; None while there is one.
    """

    failed_at: set[Member[BalancedT]] = field(default_factory=set)
    failures: int = 0
    moves: int = 0
    refused_since: float | None = None
    deadline: float | None = None
