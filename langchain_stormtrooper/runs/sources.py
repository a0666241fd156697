"""Rows from whatever a user has them in, read only as far as there is room, without ever blocking the event loop.

A list is read as it is, an async iterable is awaited, and any other iterable is read by a thread of its own, since a
generator may wait for a file or a pipe. Called by `stream` only; it looks at no row.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

Rows: TypeAlias = Iterable[Any] | AsyncIterable[Any]
"""What rows may be in."""

Room: TypeAlias = "asyncio.Semaphore"
"""A place for each row that may be read."""


def read(rows: Rows, room: Room, window: int) -> tuple[AsyncGenerator[Any, None], Callable[[], None]]:
    """Read rows, each after a place has been taken for it.

    Args:
        rows: The rows.
        room: The places; given back with what is returned.
        window: How many there are.

    Returns:
        The rows, and what gives a place back.
    """
    if isinstance(rows, AsyncIterable):
        return _awaited(rows, room), room.release
    if isinstance(rows, Sequence):
        return _listed(rows, room), room.release
    thread = _Thread(rows, window)
    return thread.rows(), thread.release


async def _listed(rows: Sequence[Any], room: Room) -> AsyncGenerator[Any, None]:
    for row in rows:
        await room.acquire()
        yield row


async def _awaited(rows: AsyncIterable[Any], room: Room) -> AsyncGenerator[Any, None]:
    iterator = aiter(rows)
    try:
        while True:
            await room.acquire()
            try:
                row = await anext(iterator)
            except StopAsyncIteration:
                return
            yield row
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

    def release(self) -> None:
        """Give a place back."""
        self._room.release()

    async def rows(self) -> AsyncGenerator[Any, None]:
        """The rows, then the iterable's own error if it had one."""
        context = contextvars.copy_context()
        # A daemon: while it waits for a pipe, nothing else could end it.
        threading.Thread(target=context.run, args=(self._work,), name="reading rows", daemon=True).start()
        try:
            while True:
                while self._read:
                    yield self._read.popleft()
                if self._end:
                    if self._read:
                        continue
                    if self._end[0] is not None:
                        raise self._end[0]
                    return
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
        # Whoever stops early may have closed the loop.
        with suppress(RuntimeError):
            if not self._came.is_set():
                self._loop.call_soon_threadsafe(self._came.set)
