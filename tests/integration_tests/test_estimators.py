"""The scikit-learn estimators against TGI servers, alone and within scikit-learn's tools."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import classification_report, f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from langchain_stormtrooper import (
    AuthenticationError,
    LlamaCpp,
    OverlongInputWarning,
    ServerUnreachableError,
    TextGenerationInference,
    TGIFewShotClassifier,
    TGIZeroShotClassifier,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

StartServer = Callable[..., TGIServer]
ROOT = Path(__file__).parent.parent / "data"
WORDS = {"senate": "politics", "nucleus": "science", "weather": "other"}
LABELS = ["politics", "science", "other"]
ENGINE = ScriptedEngine(when_contains({word: f" {label}" for word, label in WORDS.items()}, default=" other"))
TEXTS = [f"{text} {number}" for number in range(6) for text in ("The senate votes.", "A nucleus.", "Nice weather.")]
TRUTHS = LABELS * 6
OVERLONG = "The senate votes. " * 2000


@pytest.mark.parametrize("version", ["1.0.3", "2.4.1", "3.3.7"])
@pytest.mark.parametrize("kind", [TGIZeroShotClassifier, TGIFewShotClassifier])
def test_labels_of_all_versions(tgi_server: StartServer, version: str, kind: Any) -> None:
    """At an endpoint as stormtrooper takes it every version gives labels; an overlong text is None, with a warning."""
    server = tgi_server(version, ENGINE)
    template = "Text: {X}\nOne of {classes}:" if kind is TGIZeroShotClassifier else "{examples}Text: {X}\nLabel:"
    # The model looks at the whole prompt, and examples have each of the words.
    examples = ["The capital.", "An atom.", "A holiday."] * 2
    for prompt in (template, None):
        model = kind(endpoint=f"{server.url}/generate", prompt=prompt, max_new_tokens=8).fit(examples, LABELS * 2)
        with pytest.warns(OverlongInputWarning, match="1 of 19 texts") as seen:
            predicted = model.predict([*TEXTS, OVERLONG])
        assert len(seen) == 1
        assert seen[0].filename == __file__
        assert predicted.tolist() == [*TRUTHS, None]


def test_probabilities_of_a_server(tgi_server: StartServer) -> None:
    """Where the server can be scored on, `predict_proba` is its distribution, and NaN for a text that is too long."""
    shares = dict(zip(LABELS, (0.2, 0.7, 0.1), strict=True))
    model = TGIZeroShotClassifier(base_url=tgi_server("3.3.7", ScriptedEngine(lambda _: shares)).url, prior=None)
    with pytest.warns(OverlongInputWarning):
        table = model.fit(None, LABELS).predict_proba(["x", OVERLONG])
    assert table[0] == pytest.approx([shares[label] for label in model.classes_], abs=0.01)
    assert np.isnan(table[1]).all()


def test_pipeline_search_and_cross_validation(tgi_server: StartServer) -> None:
    """They work on a server, with overlong texts among the rows, and the search finds the prompt that is understood."""
    rules = when_contains({f"{word}": f" {label}" for word, label in WORDS.items()}, default=" other")
    server = tgi_server("3.3.7", ScriptedEngine(lambda prompt: rules(prompt) if "Which" in prompt else " none of them"))
    steps = make_pipeline(
        FunctionTransformer(lambda texts: [text.strip() for text in texts]),
        TGIZeroShotClassifier(endpoint=f"{server.url}/generate", fill_label="unknown"),
    )
    texts, truths = [*TEXTS, OVERLONG, OVERLONG], [*TRUTHS, "politics", "politics"]
    grid = {
        "tgizeroshotclassifier__prompt": ["{X} =", "Which of {classes}? {X} ="],
        "tgizeroshotclassifier__max_new_tokens": [4, 8],
    }
    with pytest.warns(Warning, match="got no label"):
        search = GridSearchCV(steps, grid, cv=2).fit(texts, truths)
    assert search.best_params_["tgizeroshotclassifier__prompt"] == "Which of {classes}? {X} ="
    assert search.best_score_ == pytest.approx(0.9)
    best = search.best_estimator_
    with pytest.warns(OverlongInputWarning):
        predicted = cross_val_predict(best, texts, truths, cv=2)
    assert predicted.tolist() == [*TRUTHS, "unknown", "unknown"]
    report = classification_report(truths, predicted, labels=LABELS, output_dict=True, zero_division=0)
    assert report["politics"]["recall"] == pytest.approx(6 / 8)
    scorer = make_scorer(f1_score, average="macro", labels=LABELS, pos_label=None)
    with pytest.warns(OverlongInputWarning):
        assert 0.9 < cross_val_score(best, texts, truths, cv=2, scoring=scorer).mean() < 1
    frozen = FrozenEstimator(best[-1].classifier_.as_estimator())
    assert cross_val_score(frozen, TEXTS, TRUTHS, cv=3).tolist() == [1.0, 1.0, 1.0]


def test_a_pickled_estimator_reads_its_key_where_it_is_loaded(
    tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pickle of an estimator with a key works where the key is in the environment, and only there."""
    server = tgi_server("3.3.7", ENGINE, api_key="hush")
    model = TGIZeroShotClassifier(llm=TextGenerationInference(base_url=server.url, api_key="hush"), method="generate")
    assert model.fit(None, LABELS).predict(TEXTS).tolist() == TRUTHS
    pickled = pickle.dumps(model)
    assert b"hush" not in pickled
    with pytest.raises(AuthenticationError):
        pickle.loads(pickled).predict(TEXTS)  # noqa: S301  # our own
    monkeypatch.setenv("TGI_API_KEY", "hush")
    assert pickle.loads(pickled).predict(TEXTS).tolist() == TRUTHS  # noqa: S301  # our own


def test_no_server_is_an_error_and_not_a_column_of_none() -> None:
    """What is wrong for every row is raised."""
    model = TGIZeroShotClassifier(endpoint="http://127.0.0.1:9/generate").fit(None, LABELS)
    with pytest.raises(ServerUnreachableError):
        model.predict(TEXTS)


def test_the_same_labels_as_batch_on_the_embedded_model() -> None:
    """Real commands have the labels and probabilities that the Runnable of the same settings gives them."""
    lines = (ROOT / "snips.jsonl").read_text(encoding="utf-8").splitlines()
    labels = ["rate book", "get weather", "play music"]
    texts = [row["text"] for row in map(json.loads, lines) if row["split"] == "test" and row["label"] in labels][::15]
    assert len(texts) > 3
    settings: dict[str, Any] = {"llm": LlamaCpp(), "text_kind": "command", "label_kind": "intent"}
    expected = ZeroShotClassifier(labels, **settings).with_details().batch(texts)
    model = TGIZeroShotClassifier(**settings).fit(None, labels)
    table = model.predict_proba(texts)
    assert model.classes_[table.argmax(axis=1)].tolist() == [answer.label for answer in expected]
    for row, answer in zip(table, expected, strict=True):
        assert answer.probabilities is not None
        assert row == pytest.approx([answer.probabilities[label] for label in model.classes_])
