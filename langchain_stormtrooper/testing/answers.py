"""How answers are written: JSON, headers and event streams in the manner of one version.

Turns finished work into aiohttp responses and nothing else. Called by `routes` and `openai_routes`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from langchain_stormtrooper.testing.faults import Fault, FaultKind
from langchain_stormtrooper.testing.sabotage import reset, send_spoilt_events
from langchain_stormtrooper.testing.shard import NO_TROUBLE, Outcome, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_stormtrooper.testing.config import Config

CORS = {"Access-Control-Allow-Origin": "*"}
JSON = "application/json"


@dataclass(slots=True)
class Call:
    """One request on its way through a handler."""

    request: web.BaseRequest
    raw: Any = None
    begin: float = 0.0
    fault: Fault | None = None
    trouble: Trouble = NO_TROUBLE


# Made once, since `json.dumps` with options makes an encoder for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dumps(value: Any) -> bytes:
    """Write JSON as serde does: compact, and not escaped."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


class Answers:
    """Writes the answers of one server.

    Args:
        config: The server's settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def json(self, value: Any, headers: dict[str, str] | None = None) -> web.Response:
        """Answer with JSON."""
        return web.Response(body=dumps(value), content_type=JSON, headers={**CORS, **(headers or {})})

    def headers(self, call: Call, outcome: Outcome, characters: int) -> dict[str, str]:
        """Return the headers of a successful generation."""
        release = self.config.release
        total = time.perf_counter() - call.begin
        tokens = max(len(outcome.generation.steps), 1)
        validation = max(total - outcome.queued - outcome.inference, 0.0)
        result = {
            "x-compute-type": "gpu+optimized",
            "x-compute-time": f"{total:.9f}" if release.compute_time_in_seconds else str(int(total * 1000)),
            "x-compute-characters": str(characters),
            "x-total-time": str(int(total * 1000)),
            "x-validation-time": str(int(validation * 1000)),
            "x-queue-time": str(int(outcome.queued * 1000)),
            "x-inference-time": str(int(outcome.inference * 1000)),
            "x-time-per-token": str(int(outcome.inference * 1000 / tokens)),
        }
        if release.token_headers:
            result["x-prompt-tokens"] = str(outcome.job.input_length)
            result["x-generated-tokens"] = str(len(outcome.generation.steps))
        return result

    async def send_events(self, call: Call, events: AsyncGenerator[bytes, None], characters: int) -> web.StreamResponse:
        """Answer with a stream of events, keeping it alive while nothing happens."""
        headers = {
            "Cache-Control": "no-cache",
            "x-compute-type": "gpu+optimized",
            "x-compute-characters": str(characters),
            "x-accel-buffering": "no",
            **CORS,
        }
        prefix = b"data: " if self.config.release.sse_space else b"data:"
        framed = (prefix + event + b"\n\n" async for event in events)
        try:
            return await send_stream(call, framed, headers, keepalive=self.config.keepalive)
        finally:
            await events.aclose()


async def send_stream(
    call: Call, events: AsyncGenerator[bytes, None], headers: dict[str, str], *, keepalive: float | None
) -> web.StreamResponse:
    """Send a stream of events, spoilt as the call's fault wants it.

    Args:
        call: The request.
        events: The events as they go on the wire; closed at the end.
        headers: The headers besides the content type.
        keepalive: Seconds of silence after which a comment is sent; None for never.
    """
    fault = call.fault
    mistyped = fault is not None and fault.kind is FaultKind.CONTENT_TYPE
    kind = "text/html" if mistyped else "text/event-stream"
    response = web.StreamResponse(headers={"Content-Type": kind, **headers})
    await response.prepare(call.request)
    pending: asyncio.Task[bytes] | None = None
    breaks = fault is not None and fault.kind is FaultKind.RESET_MIDDLE
    try:
        if fault is not None and fault.kind in (FaultKind.DRIP, FaultKind.TRUNCATED):
            await send_spoilt_events(fault, response, [event async for event in events])
            return response
        while True:
            pending = asyncio.ensure_future(_next(events))
            while not (await asyncio.wait({pending}, timeout=keepalive))[0]:
                await response.write(b":\n\n")
            event = pending.result()
            if not event:
                break
            await response.write(event)
            if breaks:
                await asyncio.sleep(0.005)
                reset(call.request.transport)
                return response
    finally:
        if pending is not None and not pending.done():
            # The client went away while the model was at work: stop that too.
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await events.aclose()
    await response.write_eof()
    return response


async def _next(events: AsyncGenerator[bytes, None]) -> bytes:
    """Return the next event, or nothing at the end."""
    return await anext(events, b"")
