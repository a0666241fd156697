"""Real long reviews against a server that takes 1,024 tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from langchain_stormtrooper import (
    FewShotClassifier,
    LlamaCpp,
    OverlongInputWarning,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["positive", "negative"]
KINDS = {"text_kind": "review", "label_kind": "sentiment"}
LINES = (Path(__file__).parent.parent / "data" / "movie_reviews_long.jsonl").read_text(encoding="utf-8").splitlines()
REVIEWS = [json.loads(line)["text"] for line in LINES]
ENGINE = ScriptedEngine(lambda prompt: "negative" if "bad" in prompt else "positive")


def counts(server: TGIServer) -> list[int]:
    """Tokens of every prompt that the server generated from."""
    bodies = [r.json for r in server.received if r.path == "/generate" and r.json]
    return [len(ENGINE.tokenizer.encode(body["inputs"])) + 1 for body in bodies]


@pytest.mark.parametrize("version", ["1.0.3", "1.4.0", "2.0.1", "2.4.1", "3.3.7"])
def test_long_reviews_are_none_and_short_ones_are_answered(tgi_server: StartServer, version: str) -> None:
    """Exactly the reviews beyond the limit are None, whether or not the server can count for us."""
    server = tgi_server(version, ENGINE)
    classifier = ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=server.url), **KINDS)
    template = classifier.get_prompt()
    long = [len(ENGINE.tokenizer.encode(template.format(text=review))) + 1 > 1024 for review in REVIEWS]
    assert 0 < sum(long) < len(REVIEWS)
    with pytest.warns(OverlongInputWarning) as caught:
        answers = classifier.batch(REVIEWS)
    assert len(caught) == 1
    assert [answer is None for answer in answers] == long


@pytest.mark.parametrize("version", ["1.0.3", "1.4.0", "2.0.1", "2.4.1", "3.3.7"])
def test_truncated_reviews_fit_and_keep_the_instruction(tgi_server: StartServer, version: str) -> None:
    """With "truncate" every review has a label; examples make room first, and then only the text's end is missing."""
    server = tgi_server(version, ENGINE, record=1000)
    classifier = FewShotClassifier(
        LABELS,
        [("A joy.", "positive"), ("A waste.", "negative")],
        llm=TextGenerationInference(base_url=server.url),
        on_overlong="truncate",
        method="generate",
        **KINDS,
    )
    answers = classifier.with_details().batch(REVIEWS)
    assert all(answer.label in LABELS for answer in answers)
    assert 0 < sum(answer.truncated for answer in answers) < len(REVIEWS)
    assert all(answer.n_examples == 0 for answer in answers if answer.truncated)
    assert max(answer.n_examples or 0 for answer in answers) == 2
    alone = ZeroShotClassifier(LABELS, llm=classifier.llm, method="generate", **KINDS)
    heads = []
    for prompt in (classifier.get_prompt(), alone.get_prompt()):
        head, _, tail = prompt.format(text="@@").partition("@@")
        heads.append(head)
    accepted = [r.json["inputs"] for r in server.received if r.path == "/generate" and r.json]
    for prompt in accepted:
        head = next(head for head in heads if prompt.startswith(head))
        assert prompt.endswith(tail)
        assert any(review.startswith(prompt[len(head) : len(prompt) - len(tail)]) for review in REVIEWS)
    fitting = [count for count in counts(server) if count <= 1024]
    assert sum(count > 900 for count in fitting) >= sum(answer.truncated for answer in answers) * 0.8


@pytest.mark.parametrize("version", ["1.4.5", "2.0.1", "3.3.7"])
def test_the_budget_is_used_whatever_the_density(tgi_server: StartServer, version: str) -> None:
    """A text that begins sparse and goes on dense, or the other way round, is not cut to a fraction of what fits."""
    server = tgi_server(version, ENGINE, max_input_tokens=1024, max_total_tokens=2048)
    llm = TextGenerationInference(base_url=server.url)
    classifier = ZeroShotClassifier(LABELS, llm=llm, on_overlong="truncate", method="generate", **KINDS)
    sparse, dense = "short words first " * 50, "😀👨‍👩‍👧" * 1500
    for text in (sparse + dense, dense + sparse * 20):
        row = classifier.with_details().invoke(text)
        assert row.truncated
        assert 900 < (row.prompt_tokens or 0) <= 1024
    late = classifier.with_details().invoke(" " * 5000 + "A joy.")
    assert (late.truncated, late.label in LABELS) == (True, True)


def test_texts_that_cannot_be_too_long_are_not_counted(tgi_server: StartServer) -> None:
    """Short texts cost no /tokenize, and the constant part of a prompt is counted once."""
    server = tgi_server("3.3.7", ENGINE)
    llm = TextGenerationInference(base_url=server.url)
    classifier = ZeroShotClassifier(LABELS, llm=llm, method="generate", **KINDS)
    classifier.batch([f"review number {number}" for number in range(50)])
    assert server.counters.by_route["/tokenize"] == 0
    classifier.batch(["x" * 900 + str(number) for number in range(50)])
    assert server.counters.by_route["/tokenize"] == 1


def test_the_embedded_model_truncates_too() -> None:
    """In process, a text beyond the context is cut to fit, and says so."""
    classifier = ZeroShotClassifier(
        LABELS, llm=LlamaCpp(n_threads=1, n_ctx=256), on_overlong="truncate", prior=None, **KINDS
    )
    long, short = classifier.with_details().batch([max(REVIEWS, key=len), "A joy."])
    assert (long.truncated, short.truncated) == (True, False)
    assert long.label in LABELS
    assert long.prompt_tokens is not None
    assert 200 < long.prompt_tokens < 256


def test_an_instruction_that_does_not_fit_is_none_even_truncated(tgi_server: StartServer) -> None:
    """Where not even the empty text fits, the row is None as overlong, and nothing loops."""
    server = tgi_server("3.3.7", ENGINE, max_input_tokens=8, max_total_tokens=64)
    classifier = ZeroShotClassifier(
        LABELS, llm=TextGenerationInference(base_url=server.url), on_overlong="truncate", **KINDS
    )
    with pytest.warns(OverlongInputWarning):
        assert classifier.invoke(REVIEWS[0]) is None
    assert server.counters.by_route["/generate"] < 20
