"""One aiohttp session per running event loop, closed when the loop ends; `transport` sends through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import aiohttp

from langchain_stormtrooper.servers import Server


@dataclass(slots=True)
class LoopState:
    """What belongs to one event loop: its session, and its servers by base URL."""

    session: aiohttp.ClientSession
    guard: AsyncGenerator[None, None]
    servers: dict[str, Server] = field(default_factory=dict)


_states: dict[asyncio.AbstractEventLoop, LoopState] = {}
_states_lock = threading.Lock()


async def _close_with_loop(
    loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
) -> AsyncGenerator[None, None]:
    """Close the session when the loop ends.

    `asyncio.run` and its kin finalise every async generator that is still suspended before they close the loop. It
    is the one hook that a loop offers to a library that is not told of its end.
    """
    try:
        yield
    finally:
        with _states_lock:
            _states.pop(loop, None)
        await session.close()


def open_state() -> LoopState | None:
    """What belongs to the running loop; None if it has to be made."""
    # One whose session is closed is not among them any more.
    return _states.get(asyncio.get_running_loop())


async def loop_state() -> LoopState:
    """What belongs to the running loop, made if it is not there yet."""
    if (state := open_state()) is not None:
        return state
    loop = asyncio.get_running_loop()
    session = aiohttp.ClientSession(
        # Places are given out by our limiters; cookies and proxy or netrc credentials are never sent.
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=True,
    )
    guard = _close_with_loop(loop, session)
    state = LoopState(session, guard)
    with _states_lock:
        for closed in [other for other in _states if other.is_closed()]:
            del _states[closed]
        _states[loop] = state
    await anext(guard)
    return state


async def aclose() -> None:
    """Close the connections that this package holds on the running event loop; they reopen when needed."""
    state = _states.get(asyncio.get_running_loop())
    if state is not None:
        await state.guard.aclose()
