"""The command `serve` as a process: its start, its key, its end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
from served import Served, serve
from typer.testing import CliRunner

from langchain_stormtrooper.cli import app
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for single processes")

ENGINE = {"jazz": " music", "rain": " weather"}
SECRET = "jazz is what Mx. Doe secretly hears"
KEY = "LANGCHAIN_STORMTROOPER_API_KEY"
EVERYWHERE = "0.0.0.0"  # noqa: S104  # for some seconds


@pytest.fixture
def server(tgi_server: Callable[..., TGIServer]) -> TGIServer:
    """A model's server that knows two words."""
    return tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)))


@pytest.fixture
def served(server: TGIServer) -> Iterator[Served]:
    """The command in front of it."""
    with serve(server.url) as running:
        yield running


def until_ready(url: str, status: int = 200) -> httpx.Response:
    """Ask /ready until it says so."""
    end = time.monotonic() + 60
    while (answer := httpx.get(f"{url}/ready")).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.2)
    return answer


def test_it_answers_and_ends_with_0(served: Served) -> None:
    """One text, many texts, its reports: answered; SIGTERM ends it with 0; no text is ever on standard error."""
    until_ready(served.url)
    one = httpx.post(f"{served.url}/classify", json={"text": SECRET})
    assert (one.status_code, one.json()["label"]) == (200, "music")
    many = httpx.post(f"{served.url}/classify", json={"texts": [SECRET, "rain", "jazz " * 3000]})
    rows = sorted((json.loads(line) for line in many.text.splitlines()), key=lambda row: int(row["index"]))
    assert [(row["label"], row["reason"]) for row in rows] == [
        ("music", None),
        ("weather", None),
        (None, "overlong"),
    ]
    assert httpx.post(f"{served.url}/classify", json={"text": [SECRET]}).status_code == 422
    assert httpx.get(f"{served.url}/info").json()["model_id"] == "stormtrooper/scripted"
    assert 'outcome="overlong"} 1.0' in httpx.get(f"{served.url}/metrics").text
    assert served.end() == 0
    assert served.told == f"Serving at {served.url}\n"


def test_an_interrupt_ends_it_with_130(served: Served) -> None:
    """Ctrl-C ends it in peace, with the exit code that says so."""
    until_ready(served.url)
    assert served.end(signal.SIGINT) == 130
    assert served.told.endswith("Interrupted.\n")


def test_langserve_is_there(served: Served) -> None:
    """LangServe's own client gets labels from its routes."""
    langserve = pytest.importorskip("langserve")
    remote = langserve.RemoteRunnable(f"{served.url}/langserve")
    assert remote.invoke("jazz") == "music"
    assert remote.batch(["jazz", "rain"]) == ["music", "weather"]


def test_the_key_is_read_from_the_environment(server: TGIServer) -> None:
    """With a key in the environment, who does not send it is refused, and it is never told."""
    with serve(server.url, "--host", EVERYWHERE, **{KEY: "key-17"}) as served:
        url = served.url.replace(EVERYWHERE, "127.0.0.1")
        until_ready(url)
        statuses = [
            httpx.post(f"{url}/classify", json={"text": "jazz"}, headers={"authorization": sent}).status_code
            for sent in ("Bearer key-17", "Bearer key-18", "")
        ]
        assert served.end() == 0
        assert statuses == [200, 401, 401]
        assert served.told == f"Serving at {served.url}\n"


def test_an_open_door_is_told() -> None:
    """Without a key, an address beyond this machine is worth a warning; the app starts without the model's server."""
    with serve("http://127.0.0.1:9", "--host", EVERYWHERE, **{KEY: ""}) as served:
        answer = until_ready(served.url.replace(EVERYWHERE, "127.0.0.1"), 503)
        # Where the model is, is nothing for clients.
        assert answer.json()["detail"] == "The model's server cannot be reached now."
        assert served.end() == 0
        assert "put a key into LANGCHAIN_STORMTROOPER_API_KEY" in served.told
        assert "Not ready yet: The server at http://127.0.0.1:9 refused" in served.told
        assert "set --llm or TGI_BASE_URL" in served.told


def test_a_model_that_comes_later() -> None:
    """Requests are a 503 with Retry-After until the model's server is there, and answered from then on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with serve(f"http://127.0.0.1:{port}") as served:
        until_ready(served.url, 503)
        early = httpx.post(f"{served.url}/classify", json={"texts": ["jazz"]})
        assert (early.status_code, early.headers["retry-after"]) == (503, "5")
        with TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE)), port=port) as server:
            until_ready(served.url)
            assert httpx.post(f"{served.url}/classify", json={"text": "jazz"}).json()["label"] == "music"
            server.healthy = False
            assert "not healthy" in until_ready(served.url, 503).json()["detail"]


@pytest.mark.parametrize(
    ("arguments", "missing", "code", "told"),
    [
        (["--port", "{taken}"], None, 2, "choose another --port or --host"),
        (["--host", "no.such.host.invalid"], None, 2, "choose another --port or --host"),
        (["--llm", "http://127.0.0.1:9"], "uvicorn", 4, "pip install 'langchain-stormtrooper[serve]'"),
        (["--llm", "http://127.0.0.1:9"], "fastapi", 4, "pip install 'langchain-stormtrooper[serve]'"),
        (["--llm", "absent.gguf", "--port", "0"], None, 4, "There is no model file absent.gguf"),
        (["--labels", "music"], None, 2, "neither a list nor a file"),
        (["--max-requests", "0"], None, 2, "--max-requests must be at least 1"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    arguments: list[str], missing: str | None, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A taken port, an unknown host, a missing extra or model: one sentence and the exit code for it."""
    if missing is not None:
        monkeypatch.setitem(sys.modules, missing, None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [argument.format(taken=port) for argument in arguments]
        done = CliRunner().invoke(app, ["serve", "--labels", "music,weather", *given])
    assert done.exit_code == code, done.stderr
    *before, said = done.stderr.splitlines()
    assert told in said
    assert [line for line in before if not line.startswith("Serving at ")] == []


class Clients:
    """Many clients that keep their connections and ask until the server takes no new one.

    Attributes:
        answered: Requests answered in full.
        rows: Rows of all of them.
        lost: What went wrong with others.
    """

    def __init__(self, url: str) -> None:
        self.url = f"{url}/classify"
        self.answered = self.rows = 0
        self.lost: list[str] = []

    async def ask(self, texts: list[str] | None) -> None:
        """Ask again and again for one text, or for many."""
        body: dict[str, Any] = {"text": "jazz"} if texts is None else {"texts": texts}
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(self.url, json=body) as answer:
                        content = await answer.read()
                except aiohttp.ClientConnectorError:
                    return
                except aiohttp.ClientError as error:
                    self.lost.append(repr(error))
                    return
                labels = [json.loads(line)["label"] for line in content.splitlines()]
                if answer.status != 200 or labels != ["music"] * len(texts or ("jazz",)):
                    self.lost.append(f"{answer.status} {content!r}")
                    return
                self.answered += 1
                self.rows += len(labels)


async def test_the_end_loses_no_accepted_request(tgi_server: Callable[..., TGIServer]) -> None:
    """SIGTERM under load: every request that was sent gets its full answer, streams too, and then the port is shut."""
    server = tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)), latency_per_request=0.05)
    with serve(server.url) as served:
        await asyncio.to_thread(until_ready, served.url)
        clients = Clients(served.url)
        asking = [
            asyncio.create_task(clients.ask([f"jazz {n}" for n in range(100)] if n < 4 else None)) for n in range(32)
        ]
        async with asyncio.timeout(60):
            while clients.answered <= 50:  # noqa: ASYNC110  # the clients' count has no event
                await asyncio.sleep(0.05)
        before = clients.answered
        served.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await asyncio.gather(*asking)
        code = await asyncio.to_thread(served.process.wait, 20)
        told = served.told
    assert code == 0
    assert clients.lost == []
    assert clients.answered > before
    assert "requests are finished first" in told


async def test_the_end_waits_no_longer_than_it_may(tgi_server: Callable[..., TGIServer]) -> None:
    """What is not answered within --grace is a 503 that says so, and the process ends."""
    slow = Fault("stall", times=None, when=lambda prompt: "endless" in prompt, seconds=30)
    server = tgi_server("3.3.7", ScriptedEngine(when_contains(ENGINE)), faults=slow)
    with serve(server.url, "--grace", "0.5") as served:
        await asyncio.to_thread(until_ready, served.url)
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(f"{served.url}/classify", json={"text": "endless"}))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            async with await asking as answer:
                assert answer.status == 503
                assert answer.headers["retry-after"] == "5"
                assert "ending" in (await answer.json())["detail"]
            assert await asyncio.to_thread(served.process.wait, 10) == 0
            assert time.monotonic() - started < 4
