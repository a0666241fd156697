"""Tuning with a real model and real texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_stormtrooper import Ledger, LlamaCpp, tune

DATA = Path(__file__).parent.parent / "data" / "snips.jsonl"
LABELS = ["book restaurant", "get weather", "rate book"]


def test_the_embedded_model_on_two_dozen_commands(tmp_path: Path) -> None:
    """What is chosen is better than chance; the same search again asks nothing of a ledger and finds the same."""
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    chosen = [row for label in LABELS for row in [row for row in rows if row["label"] == label][:8]]
    texts, truths = [row["text"] for row in chosen], [row["label"] for row in chosen]
    settings: dict[str, Any] = {
        "llm": LlamaCpp(n_threads=1),
        "text_kind": "command",
        "label_kind": "intent",
        "prompt": "kinds",
    }
    with Ledger(tmp_path / "search.sqlite") as ledger:
        tuned = tune(texts, truths, n_examples=[0, 1], ledger=ledger, **settings)
        kept = len(ledger)
        again = tune(texts, truths, n_examples=[0, 1], ledger=ledger, **settings)
        assert kept == len(ledger) == tuned.evidence.answered == 42
    assert again.evidence == tuned.evidence
    bare, few = tuned.evidence.candidates
    assert (bare.examples, few.examples, tuned.evidence.texts) == (0, 3, 21)
    assert few.prompt_tokens is not None
    assert bare.prompt_tokens is not None
    assert few.prompt_tokens > bare.prompt_tokens
    assert few.right - bare.right == (few.better - few.worse) - (bare.better - bare.worse)
    assert tuned.evidence.best.accuracy >= 0.5
    assert tuned.classifier.invoke("will it rain in Paris tomorrow") in LABELS
