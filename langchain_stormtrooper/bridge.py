"""Running our coroutines for callers who are not async.

Every sync method of this package runs the same coroutine as its async twin, on one event loop in a daemon thread
that is started at the first sync call and kept for the life of the process. So sync calls work inside a running
event loop (Jupyter), from several threads at once, and share connections. This module knows nothing of what it runs.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal

T = TypeVar("T")

_lock = threading.Lock()
_portal: BlockingPortal | None = None
_thread: threading.Thread | None = None


def _get_portal() -> BlockingPortal:
    # Not anyio's `start_blocking_portal`: its clean-up, run in a forked child, waits for a thread that is not there.
    global _portal, _thread
    with _lock:
        # A thread that ended has been ended by what was run on it, such as a SystemExit: others are to go on.
        if _portal is None or _thread is None or not _thread.is_alive():
            started: Future[BlockingPortal] = Future()
            _thread = threading.Thread(
                target=lambda: asyncio.run(_serve(started)), name="langchain-stormtrooper", daemon=True
            )
            _thread.start()
            _portal = started.result()
        return _portal


async def _serve(started: Future[BlockingPortal]) -> None:
    """Run what callers send, until the process ends."""
    async with BlockingPortal() as portal:
        started.set_result(portal)
        await portal.sleep_until_stopped()


def _forget_portal() -> None:
    """Start afresh: a forked child has the variables but not the thread."""
    global _lock, _portal, _thread
    _lock, _portal, _thread = threading.Lock(), None, None


@atexit.register
def close() -> None:
    """Cancel what runs, and end the loop. For the end of the process; a later call starts afresh."""
    portal, thread = _portal, _thread
    if portal is not None and thread is not None:
        _forget_portal()
        portal.call(portal.stop, True)
        thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_portal)


def run(function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a coroutine function to its end and return its result, from any thread.

    The caller's context variables are visible inside. An interrupt (Ctrl-C) while waiting cancels the coroutine.
    """
    if threading.current_thread() is _thread:
        # Waiting here would wait for ever: this thread is the one that has to do the work.
        raise RuntimeError("A sync method was called from code that a sync method runs: call its async twin there.")
    future: Future[T] = _get_portal().start_task_soon(function, *args)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(generator: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate over an async generator; leaving the loop early closes it."""
    # An interrupt leaves a step behind that is still being cancelled, and a generator does one thing at a time.
    one_at_a_time = asyncio.Lock()

    async def step() -> tuple[bool, T | None]:
        async with one_at_a_time:
            try:
                return True, await anext(generator)
            except StopAsyncIteration:
                return False, None

    async def close() -> None:
        async with one_at_a_time:
            await generator.aclose()

    try:
        while True:
            more, item = run(step)
            if not more:
                return
            yield item  # type: ignore[misc]  # T may itself include None, so the flag decides
    finally:
        run(close)
