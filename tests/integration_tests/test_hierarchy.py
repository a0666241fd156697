"""A tree of labels on a TGI server: what is asked of it, level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper import (
    HierarchicalClassifier,
    Ledger,
    OverlongInputWarning,
    TextGenerationInference,
)
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
TREE = {"sport": ["football", "tennis"], "politics": ["home", "abroad"], "other": None}
SHARES = {
    "sport": {" sport": 0.5, " politics": 0.4, " other": 0.1},
    "football": {" football": 0.6, " tennis": 0.4},
    "home": {" home": 0.9, " abroad": 0.1},
}
WORDS = ["sport", "politics", "other", "football", "tennis", "home", "abroad"]


def level(prompt: str) -> Mapping[str, float] | str:
    """Which names the prompt lists says where in the tree it is; other prompts ask what the server can do."""
    return next((shares for name, shares in SHARES.items() if name in prompt), " ok")


def start(tgi_server: StartServer, **given: Any) -> TGIServer:
    """A server whose model knows the shares at each node."""
    engine = ScriptedEngine(level, words=WORDS, answer_after="Label:", default=" ok")
    return tgi_server("3.3.7", engine, model_id="acme/tree-1B", **given)


def make(server: TGIServer, **given: Any) -> HierarchicalClassifier:
    """A classifier of a server."""
    llm = TextGenerationInference(base_url=server.url)
    return HierarchicalClassifier(TREE, **{"llm": llm, "method": "score", "prompt": "task", "prior": None, **given})


def test_levels_over_http(tgi_server: StartServer, tmp_path: Path) -> None:
    """Greedy and with a beam, probabilities are the model's along the path; a ledger spares the server a second run."""
    server = start(tgi_server)
    texts = [f"number {number}" for number in range(20)]
    greedy = make(server).with_details().batch(texts)
    assert {row.label for row in greedy} == {"sport/football"}
    assert greedy[0].path == ("sport", "football")
    assert greedy[0].probabilities == pytest.approx(
        {"sport/football": 0.3, "sport/tennis": 0.2, "other": 0.1}, abs=0.01
    )
    wide = make(server, beam=3)
    with Ledger(tmp_path / "run.sqlite") as ledger:
        rows = list(wide.stream_rows(texts, ledger=ledger, in_order=True))
        assert [row.label for row in rows] == ["politics/home"] * 20
        assert rows[0].probabilities == pytest.approx(
            {"sport/football": 0.3, "sport/tennis": 0.2, "politics/home": 0.36, "politics/abroad": 0.04, "other": 0.1},
            abs=0.01,
        )
        before = len(server.received)
        again = list(wide.stream_rows(texts, ledger=ledger, in_order=True))
        assert [(row.label, row.path, row.probabilities) for row in again] == [
            (row.label, row.path, row.probabilities) for row in rows
        ]
        assert len(server.received) == before


def test_a_text_that_is_too_long(tgi_server: StartServer) -> None:
    """It has its reason, or as much of it as fits is decided at each level; its neighbours do not notice."""
    server = start(tgi_server, max_input_tokens=100)
    texts = ["short", "long " * 200]
    with pytest.warns(OverlongInputWarning):
        assert make(server).batch(texts) == ["sport/football", None]
    cut = make(server, on_overlong="truncate").with_details().batch(texts)
    assert [(row.label, row.truncated) for row in cut] == [("sport/football", False), ("sport/football", True)]
