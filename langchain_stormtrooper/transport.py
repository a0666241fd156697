"""The one way to a server: requests out, answers in, over one aiohttp session per running event loop.

The transport waits for a place, sends, retries what the protocol says may be retried (`retrying`), and gives up in
time. It knows no protocol: what an answer means is decided by `wire`. Called by `llms` only; sync callers come through
`bridge`.
"""

from __future__ import annotations

import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar

import aiohttp

from langchain_stormtrooper.errors import (
    RequestFailedError,
    ResponseFormatError,
    ServerUnreachableError,
    StormtrooperError,
)
from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.reading import (
    PROBLEMS,
    EventReader,
    broken_off,
    has_unreadable_encoding,
    is_not_http,
    name_problem,
    read_body,
    unreadable_encoding,
)
from langchain_stormtrooper.retrying import Failure, Patience
from langchain_stormtrooper.servers import GATEWAY_ERRORS, Server, was_reached
from langchain_stormtrooper.sessions import LoopState, loop_state, open_state
from langchain_stormtrooper.wire import Response

_LARGE_BODY = 2**20
_HEALTH_SECONDS = 10.0
_OPTIONAL_RETRIES = 2


class _Stream:
    """An answer that comes as events and has begun well: its first event is there, and is no error.

    Attributes:
        status: Always 200.
        answer: The answer.
        first: The first event; None if there is none.
        events: The events after it.
        limiter: Where its place is given back.
    """

    __slots__ = ("answer", "events", "first", "limiter")

    status = 200

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        first: str | None,
        events: EventReader,
        limiter: AdaptiveLimiter,
    ) -> None:
        self.answer = answer
        self.first = first
        self.events = events
        self.limiter = limiter

    def close(self) -> None:
        """Leave the answer as it is, and give its place back."""
        self.answer.close()
        self.limiter.release()


AnswerT = TypeVar("AnswerT", bound=Response | _Stream)


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
        event_status: From the first event of a stream to the status of the HTTP error that it stands for, None if it
            is no error: some servers begin every stream with a 200.
        unreachable_hint: What to do when no server answers, as the end of a sentence.
        max_downtime: Seconds to wait for a server that has answered before and is gone, as while it restarts, or that
            refuses or drops all that is sent.
        has_others: Whether requests may go to other servers: then one that is gone is not waited for.
        slow: What to say when an answer takes longer than `timeout`, with a place for the seconds.
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
        event_status: Callable[[str], int | None] = lambda event: None,
        max_downtime: float = 120.0,
        max_retries: int = 6,
        connect_timeout: float = 10.0,
        has_others: bool = False,
        slow: str = "The server did not answer within {:g} s: raise `timeout=` or lower `max_concurrency=`.",
    ) -> None:
        self.base_url = base_url
        self._headers = dict(headers)
        self._json_headers = {**headers, "Content-Type": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout)
        self._health_timeout = aiohttp.ClientTimeout(total=min(timeout, _HEALTH_SECONDS), sock_connect=connect_timeout)
        self._seconds = timeout
        self._max_concurrency = max_concurrency
        self._max_retries = max_retries
        self._retries_allowed = retries_allowed
        self._event_status = event_status
        self._unreachable_hint = unreachable_hint
        self._slow = slow
        self._max_downtime = max_downtime
        self._has_others = has_others
        self._permits: int | None = None

    def __repr__(self) -> str:
        """Without headers, which hold the key."""
        return f"Transport({self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        """Not to be pickled: it holds the key."""
        raise TypeError("A transport is not for pickling: it holds the key.")

    def post(self, path: str, body: bytes) -> Coroutine[Any, Any, Response]:
        """POST a JSON body, waiting for a place and retrying as the protocol allows.

        Raises:
            ServerUnreachableError: No server answers.
            RequestFailedError: The answer did not come in time, broke off, or cannot be read.
        """
        return self._ask(partial(self._attempt, "POST", path, body))

    async def get(self, path: str, *, optional: bool = False) -> Response:
        """GET, otherwise as `post`.

        Args:
            path: The route.
            optional: Whether there is a way without the answer: then a gateway's errors are not retried for long.
        """
        return await self._ask(partial(self._attempt, "GET", path, None), optional=optional)

    async def is_healthy(self) -> bool:
        """Whether the server is there and well, asked once, without waiting for a place or for its return."""
        return await self._is_healthy(open_state() or await loop_state())

    async def wait_until_back(self) -> None:
        """Wait until the server is there and well, for as long as it takes; all that wait share one who asks."""
        state = open_state() or await loop_state()
        await self._server(state).wait_until_back(lambda: self._is_healthy(state), None, is_down=False)

    def places(self) -> tuple[float, int]:
        """How many places there are on the running event loop as far as is known, and how many of them are taken."""
        state = open_state()
        if state is None:
            return self._max_concurrency, 0
        limiter = self._server(state).limiter
        return min(limiter.limit, self._max_concurrency), limiter.in_flight

    def trouble(self) -> str:
        """What a server does that is there and has not answered in time, as the end of "The server at ..."."""
        state = open_state()
        status = None if state is None else self._server(state).last_status
        if status == 429:
            return "has no place for any request (429)"
        return "does not answer in time" if status is None or status < 500 else f"fails ({status})"

    @property
    def unreachable_hint(self) -> str:
        """What to do when no server answers, as the end of a sentence."""
        return self._unreachable_hint

    async def seed_limit(self, permits: int) -> None:
        """Take note of how many requests the server says it takes at once, from all clients together."""
        self._permits = permits
        self._server(await loop_state())

    @asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncIterator[Response | AsyncGenerator[str, None]]:
        """POST and read server-sent events: an iterator over their data, or a `Response` if it is not a stream.

        Retried like any request until the first event that is no error, and never after it: what was streamed cannot
        be taken back. An error as the first event comes as the `Response` that it stands for.
        """
        outcome = await self._ask(lambda state: self._begin_stream(state, path, body))
        if isinstance(outcome, Response):
            yield outcome
            return
        try:
            async with aclosing(self._follow(outcome)) as events:
                yield events
        finally:
            outcome.close()

    async def _ask(
        self, attempt: Callable[[LoopState], Awaitable[AnswerT | Failure]], *, optional: bool = False
    ) -> AnswerT:
        """Try until there is an answer to be taken as it is.

        A stream keeps its place until it is closed.
        """
        # Every row comes this way: what is there already is not waited for.
        state = open_state() or await loop_state()
        server = self._server(state)
        patience: Patience | None = None
        while True:
            if server.is_down:
                patience = patience or self._patience(state, server, optional)
                await patience.wait_until_back()
            # The place is given back while waiting to retry, so that a failing row does not hold up its neighbours.
            if not server.limiter.take(self._max_concurrency):
                await server.limiter.acquire(self._max_concurrency)
            outcome: AnswerT | Failure | None = None
            try:
                outcome = await attempt(state)
                if not isinstance(outcome, Failure):
                    server.answered(outcome.status)
            finally:
                if not isinstance(outcome, _Stream):
                    server.limiter.release()
            if isinstance(outcome, Failure):
                patience = patience or self._patience(state, server, optional)
                await patience.bear_failure(outcome)
            elif outcome.status == 200 or isinstance(outcome, _Stream):
                return outcome
            else:
                patience = patience or self._patience(state, server, optional)
                if not await patience.bear_answer(outcome):
                    return outcome

    def _patience(self, state: LoopState, server: Server, optional: bool) -> Patience:
        return Patience(
            server,
            max_retries=_OPTIONAL_RETRIES if optional else self._max_retries,
            max_downtime=self._max_downtime,
            retries_allowed=self._retries_allowed,
            is_healthy=lambda: self._is_healthy(state),
            unreachable=self._unreachable,
            is_optional=optional,
            has_others=self._has_others,
        )

    async def _is_healthy(self, state: LoopState) -> bool:
        try:
            answer = await self._attempt("GET", "/health", None, state, self._health_timeout)
        except StormtrooperError:  # too slow, broken off, or no answer at all
            return False
        # Anything but "unhealthy" and a gateway's complaint: a server without this route is there, too.
        return isinstance(answer, Response) and answer.status not in GATEWAY_ERRORS

    def _server(self, state: LoopState) -> Server:
        server = state.servers.get(self.base_url)
        if server is None:
            server = state.servers[self.base_url] = Server(self.base_url)
        if self._permits is not None:
            # On every loop: what the server told is asked for once, and kept for longer than a loop lives.
            server.limiter.seed(self._permits)
        return server

    async def _attempt(
        self,
        method: str,
        path: str,
        body: bytes | None,
        state: LoopState,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109  # aiohttp's, which knows connecting apart
    ) -> Response | Failure:
        """One try: an answer, or the failure of a connection before any byte of it."""
        started = time.monotonic()
        answer: aiohttp.ClientResponse | None = None
        content: bytes | None = None
        try:
            answer = await self._send(state, method, path, body, timeout or self._timeout)
            content = await read_body(answer)
            return Response(answer.status, answer.headers, content)
        except PROBLEMS as caught:
            error = caught
        finally:
            # One that was read to its end has given its connection back by itself.
            if answer is not None and content is None:
                answer.close()
        # Out here: raised up there, ours would have the library's as its context, which can show the headers.
        return self._judge(error, started, answer is not None)

    async def _begin_stream(self, state: LoopState, path: str, body: bytes) -> Response | _Stream | Failure:
        """One try to begin a stream: up to its first event, or an answer that is none."""
        started = time.monotonic()
        answer: aiohttp.ClientResponse | None = None
        answering = keep = False
        try:
            answer = await self._send(state, "POST", path, body, self._timeout)
            if answer.status != 200 or "event-stream" not in answer.headers.get("content-type", ""):
                answering = True
                return Response(answer.status, answer.headers, await read_body(answer))
            events = EventReader(answer.content, started + self._seconds)
            first = await events.read()
            status = None if first is None else self._event_status(first)
            if first is not None and status is not None:
                return Response(status, {"content-type": "application/json"}, first.encode())
            keep = True
            return _Stream(answer, first, events, self._server(state).limiter)
        except PROBLEMS as caught:
            error: Exception = caught
        finally:
            if answer is not None and not keep:
                answer.close()
        return self._judge(error, started, answering)

    async def _follow(self, stream: _Stream) -> AsyncGenerator[str, None]:
        """The events of a stream."""
        event = stream.first
        while event is not None:
            yield event
            try:
                event = await stream.events.read()
            except PROBLEMS as caught:
                error = caught
                break
        else:
            return
        if isinstance(error, TimeoutError):
            raise RequestFailedError(
                f"The server did not finish within {self._seconds:g} s: raise `timeout=`.", retryable=True
            )
        raise broken_off(error, "stream")

    def _judge(self, error: Exception, started: float, answering: bool) -> Failure:
        """What the HTTP library's error means: a failure after which the request may be repeated, or an error of ours.

        Args:
            error: What it raised.
            started: When the request was sent.
            answering: Whether the answer had begun.
        """
        if isinstance(error, TimeoutError):
            if not answering and time.monotonic() - started < self._seconds * 0.99:
                return Failure("does not accept connections in time", was_sent=False)
            raise RequestFailedError(
                self._slow.format(self._seconds),
                retryable=True,
            )
        if answering:
            raise broken_off(error, "answer")
        problem = name_problem(error)
        if has_unreadable_encoding(error):
            raise unreadable_encoding()
        # What has never spoken HTTP is another server than the one that is meant, and that is said by the caller.
        if is_not_http(error) and was_reached(self.base_url):
            raise ResponseFormatError("The server answered with something that is not HTTP; a proxy may have done it.")
        return Failure(problem, was_sent=not isinstance(error, aiohttp.ClientConnectorError))

    def _send(
        self, state: LoopState, method: str, path: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:
        return state.session.request(
            method,
            self.base_url + path,
            # Of large bytes the library warns; what it reads by itself it sends piece by piece.
            data=body if body is None or len(body) <= _LARGE_BODY else io.BytesIO(body),
            headers=self._headers if body is None else self._json_headers,
            timeout=timeout,
            # A redirect could carry the key and the texts to another host.
            allow_redirects=False,
        )

    def _unreachable(self, what: str) -> ServerUnreachableError:
        return ServerUnreachableError(f"The server at {self.base_url} {what}: {self._unreachable_hint}", problem=what)
