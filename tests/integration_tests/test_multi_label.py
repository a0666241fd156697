"""Several labels a text: what is asked of a TGI server for them, and the embedded model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from langchain_stormtrooper import (
    ConfigurationError,
    FailedRequestWarning,
    LlamaCpp,
    MultiLabelClassifier,
    OpenAICompletions,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import Fault, OpenAIServer, ScriptedEngine, TGIServer

LABELS = ["joy", "anger", "surprise"]
TEXTS = [f"{words} {'and so on ' * 20}" for words in ("joy anger", "surprise", "nothing", "anger")]
WANTED = [["joy", "anger"], ["surprise"], [], ["anger"]]


def rule(prompt: str) -> Mapping[str, float]:
    """Yes to the labels that the text has in it, and a little more to "joy" whatever it is."""
    found = re.search(r"Text: (.*)\nLabel: (\w+)\n", prompt)
    if found is None:
        # What a server is asked to find out what it can do.
        return {" ok": 1.0}
    share = 0.8 if found[2] in found[1] else 0.3 if found[2] == "joy" else 0.1
    return {" yes": share, " no": 0.9 - share}


ENGINE = ScriptedEngine(rule, words=["yes", "no"], answer_after="Answer:")


def test_a_server_reads_each_text_once(tgi_server: Callable[..., TGIServer]) -> None:
    """One request for each label, whose probabilities are the model's; all but a text's first find it computed."""
    server = tgi_server("3.3.7", ENGINE)
    classifier = MultiLabelClassifier(LABELS, llm=TextGenerationInference(base_url=server.url), prior=None)
    assert classifier.invoke("nothing") == []
    before = len(server.received), server.counters.prompt_tokens, server.counters.computed_tokens
    rows = classifier.with_details().batch(TEXTS)
    assert [row.labels for row in rows] == WANTED
    assert rows[0].probabilities == pytest.approx({"joy": 8 / 9, "anger": 8 / 9, "surprise": 1 / 9}, abs=1e-3)
    assert len(server.received) - before[0] == len(TEXTS) * len(LABELS)
    sent, computed = server.counters.prompt_tokens - before[1], server.counters.computed_tokens - before[2]
    text = min(len(ENGINE.encode(text)) for text in TEXTS)
    assert sent - computed > len(TEXTS) * (len(LABELS) - 1) * text


def test_a_question_that_fails_is_its_row_s(tgi_server: Callable[..., TGIServer]) -> None:
    """A row of which one question cannot be answered is None, and the others have their labels."""
    server = tgi_server("3.3.7", ENGINE)
    server.faults.add(
        Fault("text_422", times=None, when=lambda prompt: "nothing" in prompt and "Label: anger" in prompt)
    )
    classifier = MultiLabelClassifier(LABELS, llm=TextGenerationInference(base_url=server.url), prior=None)
    with pytest.warns(FailedRequestWarning, match="1 of 4 texts"):
        assert classifier.batch(TEXTS) == [labels or None for labels in WANTED]


def test_an_openai_server(openai_server: Callable[..., OpenAIServer]) -> None:
    """Servers with OpenAI's protocol score the questions as well."""
    server = openai_server("vllm", ENGINE)
    classifier = MultiLabelClassifier(LABELS, llm=OpenAICompletions(base_url=f"{server.url}/v1"), prior=None)
    assert classifier.batch(TEXTS) == WANTED


def test_a_server_without_scores_is_refused(tgi_server: Callable[..., TGIServer]) -> None:
    """Where a server shows no alternatives, the first call says what is needed."""
    server = tgi_server("3.3.7", ENGINE, max_top_n_tokens=0)
    classifier = MultiLabelClassifier(LABELS, llm=TextGenerationInference(base_url=server.url))
    with pytest.raises(ConfigurationError, match="probability of yes and no"):
        classifier.invoke("nothing")


def test_all_labels_in_one_scoring(tgi_server: Callable[..., TGIServer]) -> None:
    """With `ask="once"` a row costs what a single label costs, and its probabilities are the server's shares."""

    def shares(prompt: str) -> Mapping[str, float]:
        text = prompt.rpartition("Text: ")[2]
        named = [label for label in LABELS if label in text]
        return {f" {label}": 0.9 / len(named) for label in named} or {" ok": 1.0}

    server = tgi_server("3.3.7", ScriptedEngine(shares, words=LABELS, answer_after="Label:"))
    llm = TextGenerationInference(base_url=server.url)
    classifier = MultiLabelClassifier(LABELS, llm=llm, ask="once", prompt="kinds", prior=None, threshold=0.4)
    assert classifier.invoke(TEXTS[0]) == ["joy", "anger"]
    before = len(server.received)
    rows = classifier.with_details().batch([TEXTS[0], TEXTS[1], TEXTS[3]])
    assert [row.labels for row in rows] == [["joy", "anger"], ["surprise"], ["anger"]]
    assert rows[0].probabilities == pytest.approx({"joy": 0.5, "anger": 0.5, "surprise": 0}, abs=0.01)
    assert len(server.received) - before == 3


def test_the_embedded_model_asked_once() -> None:
    """Its probabilities are those of a single label, the same alone and in a batch, and tell emotions apart."""
    texts = ["I am so happy, thank you!", "This makes me furious.", "I am scared of the dark."]
    labels = ["gratitude", "anger", "fear"]
    kinds = {"text_kind": "comment", "label_kind": "emotion"}
    model = LlamaCpp(n_threads=1)
    classifier = MultiLabelClassifier(labels, llm=model, ask="once", **kinds).with_details()
    rows = classifier.batch(texts)
    single = ZeroShotClassifier(labels, llm=model, method="score", **kinds).with_details().batch(texts)
    assert [row.probabilities for row in rows] == [row.probabilities for row in single]
    assert classifier.invoke(texts[1]).probabilities == rows[1].probabilities
    best = [max(row.probabilities or {}, key=(row.probabilities or {}).__getitem__) for row in rows]
    assert best == labels


def test_the_embedded_model() -> None:
    """It gives each label a probability, the same alone and in a batch, and thresholds fitted to texts apply."""
    texts = ["I am so happy, thank you!", "This makes me furious.", "The meeting is at noon."]
    model = LlamaCpp(n_threads=1)
    classifier = MultiLabelClassifier(["gratitude", "anger"], llm=model, label_kind="emotion", prior=None)
    rows = classifier.with_details().batch(texts)
    assert all(row.probabilities is not None and set(row.probabilities) == {"gratitude", "anger"} for row in rows)
    alone = classifier.with_details().invoke(texts[1])
    assert alone.probabilities == pytest.approx(rows[1].probabilities, abs=0.02)
    with pytest.warns(match="fewer than 5 times"):
        learnt = classifier.calibrate(texts, [["gratitude"], ["anger"], []])
    assert learnt.evidence is not None
    assert sum(labels is not None for labels in learnt.batch(texts)) == 3
