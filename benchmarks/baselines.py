"""What a small embedding model makes of the same texts: the baseline that an LLM has to beat.

all-MiniLM-L6-v2 is that of the tests, 84 MB to fetch, so that benchmarks with it want PYTHONPATH=tests/unit_tests.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from minilm import MiniLM, fetch
from sklearn.linear_model import LogisticRegression
from typing_extensions import override

AT_ONCE = 32


def mini_lm() -> Embedded:
    """The embedding model."""
    with tempfile.TemporaryDirectory() as folder:
        return Embedded(MiniLM(fetch(Path(folder))))


class Embedded(Embeddings):
    """Embeds texts once and remembers the vectors, of length 1.

    Args:
        model: The embedding model.

    """

    def __init__(self, model: MiniLM) -> None:
        self._model = model
        self._known: dict[str, list[float]] = {}
        self._spent = 0.0

    @property
    def seconds_a_text(self) -> float:
        """CPU seconds that a text took, on average."""
        return self._spent / len(self._known)

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        new = sorted((text for text in dict.fromkeys(texts) if text not in self._known), key=len)
        started = time.process_time()
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            vectors = np.array(self._model.embed_documents(part))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            self._known.update(zip(part, vectors.tolist(), strict=True))
        self._spent += time.process_time() - started
        return [self._known[text] for text in texts]

    @override
    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def __call__(self, texts: Sequence[str]) -> Any:
        """The vectors, (texts, dimensions)."""
        return np.array(self.embed_documents([*texts]))

    def by_label_sentences(self, labels: Sequence[str], texts: Sequence[str]) -> list[str]:
        """The label whose sentence is nearest by cosine: no labelled texts are wanted."""
        sentences = self([f"This text is about {label}." for label in labels])
        return [labels[index] for index in (self(texts) @ sentences.T).argmax(axis=1)]

    def by_regression(self, known: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[str]:
        """What a logistic regression says that was fitted to the labelled texts' vectors."""
        return self.by_regression_with_confidence(known, texts)[0]

    def by_regression_with_confidence(
        self, known: Sequence[tuple[str, str]], texts: Sequence[str]
    ) -> tuple[list[str], list[float]]:
        """The same, and how probable each answer is to it."""
        model = LogisticRegression(C=10, max_iter=1000)
        model.fit(self([text for text, _ in known]), [label for _, label in known])
        probabilities = model.predict_proba(self(texts))
        return [str(model.classes_[index]) for index in probabilities.argmax(axis=1)], probabilities.max(
            axis=1
        ).tolist()


def right(answers: Sequence[str | None], truths: Sequence[str | None]) -> str:
    """For each text whether it was answered rightly, as a row of 1 and 0."""
    return "".join(str(int(answer == truth)) for answer, truth in zip(answers, truths, strict=True))


def accuracy(marks: str) -> float:
    """The share of what is right."""
    return marks.count("1") / len(marks)


def interval(marks: str, other: str | None = None, *, seed: int = 0, resamples: int = 10_000) -> list[float]:
    """A 95 % bootstrap interval over texts of the accuracy, or of by how much it is above that of another, paired."""
    values = np.array([int(mark) for mark in marks], float)
    if other is not None:
        values -= np.array([int(mark) for mark in other], float)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return [float(end) for end in np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])]
