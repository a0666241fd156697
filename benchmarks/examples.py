"""What examples bring and cost: fixed ones, and such as are chosen for each row, with the embedded model on snips.

The embedding model is that of the tests, 84 MB to fetch:

    PYTHONPATH=tests/unit_tests python benchmarks/examples.py --data DIR
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from minilm import MiniLM, fetch
from record import write

from langchain_stormtrooper import FewShotClassifier, LlamaCpp, ZeroShotClassifier
from langchain_stormtrooper.text_classifier import TextClassifier

SEED = 1
PER_LABEL = 12
TASK: dict[str, Any] = {"text_kind": "request", "label_kind": "intent", "prompt": "kinds"}


def load(path: Path) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Labels, all training texts, and as many seeded test texts of each label."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows})
    pairs = {
        split: [(row["text"], row["label"]) for row in rows if row["split"] == split] for split in ("train", "test")
    }
    generator = random.Random(SEED)  # noqa: S311  # a sample
    generator.shuffle(pairs["test"])
    test = [pair for label in labels for pair in [p for p in pairs["test"] if p[1] == label][:PER_LABEL]]
    generator.shuffle(test)
    return labels, pairs["train"], test


def measure(name: str, classifier: TextClassifier, test: list[tuple[str, str]]) -> dict[str, Any]:
    """One line of the results; learning the prior and embedding the examples are not counted."""
    classifier.invoke("warm it up please")
    started = time.process_time()
    answers = classifier.with_details().batch([text for text, _ in test])
    seconds = time.process_time() - started
    line = {
        "examples": name,
        "accuracy": round(sum(a.label == label for a, (_, label) in zip(answers, test, strict=True)) / len(test), 3),
        "prompt_tokens": round(sum(answer.prompt_tokens or 0 for answer in answers) / len(test)),
        "n_examples": round(sum(answer.n_examples or 0 for answer in answers) / len(test), 1),
        "cpu_seconds_per_row": round(seconds / len(test), 3),
    }
    print(line, flush=True)
    return line


def main() -> None:
    """Measure all ways and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with snips.jsonl")
    labels, train, test = load(parser.parse_args().data / "snips.jsonl")
    settings = {**TASK, "llm": LlamaCpp(n_threads=1, n_parallel=1)}
    with tempfile.TemporaryDirectory() as folder:
        embeddings = MiniLM(fetch(Path(folder)))

    def few(**choice: Any) -> FewShotClassifier:
        return FewShotClassifier(labels, train, **settings, **choice)

    ways: dict[str, TextClassifier] = {
        "none": ZeroShotClassifier(labels, **settings),
        "fixed, one an intent": few(n_examples=7),
        "fixed, two an intent": few(n_examples=14),
        'four nearest, `"bm25"`': few(select="bm25", n_examples=4),
        "four nearest, all-MiniLM-L6-v2": few(select=embeddings, n_examples=4),
        'eight nearest, `"bm25"`': few(select="bm25"),
        "eight nearest, all-MiniLM-L6-v2": few(select=embeddings),
    }
    lines = [measure(name, classifier, test) for name, classifier in ways.items()]
    write("examples", lines, seed=SEED, texts=len(test), pool=len(train), n_threads=1)


if __name__ == "__main__":
    main()
