"""Small tools for asyncio: many rows at once, a value that is made once, and such values by key.

They know nothing of texts or servers. Every room that runs rows or learns something from a server uses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
A = TypeVar("A")
K = TypeVar("K", bound=Hashable)


async def run_all(answer: Callable[[A], Awaitable[T]], items: Iterable[A], at_once: int | None = None) -> list[T]:
    """Answer items concurrently; the first error cancels the others and is raised.

    Args:
        answer: What answers one item.
        items: The items.
        at_once: How many are worked on at once; None for all.

    Returns:
        The answers, in the order of the items.
    """
    items = list(items)
    answers: list[Any] = [None] * len(items)

    async def work(numbered: tuple[int, A]) -> None:
        answers[numbered[0]] = await answer(numbered[1])

    await for_all(work, enumerate(items), min(at_once or len(items), len(items)))
    return answers


async def for_all(
    work: Callable[[A], Awaitable[None]], items: Iterable[A], at_once: int, *, staggered: bool = False
) -> None:
    """Like `run_all` for work without an answer: items are taken as there is room, and not kept.

    Args:
        work: What is to be done with one item.
        items: The items.
        at_once: How many are worked on at once.
        staggered: Whether they start one after another. Requests that are sent together are answered together, and
            each answer then waits for the work on all others, round after round.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        # A bare gather would leave the others running after an error.
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
                if staggered:
                    await asyncio.sleep(0)
    except* Exception as errors:  # noqa: BLE001  # raised again, without the group around it
        error = errors.exceptions[0]
        raise error from error.__cause__


class Once(Generic[T]):
    """A value that is made by the first of any number of concurrent callers, and then kept.

    For what is learnt from a server: it is no setting, so copies and pickles start without it.

    Callers on one event loop wait for the same making; a failed making is forgotten and the next caller tries again.
    """

    def __init__(self) -> None:
        self._made: tuple[T] | None = None
        self._making: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}
        self._waiting: dict[asyncio.Task[T], int] = {}

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """The value, made by `make` if it has not been made yet."""
        if self._made is not None:
            return self._made[0]
        loop = asyncio.get_running_loop()
        task = self._making.get(loop)
        if task is None:
            task = self._making[loop] = loop.create_task(self._make(make))
            task.add_done_callback(lambda done: self._forget(loop, done))
        self._waiting[task] = self._waiting.get(task, 0) + 1
        try:
            # Shielded: a caller that is cancelled must not take the value from the others.
            return await asyncio.shield(task)
        finally:
            self._waiting[task] -= 1
            if not self._waiting[task]:
                del self._waiting[task]
                if not task.done():
                    # Nobody wants it any more: what it has asked a server for is to end, too.
                    self._making.pop(loop, None)
                    task.cancel()

    def _forget(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> None:
        if self._making.get(loop) is task:
            del self._making[loop]
        # One that nobody waited for to its end has nobody to tell of its error.
        if not task.cancelled():
            task.exception()

    async def _make(self, make: Callable[[], Awaitable[T]]) -> T:
        value = await make()
        self._made = (value,)
        return value

    def peek(self) -> T | None:
        """The value if it has been made, else None."""
        return self._made[0] if self._made is not None else None

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class OnceEach(Generic[K, T]):
    """Values that are made once each, by what they are of; of bounded number.

    Args:
        kept: How many are kept; all are forgotten before one more is made.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._values: dict[K, Once[T]] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[T]]) -> T:
        """The value of a key, made by `make` if it has not been made yet."""
        if key not in self._values and len(self._values) >= self._kept:
            self._values.clear()
        return await self._values.setdefault(key, Once()).get(make)
