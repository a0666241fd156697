"""What every test server does with every request: count it, record it, answer it, and carry out a fault.

`Reception` is the part that does not depend on the protocol; `routes.Routes` (TGI) and `openai.front.Front` (OpenAI
style) say how a request is answered. It reads no bodies and words no errors.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from aiohttp import web

from langchain_stormtrooper.testing.answers import Call
from langchain_stormtrooper.testing.ledger import Counters, Received, Record
from langchain_stormtrooper.testing.sabotage import send_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_stormtrooper.testing.faults import Faults

_PROMPT_LIMIT = 200_000


class Reception(ABC):
    """Receives every request of one server.

    Args:
        counters: What to count in.
        faults: What goes wrong on purpose.
        record: Where requests are kept.
        go_away: Called with seconds and whether to forget everything, to take the server off the network.
    """

    def __init__(
        self, counters: Counters, faults: Faults, record: Record, go_away: Callable[[float, bool], None]
    ) -> None:
        self.counters = counters
        self.faults = faults
        self.record = record
        self.healthy = True
        self.go_away = go_away

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        counters = self.counters
        counters.requests += 1
        counters.by_route[request.path] += 1
        call = Call(request, begin=time.perf_counter())
        try:
            response = await self.answered(call)
            if call.fault is not None:
                response = await send_fault(call.fault, request, response, self.go_away)
        except asyncio.CancelledError:
            counters.disconnects += 1
            raise
        except ConnectionResetError:
            # The client went away, or a fault cut the connection, while a body was being written.
            counters.disconnects += 1
            return web.Response()
        counters.by_status[response.status] += 1
        return response

    @abstractmethod
    async def answered(self, call: Call) -> web.StreamResponse:
        """Answer with what was asked for, or with the refusal; sets the call's fault if one is to be sent."""

    def count_prompt(self, prompt: str) -> None:
        """Count a prompt that a model was to go on from."""
        by_prompt = self.counters.by_prompt
        if len(by_prompt) < _PROMPT_LIMIT or prompt in by_prompt:
            by_prompt[prompt] += 1

    def remember(self, call: Call, data: bytes) -> None:
        """Record a request and its body."""
        if self.record.limit:
            request = call.request
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.record.kept.append(Received(request.method, request.path, headers, data, call.raw))
