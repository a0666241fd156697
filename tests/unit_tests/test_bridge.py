"""Running coroutines for callers who are not async."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from langchain_stormtrooper import bridge

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")


async def add(one: int, other: int) -> int:
    """Add, after a while."""
    await asyncio.sleep(0.001)
    return one + other


async def where() -> tuple[int, asyncio.AbstractEventLoop]:
    """The thread and the loop that run this."""
    return threading.get_ident(), asyncio.get_running_loop()


def test_from_a_plain_thread() -> None:
    """Arguments go in, the result comes out; it runs on a loop that is kept, in a thread that is not the caller's."""
    assert bridge.run(add, 1, 2) == 3
    assert bridge.run(where) == bridge.run(where)
    assert bridge.run(where)[0] != threading.get_ident()


async def test_inside_a_running_loop() -> None:
    """A sync call inside a running event loop, as in Jupyter, works too."""
    assert bridge.run(add, 1, 2) == 3


def test_from_several_threads() -> None:
    """Calls from several threads run at once, on the same loop."""
    barrier = [asyncio.Event(), asyncio.Event()]

    async def meet(number: int) -> tuple[int, asyncio.AbstractEventLoop]:
        barrier[number].set()
        await asyncio.wait_for(barrier[1 - number].wait(), 10)
        return await where()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda number: bridge.run(meet, number), range(2))
    assert one == other


def test_context_is_visible() -> None:
    """The caller's context variables are visible inside; what is set inside stays there."""

    async def look() -> str:
        seen = variable.get()
        variable.set("inside")
        return seen

    token = variable.set("caller's")
    try:
        assert bridge.run(look) == "caller's"
        assert variable.get() == "caller's"
    finally:
        variable.reset(token)
    assert bridge.run(look) == "unset"


def test_exception_comes_out() -> None:
    """An exception is raised to the caller as it is, and the loop goes on."""

    async def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        bridge.run(fail)
    assert bridge.run(add, 1, 2) == 3


class Numbers:
    """An async generator that notes when it is closed."""

    def __init__(self, wait: float = 0.0) -> None:
        self.closing = self.closed = False
        self._wait = wait

    async def count(self) -> AsyncGenerator[int | None, None]:
        """Count without end; None for zero."""
        number = 0
        try:
            while True:
                yield number or None
                number += 1
                await asyncio.sleep(self._wait)
        finally:
            self.closing = True
            await asyncio.sleep(0.01)
            self.closed = True


def test_iterate_to_the_end() -> None:
    """All items come, None among them, in order."""

    async def few() -> AsyncGenerator[int | None, None]:
        for item in (1, None, 3):
            yield item

    assert list(bridge.iterate(few())) == [1, None, 3]


def test_leaving_the_loop_closes_the_generator() -> None:
    """A generator that is left early is closed before the caller goes on."""
    numbers = Numbers()
    items = bridge.iterate(numbers.count())
    assert [next(items), next(items)] == [None, 1]
    assert not numbers.closed
    items.close()  # type: ignore[attr-defined]  # what leaving a `for` does, when the last reference goes
    assert numbers.closed


def test_error_in_a_generator_comes_out() -> None:
    """What a generator raises reaches the caller after what it yielded."""

    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise KeyError("inside")

    items = bridge.iterate(broken())
    assert next(items) == 1
    with pytest.raises(KeyError, match="inside"):
        next(items)


@contextmanager
def interrupt_soon() -> Iterator[None]:
    """A Ctrl-C in a moment."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@needs_timer
def test_interrupt_cancels_the_coroutine() -> None:
    """A Ctrl-C while waiting is raised at once, and ends what was waited for."""
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    with interrupt_soon(), pytest.raises(KeyboardInterrupt):
        bridge.run(wait)
    assert ended.wait(5)


@needs_timer
def test_interrupt_closes_a_generator() -> None:
    """A Ctrl-C between two items is raised at once, and closes the generator."""
    numbers = Numbers(wait=60)
    items = bridge.iterate(numbers.count())
    next(items)
    with interrupt_soon(), pytest.raises(KeyboardInterrupt):
        next(items)
    assert numbers.closing


def test_a_sync_call_from_within_is_refused() -> None:
    """A sync call by what a sync call runs would wait for itself for ever: it is told, and later calls work."""

    async def within() -> int:
        return bridge.run(add, 1, 2)

    with pytest.raises(RuntimeError, match="call its async twin there"):
        bridge.run(within)
    assert bridge.run(add, 1, 2) == 3


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_in_a_forked_child() -> None:
    """A forked child, which has no thread but its own, starts a loop of its own; the parent's stays in use."""
    before = bridge.run(where)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(bridge.run(add, 1, 2)))
    child.start()
    try:
        assert receiver.poll(20), "the child hangs"
        assert receiver.recv() == 3
        child.join(20)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    assert bridge.run(where) == before


def run_python(code: str) -> int:
    """Exit code of a fresh Python, which must not take long and must not complain."""
    code = f"import asyncio, os, sys\nfrom langchain_stormtrooper import bridge\n{code}"
    # From 3.12 on, Python warns of any fork in a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, timeout=30, capture_output=True, check=False)  # fixed words
    assert done.stderr == b""
    return done.returncode


@needs_fork
def test_forked_child_ends_by_itself() -> None:
    """A forked child that ends like any Python program does not wait for the parent's thread."""
    code = """
async def number(): return 3
bridge.run(number)
child = os.fork()
if child == 0:
    sys.exit(bridge.run(number))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + bridge.run(number))
"""
    assert run_python(code) == 6


def test_process_ends_with_work_left() -> None:
    """A process ends even if a coroutine that another thread waits for is still running."""
    code = """
import threading
started = threading.Event()
async def wait():
    started.set()
    await asyncio.sleep(60)
def call():
    try:
        bridge.run(wait)
    except BaseException:
        pass
threading.Thread(target=call, daemon=True).start()
started.wait()
sys.exit(4)
"""
    assert run_python(code) == 4


def test_what_ends_the_loop_ends_no_later_call() -> None:
    """A SystemExit from within concerns its own call; a later one finds a loop again."""
    code = (
        "import time\n"
        "from langchain_stormtrooper import bridge\n"
        "async def leave(): raise SystemExit\n"
        "async def stay(): return 'here'\n"
        "try: bridge.run(leave)\n"
        "except BaseException: pass\n"
        "time.sleep(1)\n"
        "print(bridge.run(stay))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # ours
    assert done.stdout.strip() == "here", done.stderr
