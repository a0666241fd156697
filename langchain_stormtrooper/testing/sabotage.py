"""Carry out a fault on the wire.

Gets the response that the server would have sent and sends something worse: a reset, half of it, a proxy's page. It
never chooses whom to hit (see `faults`). Called by `routes` for requests that were hit.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from aiohttp import web

from langchain_stormtrooper.testing.faults import Fault, FaultKind
from langchain_stormtrooper.testing.replies import mistyped, overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEED_ANSWER = frozenset({FaultKind.RESET_MIDDLE, FaultKind.DRIP, FaultKind.CONTENT_TYPE, FaultKind.TRUNCATED})
"""The kinds that spoil an honest answer; for the others the model is never asked."""

_PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_TITLES = {
    FaultKind.BAD_GATEWAY: (502, "502 Bad Gateway"),
    FaultKind.UNAVAILABLE: (503, "503 Service Temporarily Unavailable"),
    FaultKind.GATEWAY_TIMEOUT: (504, "504 Gateway Time-out"),
}


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Cut a connection so that the client sees a reset, not an orderly end."""
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


async def send_fault(
    fault: Fault, request: web.BaseRequest, honest: web.StreamResponse, go_away: Callable[[float, bool], None]
) -> web.StreamResponse:
    """Send a fault instead of, or in the shape of, the honest response."""
    kind = FaultKind(fault.kind)
    if kind in _TITLES:
        status, title = _TITLES[kind]
        return web.Response(
            status=status, text=_PAGE.format(title=title), content_type="text/html", headers=_retry_after(fault)
        )
    if kind is FaultKind.OVERLOADED:
        refusal = overloaded()
        return web.Response(
            status=429, body=refusal.encoded(), content_type="application/json", headers=_retry_after(fault)
        )
    if kind is FaultKind.UNAUTHORIZED:
        return web.Response(status=401)
    if kind is FaultKind.FORBIDDEN:
        return web.Response(status=403, text='{"message":"Forbidden"}', content_type="application/json")
    if kind is FaultKind.TEXT_422:
        return web.Response(status=422, text=mistyped("missing field `inputs` at line 1 column 2").text)
    if kind in (FaultKind.RESET_BEFORE, FaultKind.REFUSE, FaultKind.RESTART):
        if kind is not FaultKind.RESET_BEFORE:
            go_away(fault.seconds, kind is FaultKind.RESTART)
        reset(request.transport)
        return honest
    return await _mangle(kind, fault, request, honest)


async def _mangle(
    kind: FaultKind, fault: Fault, request: web.BaseRequest, honest: web.StreamResponse
) -> web.StreamResponse:
    """Spoil the honest response itself; streams, already sent, were spoilt on their way."""
    if not isinstance(honest, web.Response):
        return honest
    body = honest.body if isinstance(honest.body, bytes) else b""
    if kind is FaultKind.CONTENT_TYPE:
        return web.Response(status=honest.status, body=body, content_type="text/html")
    if kind is FaultKind.TRUNCATED:
        return web.Response(status=honest.status, body=body[: len(body) // 2], content_type="application/json")
    # What is left sends part of the body by hand: a reset in the middle, or a drip.
    response = web.StreamResponse(status=honest.status, headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    if kind is FaultKind.RESET_MIDDLE:
        await response.write(body[: len(body) // 2])
        # Let the half leave the machine first: a reset throws away what is still in the send buffer.
        await asyncio.sleep(0.005)
        reset(request.transport)
        return response
    await _drip(response, body, fault.seconds)
    await response.write_eof()
    return response


async def _drip(response: web.StreamResponse, body: bytes, seconds: float) -> None:
    for index in range(len(body)):
        await response.write(body[index : index + 1])
        await asyncio.sleep(seconds / len(body))


async def send_spoilt_events(fault: Fault, response: web.StreamResponse, events: Sequence[bytes]) -> None:
    """Send the events of a stream slowly, or all but the second half of the last one.

    Args:
        fault: A drip, or truncated JSON.
        response: The stream, which has begun.
        events: All events, as they would be sent.
    """
    body = b"".join(events)
    if fault.kind is FaultKind.DRIP:
        await _drip(response, body, fault.seconds)
    else:
        await response.write(body[: len(body) - (len(events[-1]) + 1) // 2])
    await response.write_eof()


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
