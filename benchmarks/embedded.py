"""Accuracy and seconds per text of the embedded model: per prompt and method, with and without the words prior."""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from record import write

from langchain_stormtrooper import FewShotClassifier, LlamaCpp, ZeroShotClassifier

SEED = 0
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Case:
    """One line of the results."""

    data: str
    texts: int
    per_label: int
    prompt: Any = None
    method: Literal["score", "generate"] = "score"
    prior: Literal["words"] | None = "words"
    text_kind: str = "text"
    label_kind: str = "label"


SIB: dict[str, Any] = {"text_kind": "sentence", "label_kind": "topic"}
CASES = [
    Case("snips", 200, 3),
    Case("snips", 200, 3, prior=None),
    Case("snips", 200, 3, prompt="task"),
    Case("snips", 200, 3, prompt="task", method="generate"),
    Case("snips", 700, 3),
    Case("snips", 200, 0, text_kind="command", label_kind="intent"),
    Case("sib200_en", 204, 0, **SIB),
    Case("sib200_en", 204, 0, prior=None, **SIB),
    Case("sib200_en", 204, 0, prompt="task", **SIB),
    Case("sib200_en", 204, 0, prompt="chat", **SIB),
    Case("sib200_en", 204, 0, prompt="stable-beluga", method="generate", **SIB),
]


def load(path: Path, texts: int, per_label: int) -> tuple[list[str], Rows, Rows]:
    """Labels, the first examples of each label, and seeded test texts."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows})
    train = [(row["text"], row["label"]) for row in rows if row["split"] == "train"]
    test = [(row["text"], row["label"]) for row in rows if row["split"] == "test"]
    random.Random(SEED).shuffle(test)  # noqa: S311  # a sample
    examples = [pair for label in labels for pair in [p for p in train if p[1] == label][:per_label]]
    return labels, examples, test[:texts]


def measure(case: Case, data: Path, llm: LlamaCpp) -> dict[str, Any]:
    """One line of the results."""
    labels, examples, test = load(data / f"{case.data}.jsonl", case.texts, case.per_label)
    settings: dict[str, Any] = {
        "llm": llm,
        "prompt": case.prompt,
        "method": case.method,
        "prior": case.prior,
        "text_kind": case.text_kind,
        "label_kind": case.label_kind,
    }
    classifier = FewShotClassifier(labels, examples, **settings) if examples else ZeroShotClassifier(labels, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows without a label are counted below
        classifier.invoke("warm up")
        started = time.perf_counter()
        answers: Sequence[str | None] = classifier.batch([text for text, _ in test])
        seconds = time.perf_counter() - started
    right = sum(answer == label for answer, (_, label) in zip(answers, test, strict=True))
    line = {
        "data": case.data,
        "texts": len(test),
        "labels": len(labels),
        "examples_per_label": case.per_label,
        "prompt": case.prompt or "kinds",
        "text_kind": case.text_kind,
        "label_kind": case.label_kind,
        "method": case.method,
        "prior": case.prior if case.method == "score" else None,
        "accuracy": round(right / len(test), 3),
        "without_label": sum(answer is None for answer in answers),
        "seconds_per_text": round(seconds / len(test), 3),
    }
    print(line, flush=True)
    return line


def main() -> None:
    """Run all cases and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with snips.jsonl and sib200_en.jsonl")
    data = parser.parse_args().data
    llm = LlamaCpp(n_threads=1)
    write("embedded", [measure(case, data, llm) for case in CASES], seed=SEED, n_threads=1)


if __name__ == "__main__":
    main()
