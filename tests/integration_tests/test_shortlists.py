"""A shortlist of labels with the embedded model and with a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import FewShotClassifier, LlamaCpp, Shortlist, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.testing import TGIServer

LABELS = {
    "play music": "songs, albums and artists",
    "get weather": "rain, snow, heat and forecasts",
    "book restaurant": "a table for dinner",
    "set alarm": "wake me at a time",
    "rate book": "stars for a novel",
    "find film": "movies and when they are shown",
}
POOL = [
    ("play some jazz", "play music"),
    ("will it rain in Oslo", "get weather"),
    ("a table for two", "book restaurant"),
]
TEXTS = {"play the new album by Adele": "play music", "is it going to snow, will it rain": "get weather"}


def test_the_embedded_model_is_asked_about_a_shortlist() -> None:
    """Rows get the label of a shortlist of their own; over all labels, restricted, the probabilities are the same."""
    llm = LlamaCpp(n_ctx=1024)
    kinds: dict[str, Any] = {"text_kind": "command", "label_kind": "intent", "llm": llm, "prompt": "kinds"}
    short = FewShotClassifier(LABELS, POOL, shortlist=3, select="bm25", **kinds)
    rows = short.with_details().batch(list(TEXTS))
    assert [row.label for row in rows] == list(TEXTS.values())
    assert all(len(row.shortlist or ()) == 3 for row in rows)
    # Names alone are in no prompt of these kinds: what is asked is the same, of fewer labels.
    plain = ZeroShotClassifier(list(LABELS), **kinds).with_details()
    few = ZeroShotClassifier(list(LABELS), shortlist=Shortlist(size=2, by="fuzzy"), **kinds).with_details()
    for text in TEXTS:
        whole, part = plain.invoke(text).probabilities, few.invoke(text)
        assert whole is not None
        assert part.probabilities is not None
        assert part.shortlist is not None
        mass = sum(whole[name] for name in part.shortlist)
        for name in part.shortlist:
            assert part.probabilities[name] == pytest.approx(whole[name] / mass, rel=0.02)


def test_a_server_is_asked_about_labels_once(tgi_server: Callable[..., TGIServer]) -> None:
    """A server cuts each label into tokens once, in whatever company it is asked about."""
    server = tgi_server("3.3.7")
    llm = TextGenerationInference(base_url=server.url)
    task = ZeroShotClassifier(LABELS, llm=llm, shortlist=2, prior=None, prompt="task")
    texts = [f"{one} {two}" for one in ("music", "weather", "restaurant") for two in ("alarm", "book", "film")]
    assert all(label in LABELS for label in task.batch(texts))
    cut = [request.json["inputs"] for request in server.received if request.path == "/tokenize"]
    ends = [text for text in cut if not any(own in text for own in texts)]
    assert len(ends) == len(set(ends)) > len(LABELS)
