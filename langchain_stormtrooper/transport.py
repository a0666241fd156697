"""The one way to a server: requests out, answers in, over one aiohttp session per running event loop.

The transport waits for a place, sends, retries what the protocol says may be retried, and gives up in time. It knows
no protocol: what an answer means is decided by `wire`. Called by `llms` only; sync callers come through `bridge`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

import aiohttp

from langchain_stormtrooper.errors import RequestFailedError, ServerUnreachableError
from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.wire import Response

MAX_RESPONSE_BYTES = 64 * 2**20
"""Largest answer that is read; a label's answer has a few hundred bytes."""

_BACKOFF_FIRST, _BACKOFF_MAX, _RETRY_AFTER_MAX = 0.1, 8.0, 60.0


@dataclass(frozen=True, slots=True)
class _Unreached:
    """A try that brought no byte of an answer.

    Attributes:
        error: What to raise when it is the last try.
        was_sent: Whether the server may have seen the request.
    """

    error: ServerUnreachableError
    was_sent: bool


class _Server:
    """What is known of one server on one event loop, shared by all that talk to it.

    Attributes:
        limiter: Gives out places for requests.
        was_reached: Whether it has ever answered: only then is it worth waiting for.
        back: Running while the server is gone; ends when it is back, or fails when it stays away.
    """

    __slots__ = ("back", "limiter", "was_reached")

    def __init__(self) -> None:
        self.limiter = AdaptiveLimiter()
        self.was_reached = False
        self.back: asyncio.Task[None] | None = None

    def answered(self, status: int) -> None:
        """Learn from an answer that the server is there, and how much it takes."""
        self.was_reached = True
        if status == 429:
            self.limiter.overloaded()
        else:
            self.limiter.succeeded()


@dataclass(slots=True)
class _LoopState:
    """What belongs to one event loop: its session, and its servers by base URL."""

    session: aiohttp.ClientSession
    guard: AsyncGenerator[None, None]
    servers: dict[str, _Server] = field(default_factory=dict)


_states: dict[asyncio.AbstractEventLoop, _LoopState] = {}
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


def _open_state() -> _LoopState | None:
    state = _states.get(asyncio.get_running_loop())
    return None if state is None or state.session.closed else state


async def _loop_state() -> _LoopState:
    if (state := _open_state()) is not None:
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
    state = _LoopState(session, guard)
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


class Transport:
    """Requests to one server.

    Holds no connection itself and may be used from any number of event loops; requests from one loop to the same base
    URL share their places.

    Args:
        base_url: Scheme, host and optional path prefix, without a trailing slash.
        headers: Sent with every request. Never logged, never part of an error.
        timeout: Seconds that an answer may take, from sending to its last byte.
        connect_timeout: Seconds that connecting may take.
        max_concurrency: Requests in flight at once.
        max_retries: How often one request is repeated at most.
        retries_allowed: From an answer that is not a 200 to the number of repeats that answers with its status allow
            one request, None for no bound of their own.
        unreachable_hint: What to do when no server answers, as the end of a sentence.
        max_downtime: Seconds to wait for a server that has answered before and is gone, as while it restarts.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        max_concurrency: int,
        retries_allowed: Callable[[Response], int | None],
        unreachable_hint: str,
        max_downtime: float = 120.0,
        max_retries: int = 6,
        connect_timeout: float = 10.0,
    ) -> None:
        self.base_url = base_url
        self._headers = dict(headers)
        self._json_headers = {**headers, "Content-Type": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout)
        self._seconds = timeout
        self._max_concurrency = max_concurrency
        self._max_retries = max_retries
        self._retries_allowed = retries_allowed
        self._unreachable_hint = unreachable_hint
        self._max_downtime = max_downtime
        self._permits: int | None = None

    def __repr__(self) -> str:
        """Without headers, which hold the key."""
        return f"Transport({self.base_url!r})"

    async def post(self, path: str, body: bytes) -> Response:
        """POST a JSON body, waiting for a place and retrying as the protocol allows.

        Raises:
            ServerUnreachableError: No server answers.
            RequestFailedError: The answer did not come in time, or broke off.
        """
        return await self._request("POST", path, body)

    async def get(self, path: str) -> Response:
        """GET, otherwise as `post`."""
        return await self._request("GET", path, None)

    async def seed_limit(self, permits: int) -> None:
        """Take note of how many requests the server says it takes at once, from all clients together."""
        self._permits = permits
        self._server(await _loop_state())

    async def _request(self, method: str, path: str, body: bytes | None) -> Response:
        # Every row comes this way: what is there already is not waited for.
        state = _open_state() or await _loop_state()
        server = self._server(state)
        attempt, seen = 0, dict[int, int]()
        while True:
            if server.back is not None:
                await asyncio.shield(server.back)
            # The place is given back while waiting to retry, so that a failing row does not hold up its neighbours.
            if not server.limiter.take(self._max_concurrency):
                await server.limiter.acquire(self._max_concurrency)
            try:
                outcome = await self._attempt(state, method, path, body)
                if isinstance(outcome, Response):
                    server.answered(outcome.status)
            finally:
                server.limiter.release()
            if isinstance(outcome, Response):
                if outcome.status == 200:
                    return outcome
                allowed = self._retries_allowed(outcome)
                before = seen.get(outcome.status, 0)
                if attempt >= self._max_retries or (allowed is not None and before >= allowed):
                    return outcome
                seen[outcome.status] = before + 1
                # Added, not instead: rows that were told the same moment do not all come back at it.
                await asyncio.sleep(_retry_after(outcome) + _backoff(attempt))
            else:
                # A server that never answered is not there: say so at once instead of making a newcomer wait.
                if not server.was_reached:
                    raise outcome.error
                if outcome.was_sent and attempt >= self._max_retries:
                    # The server is there for others: it is this request that it drops.
                    raise RequestFailedError("The server dropped the connection, also after retries.", retryable=True)
                await asyncio.sleep(_backoff(attempt))
                if server.back is None:
                    server.back = asyncio.create_task(self._wait_until_back(state, server, outcome.error))
                if not outcome.was_sent:
                    continue
            attempt += 1

    async def _wait_until_back(self, state: _LoopState, server: _Server, gone: ServerUnreachableError) -> None:
        """Ask the server's health until it answers: one asks, all rows wait.

        Raises:
            ServerUnreachableError: It stayed away for longer than `max_downtime`.
        """
        deadline = time.monotonic() + self._max_downtime
        pauses = 0
        try:
            while not await self._is_healthy(state):
                if time.monotonic() > deadline:
                    raise gone
                await asyncio.sleep(_backoff(min(pauses, 4)))
                pauses += 1
        finally:
            server.back = None

    async def _is_healthy(self, state: _LoopState) -> bool:
        try:
            answer = await self._attempt(state, "GET", "/health", None)
        except RequestFailedError:  # too slow, or broken off
            return False
        # Anything but "unhealthy" and a gateway's complaint: a server without this route is there, too.
        return isinstance(answer, Response) and answer.status not in (502, 503, 504)

    def _server(self, state: _LoopState) -> _Server:
        server = state.servers.get(self.base_url)
        if server is None:
            server = state.servers[self.base_url] = _Server()
        if self._permits is not None:
            # On every loop: what the server told is asked for once, and kept for longer than a loop lives.
            server.limiter.seed(self._permits)
        return server

    async def _attempt(self, state: _LoopState, method: str, path: str, body: bytes | None) -> Response | _Unreached:
        """One try: an answer, or the failure of a connection before any byte of it."""
        started = time.monotonic()
        answering = False
        try:
            async with self._send(state, method, path, body) as answer:
                answering = True
                content = await _read(answer)
                return Response(answer.status, answer.headers, content)
        except TimeoutError:
            if not answering and time.monotonic() - started < self._seconds * 0.99:
                return _Unreached(self._unreachable("does not accept connections in time"), was_sent=False)
            raise RequestFailedError(
                f"The server did not answer within {self._seconds:g} s: raise `timeout=` or lower `max_concurrency=`.",
                retryable=True,
            ) from None
        except aiohttp.ClientError as error:
            if answering or isinstance(error, aiohttp.ClientPayloadError):
                raise RequestFailedError(
                    "The connection broke off in the middle of the answer.", retryable=True
                ) from None
            refused = isinstance(error, aiohttp.ClientConnectorError)
            return _Unreached(self._unreachable(_problem(error)), was_sent=not refused)

    def _send(
        self, state: _LoopState, method: str, path: str, body: bytes | None
    ) -> aiohttp.client._RequestContextManager:
        return state.session.request(
            method,
            self.base_url + path,
            data=body,
            headers=self._headers if body is None else self._json_headers,
            timeout=self._timeout,
            # A redirect could carry the key and the texts to another host.
            allow_redirects=False,
        )

    def _unreachable(self, what: str) -> ServerUnreachableError:
        return ServerUnreachableError(f"The server at {self.base_url} {what}: {self._unreachable_hint}")

    @asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncIterator[Response | AsyncGenerator[str, None]]:
        """POST and read server-sent events: an iterator over their data, or a `Response` if it is not a stream.

        Not retried: what was streamed cannot be taken back.
        """
        state = await _loop_state()
        limiter = self._server(state).limiter
        await limiter.acquire(self._max_concurrency)
        answering, problem = False, ""
        try:
            async with self._send(state, "POST", path, body) as answer:
                answering = True
                if answer.status != 200 or "event-stream" not in answer.headers.get("content-type", ""):
                    yield Response(answer.status, answer.headers, await _read(answer))
                else:
                    yield _events(answer.content)
        except TimeoutError:
            raise RequestFailedError(
                f"The server did not finish within {self._seconds:g} s: raise `timeout=`.", retryable=True
            ) from None
        except aiohttp.ClientError as error:
            if answering:
                raise RequestFailedError("The connection broke off in the middle of the stream.") from None
            problem = _problem(error)
        finally:
            limiter.release()
        if problem:
            # Raised out here: the library's error, which can show the headers, would stay with it as its context.
            raise self._unreachable(problem)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, if it is of a sane length."""
    stream = answer.content
    content = await stream.readany()
    if stream.at_eof():
        return content
    whole = bytearray(content)
    async for chunk in stream.iter_any():
        whole += chunk
        if len(whole) > MAX_RESPONSE_BYTES:
            raise RequestFailedError(
                f"The server's answer is longer than {MAX_RESPONSE_BYTES // 2**20} MiB.", status=answer.status
            )
    return bytes(whole)


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[str, None]:
    """The data of each server-sent event; one line each, as TGI and its successors send them."""
    async for line in content:
        if line.startswith(b"data:"):
            yield line[5:].strip().decode("utf-8", "replace")


def _problem(error: aiohttp.ClientError) -> str:
    """What is wrong with a server that did not begin an answer, without the error's own words."""
    if isinstance(error, aiohttp.ClientSSLError):
        cause = getattr(error, "certificate_error", None) or error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a TLS certificate that is not trusted ({cause.verify_message})"
        return "does not speak TLS"
    if isinstance(error, aiohttp.ClientResponseError):
        return "does not speak HTTP"
    return "refused or dropped the connection"


def _backoff(attempt: int) -> float:
    """Exponential with full jitter: clients that were refused together do not come back together."""
    ceiling: float = min(_BACKOFF_MAX, _BACKOFF_FIRST * 2.0**attempt)
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311  # spreads load, guards nothing


def _retry_after(response: Response) -> float:
    """Seconds that the server asks to wait, 0 if it does not; TGI never says, proxies in front of it may."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _RETRY_AFTER_MAX)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(max(0.0, seconds), _RETRY_AFTER_MAX)
