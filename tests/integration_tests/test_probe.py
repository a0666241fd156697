"""What the probe finds out about servers of several versions and kinds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import RowError, ServerError, ServerUnreachableError, TextGenerationInference
from langchain_stormtrooper.llms.abilities import GrammarSupport
from langchain_stormtrooper.probing import ServerReport, aprobe
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
ENGINE = ScriptedEngine(lambda _: {" positive": 0.7, " negative": 0.2})


def probe(server: TGIServer) -> ServerReport:
    """What is found out about a server."""
    return asyncio.run(aprobe(TextGenerationInference(base_url=server.url)))


@pytest.mark.parametrize(
    ("version", "options", "counts", "chat", "top", "prefill", "grammar", "beyond"),
    [
        ("1.0.3", {}, False, False, True, True, GrammarSupport.IGNORED, "generated text is matched for more than 8"),
        ("1.4.1", {}, True, False, True, True, GrammarSupport.UNSAFE, "generated text is matched for more than 8"),
        (
            "1.4.5",
            {},
            True,
            False,
            True,
            True,
            GrammarSupport.ENFORCED,
            "one generation under a grammar for more than 33",
        ),
        (
            "2.4.1",
            {"grammar": False},
            True,
            True,
            True,
            True,
            GrammarSupport.REFUSED,
            "generated text is matched for more than 8",
        ),
        (
            "3.3.7",
            {},
            True,
            True,
            True,
            False,
            GrammarSupport.ENFORCED,
            "one generation under a grammar for more than 33",
        ),
        (
            "3.3.7",
            {"prefill_logprobs": True},
            True,
            True,
            True,
            True,
            GrammarSupport.ENFORCED,
            "one generation under a grammar for more than 33",
        ),
        (
            "2.0.4",
            {"has_tokenizer": False},
            False,
            False,
            True,
            True,
            GrammarSupport.ENFORCED,
            "one generation under a grammar for more than 33",
        ),
        (
            "2.4.1",
            {"family": "seq2seq"},
            True,
            True,
            True,
            False,
            GrammarSupport.ENFORCED,
            "one generation under a grammar for more than 5",
        ),
    ],
)
def test_the_probe_finds_what_the_server_was_given(
    tgi_server: StartServer,
    version: str,
    options: dict[str, Any],
    counts: bool,
    chat: bool,
    top: bool,
    prefill: bool,
    grammar: GrammarSupport,
    beyond: str,
) -> None:
    """Every ability is seen where it is, and missed where it is not."""
    template: Any = (lambda messages, _: messages[-1]["content"]) if chat else None
    report = probe(tgi_server(version, ENGINE, chat_template=template, **options))
    assert (
        report.counts_tokens,
        report.renders_chat,
        report.top_tokens > 0,
        report.prefill_scores,
        report.grammar,
    ) == (
        counts,
        chat,
        top,
        prefill,
        grammar,
    )
    assert report.method == "score"
    assert report.reason.endswith(f"; {beyond}")
    assert report.info.max_input_tokens == 1024


def test_the_advice_fits_what_is_missing(tgi_server: StartServer) -> None:
    """An old or restricted server is told what to change, a good one nothing."""
    old = probe(tgi_server("1.0.3", ENGINE)).advice
    assert any("Update to TGI" in line for line in old)
    assert not any("prefix caching saves" in line for line in old)
    slow = probe(tgi_server("2.0.4", ENGINE, has_tokenizer=False)).advice
    assert any("prefix caching saves" in line for line in slow)
    assert any("fast tokenizer" in line for line in slow)
    closed = tgi_server("2.4.1", ENGINE)
    closed.faults.add(Fault("403", path="/info", times=None))
    assert probe(closed).advice[0].startswith("Let /info through")
    refusing = probe(tgi_server("2.4.1", ENGINE, grammar=False, max_concurrent_requests=8)).advice
    assert any("--disable-grammar-support" in line for line in refusing)
    assert any("--max-concurrent-requests (now 8)" in line for line in refusing)
    assert any("--enable-prefill-logprobs" in line for line in probe(tgi_server("3.3.7", ENGINE)).advice)
    good = tgi_server("3.3.7", ENGINE, prefill_logprobs=True, max_input_tokens=4000, max_total_tokens=4096)
    assert probe(good).advice == []


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_few_alternatives_are_found(tgi_server: StartServer, allowed: int) -> None:
    """A server that gives fewer alternatives than usual is asked for those, and what to change is said."""
    report = probe(tgi_server("3.3.7", ENGINE, max_top_n_tokens=allowed))
    assert report.top_tokens == allowed
    assert report.method == ("score" if allowed >= 2 else "constrain")
    assert any(f"--max-top-n-tokens 5 (now {allowed})" in line for line in report.advice)
    if allowed == 3:
        assert "one request for up to three labels, one more for every two" in report.reason


def test_the_command_prints_it(tgi_server: StartServer) -> None:
    """`probe URL` prints the findings, and one sentence without a traceback where there is no server."""
    command = [sys.executable, "-m", "langchain_stormtrooper.cli", "probe"]
    environment = {**os.environ, "COLUMNS": "120"}
    url = tgi_server("2.4.1", ENGINE, model_id="someone/model-7b").url
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "someone/model-7b" in done.stdout
    assert "1024 tokens" in done.stdout
    assert "enforced" in done.stdout
    done = subprocess.run(
        [*command, "http://127.0.0.1:9"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "start Text Generation Inference there, or correct the URL." in done.stderr
    with pytest.raises(ServerUnreachableError):
        asyncio.run(aprobe(TextGenerationInference(base_url="http://127.0.0.1:9")))


def test_what_the_server_calls_itself_is_no_escape_sequence(tgi_server: StartServer) -> None:
    """Control characters in the model's name do not reach the terminal."""
    url = tgi_server("3.3.7", ENGINE, model_id="evil\x1b[2J\x9b31m[bold]model").url
    done = subprocess.run(
        [sys.executable, "-m", "langchain_stormtrooper.cli", "probe", url], capture_output=True, check=True
    )
    shown = done.stdout.decode()
    assert "evil [2J 31m[bold]model" in shown
    assert all(character.isprintable() for character in shown.replace("\n", ""))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text_422", "The server refused the request as invalid (422): is it a Text Generation Inference server?"),
        ("424", "The model failed while generating (424): try again, or look into its log."),
        ("stall", "The server did not answer within 0.5 s: raise `timeout=` or lower `max_concurrency=`."),
    ],
)
def test_a_server_that_does_not_answer_well_is_no_row(tgi_server: StartServer, kind: str, sentence: str) -> None:
    """What would fail one row of a batch is an error of the server here, with the next step."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault(kind, times=None, seconds=2))
    with pytest.raises(ServerError) as caught:
        asyncio.run(aprobe(TextGenerationInference(base_url=server.url, timeout=0.5)))
    assert str(caught.value) == sentence
    assert not isinstance(caught.value, RowError)
