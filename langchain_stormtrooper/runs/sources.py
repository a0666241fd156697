"""Rows from whatever a user has them in, read only as far as there is room, without ever blocking the event loop.

A list is read as it is, an async iterable is awaited, and any other iterable is read by a thread of its own, since a
generator may wait for a file or a pipe. Rows come in groups, of those that are there at once, and room is given in
groups: a thread that is woken for every single row costs more than the row. Called by `stream` only; it looks at no
row.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias

Rows: TypeAlias = Iterable[Any] | AsyncIterable[Any]
"""What rows may be in."""

_PARTS = 8
"""Room is given back when an eighth of the window is free."""


def read(rows: Rows, window: int) -> tuple[AsyncGenerator[list[Any], None], Callable[[], None]]:
    """Read rows, each only when there is a place for it.

    Args:
        rows: The rows.
        window: How many places there are.

    Returns:
        The rows, in groups of at least one, and what gives back the place of one.
    """
    if isinstance(rows, AsyncIterable | Sequence):
        room = _Room(window)
        given = _awaited(rows, room) if isinstance(rows, AsyncIterable) else _listed(rows, room)
        return given, _in_groups(room.give, window)
    thread = _Thread(rows, window)
    return thread.rows(), _in_groups(thread.give, window)


def _in_groups(give: Callable[[int], None], window: int) -> Callable[[], None]:
    """What gives one place back, where `give` is called for several at once."""
    size = max(1, window // _PARTS)
    free = 0

    def release() -> None:
        nonlocal free
        free += 1
        if free == size:
            free = 0
            give(size)

    return release


class _Room:
    """A place for each row that may be read.

    Args:
        window: How many there are.
    """

    def __init__(self, window: int) -> None:
        self._free = window
        self._came = asyncio.Event()

    def give(self, count: int) -> None:
        """Give some back."""
        self._free += count
        self._came.set()

    async def take(self, most: int) -> int:
        """Take as many as are free: one at least, and no more than `most`."""
        while not self._free:
            self._came.clear()
            await self._came.wait()
        taken = min(self._free, most)
        self._free -= taken
        return taken


async def _listed(rows: Sequence[Any], room: _Room) -> AsyncGenerator[list[Any], None]:
    iterator = iter(rows)
    while group := list(islice(iterator, await room.take(len(rows)))):
        yield group


async def _awaited(rows: AsyncIterable[Any], room: _Room) -> AsyncGenerator[list[Any], None]:
    iterator = aiter(rows)
    try:
        while True:
            await room.take(1)
            try:
                row = await anext(iterator)
            except StopAsyncIteration:
                return
            yield [row]
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


class _Thread:
    """Reads an iterable as long as there is room."""

    def __init__(self, rows: Iterable[Any], window: int) -> None:
        self._rows = rows
        self._room = threading.Semaphore(window)
        self._read: deque[Any] = deque()
        self._end: list[BaseException | None] = []
        self._is_stopped = False
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._is_told = False

    def give(self, count: int) -> None:
        """Give places back."""
        self._room.release(count)

    async def rows(self) -> AsyncGenerator[list[Any], None]:
        """The rows, then the iterable's own error if it had one."""
        context = contextvars.copy_context()
        # A daemon: while it waits for a pipe, nothing else could end it.
        threading.Thread(target=context.run, args=(self._work,), name="reading rows", daemon=True).start()
        try:
            while True:
                # Before what is there is looked at: what comes later is told anew.
                self._is_told, is_ended = False, bool(self._end)
                if self._read:
                    yield [self._read.popleft() for _ in range(len(self._read))]
                elif is_ended:
                    if self._end[0] is not None:
                        raise self._end[0]
                    return
                else:
                    await self._came.wait()
                    self._came.clear()
        finally:
            self._is_stopped = True
            self._room.release()

    def _work(self) -> None:
        end: BaseException | None = None
        iterator: Any = None
        try:
            iterator = iter(self._rows)
            while True:
                self._room.acquire()
                if self._is_stopped:
                    break
                self._read.append(next(iterator))
                self._wake()
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001  # raised in the loop
            end = error
        if isinstance(iterator, Generator):
            with suppress(Exception):
                iterator.close()
        self._end.append(end)
        self._wake()

    def _wake(self) -> None:
        if not self._is_told:
            self._is_told = True
            # Whoever stops early may have closed the loop.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._came.set)
