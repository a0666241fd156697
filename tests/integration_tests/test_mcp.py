"""The tools over the Model Context Protocol: the command as a process, spoken to with the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from langchain_core.output_parsers import BaseOutputParser
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from typer.testing import CliRunner
from typing_extensions import override

from langchain_stormtrooper import ClassifierTool, ConfigurationError, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.cli import app
from langchain_stormtrooper.mcp_server import answer_call, describe, make_server
from langchain_stormtrooper.mcp_transports import http_app
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains
from langchain_stormtrooper.tools import SENTENCES

LABELS = ["music", "weather"]
ENGINE = ScriptedEngine(when_contains({"jazz": " music", "rain": " weather"}))
KEY = "LANGCHAIN_STORMTROOPER_API_KEY"
SECRET = "Mx Doe's diagnosis"
OPTIONS = ["--labels", ",".join(LABELS), "--text-kind", "remark", "--label-kind", "topic"]
OVERLONG = "rain " * 2000

Starts = Callable[..., TGIServer]


def command(*options: str) -> list[str]:
    """What starts the server."""
    return ["-m", "langchain_stormtrooper.cli", "mcp", *OPTIONS, *options]


def environment(**variables: str) -> dict[str, str]:
    """What the command sees of the environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TGI_", KEY))}
    return {**kept, **variables}


@contextmanager
def http_server(*options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command serving HTTP, and its URL."""
    with subprocess.Popen(
        [sys.executable, *command("--http", "--port", "0", *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@asynccontextmanager
async def client(transport: str, url: str, tmp_path: Path) -> AsyncIterator[ClientSession]:
    """The SDK's client, talking to the command over one of the transports."""
    if transport == "stdio":
        parameters = StdioServerParameters(
            command=sys.executable, args=command("--llm", url), env=environment(PYTHONPATH=os.pathsep.join(sys.path))
        )
        with (tmp_path / "told").open("w") as told:
            async with stdio_client(parameters, errlog=told) as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                yield session
        assert not (tmp_path / "told").read_text()
    else:
        with http_server("--llm", url, **{KEY: "key-3"}) as (_, address):
            async with (
                create_mcp_http_client(headers={"Authorization": "Bearer key-3"}) as http,
                streamable_http_client(address, http_client=http) as streams,
                ClientSession(*streams[:2]) as session,
            ):
                await session.initialize()
                yield session


async def call(session: ClientSession, name: str, **arguments: Any) -> tuple[str, Any, bool]:
    """Text, structured output, and whether it is an error; the client checks the output against its schema."""
    result: Any = await session.call_tool(name, arguments)
    wire = result.model_dump(by_alias=True, mode="json")
    (block,) = wire["content"]
    return block["text"], wire.get("structuredContent"), wire["isError"]


ONE, MANY = "classify_remark_topic", "classify_remark_topic_list"


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_clients_find_and_call_the_tools(tgi_server: Starts, transport: str, tmp_path: Path) -> None:
    """Both tools are ClassifierTool's to the word; labels, missing labels and errors come as text and as data."""
    server = tgi_server("3.3.7", ENGINE, max_input_tokens=400)
    async with client(transport, server.url, tmp_path) as session:
        offered = [tool.model_dump(by_alias=True, mode="json") for tool in (await session.list_tools()).tools]
        jazz = await call(session, ONE, text="jazz")
        overlong = await call(session, ONE, text=OVERLONG)
        several = await call(session, MANY, texts=["jazz", OVERLONG, " ", "rain"])
        wrong = await call(session, ONE, texts=[SECRET])
        unknown = await call(session, "classify", text=SECRET)
        at_once = await asyncio.gather(*(call(session, ONE, text=f"rain, number {number}") for number in range(10)))
    classifier = ZeroShotClassifier(LABELS, text_kind="remark", label_kind="topic")
    for tool, seen in zip([classifier.as_tool(), classifier.as_tool(many=True)], offered, strict=True):
        described = describe(tool)
        assert {name: seen[name] for name in described if name != "annotations"} == {
            name: value for name, value in described.items() if name != "annotations"
        }
        assert seen["annotations"]["readOnlyHint"]
    assert [tool["name"] for tool in offered] == [ONE, MANY]
    assert jazz[0] == "music"
    assert (jazz[1]["label"], jazz[1]["reason"], jazz[2]) == ("music", None, False)
    assert sum(jazz[1]["probabilities"].values()) == pytest.approx(1)
    assert overlong[0] == "No label. " + SENTENCES[overlong[1]["reason"]]
    assert (overlong[1]["label"], overlong[1]["reason"], overlong[2]) == (None, "overlong", False)
    assert several[0].startswith("1. music\n2. (no label: overlong)\n3. (no label: blank)\n4. weather\n")
    assert [row["label"] for row in several[1]["rows"]] == ["music", None, None, "weather"]
    assert [text for text, _, _ in at_once] == ["weather"] * 10
    for (text, structured, is_error), said in ((wrong, "field required"), (unknown, MANY)):
        assert (structured, is_error) == (None, True)
        assert said in text
        assert SECRET not in text


@pytest.mark.parametrize("gone", ["stdin", "stdout"])
def test_a_client_that_goes_away_is_no_error(gone: str) -> None:
    """A client that closes its pipes before it has its answers ends the server quietly."""
    with subprocess.Popen(
        [sys.executable, *command("--llm", "http://127.0.0.1:9")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if gone == "stdout":
            process.stdout.close()
        process.stdin.write("no request\n")
        talk(process, INITIALIZE)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def talk(process: subprocess.Popen[str], *requests: dict[str, Any]) -> None:
    """Write requests of the protocol."""
    assert process.stdin is not None
    for request in requests:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **request}) + "\n")
    process.stdin.flush()


INITIALIZE = {
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a test", "version": "1"},
    },
}


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_standard_output_is_the_protocols_alone(end: signal.Signals, code: int) -> None:
    """What is printed goes to standard error; SIGTERM and Ctrl-C end it, without a traceback.

    Without a TGI server, the call is an error in words. What is no request is not quoted.
    """
    program = (
        "import os, sys; from langchain_stormtrooper import mcp_server; old = mcp_server.answer_call\n"
        "async def loud(*given):\n"
        "    print('printed', flush=True); os.write(1, b'from C\\n'); os.system('echo child')\n"
        "    return await old(*given)\n"
        "mcp_server.answer_call = loud\n"
        "from langchain_stormtrooper.cli import main; main()"
    )
    # Children inherit it when Ctrl-C is ignored, as it is for tests in the background of a shell.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-c", program, "mcp", *OPTIONS, "--llm", "http://127.0.0.1:9", "--timeout", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stderr is not None
            request = {"id": 2, "method": "tools/call", "params": {"name": ONE, "arguments": {"text": SECRET}}}
            talk(process, INITIALIZE)
            first = process.stdout.readline()
            process.stdin.write(f"{SECRET}\n")
            malformed = {"id": 3, "method": "tools/call", "params": {"arguments": SECRET}}
            talk(process, {"method": "notifications/initialized"}, malformed, request)
            lines = [first]
            while len([line for line in lines if '"id"' in line]) < 3:
                lines.append(process.stdout.readline())
            process.send_signal(end)
            assert process.wait(timeout=60) == code
            lines += process.stdout.readlines()
            told = process.stderr.read()
        finally:
            process.kill()
            signal.signal(signal.SIGINT, before)
    answers = {answer["id"]: answer for answer in map(json.loads, lines) if "id" in answer}
    assert sorted(answers) == [1, 2, 3]
    assert "error" in answers[3]
    result = answers[2]["result"]
    assert result["isError"]
    assert "go on without it" in result["content"][0]["text"]
    assert SECRET not in "".join(lines)
    assert told.split("\n") == ["printed", "from C", "child", *(["Interrupted."] if code else []), ""]


ACCEPT = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ONE, "arguments": {"text": "jazz"}}}


async def _post(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Status and body of a bare call of the tool, as any HTTP client may make it."""
    async with session.post(url, json=CALL, headers=ACCEPT) as response:
        return response.status, await response.text()


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_http_finishes_what_is_in_work(tgi_server: Starts, end: signal.Signals, code: int) -> None:
    """A signal lets a request in work have its answer, and then ends the server, without a traceback."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.5)
    try:
        with http_server("--llm", server.url, "--method", "generate") as (process, url):
            async with aiohttp.ClientSession() as session:
                asked = asyncio.create_task(_post(session, url))
                while not server.peak_permits:  # noqa: ASYNC110  # counted by another thread
                    await asyncio.sleep(0.02)
                process.send_signal(end)
                status, body = await asked
            assert status == 200
            assert json.loads(body)["result"]["structuredContent"]["label"] == "music"
            assert await asyncio.to_thread(process.wait, 60) == code
            assert process.stderr is not None
            assert process.stderr.read() == ("Interrupted.\n" if code else "")
    finally:
        signal.signal(signal.SIGINT, before)


async def test_http_lets_in_whom_it_should(tgi_server: Starts, caplog: pytest.LogCaptureFixture) -> None:
    """Other hosts and web pages are refused, as is whoever lacks the key; names that were allowed are let in."""
    llm = TextGenerationInference(base_url=tgi_server("3.3.7", ENGINE).url)
    tool = ClassifierTool(ZeroShotClassifier(LABELS, llm=llm), name=ONE)
    application = http_app(make_server([tool]), hosts=["box.example"], key="key-ü")
    key = "Bearer key-ü".encode()
    accept = [(name.encode(), value.encode()) for name, value in ACCEPT.items()]
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://127.0.0.1:8090") as client,
    ):
        for headers, status in (
            ({"Authorization": key}, 200),
            ({"Authorization": key, "Host": b"box.example"}, 200),
            ({"Authorization": key, "Host": b"box.example:443", "Origin": b"https://box.example"}, 200),
            ({"Authorization": key, "Host": b"evil.example"}, 421),
            ({"Authorization": key, "Host": b"127.0.0.1.evil.example:80"}, 421),
            ({"Authorization": key, "Origin": b"http://evil.example"}, 403),
            ({}, 401),
            ({"Authorization": b"Bearer key"}, 401),
            ({"Authorization": key.removeprefix(b"Bearer ")}, 401),
        ):
            said = [(name.encode(), value) for name, value in headers.items()]
            answer = await client.post("/mcp", json=CALL, headers=[*accept, *said])
            assert answer.status_code == status, headers
            assert "key-ü" not in answer.text
        # There is nothing that the server would say on its own.
        assert (await client.get("/mcp", headers=[(b"Authorization", key)])).status_code == 405
    assert "key-ü" not in caplog.text


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Give the command without a process of its own: exit code, standard output and standard error."""
    for name in ("TGI_BASE_URL", KEY):
        monkeypatch.delenv(name, raising=False)

    def run(*options: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["mcp", *OPTIONS, *options])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("options", "key", "warns"),
    [
        ([], None, []),
        (["--host", "::1"], None, []),
        (["--host", "0.0.0.0"], None, ["to a key", "--allow-host"]),  # noqa: S104
        (["--host", "0.0.0.0", "--allow-host", "box"], None, ["to a key"]),  # noqa: S104
        (["--host", "10.1.2.3"], None, ["to a key"]),
        (["--host", "10.1.2.3"], "key-3", []),
    ],
)
def test_http_beyond_the_loopback_warns(
    invoke: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    key: str | None,
    warns: list[str],
) -> None:
    """Without a key, whoever listens beyond the loopback is warned; who listens everywhere is told of names."""

    async def serve(_: Any, host: str, port: int, *, ready: Callable[[str], None]) -> None:
        await asyncio.sleep(0)
        ready("the URL")

    monkeypatch.setattr("langchain_stormtrooper.mcp_transports.aserve_http", serve)
    if key is not None:
        monkeypatch.setenv(KEY, key)
    code, output, told = invoke("--http", *options)
    assert (code, output) == (0, "the URL\n")
    assert len(told.splitlines()) == len(warns)
    for warned in warns:
        assert warned in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "8090"], "give --http, too"),
        (["--http", "--port", "70000"], "--port must be at most 65535"),
        (["--http", "--host", "no such host"], "choose another --port or --host"),
        (["--http", "--port", "TAKEN"], "choose another --port or --host"),
        (["--llm", "a model"], "names no model"),
        (["--labels", "a"], "separate at least two labels"),
    ],
)
def test_wrong_options_are_one_sentence(
    invoke: Callable[..., tuple[int, str, str]], options: list[str], said: str
) -> None:
    """What cannot be meant ends the command at once with 2, in a sentence, with nothing on standard output."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output, told = invoke(*(option.replace("TAKEN", str(taken.getsockname()[1])) for option in options))
    assert (code, output, told.count("\n")) == (2, "", 1)
    assert said in told


def test_without_the_extra_it_says_what_to_install(
    invoke: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the SDK the command ends with 4 and the line to run."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    code, output, told = invoke()
    assert (code, output) == (4, "")
    assert "pip install 'langchain-stormtrooper[mcp]'" in told


class BrokenParser(BaseOutputParser[str]):
    """A parser with a bug."""

    @override
    def parse(self, text: str) -> str:
        raise ZeroDivisionError(SECRET)


async def test_a_bug_shows_nothing_of_the_text(tgi_server: Starts, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is an error result, and a log line, that name its kind alone."""
    llm = TextGenerationInference(base_url=tgi_server("3.3.7", ENGINE).url)
    tool = ZeroShotClassifier(LABELS, llm=llm, parser=BrokenParser()).as_tool()
    result = await answer_call({tool.name: tool}, tool.name, {"text": SECRET})
    assert result["isError"]
    assert "ZeroDivisionError" in result["content"][0]["text"]
    assert "ZeroDivisionError" in caplog.text
    assert SECRET not in caplog.text + str(result)


def test_tools_of_a_server_have_names_of_their_own() -> None:
    """No tools, or two of one name, make no server."""
    tool = ClassifierTool(ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url="http://127.0.0.1:9")))
    for tools in ([], [tool, tool]):
        with pytest.raises(ConfigurationError, match="names differ"):
            make_server(tools)
