"""The option for texts that no label fits, with the embedded model and with a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from langchain_stormtrooper import (
    FewShotClassifier,
    Ledger,
    LlamaCpp,
    OutOfScopeWarning,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

LABELS = ["play music", "get weather"]
KNOWN = [
    ("play some jazz", "play music"),
    ("is it going to rain tomorrow", "get weather"),
    ("what is 12 times 9", None),
    ("put on the new album by Adele", "play music"),
    ("how cold is it in Oslo", "get weather"),
    ("translate good morning into Greek", None),
]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.OutOfScopeWarning")
def test_the_embedded_model_scores_the_option_with_the_labels() -> None:
    """As an option and as a third label it has the same probability, and only as an option it is no label."""
    llm = LlamaCpp()
    texts = ["turn up some rock music", "how many cups are in a gallon", "will it snow in Vermont tonight"]
    kinds = {"text_kind": "command", "label_kind": "intent", "prior": None}
    option = FewShotClassifier(LABELS, KNOWN, llm=llm, out_of_scope="none of these", **kinds)
    label = FewShotClassifier(
        [*LABELS, "none of these"], [(text, name or "none of these") for text, name in KNOWN], llm=llm, **kinds
    )
    rows = option.with_details().batch(texts)
    for row, other in zip(rows, label.with_details().batch(texts), strict=True):
        assert other.probabilities is not None
        assert row.probabilities is not None
        assert row.out_of_scope == pytest.approx(other.probabilities["none of these"], rel=0.02)
        assert list(row.probabilities) == LABELS
        assert row.label == (None if other.label == "none of these" else other.label)
    assert {row.reason for row in rows} == {None, "out_of_scope"}


@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
def test_a_server_may_choose_the_option(tgi_server: Callable[..., TGIServer], tmp_path: Path, method: str) -> None:
    """Whatever the method, and from a ledger as from the server; there is one warning for a batch."""
    engine = ScriptedEngine(when_contains({"senate": " politics", "atom": " science"}, default=" other"))
    llm = TextGenerationInference(base_url=tgi_server("3.3.7", engine).url)
    task = ZeroShotClassifier(["politics", "science"], llm=llm, method=method, out_of_scope="other")
    texts = ["the senate", "a soup", "an atom", "a cake"]
    with pytest.warns(OutOfScopeWarning, match=r"2 of 4 texts .* \(rows 1, 3\)") as caught:
        rows = task.with_details().batch(texts)
    assert len(caught) == 1
    assert [row.label for row in rows] == ["politics", None, "science", None]
    assert [row.reason for row in rows] == [None, "out_of_scope", None, "out_of_scope"]
    for _ in range(2):
        with Ledger(tmp_path / "run.sqlite") as ledger, pytest.warns(OutOfScopeWarning):
            kept = list(task.stream_rows(texts, ledger=ledger, in_order=True))
        assert [(row.reason, row.out_of_scope) for row in kept] == [(row.reason, row.out_of_scope) for row in rows]
