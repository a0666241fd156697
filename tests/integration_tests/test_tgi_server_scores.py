"""The scores that come over the wire lead back to the script's true distribution.

One plain implementation each of the scoring ways that the protocol allows, without any client of this package: what
they find is what `ScriptedEngine.distribution` says.
"""

from __future__ import annotations

import math
from typing import Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

PROMPT = "Text: It was fine.\nLabel:"
SCRIPT = {" positive": 0.5, " negative": 0.2, " New York": 0.1, " New Jersey": 0.05, " 良い": 0.05}
ENGINE = ScriptedEngine({PROMPT: SCRIPT})


async def details(server: TGIServer, inputs: str = PROMPT, **parameters: Any) -> Any:
    """Ask for one greedy generation and return its details."""
    body = {"inputs": inputs, "parameters": {"max_new_tokens": 1, "do_sample": False, "details": True} | parameters}
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/generate", json=body) as response:
        assert response.status == 200, await response.text()
        return (await response.json())["details"]


def rescaled(scores: dict[str, float]) -> dict[str, float]:
    """Turn log-probabilities into probabilities that add up to 1."""
    total = math.fsum(math.exp(score) for score in scores.values())
    return {label: math.exp(score) / total for label, score in scores.items()}


@pytest.mark.parametrize("version", ["1.0.3", "1.4.5", "2.4.1", "3.3.7"])
@pytest.mark.parametrize("family", ["flash", "padded", "seq2seq"])
async def test_top_tokens(version: str, family: Any) -> None:
    """Top tokens without a grammar give first-token-distinct labels their true odds on every server."""
    labels = [" positive", " negative"]
    async with TGIServer(version, ENGINE, family=family) as server:
        top = (await details(server, top_n_tokens=5))["top_tokens"][0]
    found = rescaled({token["text"]: token["logprob"] for token in top if token["text"] in labels})
    assert found == pytest.approx(ENGINE.distribution(PROMPT, labels), abs=1e-3)


@pytest.mark.parametrize("version", ["1.4.5", "2.4.1", "3.3.7"])
@pytest.mark.parametrize("pattern", ["( positive| negative)", "(positive|negative)"])
async def test_masked_top_tokens(version: str, pattern: str) -> None:
    """Under a grammar the top tokens give the true odds, with a space in the pattern or without."""
    async with TGIServer(version, ENGINE) as server:
        grammar = {"type": "regex", "value": pattern}
        top = (await details(server, top_n_tokens=5, grammar=grammar))["top_tokens"][0]
    scores = {token["text"].strip(): token["logprob"] for token in top[:2]}
    assert rescaled(scores) == pytest.approx(ENGINE.distribution(PROMPT, ["positive", "negative"]), abs=1e-3)
    # What is missing is the lone space, which the grammar allows and with which the script's last answer starts.
    assert math.fsum(math.exp(score) for score in scores.values()) > 0.93


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("1.0.3", {}),
        ("2.4.1", {"family": "padded"}),
        ("3.3.7", {"family": "padded"}),
        ("3.3.7", {"prefill_logprobs": True}),
    ],
)
async def test_prefill_scores(version: str, settings: dict[str, Any]) -> None:
    """Prefill scores of prompt and label give the true odds of labels of any length, in any script."""
    scores = {}
    async with TGIServer(version, ENGINE, **settings) as server:
        for label in SCRIPT:
            prefill = (await details(server, PROMPT + label, decoder_input_details=True))["prefill"]
            start = 1 + len(ENGINE.encode(PROMPT))
            scores[label] = math.fsum(token["logprob"] for token in prefill[start:])
    assert rescaled(scores) == pytest.approx(ENGINE.distribution(PROMPT, list(SCRIPT)), abs=1e-3)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
async def test_half_precision(precision: Any) -> None:
    """In half precision the odds are right up to the grid of the format."""
    async with TGIServer("3.3.7", ENGINE, precision=precision) as server:
        token = (await details(server))["tokens"][0]
    error = abs(token["logprob"] - math.log(0.5))
    assert 0 < error < (0.0005 if precision == "float16" else 0.004)
