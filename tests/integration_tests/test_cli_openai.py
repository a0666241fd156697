"""The command line and OpenAI-compatible servers: an address that ends with /v1 is one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from langchain_stormtrooper import bridge, cli
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.testing import OpenAIServer, ScriptedEngine

StartServer = Callable[..., OpenAIServer]
KEY = "OPENAI_COMPATIBLE_API_KEY"
ENGINE = ScriptedEngine(
    lambda prompt: {" music": 0.7, " weather": 0.2} if "jazz" in prompt else {" weather": 0.7, " music": 0.2}
)


def run(*arguments: str) -> Any:
    """Exit code and output of a command."""
    return CliRunner().invoke(cli.app, list(arguments))


def classify(url: str, *options: str) -> Any:
    """Exit code and output of `classify` for one text each of music and weather."""
    return run("classify", "jazz", "rain", "--labels", "music,weather", "--format", "jsonl", "--llm", url, *options)


@pytest.mark.parametrize("flavour", ["vllm", "sglang", "generic"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_with_v1_is_an_openai_compatible_server(
    openai_server: StartServer, monkeypatch: pytest.MonkeyPatch, flavour: str, slash: str
) -> None:
    """It is asked over its routes with its key; texts get labels and probabilities."""
    server = openai_server(flavour, ENGINE, api_key="key-17")
    monkeypatch.setenv(KEY, "key-17")
    done = classify(f"{server.url}/v1{slash}", "--prompt", "kinds")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["label"] for row in rows] == ["music", "weather"]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert server.counters.by_route["/v1/completions"] > 0


def test_keys_of_servers_are_not_mixed_up(openai_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """TGI's key is not sent to another kind of server; what is missing is named, and no key is shown."""
    server = openai_server("vllm", ENGINE, api_key="key-17")
    monkeypatch.setenv("TGI_API_KEY", "key-17")
    done = classify(f"{server.url}/v1")
    assert done.exit_code == 4
    assert f"check the environment variable {KEY}" in done.stderr
    assert server.received
    assert all("authorization" not in {name.lower() for name in request.headers} for request in server.received)
    monkeypatch.setenv(KEY, "key-18\r")
    done = classify(f"{server.url}/v1")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {KEY} has a line break")
    assert "key-1" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--llm", "http://127.0.0.1:9/v1"], 4, "start a server there, or set --llm."),
        (
            ["--llm", "http://me:hunter2@h/v1"],
            2,
            f"--llm must not carry credentials or a query: put the key into {KEY}.",
        ),
        (
            ["--llm", "http://me:hunter2@h"],
            2,
            "--llm must not carry credentials or a query: put the key into TGI_API_KEY.",
        ),
        (["--llm", "http://127.0.0.1:0/v1"], 2, "--llm has no port that exists"),
        (["--llm", "127.0.0.1:8000/v1"], 2, "or http://127.0.0.1:8000/v1 (vLLM and others)"),
    ],
)
def test_what_is_wrong_is_one_sentence_about_options(arguments: list[str], code: int, told: str) -> None:
    """No server, or no possible address: one sentence in the command's words."""
    done = run("classify", "jazz", "--labels", "music,weather", *arguments)
    assert done.exit_code == code
    assert told in done.stderr
    assert "hunter2" not in done.stderr
    assert "base_url" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_with_chats_alone_is_explained(openai_server: StartServer) -> None:
    """A server without completions ends the command with a sentence that says what Python has for it."""
    done = classify(f"{openai_server('generic', ENGINE, completions=False).url}/v1")
    assert done.exit_code == 4
    assert "check --llm, or take `api='chat'` (in Python only)" in done.stderr


@pytest.mark.parametrize(
    ("flavour", "options", "lines"),
    [
        ("vllm", {}, ["chosen tokens|by logprob_token_ids", "constrained answers|by structured_outputs"]),
        ("vllm", {"drops_logprob_token_ids": True}, ["chosen tokens|no", "counts tokens|yes", "method|score"]),
        ("sglang", {}, ["chosen tokens|by /v1/score", "constrained answers|by regex", "method|score"]),
        ("generic", {"logprobs": False}, ["alternatives per step|none", "counts tokens|no", "method|generate"]),
    ],
)
def test_the_probe_tells_what_was_seen(
    openai_server: StartServer, flavour: str, options: dict[str, Any], lines: list[str]
) -> None:
    """`probe URL/v1` tells what the server did, and advises only where labels cannot be scored."""
    done = run("probe", f"{openai_server(flavour, ENGINE, **options).url}/v1")
    assert done.exit_code == 0, done.stderr
    found = ["|".join(part.strip() for part in line.split("  ", 1)) for line in done.stdout.splitlines()]
    assert set(lines) <= set(found)
    assert "model|stormtrooper/scripted" in found
    assert ("Let log-probabilities" in done.stdout) == ("method|score" not in found)


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("http://127.0.0.1:9/v1", 4, "start a server there, or correct the URL."),
        ("http://me:hunter2@h/v1", 2, f"The URL must not carry credentials or a query: put the key into {KEY}."),
    ],
)
def test_the_probe_without_a_server(url: str, code: int, told: str) -> None:
    """One sentence that speaks of the URL."""
    done = run("probe", url)
    assert done.exit_code == code
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_probe_knows_llamacpp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real llama.cpp server is recognised and scored on."""
    pytest.importorskip("xllamacpp")
    llm = LlamaCpp(n_threads=1, n_ctx=256)
    engine = bridge.run(llm._arunning).engine
    monkeypatch.setenv(KEY, engine.key)
    done = run("probe", f"{engine.base_url}/v1")
    assert done.exit_code == 0, done.stderr
    assert "llama.cpp: it is asked over its own routes" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["method", "score"]


def test_a_server_that_lists_no_models_is_used_by_name(openai_server: StartServer) -> None:
    """Without `/v1/models`, --model is asked for, and with it texts get their labels."""
    server = openai_server("generic", ENGINE, model_id="mine", models=False)
    done = classify(f"{server.url}/v1", "--prompt", "kinds")
    assert done.exit_code in (2, 4)
    assert "--model" in done.stderr
    done = classify(f"{server.url}/v1", "--prompt", "kinds", "--model", "mine")
    assert done.exit_code == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["music", "weather"]


def test_a_server_that_is_left_out_is_told_once(openai_server: StartServer) -> None:
    """Rows are answered by the other server, and standard error names the one that is gone; --quiet says nothing."""
    url = f"{openai_server('vllm', ENGINE).url}/v1,http://127.0.0.1:9/v1"
    done = classify(url, "--prompt", "kinds")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("http://127.0.0.1:9 is left out") == 1
    assert "left out" not in classify(url, "--prompt", "kinds", "--quiet").stderr
