"""Integration tests talk to real servers on 127.0.0.1 that they start themselves, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_socket
from browser import open_chromium
from selenium import webdriver

from langchain_stormtrooper import LlamaCpp, sessions
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import LabelScores

_SCORES: dict[Any, LabelScores] = {}


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections to other hosts fail, and nothing of the developer's environment gets into a test."""
    for name in ("TGI_BASE_URL", "TGI_API_KEY", "HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)
    # A port of one test is another server's in the next.
    monkeypatch.setattr("langchain_stormtrooper.servers._reached", set())
    for state in sessions._states.values():
        state.servers.clear()
    pytest_socket.socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    yield
    pytest_socket._remove_restrictions()


@pytest.fixture
def _asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model says what it said before, also in other tests: documents ask the same over and over."""
    score = LlamaCpp.ascore_row

    async def ascore_row(llm: LlamaCpp, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        key = str(llm), prompt, answers
        if key not in _SCORES:
            _SCORES[key] = await score(llm, prompt, answers)
        return _SCORES[key]

    monkeypatch.setattr(LlamaCpp, "ascore_row", ascore_row)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One headless Chromium for all tests."""
    with open_chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver
