"""What one request may cost the HTTP app: its body, its place, and the work for a client that has left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fakes import LABELS, FakeLLM

from langchain_stormtrooper import ConfigurationError, ZeroShotClassifier, create_app
from langchain_stormtrooper.serving.refusals import RefusedError
from langchain_stormtrooper.serving.sending import refuse


class Caller:
    """One request to an ASGI app, message by message.

    Args:
        app: The app.
        body: The body, if it is complete from the start.
        path: The path.

    Attributes:
        sent: What the app has sent.
    """

    def __init__(self, app: Any, body: Any = None, path: str = "/classify") -> None:
        self.sent: list[dict[str, Any]] = []
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if body is not None:
            self.give(json.dumps(body).encode(), more=False)
        headers = [(b"content-type", b"application/json")]
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": headers}
        scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("app", 80)}
        self.task = asyncio.create_task(app(scope, self.messages.get, self._send))

    def give(self, piece: bytes, *, more: bool = True) -> None:
        """Send a piece of the body."""
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        """Go away."""
        self.messages.put_nowait({"type": "http.disconnect"})

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        """The status, if it was sent."""
        return self.sent[0]["status"] if self.sent else None

    @property
    def text(self) -> str:
        """What was sent of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent).decode()


def make(llm: FakeLLM, **options: Any) -> Any:
    """An app around an LLM."""
    return create_app(ZeroShotClassifier(LABELS, llm=llm), **options)


async def until(condition: Any) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("path", ["/classify", "/langserve/invoke", "/nowhere"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_long_body_is_a_413(path: str, chunked: bool) -> None:
    """No route takes a body over the limit, told of in advance or not; one of the limit's length is read."""

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 50):
            yield b" " * min(50, size - start)

    transport = httpx.ASGITransport(make(FakeLLM(), max_body_bytes=1000))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as asked:
        for size, expected in ((1001, {413}), (1000, {404, 415, 422})):
            answer = await asked.post(path, content=pieces(size) if chunked else b" " * size)
            assert answer.status_code in expected
            assert chunked == ("transfer-encoding" in answer.request.headers)
    assert "detail" in answer.json()


async def test_a_body_that_does_not_come_is_a_408() -> None:
    """A client that sends its body too slowly loses its place."""
    app = make(FakeLLM(), body_timeout=0.05, max_requests=1)
    slow = Caller(app)
    slow.give(b'{"text":')
    await asyncio.sleep(0.1)
    slow.leave()
    await slow.task
    assert slow.status == 408
    good = Caller(app, {"text": "a"})
    await good.task
    assert good.status == 200


async def test_requests_beyond_the_limit_are_a_429() -> None:
    """So many requests are in work at once; one more is told when to come again, and reports are always given."""
    llm = FakeLLM()
    app = make(llm, max_requests=2)
    busy = [Caller(app, {"text": f"SLOW {n}"}) for n in range(2)]
    await until(lambda: llm.log.running == 2)
    refused = Caller(app, {"text": "a"})
    await refused.task
    assert refused.status == 429
    assert (b"retry-after", b"1") in refused.sent[0]["headers"]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as asked:
        for path in ("/health", "/ready", "/info"):
            assert (await asked.get(path)).status_code == 200
        assert "stormtrooper_http_requests_in_flight 2.0" in (await asked.get("/metrics")).text
    for caller in busy:
        caller.leave()
        await caller.task
    again = Caller(app, {"text": "a"})
    await again.task
    assert again.status == 200


@pytest.mark.parametrize(
    ("body", "path", "rows"),
    [
        ({"text": "SLOW"}, "/classify", 1),
        ({"texts": ["SLOW 1", "SLOW 2", "SLOW 3"]}, "/classify", 3),
        ({"texts": ["quick", "SLOW 2", "SLOW 3"]}, "/classify", 2),
        ({"input": "SLOW"}, "/langserve/invoke", 1),
        ({"inputs": ["SLOW 1", "SLOW 2"]}, "/langserve/batch", 2),
    ],
)
async def test_a_client_that_leaves_stops_its_rows(body: Any, path: str, rows: int) -> None:
    """When a client goes away, what it asked for is cancelled, counted as such, and its place is free."""
    llm = FakeLLM()
    app = make(llm, max_requests=1)
    caller = Caller(app, body, path)
    await until(lambda: llm.log.running == rows)
    caller.leave()
    await caller.task
    await until(lambda: llm.log.running == 0)
    assert llm.log.cancelled == rows
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as asked:
        told = (await asked.get("/metrics")).text
    counted = path if path == "/classify" else "/langserve/*"
    assert f'path="{counted}",status="499"' in told
    assert "in_flight 0.0" in told


async def test_a_client_that_leaves_before_its_body_is_complete() -> None:
    """Nothing is answered and nothing is asked for a request that never came in full."""
    llm = FakeLLM()
    app = make(llm)
    caller = Caller(app)
    caller.give(b'{"text":')
    caller.leave()
    await caller.task
    assert caller.sent == []
    assert llm.log.prompts == []


async def test_rows_are_sent_as_they_finish() -> None:
    """The first line of many is on its way while other texts are still in work, and its text is not the first."""
    llm = FakeLLM()
    app = make(llm)
    caller = Caller(app, {"texts": ["SLOW", "quick"]})
    await until(lambda: caller.text)
    assert json.loads(caller.text)["index"] == 1
    assert not caller.task.done()
    caller.leave()
    await caller.task


@pytest.mark.parametrize("messages", [0, 1, 2])
async def test_a_client_that_does_not_read_loses_its_place(messages: int) -> None:
    """When a client takes nothing of its answer for too long, from some message on, its place is free."""

    class Deaf(Caller):
        async def _send(self, message: dict[str, Any]) -> None:
            if len(self.sent) == messages:
                await asyncio.sleep(60)
            await super()._send(message)

    app = make(FakeLLM(), body_timeout=0.05, max_requests=1)
    deaf = Deaf(app, {"texts": ["a", "b"]})
    async with asyncio.timeout(5):
        await deaf.task
    assert len(deaf.sent) == messages
    again = Caller(app, {"text": "a"})
    await again.task
    assert again.status == 200


async def test_who_cancels_a_request_from_outside_cancels_it() -> None:
    """A cancelled request is cancelled for whoever did it, and its place is free."""
    llm = FakeLLM()
    app = make(llm, max_requests=1)
    caller = Caller(app, {"text": "SLOW"})
    await until(lambda: llm.log.running)
    caller.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller.task
    again = Caller(app, {"text": "a"})
    await again.task
    assert again.status == 200


async def test_a_refusal_reads_what_is_left_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to an unread body waits for the rest of it, but not for ever and not for any size."""
    monkeypatch.setattr("langchain_stormtrooper.serving.sending._DISCARDING_SECONDS", 0.05)
    refusal = RefusedError(429, "Busy.")
    read = 0
    sent: list[Any] = []

    async def endless() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 2**20, "more_body": True}

    async def silent() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    await refuse(refusal, endless, send)
    assert read == 16
    await refuse(refusal, silent, send)
    assert [message["status"] for message in sent[::2]] == [429, 429]


@pytest.mark.parametrize(
    ("named", "status"),
    [
        *(("127.0.0.1:8000", 200), ("LOCALHOST", 200), ("[::1]:8000", 200), ("app.example:443", 200)),
        *(
            ("evil.example", 421),
            ("evil.example:8000", 421),
            ("127.0.0.1.evil.example", 421),
            ("[::2]", 421),
            ("", 421),
        ),
    ],
)
async def test_only_its_own_names_are_answered(named: str, status: int) -> None:
    """A page that gives its own name the address of this machine gets nothing, whatever it asks for."""
    hosts = ["127.0.0.1", "localhost", "[::1]", "App.Example"]
    app = create_app(ZeroShotClassifier(LABELS, llm=FakeLLM()), allowed_hosts=hosts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for method, path, body in (("POST", "/classify", {"text": "x"}), ("GET", "/", None), ("GET", "/info", None)):
            answer = await client.request(method, path, json=body, headers={"Host": named})
            assert answer.status_code == status


def test_hosts_are_a_list_of_names() -> None:
    """One name as a text would be taken for its letters."""
    for wrong in ("localhost", [""], [3]):
        with pytest.raises(ConfigurationError, match="allowed_hosts="):
            create_app(ZeroShotClassifier(LABELS, llm=FakeLLM()), allowed_hosts=wrong)  # type: ignore[arg-type]
