"""What Prometheus is told: requests by route and status, their seconds, rows by outcome, tokens, work in flight.

Nothing of a text or a label is in it: labels come with requests, and their number has no bound. Each app has a registry
of its own. `Telemetry` is the outermost thing around the app, so it also sees what is refused before a route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from langchain_stormtrooper.serving.gate import ClientGoneError
from langchain_stormtrooper.serving.refusals import RETRY_SECONDS, RefusedError, refusal_of
from langchain_stormtrooper.serving.sending import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from langchain_stormtrooper.results import Classification

__all__ = ["CONTENT_TYPE", "Metrics", "Telemetry"]

CLIENT_GONE = 499
"""The status that is counted for requests whose client went away before the answer; nginx has it, too."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = logging.getLogger("langchain_stormtrooper.serving")


class Metrics:
    """The counters of one app.

    Args:
        running: Tells how many requests are in work.
    """

    def __init__(self, running: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stormtrooper_http_requests", "Requests.", ("method", "path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "stormtrooper_http_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("stormtrooper_rows", "Rows of /classify.", ("outcome",), registry=self.registry)
        self.tokens = Counter("stormtrooper_tokens", "Tokens of /classify.", ("kind",), registry=self.registry)
        in_flight = Gauge("stormtrooper_http_requests_in_flight", "Requests in work.", registry=self.registry)
        in_flight.set_function(running)

    def add(self, row: Classification) -> None:
        """Count a row."""
        self.rows.labels("labelled" if row.reason is None else row.reason.value).inc()
        if row.prompt_tokens:
            self.tokens.labels("prompt").inc(row.prompt_tokens)
        if row.generated_tokens:
            self.tokens.labels("generated").inc(row.generated_tokens)

    def show(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class Telemetry:
    """Counts requests, and answers those that something unexpected happened to.

    Args:
        app: The app behind.
        metrics: What counts.
        paths: The paths that are counted by their name.
        below: The beginnings of paths that are counted as one each.
        is_closing: Whether connections are to be closed after their answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        paths: Iterable[str],
        below: Iterable[str],
        is_closing: Callable[[], bool],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = frozenset(paths)
        self._below = tuple(below)
        self._is_closing = is_closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._is_closing():
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        is_gone = False
        try:
            await self._app(scope, receive, send_noting)
        except ClientGoneError:
            is_gone = True
        except asyncio.CancelledError:
            if status or not self._is_closing():
                raise
            # There is no time left to finish it; a client that asks again may be sent elsewhere.
            late = "The app is ending and cannot finish this: send it again."
            await refuse(RefusedError(503, late, retry_after=RETRY_SECONDS), receive, send_noting)
        except Exception as error:  # noqa: BLE001  # the outermost place: nobody else will answer
            # Messages and tracebacks of others may hold a text: where it happened is enough.
            what, where = type(error).__name__, _place(error)
            log.error("%s in %s %s, at %s", what, scope["method"], self._name(scope), where)  # noqa: TRY400
            if status:
                raise ConnectionAbortedError("An answer broke off.") from None
            await refuse(refusal_of(error), receive, send_noting)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            name = self._name(scope)
            self._metrics.requests.labels(method, name, str(CLIENT_GONE if is_gone else status or 500)).inc()
            self._metrics.seconds.labels(name).observe(time.perf_counter() - started)

    def _name(self, scope: Scope) -> str:
        """The path as it is counted: of a bounded number."""
        path: str = scope["path"]
        if path in self._paths:
            return path
        return next((f"{start}*" for start in self._below if path.startswith(start)), "other")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
