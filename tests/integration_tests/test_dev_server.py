"""The stand-in for a TGI server on a laptop: our client against the embedded model over TGI's wire."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from langchain_stormtrooper import LlamaCpp, TextGenerationInference, ZeroShotClassifier, cli
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.llms.abilities import GrammarSupport
from langchain_stormtrooper.probing import aprobe
from langchain_stormtrooper.testing import TGIServer, serve
from langchain_stormtrooper.testing.real import LlamaCppEngine

ELECTORAL = "It is the Electoral College's responsibility to elect the president."


@pytest.fixture(scope="module")
def server() -> Iterator[TGIServer]:
    """A TGI server with the embedded model."""
    with TGIServer("3.3.7", LlamaCppEngine(LlamaCpp(n_threads=1)), model_id="HuggingFaceTB/SmolLM2-135M") as running:
        yield running


def test_it_says_what_the_model_says(server: TGIServer) -> None:
    """Greedy text over TGI's wire is what llama.cpp itself generates, streamed and whole."""
    llm = TextGenerationInference(base_url=server.url, max_new_tokens=6)
    expected = LlamaCpp(n_threads=1, max_new_tokens=6).invoke("The capital of France is")
    assert llm.invoke("The capital of France is") == expected
    assert "".join(llm.stream("The capital of France is")) == expected


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.UnmatchedLabelWarning")
def test_it_classifies_and_is_probed_like_a_server(server: TGIServer) -> None:
    """The classifier gets a label from it, with the prompt for small models, and a grammar is enforced."""
    llm = TextGenerationInference(base_url=server.url)
    classifier = ZeroShotClassifier(["politics", "science"], llm=llm, label_kind="topic")
    answer = classifier.with_details().invoke(ELECTORAL)
    assert answer.generated_tokens is not None
    assert answer.label in ("politics", "science") or answer.reason == "unmatched"
    assert server.received[-1].json["inputs"] == f"Text: {ELECTORAL}\nTopic:"
    assert asyncio.run(aprobe(llm)).grammar is GrammarSupport.ENFORCED


async def test_the_readmes_way_to_try_without_a_server(server: TGIServer) -> None:
    """Asked as the README says, the embedded model behind the stand-in labels the README's sentence and texts."""
    classifier = ZeroShotClassifier(
        ["politics", "science", "other"],
        llm=TextGenerationInference(base_url=server.url),
        text_kind="sentence",
        label_kind="topic",
        method="score",
    )
    texts = [ELECTORAL, "The senate votes today.", "Atoms have a nucleus."]
    assert await classifier.abatch(texts) == ["politics", "politics", "science"]


def test_a_missing_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `local` there is no model to serve, and one sentence says how to get it."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    result = CliRunner().invoke(cli.app, ["dev-server", "--model", "embedded"])
    assert result.exit_code == 4
    assert result.stderr == (
        "Error: LlamaCpp needs packages that are not installed: run `pip install 'langchain-stormtrooper[local]'`.\n"
    )


def test_missing_grammars_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `testing` the server says on standard error what it will refuse, and how to mend it."""
    monkeypatch.setitem(sys.modules, "interegular", None)
    monkeypatch.setattr("langchain_stormtrooper.testing.serve", lambda _: None)
    result = CliRunner().invoke(cli.app, ["dev-server"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Grammars are refused: they need `pip install 'langchain-stormtrooper[testing]'`.\n"


def test_the_command_serves_the_embedded_model() -> None:
    """`dev-server --model embedded` prints its address and answers there until it is ended."""
    command = [sys.executable, "-m", "langchain_stormtrooper.cli", "dev-server", "--model", "embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            url = running.stdout.readline().split()[-1]
            llm = TextGenerationInference(base_url=url, max_new_tokens=3)
            assert "Paris" in llm.invoke("The capital of France is")
            assert asyncio.run(llm.amodel_id()) == "HuggingFaceTB/SmolLM2-135M-Instruct"
        finally:
            running.terminate()
        assert running.wait(timeout=10) == 0


@pytest.mark.parametrize("command", [["langchain_stormtrooper.cli", "dev-server"], ["langchain_stormtrooper.testing"]])
def test_a_port_in_use_is_told(tgi_server: Callable[..., TGIServer], command: list[str]) -> None:
    """A port that another server has is one sentence with exit code 2, however the command is called."""
    server = tgi_server("3.3.7")
    done = subprocess.run(
        [sys.executable, "-m", *command, "--port", str(server.port)], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith(f"Error: Nothing can listen at {server.url} (")
    assert done.stderr.endswith("): choose another port or host.\n")
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "")


def test_a_host_that_is_none_is_told() -> None:
    """Names that do not resolve, or cannot, are refused in one sentence and leave nothing running."""
    before = threading.active_count()
    for host in ("a..b", "nohost.invalid", "x" * 70):
        with pytest.raises(ConfigurationError, match=r"Nothing can listen at .*: choose another port or host"):
            serve(TGIServer(host=host))
    assert threading.active_count() == before
