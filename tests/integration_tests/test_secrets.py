"""Nothing that we say shows a key, a header or a text, whatever a server does."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from langchain_core.load import dumpd, dumps
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_stormtrooper import FewShotClassifier, TextGenerationInference
from langchain_stormtrooper.errors import StormtrooperError
from langchain_stormtrooper.testing import Fault, FaultKind, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]

KEY, HEADER, TOKEN, TEXT, EXAMPLE = "KEYsecret", "HEADERsecret", "TOKENsecret", "TEXTsecret", "EXAMPLEsecret"
ALL = (KEY, HEADER, TOKEN, TEXT, EXAMPLE)
CREDENTIALS = (KEY, HEADER, TOKEN)
STATUSES = [200, 204, 302, 400, 401, 403, 404, 405, 413, 415, 422, 424, 429, 500, 502, 503, 504]


@pytest.fixture(autouse=True)
def _quick_and_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses, and a token in the environment that is no business of ours."""
    monkeypatch.setattr("langchain_stormtrooper.pauses._BACKOFF_FIRST", 0.001)
    monkeypatch.setattr("langchain_stormtrooper.retrying._AT_LEAST", 0.1)
    for name in ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, TOKEN)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was said in a test, in log records and warnings and by whoever adds to it; checked at the end."""
    caplog.set_level(logging.DEBUG)
    everything: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield everything
    everything += [str(warning.message) for warning in seen]
    everything += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert everything
    assert [text for text in everything if any(secret in text for secret in ALL)] == []


def llm(url: str, **kwargs: Any) -> TextGenerationInference:
    """An LLM with a key and a gateway's header."""
    kwargs = {"timeout": 0.4, "max_downtime": 1.0} | kwargs
    return TextGenerationInference(base_url=url, api_key=KEY, headers={"x-gateway": HEADER}, **kwargs)


def classifier(url: str, **kwargs: Any) -> FewShotClassifier:
    """A classifier on such an LLM, with an example that is confidential."""
    return FewShotClassifier(["yes", "no"], [(f"An {EXAMPLE}.", "yes")], llm=llm(url), **kwargs)


def words(error: BaseException) -> list[str]:
    """All that an error shows by itself, in a traceback, and behind it."""
    shown = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    behind = [other for other in (error.__cause__, error.__context__) if other is not None]
    return shown + [text for other in behind for text in (str(other), repr(other))]


def use(task: FewShotClassifier) -> list[str]:
    """Ask in several ways, watched; return all that was shown beside the answers."""
    shown: list[str] = []
    text = f"A {TEXT}."
    watch = RunCollectorCallbackHandler()
    ways: list[Callable[[], Any]] = [
        lambda: task.batch([text, f"Another {TEXT}."]),
        lambda: task.invoke(text, {"callbacks": [watch]}),
        lambda: task.batch([text], return_exceptions=True),
        lambda: task.llm.invoke(text),
        lambda: list(task.llm.stream(text)),
    ]
    for way in ways:
        try:
            rows = way()
        except StormtrooperError as error:
            shown += words(error)
        else:
            for row in rows if isinstance(rows, list) else []:
                shown += words(row) if isinstance(row, Exception) else []
    for row in task.with_details().batch([text], return_exceptions=True):
        shown += [repr(row)] if not isinstance(row, Exception) else words(row)
    for run in _runs(watch.traced_runs):
        # Inputs and outputs are what LangChain shows to whoever watches; the credentials are in neither.
        assert not [secret for secret in CREDENTIALS if secret in run.model_dump_json()]
        shown += [str(run.error), json.dumps(run.serialized, default=str), repr(run.extra), repr(run.tags)]
    shown += [repr(task), str(task), repr(task.llm), str(task.llm)]
    return shown


def _runs(runs: list[Any]) -> list[Any]:
    return [run for top in runs for run in (top, *_runs(top.child_runs))]


@pytest.mark.parametrize("kind", list(FaultKind))
def test_no_fault_makes_us_show_anything(tgi_server: StartServer, said: list[str], kind: FaultKind) -> None:
    """Whatever goes wrong, no error, traceback, warning, log record, repr or trace has a key, header or text."""
    server = tgi_server("3.3.7", ScriptedEngine(lambda _: f"no {TEXT}"), api_key=KEY)
    assert llm(server.url).invoke("hello")
    seconds = 2 if kind is FaultKind.STALL else 0.05
    times = 3 if kind in (FaultKind.REFUSE, FaultKind.RESTART) else None
    server.faults.add(Fault(kind, times=times, seconds=seconds, message=f"boom {TEXT} {KEY}", retry_after=0))
    said += use(classifier(server.url))
    assert server.counters.by_fault[kind] >= 3
    assert TOKEN not in str([received.headers for received in server.received])


@pytest.fixture
def parrot(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], str]:
    """Give a function that starts a server, which answers with all that it was sent, and returns its URL."""

    def start(status: int, content_type: str) -> str:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            sent = f"{await request.text()} {dict(request.headers)}"
            body = {"error": sent, "error_type": sent, "message": sent, "generated_text": [sent], "version": sent}
            text = f"data: {json.dumps(body)}\n\n" if "stream" in content_type else json.dumps(body)
            reason = sent.encode("ascii", "replace").decode().replace("\n", " ")
            headers = {"Location": f"/{KEY}", "X-Sent": reason, "Content-Type": content_type}
            return web.Response(status=status, reason=reason, text=text, headers=headers)

        # Before it starts: `handle` is what a new server gives its listener.
        monkeypatch.setattr("langchain_stormtrooper.testing.routes.Routes.handle", lambda _, request: answer(request))
        return tgi_server("3.3.7").url

    return start


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_server_that_quotes_everything_is_not_quoted(
    parrot: Callable[[int, str], str], said: list[str], status: int, content_type: str
) -> None:
    """A server may put prompt and key into its error body, its headers and its reason: none of it is passed on."""
    said += use(classifier(parrot(status, content_type), prompt="Say: {examples}{text}"))


async def test_a_server_that_is_none_is_not_quoted(said: list[str]) -> None:
    """What answers something else than HTTP, quoting what it was sent, is not quoted either."""

    async def quote(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 " + sent + TEXT.encode() + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(quote, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        said += await asyncio.to_thread(use, classifier(url, prompt="Say: {examples}{text}"))
    assert "does not speak HTTP" in str(said)


def test_what_is_serialised_has_no_secret(tgi_server: StartServer) -> None:
    """Dumps, settings, schemas and the transport's repr have neither key nor header, before and after use."""
    server = tgi_server("3.3.7", ScriptedEngine(lambda _: "no"), api_key=KEY)
    task = classifier(server.url)
    model = task.llm
    assert isinstance(model, TextGenerationInference)
    for _ in range(2):
        shown = [
            *(dumps(model), dumps(model, pretty=True), str(dumpd(model)), str(dumpd(task)), dumps(task)),
            *(dumps(task.with_details()), str(model.model_dump()), model.model_dump_json(), task.model_dump_json()),
            *(str(model.asdict()), str(model._identifying_params), repr(model._transport), str(model._transport)),
            *(str(task.get_graph()), str(task.get_input_jsonschema()), str(task.config_schema().model_json_schema())),
            *(repr(model.bind(stop=["x"])), repr(task.with_config(tags=["x"])), repr(task | (lambda label: label))),
        ]
        assert [text for text in shown if any(secret in text for secret in CREDENTIALS)] == []
        assert task.invoke(TEXT) == "no"
    assert dumpd(model)["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["TGI_API_KEY"]}


def test_only_what_was_given_is_sent(tgi_server: StartServer) -> None:
    """Every request of every kind has the key and the header that were given, and no token of the environment."""
    server = tgi_server("3.3.7", ScriptedEngine(lambda _: "no"), max_input_tokens=200)
    task = classifier(server.url, on_overlong="truncate")
    task.batch([TEXT, "so long " * 300])
    list(task.llm.stream(TEXT))
    assert {received.path for received in server.received} >= {"/tokenize", "/generate", "/generate_stream"}
    for received in server.received:
        assert (received.headers["authorization"], received.headers["x-gateway"]) == (f"Bearer {KEY}", HEADER)
        assert TOKEN not in f"{received.headers} {received.raw!r}"
    server.reset()
    TextGenerationInference(base_url=server.url).invoke(TEXT)
    assert not {"authorization", "cookie", "x-gateway"} & set(server.received[-1].headers)


def test_images_are_neutral_in_every_request(tgi_server: StartServer) -> None:
    """With `neutralize_images`, no request spells an image, those that only count tokens included."""
    server = tgi_server("3.3.7", ScriptedEngine(lambda _: "no"), max_input_tokens=200)
    model = llm(server.url, neutralize_images=True)
    task = FewShotClassifier(["yes", "no"], [("![e](http://e)", "yes")], llm=model, on_overlong="truncate")
    with warnings.catch_warnings(record=True):
        task.batch(["See ![x](http://127.0.0.1/x.png) there.", "![x](http://y) " * 300])
    list(model.stream("![x](http://z)"))
    bodies = [received.json["inputs"] for received in server.received if received.json and "inputs" in received.json]
    assert {received.path for received in server.received} >= {"/tokenize", "/generate", "/generate_stream"}
    assert [body for body in bodies if "![" in body] == []
    assert sum("! [" in body for body in bodies) >= 4
