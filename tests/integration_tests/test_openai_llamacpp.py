"""`OpenAICompletions` on a real llama.cpp server gives what `LlamaCpp` gives in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_stormtrooper import Classification, LlamaCpp, OpenAICompletions, ZeroShotClassifier, bridge
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.llamacpp_client import LlamaCppClient
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.wire import Response

ROOT = Path(__file__).parent.parent.parent
TEXTS = 20


def answers(llm: SelfHostedLLM, labels: list[str], texts: list[str]) -> list[Classification]:
    """Answers with details."""
    classifier = ZeroShotClassifier(labels, llm=llm, prompt="kinds", text_kind="command", label_kind="intent")
    return classifier.with_details().batch(texts)


def test_http_and_in_process_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """On real texts, two engines are asked the same and give the same labels, and probabilities within a thousandth."""
    pytest.importorskip("xllamacpp")
    lines = (ROOT / "tests" / "data" / "snips.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    labels = sorted({row["label"] for row in rows})
    texts = [row["text"] for row in rows if row["split"] == "test"][:TEXTS]
    # One prompt at a time, on engines that no other test has used: both compute the same things in the same order, so
    # that no digit depends on what is computed together. One of these texts has two labels that are .0016 apart.
    process, served = (LlamaCpp(n_threads=1, n_ctx=n_ctx, n_parallel=1) for n_ctx in (520, 264))
    engine = bridge.run(served._arunning).engine
    assert bridge.run(process._arunning).engine is not engine
    computed: dict[LlamaCppClient, list[bytes]] = {}
    send = LlamaCppClient.post

    async def post(client: LlamaCppClient, path: str, body: bytes) -> Response:
        if path == "/completion":
            computed.setdefault(client, []).append(body)
        return await send(client, path, body)

    monkeypatch.setattr(LlamaCppClient, "post", post)
    inside = answers(process, labels, texts)
    outside = answers(
        OpenAICompletions(base_url=f"{engine.base_url}/v1", api_key=engine.key, max_concurrency=1), labels, texts
    )
    of_process, of_server = computed.values()
    assert of_process == of_server
    assert len(of_process) > 2 * TEXTS
    assert len({answer.label for answer in inside}) > 2
    for one, other in zip(inside, outside, strict=True):
        assert one.probabilities
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-3)
    assert [answer.label for answer in outside] == [answer.label for answer in inside]


async def test_texts_are_generated_and_streamed() -> None:
    """A llama.cpp server is asked over its own routes: a text at once, piece by piece, counted, and as a chat."""
    pytest.importorskip("xllamacpp")
    inside = LlamaCpp(max_new_tokens=6)
    engine = (await inside._arunning()).engine
    outside = OpenAICompletions(base_url=f"{engine.base_url}/v1", api_key=engine.key, max_new_tokens=6)
    assert await outside.ais_llamacpp()
    expected = await inside.ainvoke("One, two, three, ")
    assert expected.strip()
    assert await outside.ainvoke("One, two, three, ") == expected
    pieces = [piece async for piece in outside.astream("One, two, three, ")]
    assert "".join(pieces) == expected
    assert len(pieces) > 1
    prompt = Prompt(text="One, two, three, ")
    assert await outside.acount_tokens(prompt) == await inside.acount_tokens(prompt)
    assert await outside.arender_chat("Hello") == await inside.arender_chat("Hello")


def test_two_hundred_texts_agreed() -> None:
    """The recorded run of all 200 texts has every label the same and no probability off by more than a thousandth."""
    path = ROOT / "benchmarks" / "results" / "llamacpp_http.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    figures = record["figures"]
    assert figures["texts"] == figures["same_labels"] == 200
    assert figures["probabilities"] == 200 * figures["labels"] == 1400
    assert 0 <= figures["largest_difference"] <= 1e-3
    assert record["n_ctx"]["process"] != record["n_ctx"]["http"]
