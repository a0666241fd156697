"""Running our coroutines for callers who are not async.

Every sync method of this package runs the same coroutine as its async twin, on one event loop in a daemon thread
that is started at the first sync call and kept for the life of the process. So sync calls work inside a running
event loop (Jupyter), from several threads at once, and share connections. This module knows nothing of what it runs.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")

_lock = threading.Lock()
_exit_stack = ExitStack()
_portal: BlockingPortal | None = None


def _get_portal() -> BlockingPortal:
    global _portal
    with _lock:
        if _portal is None:
            _portal = _exit_stack.enter_context(start_blocking_portal(name="langchain-stormtrooper"))
        return _portal


def _forget_portal() -> None:
    """A forked child has the variables but not the thread: start afresh there."""
    global _lock, _exit_stack, _portal
    _lock, _exit_stack, _portal = threading.Lock(), ExitStack(), None


@atexit.register
def _close() -> None:
    _exit_stack.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_portal)


def run(function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a coroutine function to its end and return its result, from any thread.

    The caller's context variables are visible inside. An interrupt (Ctrl-C) while waiting cancels the coroutine.
    """
    future: Future[T] = _get_portal().start_task_soon(function, *args)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(generator: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate over an async generator; leaving the loop early closes it."""

    async def step() -> tuple[bool, T | None]:
        try:
            return True, await anext(generator)
        except StopAsyncIteration:
            return False, None

    try:
        while True:
            more, item = run(step)
            if not more:
                return
            yield item  # type: ignore[misc]  # T may itself include None, so the flag decides
    finally:
        run(generator.aclose)
