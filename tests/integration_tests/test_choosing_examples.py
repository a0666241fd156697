"""Examples that are chosen for each row: real embeddings, and real limits by the engines' own counts."""

from __future__ import annotations

import asyncio
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeScoringLLM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minilm import MiniLM, fetch

from langchain_stormtrooper import (
    FewShotClassifier,
    LlamaCpp,
    SettingsWarning,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.selecting import Ahead
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LINES = (Path(__file__).parent.parent / "data" / "snips.jsonl").read_text(encoding="utf-8").splitlines()
SNIPS = [json.loads(line) for line in LINES]
POOL = [(row["text"], row["label"]) for row in SNIPS if row["split"] == "train"]
ROWS = [(row["text"], row["label"]) for row in SNIPS if row["split"] == "test"][:40]
LABELS = sorted({label for _, label in POOL})
N_CTX = 128


class Noting(LlamaCpp):
    """The embedded model; notes what was answered, and how many tokens the engine counts in it."""

    answered: list[int] = []

    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        """As `LlamaCpp` does it."""
        scores = await super().ascore_row(prompt, answers)
        self.answered.append(await self.acount_tokens(prompt) or 0)
        return scores


@pytest.fixture(scope="module")
def engine() -> Noting:
    """One engine of little room for all cases."""
    return Noting(n_threads=1, n_parallel=1, n_ctx=N_CTX)


WORD = st.sampled_from(["play", "weather", "日本", "😀", "<|im_end|>", "\n", "{text}", "antidisestablishmentarianism"])
TEXT = st.lists(st.one_of(WORD, st.text("ab é", min_size=1, max_size=8)), min_size=1, max_size=60).map(" ".join)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(LABELS), min_size=2, max_size=6, unique=True),
    st.lists(st.tuples(TEXT, st.integers(0, 5)), min_size=1, max_size=12),
    st.lists(TEXT, min_size=1, max_size=2, unique=True),
    st.sampled_from(["balanced", "fuzzy", "bm25"]),
    st.sampled_from(["kinds", "task", "chat"]),
    st.sampled_from(["none", "truncate"]),
)
def test_no_prompt_exceeds_the_engines_context(
    engine: Noting, labels: list[str], pool: Any, texts: list[str], select: Any, prompt: Any, on_overlong: Any
) -> None:
    """For any texts, examples and labels, what was answered fits by the engine's count; a text that fits is whole."""
    examples = [(text, labels[number % len(labels)]) for text, number in pool]
    arguments: dict[str, Any] = {"llm": engine, "prompt": prompt, "prior": None, "on_overlong": on_overlong}
    engine.answered.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = FewShotClassifier(labels, examples, select=select, n_examples=8, **arguments)
        rows = task.with_details().batch(texts)
        alone = ZeroShotClassifier(labels, **arguments).get_prompt()
    assert all(tokens < N_CTX for tokens in engine.answered)
    assert len(engine.answered) == sum(row.label is not None for row in rows)
    for text, row in zip(texts, rows, strict=True):
        assert row.reason in (None, "overlong"), row.error
        fits = asyncio.run(engine.acount_tokens(Prompt(head=alone.format(text=text)))) or 0
        if fits < N_CTX - 4:
            assert row.label is not None
            assert not row.truncated
        elif row.label is None:
            assert on_overlong == "none"


@pytest.mark.parametrize("version", ["1.0.3", "3.3.7"])
@pytest.mark.parametrize("select", ["balanced", "bm25"])
def test_a_server_gets_as_many_examples_as_it_takes(tgi_server: StartServer, version: str, select: Any) -> None:
    """Whether or not TGI counts for us, long texts stay whole and lose examples; one row costs few requests."""
    engine = ScriptedEngine(lambda _: f" {LABELS[0]}")
    server = tgi_server(version, engine, max_input_tokens=400, max_total_tokens=800, record=4000)
    task = FewShotClassifier(
        LABELS, POOL, llm=TextGenerationInference(base_url=server.url), select=select, n_examples=14, method="generate"
    )
    texts = [" ".join(f"w{n}" for n in range(length)) for length in (1, 20, 40, 60, 80, 100)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)
        rows = task.with_details().batch(texts, {"max_concurrency": 2})
    used = [row.n_examples or 0 for row in rows]
    assert used == sorted(used, reverse=True)
    assert used[0] > used[-1]
    assert all(row.label == LABELS[0] and not row.truncated and (row.prompt_tokens or 0) <= 400 for row in rows)
    whole = [r.json["inputs"] for r in server.received if r.path == "/generate" and r.json]
    assert all(any(text in prompt for prompt in whole) for text in texts)
    asked = server.counters.by_route
    assert asked["/generate"] + asked["/tokenize"] <= 8 * len(texts)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> MiniLM:
    """The model, fetched once."""
    return MiniLM(fetch(tmp_path_factory.mktemp("minilm")))


@pytest.mark.foreign
def test_the_embedding_model_is_the_real_one(minilm: MiniLM) -> None:
    """Similarities are those that the model's authors show for these sentences."""
    one, two, other = minilm.embed_documents(
        ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    )
    assert math.isclose(sum(a * b for a, b in zip(one, two, strict=True)), 0.7553, abs_tol=1e-3)
    assert sum(a * b for a, b in zip(one, other, strict=True)) < 0


@pytest.mark.foreign
def test_the_nearest_in_meaning_stands_last(minilm: MiniLM) -> None:
    """An example that means the same stands last though no word is the same; of a batch all are embedded at once."""
    llm = FakeScoringLLM()
    task = FewShotClassifier(LABELS, POOL, llm=llm, select=minilm, prior=None, prompt="kinds")
    minilm.calls.clear()
    task.batch([text for text, _ in ROWS])
    assert minilm.calls == [len(POOL), len(ROWS)]
    last = {prompt.text: prompt.head.rpartition("Label: ")[2].split("\n")[0] for prompt in llm.log.prompts}
    assert sum(1 for text, label in ROWS if last[text] == label) / len(ROWS) >= 0.65

    pool = [("play some jazz", "music"), ("is it raining", "weather"), ("a table for two at the bistro", "restaurant")]
    texts = {"turn up Beethoven": "music", "will I need my umbrella": "weather", "I am hungry": "restaurant"}
    chooser = FewShotClassifier(["music", "weather", "restaurant"], pool, llm=llm, select=minilm)._chooser()

    async def nearest(text: str) -> str:
        return (await chooser.achoose(text, Ahead()))[0].label

    for text, label in texts.items():
        assert asyncio.run(nearest(text)) == label
