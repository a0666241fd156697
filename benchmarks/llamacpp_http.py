"""The same 200 snips texts over llama.cpp's HTTP server and in process: labels and probabilities side by side.

Both sides run the embedded model, each on an engine of its own (they differ in `n_ctx`, so that none is shared): one is
asked in the process, the other as any server is, at its address with its key. Two minutes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from record import takes_no_arguments, write

from langchain_stormtrooper import Classification, LlamaCpp, OpenAICompletions, ZeroShotClassifier, bridge
from langchain_stormtrooper.llms.base import SelfHostedLLM

SNIPS = Path(__file__).parent.parent / "tests" / "data" / "snips.jsonl"
TEXTS = 200
N_CTX = {"process": 2048, "http": 1024}


def load() -> tuple[list[str], list[str]]:
    """Labels, and the first test texts."""
    rows = [json.loads(line) for line in SNIPS.read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows if row["split"] == "test"]
    return sorted({row["label"] for row in rows}), texts[:TEXTS]


def ask(llm: SelfHostedLLM, labels: list[str], texts: list[str]) -> tuple[list[Classification], float]:
    """Answers with details, and the seconds they took."""
    classifier = ZeroShotClassifier(labels, llm=llm, prompt="kinds", text_kind="command", label_kind="intent")
    classifier.invoke("warm up")
    started = time.perf_counter()
    answers = classifier.with_details().batch(texts)
    return answers, time.perf_counter() - started


def compare(one: list[Classification], other: list[Classification]) -> dict[str, Any]:
    """How far two lists of answers are apart."""
    differences = []
    for left, right in zip(one, other, strict=True):
        assert left.probabilities
        assert right.probabilities
        differences += [abs(left.probabilities[label] - right.probabilities[label]) for label in left.probabilities]
    return {
        "same_labels": sum(left.label == right.label for left, right in zip(one, other, strict=True)),
        "probabilities": len(differences),
        "largest_difference": max(differences),
    }


def main() -> None:
    """Run and record."""
    takes_no_arguments(__doc__)
    labels, texts = load()
    process = LlamaCpp(n_threads=1, n_ctx=N_CTX["process"])
    served = LlamaCpp(n_threads=1, n_ctx=N_CTX["http"])
    engine = bridge.run(served._arunning).engine
    http = OpenAICompletions(base_url=f"{engine.base_url}/v1", api_key=engine.key, max_concurrency=2)
    assert bridge.run(process._arunning).engine is not engine
    inside, inside_seconds = ask(process, labels, texts)
    outside, outside_seconds = ask(http, labels, texts)
    figures = {
        "texts": len(texts),
        "labels": len(labels),
        **compare(inside, outside),
        "process_seconds": round(inside_seconds, 1),
        "http_seconds": round(outside_seconds, 1),
    }
    print(figures)
    write("llamacpp_http", figures, n_ctx=N_CTX, n_threads=1)


if __name__ == "__main__":
    main()
