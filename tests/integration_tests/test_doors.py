"""Every door leads to the same answers: 50 real texts, the embedded model, all ways in."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Page
from kept import RememberingLlamaCpp
from langchain_core.load import dumps
from langchain_core.runnables import RunnablePassthrough
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from selenium import webdriver
from served import under_uvicorn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from typer.testing import CliRunner

from langchain_stormtrooper import (
    LlamaCpp,
    TGIZeroShotClassifier,
    ZeroShotClassifier,
    create_app,
    load,
)
from langchain_stormtrooper.cli import app
from langchain_stormtrooper.mcp_server import make_server
from langchain_stormtrooper.mcp_transports import http_app

with warnings.catch_warnings():
    # LangServe is written for older releases of its own dependencies.
    warnings.simplefilter("ignore")
    from langserve import RemoteRunnable

Labels = list[str | None]
DATA = Path(__file__).parent.parent / "data" / "snips.jsonl"
ROWS = [row for row in map(json.loads, DATA.read_text(encoding="utf-8").splitlines()) if row["split"] == "test"]
TEXTS = [row["text"].strip() for row in ROWS][:50]
NAMES = sorted({row["label"] for row in ROWS})


@pytest.fixture(scope="module")
def classifier() -> ZeroShotClassifier:
    """What stands behind every door."""
    return ZeroShotClassifier(NAMES, llm=RememberingLlamaCpp(), text_kind="command", label_kind="intent")


@pytest.fixture(scope="module")
def expected(classifier: ZeroShotClassifier) -> Labels:
    """The labels of `batch`."""
    labels = classifier.batch(TEXTS)
    # The model is no oracle, but it tells the labels apart.
    assert sum(label == row["label"] for label, row in zip(labels, ROWS, strict=False)) >= 20
    assert len(set(labels)) >= 5
    return labels


def one_by_one(classifier: ZeroShotClassifier) -> Labels:
    """`invoke`."""
    return [classifier.invoke(text) for text in TEXTS]


def asynchronously(classifier: ZeroShotClassifier) -> Labels:
    """`abatch`, through the details."""

    async def ask() -> Labels:
        return [answer.label for answer in await classifier.with_details().abatch(TEXTS)]

    return asyncio.run(ask())


def in_a_chain(classifier: ZeroShotClassifier) -> Labels:
    """A part of an LCEL chain."""
    chain = RunnablePassthrough.assign(label=classifier)
    return [row["label"] for row in chain.batch([{"text": text} for text in TEXTS])]


def saved_and_loaded(classifier: ZeroShotClassifier) -> Labels:
    """`dumps` and `load`, with the model that LangChain cannot save put back."""
    saved = dumps(classifier.model_copy(update={"llm": LlamaCpp(n_threads=1)}))
    return load(saved).model_copy(update={"llm": classifier.llm}).batch(TEXTS)  # type: ignore[no-any-return]


def as_an_estimator(classifier: ZeroShotClassifier) -> Labels:
    """`as_estimator()`, in a scikit-learn pipeline."""
    model = make_pipeline(FunctionTransformer(), classifier.as_estimator())
    return list(model.predict(TEXTS))


def under_the_originals_name(classifier: ZeroShotClassifier) -> Labels:
    """`TGIZeroShotClassifier().fit(None, labels).predict(texts)`."""
    model = TGIZeroShotClassifier(llm=classifier.llm, text_kind="command", label_kind="intent")
    return list(model.fit(None, NAMES).predict(TEXTS))


def as_a_tool(classifier: ZeroShotClassifier) -> Labels:
    """The tool for one text."""
    return [classifier.as_tool().invoke({"text": text}) for text in TEXTS]


def as_a_tool_for_many(classifier: ZeroShotClassifier) -> Labels:
    """The tool for a list of texts, called as an agent calls it."""
    call = {"name": "x", "args": {"texts": TEXTS}, "id": "1", "type": "tool_call"}
    return [answer.label for answer in classifier.as_tool(many=True).invoke(call).artifact]


def over_mcp(classifier: ZeroShotClassifier) -> Labels:
    """The Model Context Protocol over HTTP, with the SDK's client."""

    async def ask(url: str) -> Labels:
        async with streamable_http_client(f"{url}/mcp") as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            name = next(tool.name for tool in (await session.list_tools()).tools if "texts" in str(tool.inputSchema))
            answer = await session.call_tool(name, {"texts": TEXTS})
            assert answer.structuredContent is not None
            (rows,) = answer.structuredContent.values()
            return [row["label"] for row in rows]

    server = make_server([classifier.as_tool(), classifier.as_tool(many=True)])
    with under_uvicorn(http_app(server)) as origin:
        return asyncio.run(ask(origin))


def over_langserve(classifier: ZeroShotClassifier) -> Labels:
    """LangServe's routes, with LangServe's client."""
    with under_uvicorn(create_app(classifier)) as origin:
        return list(RemoteRunnable(f"{origin}/langserve/").batch(TEXTS))


def over_http(classifier: ZeroShotClassifier) -> Labels:
    """`/classify`, for many."""
    with under_uvicorn(create_app(classifier)) as origin:
        answer = httpx.post(f"{origin}/classify", json={"texts": TEXTS}, timeout=120)
    rows = sorted(map(json.loads, answer.text.splitlines()), key=lambda row: row["index"])
    return [row["label"] for row in rows]


DOORS: list[Callable[[ZeroShotClassifier], Labels]] = [
    one_by_one,
    asynchronously,
    in_a_chain,
    saved_and_loaded,
    as_an_estimator,
    under_the_originals_name,
    as_a_tool,
    as_a_tool_for_many,
    over_mcp,
    over_langserve,
    over_http,
]
"""The doors that a function can open; the page and the command line have tests of their own below."""


@pytest.mark.parametrize("door", [*DOORS, "page", "command"], ids=lambda door: getattr(door, "__name__", door))
def test_every_door_answers_the_same(
    classifier: ZeroShotClassifier, expected: Labels, door: Any, request: pytest.FixtureRequest
) -> None:
    """Fifty texts have the labels of `batch` whichever way they come in, and the model is asked nothing else."""
    assert isinstance(classifier.llm, RememberingLlamaCpp)
    asked = len(classifier.llm._scored)
    opened: Any = request.getfixturevalue(door) if isinstance(door, str) else door
    assert opened(classifier) == expected
    assert len(classifier.llm._scored) == asked


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Callable[[ZeroShotClassifier], Labels]]:
    """The page at `/`, in a browser."""

    def open_(classifier: ZeroShotClassifier) -> Labels:
        with under_uvicorn(create_app(classifier)) as origin:
            return [row["label"] for row in Page(chromium).open(origin).classify(TEXTS)]

    yield open_
    chromium.get("about:blank")


@pytest.fixture
def command(tmp_path: Path) -> Callable[[ZeroShotClassifier], Labels]:
    """`langchain-stormtrooper classify`, with a model of its own."""

    def run(classifier: ZeroShotClassifier) -> Labels:
        texts = tmp_path / "texts.txt"
        texts.write_text("\n".join(TEXTS), encoding="utf-8")
        kinds = ["--text-kind", classifier.text_kind, "--label-kind", classifier.label_kind]
        done = CliRunner().invoke(app, ["classify", "--input", str(texts), "--labels", ",".join(NAMES), *kinds])
        assert done.exit_code == 0, done.output
        return [json.loads(line)["label"] for line in done.stdout.splitlines()]

    return run
