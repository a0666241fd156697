"""What a server keeps of one prompt and the rows after it find computed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import FewShotClassifier, TextGenerationInference
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["politics", "science"]
EXAMPLES = [(f"{word} " * 20, label) for word in ("one", "two", "three", "four") for label in LABELS]
TEXTS = [f"Text {number}." for number in range(40)]
ENGINE = ScriptedEngine(lambda _: {" science": 0.6, " politics": 0.4})


def few_shot(server: TGIServer, method: Any, **kwargs: Any) -> FewShotClassifier:
    """A classifier whose prompt starts with many tokens that all rows share."""
    llm = TextGenerationInference(base_url=server.url)
    return FewShotClassifier(LABELS, EXAMPLES, llm=llm, prompt="kinds", method=method, **kwargs)


@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
@pytest.mark.parametrize("prior", ["words", None])
def test_a_batch_computes_its_common_start_once(tgi_server: StartServer, method: str, prior: Any) -> None:
    """However rows are answered, all but the first find the examples computed, though they are sent at once."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.02)
    classifier = few_shot(server, method, prior=prior)
    start = len(ENGINE.tokenizer.encode(classifier.get_prompt().format(text="")))
    assert start > 200
    counters = server.counters
    before = counters.prompt_tokens, counters.computed_tokens
    classifier.batch(TEXTS)
    assert server.peak_permits > 8
    assert counters.prompt_tokens - before[0] > len(TEXTS) * start
    assert counters.computed_tokens - before[1] < 2 * start + len(TEXTS) * 20


def test_no_row_waits_where_nothing_is_gained(tgi_server: StartServer) -> None:
    """Where prompts have no long start in common, or the server is known to keep nothing, rows start at once."""
    in_use: list[int] = []

    def say(prompt: str) -> str:
        in_use.append(server.permits_in_use)
        return " science"

    for version, shots in (("2.2.0", EXAMPLES), ("3.3.7", EXAMPLES[:1])):
        server = tgi_server(version, ScriptedEngine(say), latency_per_request=0.1)
        llm = TextGenerationInference(base_url=server.url)
        asyncio.run(llm.ainfo())
        examples = [(text[:9], label) for text, label in shots] if version == "3.3.7" else shots
        FewShotClassifier(LABELS, examples, llm=llm, prompt="kinds", method="generate").batch(TEXTS[:8])
        assert max(in_use) == 8
        assert len(in_use) == 8
        in_use.clear()


def test_a_first_row_that_stalls_or_fails_holds_up_nobody_for_long(tgi_server: StartServer) -> None:
    """The others wait for the first row a moment, not for its end, and do not share its fate."""
    server = tgi_server("3.3.7", ENGINE)
    server.faults.add(Fault("stall", times=None, seconds=60, when=lambda prompt: "Stalled." in prompt))
    server.faults.add(Fault("text_422", times=None, when=lambda prompt: "Broken." in prompt))

    async def quick(first: str) -> float:
        rows = few_shot(server, "generate").abatch_as_completed([first, *TEXTS], {"max_concurrency": 8})
        started = time.monotonic()
        seen = [index async for index, label in rows if label == "science"] if first == "Broken." else []
        while len(seen) < len(TEXTS):
            index, label = await asyncio.wait_for(anext(rows), 20)
            assert label == "science"
            seen.append(index)
        await rows.aclose()  # type: ignore[attr-defined]  # LangChain calls its generators iterators
        assert sorted(seen) == list(range(1, len(TEXTS) + 1))
        return time.monotonic() - started

    with pytest.warns(UserWarning, match="1 of 41"):
        asyncio.run(quick("Broken."))
    assert asyncio.run(quick("Stalled.")) < 10
