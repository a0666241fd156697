"""A client of huggingface_hub's for each event loop, closed when its owner is gone or the loop ends.

An LLM of langchain-huggingface keeps one client, whose connections fail on the next loop ("Event loop is closed"), and
nobody closes it. `answering.foreign` is the only caller.
"""

from __future__ import annotations

import asyncio
import copy
import types
import weakref
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AsyncExitStack, suppress
from typing import Any

from langchain_stormtrooper.llms.foreign import is_a

# Strongly held: a generator that is collected in the last moments of its loop would not get to its end.
_guards: dict[asyncio.AbstractEventLoop, set[AsyncGenerator[None, None]]] = {}


async def own_client(llm: Any, owner: object) -> Any:
    """A client for the running loop alone; None where the LLM has none of this kind.

    Args:
        llm: The LLM, whose own client stays as it is.
        owner: With whom the client's connections are closed.
    """
    client: Any = getattr(llm, "async_client", None)
    if not (is_a(client, {"AsyncInferenceClient"}) and {"exit_stack", "_async_client"} <= set(vars(client))):
        return None
    own: Any = copy.copy(client)
    own.exit_stack, own._async_client = AsyncExitStack(), None
    loop = asyncio.get_running_loop()
    for closed in [other for other in _guards if other.is_closed()]:
        del _guards[closed]
    guard = _close_in_the_end(own.exit_stack)
    _guards.setdefault(loop, set()).add(guard)
    await anext(guard)
    weakref.finalize(owner, _close_soon, loop, guard).atexit = False
    return own


async def _close_in_the_end(connections: AsyncExitStack) -> AsyncGenerator[None, None]:
    """Close connections when the loop ends; see `sessions`."""
    try:
        yield
    finally:
        await _to_the_end(connections.aclose())


@types.coroutine
def _to_the_end(closing: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
    """Await what a cancellation must not cut short.

    Each connection takes a turn of the loop to close. A loop that ends within these turns cancels all tasks, and the
    connections whose turn was still to come would stay open. None of them waits for the other side.
    """
    steps = closing.__await__()
    while True:
        try:
            waits_for = steps.send(None)
        except StopIteration:
            return
        with suppress(asyncio.CancelledError):
            yield waits_for


def _close_soon(loop: asyncio.AbstractEventLoop, guard: AsyncGenerator[None, None]) -> None:
    """Close connections nobody uses any more, from any thread."""

    async def close() -> None:
        await guard.aclose()
        _guards.get(loop, set()).discard(guard)

    def start() -> None:
        # Held by the set below until it is done: a loop holds its tasks weakly.
        task = loop.create_task(close())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    if not loop.is_closed():
        loop.call_soon_threadsafe(start)


_closing: set[asyncio.Task[None]] = set()
