"""LangServe's routes over classifiers, under uvicorn, against a TGI server, with LangServe's own client."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from langchain_core.runnables import ConfigurableField
from served import under_uvicorn

from langchain_stormtrooper import ConfigurationError, ServerError, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

with warnings.catch_warnings():
    # LangServe is written for older releases of its own dependencies.
    warnings.simplefilter("ignore")
    from langserve import RemoteRunnable, add_routes

LABELS = ["politics", "science"]
TOO_LONG = "word " * 9000

# Warnings of the rows come out where LangServe calls the classifier, in the server's thread: they are tested elsewhere.
pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_stormtrooper.StormtrooperWarning", "ignore:astream_log is deprecated"
)


def routes(classifier: ZeroShotClassifier) -> FastAPI:
    """An app with the classifier, its details, and itself with configurable settings."""
    app = FastAPI()
    settings = classifier.configurable_fields(
        labels=ConfigurableField("labels"), min_confidence=ConfigurableField("min_confidence")
    )
    add_routes(app, classifier, path="/label")
    add_routes(app, classifier.with_details(), path="/details")
    add_routes(app, settings, path="/settings", config_keys=["configurable"])
    return app


@pytest.fixture
def tgi(tgi_server: Callable[..., TGIServer]) -> TGIServer:
    """A server that knows two labels, and takes a while for each answer."""
    engine = ScriptedEngine(when_contains({"senate": " politics", "lab": " science"}, default=" politics"))
    return tgi_server("3.3.7", engine, latency_per_request=0.1)


@pytest.fixture
def url(tgi: TGIServer) -> Iterator[str]:
    """The address of the app."""
    llm = TextGenerationInference(base_url=tgi.url, max_downtime=0)
    with under_uvicorn(routes(ZeroShotClassifier(LABELS, llm=llm))) as address:
        yield address


Remote = Callable[[str], Any]


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    """LangServe's client for an address; its connections are closed on the loop that they belong to."""
    made: list[Any] = []

    def make(address: str) -> Any:
        made.append(RemoteRunnable(address))
        return made[-1]

    yield make
    for one in made:
        one.sync_client.close()
        await one.async_client.aclose()


def get(url: str) -> Any:
    """A JSON document."""
    answer = httpx.get(url)
    assert answer.status_code == 200
    return answer.json()


def test_schemas_and_playgrounds(url: str) -> None:
    """Schemas say what goes in and comes out, alone and in the OpenAPI document; pages load."""
    either = [{"enum": LABELS, "type": "string"}, {"type": "null"}]
    assert get(f"{url}/label/output_schema")["anyOf"] == either
    assert [kind["type"] for kind in get(f"{url}/label/input_schema")["anyOf"]] == ["string", "object"]
    assert get(f"{url}/details/output_schema")["properties"]["label"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert get(f"{url}/settings/output_schema")["anyOf"] == [{"type": "string"}, {"type": "null"}]
    chosen = get(f"{url}/settings/config_schema")["$defs"]["Configurable"]["properties"]
    assert [label["name"] for label in chosen["labels"]["default"]] == LABELS
    schemas = get(f"{url}/openapi.json")["components"]["schemas"]
    output = schemas["labelInvokeResponse"]["properties"]["output"]["$ref"].rpartition("/")[2]
    assert output.startswith("ZeroShotClassifierOutput")
    assert schemas[output]["anyOf"] == either
    assert set(schemas["Classification"]["properties"]) >= {"label", "reason", "probabilities"}
    for path in ("label", "details", "settings"):
        page = httpx.get(f"{url}/{path}/playground/")
        assert (page.status_code, "<html" in page.text) == (200, True)


async def test_a_remote_runnable_is_as_the_classifier(url: str, remote: Remote) -> None:
    """LangServe's client invokes, batches and streams, sync and async."""
    label = remote(f"{url}/label/")
    assert await label.ainvoke("in the senate") == "politics"
    assert await label.ainvoke({"text": "in the lab"}) == "science"
    assert await label.abatch(["in the lab", "in the senate"]) == ["science", "politics"]
    assert [chunk async for chunk in label.astream("in the lab")] == ["science"]
    assert await asyncio.to_thread(remote(f"{url}/label/").invoke, "in the lab") == "science"
    assert await asyncio.to_thread(remote(f"{url}/label/").batch, ["in the lab"]) == ["science"]
    state: Any = None
    async for patch in label.astream_log("in the lab"):
        state = patch if state is None else state + patch
    assert state.state["final_output"] == "science"
    events = [event async for event in label.astream_events("in the lab", version="v2")]
    assert events[-1]["data"]["output"] == "science"
    found = await remote(f"{url}/details/").ainvoke("in the lab")
    assert (found["label"], found["method"], list(found["probabilities"])) == ("science", "score", LABELS)


async def test_rows_without_a_label_are_null_rows(tgi: TGIServer, url: str, remote: Remote) -> None:
    """A text that is too long, one that fails and one that is none are null; their neighbours have labels."""
    label = remote(f"{url}/label/")
    assert await label.ainvoke("in the lab") == "science"
    tgi.faults.add(Fault("text_422", times=None, when=lambda prompt: "broken" in prompt))
    texts: list[Any] = ["in the lab", TOO_LONG, {"no": "text"}, "in the senate", "broken"]
    assert await label.abatch(texts) == ["science", None, None, "politics", None]
    assert await label.ainvoke(TOO_LONG) is None
    rows = await remote(f"{url}/details/").abatch(texts)
    assert [row["reason"] for row in rows] == [None, "overlong", "failed", None, "failed"]
    assert "text" in rows[2]["error"]


@pytest.mark.parametrize(("path", "settings"), [("label", {}), ("settings", {"labels": ["science", "art"]})])
async def test_the_rows_of_a_batch_are_concurrent(
    tgi: TGIServer, url: str, remote: Remote, path: str, settings: dict[str, Any]
) -> None:
    """The server has most rows of a batch at once, also with settings in the config."""
    texts = [f"in the lab {number}" for number in range(40)]
    config = {"configurable": settings}
    assert await remote(f"{url}/{path}/").abatch(texts, config) == ["science"] * 40
    assert tgi.peak_permits > 8  # what learning the prior takes at most


async def test_settings_of_a_request(tgi: TGIServer, url: str, remote: Remote) -> None:
    """Labels and thresholds come in the config; what they were learnt for is kept between requests; errors are 422."""
    settings = remote(f"{url}/settings/")
    colours: Any = {"configurable": {"labels": {"science": "of nature", "art": None}}}
    assert await settings.ainvoke("in the lab", colours) == "science"
    before = tgi.requests
    assert await settings.abatch(["in the lab"], colours) == ["science"]
    assert tgi.requests - before == 1
    assert await settings.ainvoke("in the senate") == "politics"
    assert await settings.ainvoke("in the senate", {"configurable": {"min_confidence": 1.0}}) is None
    with pytest.raises(httpx.HTTPStatusError, match=r"(?s)422 .*at least two labels") as caught:
        await settings.ainvoke("x", {"configurable": {"labels": ["one"]}})
    assert caught.value.response.status_code == 422


async def test_errors_for_every_row(tgi_server: Callable[..., TGIServer], remote: Remote) -> None:
    """Without a server, a request is a 500; with a handler it is what the app makes of it; fallbacks answer."""
    server = tgi_server("3.3.7", ScriptedEngine(when_contains({}, default=" science")))
    reserve = ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=server.url))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        dead = ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=nobody, max_downtime=0))
        bare = routes(dead)
        with under_uvicorn(bare) as address, pytest.raises(httpx.HTTPStatusError, match="500 Internal Server Error"):
            await remote(f"{address}/label/").abatch(["x", "y"])
        app = routes(dead)
        add_routes(app, dead.with_fallbacks([reserve]), path="/safe")
        add_routes(app, reserve, path="/live")

        @app.exception_handler(ServerError)
        async def unavailable(request: Request, error: ServerError) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status_code=503)

        @app.exception_handler(ConfigurationError)
        async def refused(request: Request, error: ConfigurationError) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status_code=422)

        with under_uvicorn(app) as address:
            for call in (
                remote(f"{address}/label/").ainvoke("x"),
                remote(f"{address}/label/").abatch(["x"]),
            ):
                with pytest.raises(httpx.HTTPStatusError, match=r"(?s)503 .*refused or dropped"):
                    await call
            with pytest.raises(httpx.HTTPStatusError, match=r"(?s)422 .*An input must be a text"):
                await remote(f"{address}/live/").ainvoke({"no": "text"})
            with pytest.raises(httpx.HTTPStatusError, match="Internal Server Error"):
                assert [chunk async for chunk in remote(f"{address}/label/").astream("x")] == []
            assert await remote(f"{address}/safe/").abatch(["x", "y"]) == ["science"] * 2
            assert get(f"{address}/safe/output_schema")["anyOf"] == [
                {"enum": LABELS, "type": "string"},
                {"type": "null"},
            ]


async def test_classifiers_of_other_labels_stand_side_by_side(tgi: TGIServer, remote: Remote) -> None:
    """One app, or one process, has any number of classifiers, each with its own labels."""
    app = FastAPI()
    llm = TextGenerationInference(base_url=tgi.url)
    tasks = {"news": LABELS, "others": ["science", "cooking"], "again": LABELS}
    for path, labels in tasks.items():
        classifier = ZeroShotClassifier(labels, llm=llm)
        add_routes(app, classifier, path=f"/{path}")
        add_routes(app, classifier.configurable_fields(labels=ConfigurableField("labels")), path=f"/{path}/settings")
    with under_uvicorn(app) as origin:
        for path, labels in tasks.items():
            assert get(f"{origin}/{path}/output_schema")["anyOf"][0]["enum"] == labels
            assert await remote(f"{origin}/{path}/").ainvoke("in the lab") == "science"
            assert await remote(f"{origin}/{path}/settings/").abatch(["in the lab"]) == ["science"]
