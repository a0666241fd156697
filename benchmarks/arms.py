"""The ways that a benchmark compares on the same texts: their answers, how often they are right, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from baselines import accuracy, interval, right
from kept import RememberingLlamaCpp

from langchain_stormtrooper import Classification
from langchain_stormtrooper.text_classifier import TextClassifier


class Arms:
    """The figures of each way, by its name.

    Args:
        about: What the texts are, for the lines that are printed.
        texts: The texts.
        truths: Their labels.
        llm: The LLM of all classifiers.
        counts: Whether a text with that label counts for the accuracy; all do by default.

    Attributes:
        figures: What is known of each way.
        marks: Which texts each way answered rightly, as a row of 1 and 0.
    """

    def __init__(
        self,
        about: str,
        texts: Sequence[str],
        truths: Sequence[str],
        llm: RememberingLlamaCpp,
        counts: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._about, self._texts, self._truths, self._llm = about, [*texts], truths, llm
        self._counted = [counts(truth) for truth in truths]
        self.figures: dict[str, dict[str, Any]] = {}
        self.marks: dict[str, str] = {}

    def take(self, name: str, answers: Sequence[str | None], **figures: Any) -> None:
        """Note answers."""
        self.marks[name] = right([*compress(answers, self._counted)], [*compress(self._truths, self._counted)])
        self.figures[name] = {"accuracy": accuracy(self.marks[name]), "interval": interval(self.marks[name]), **figures}
        print(self._about, name, self.figures[name], flush=True)

    def ask(self, name: str, classifier: TextClassifier, *, seconds: float = 0.0) -> list[Classification]:
        """Note what a classifier answers and takes, and so many further seconds a row."""
        self._llm.spent()
        answers = classifier.with_details().batch(self._texts)
        self._llm.keep()
        self.take(
            name,
            [answer.label for answer in answers],
            prompt_tokens_per_row=sum(answer.prompt_tokens or 0 for answer in answers) / len(answers),
            n_examples_per_row=sum(answer.n_examples or 0 for answer in answers) / len(answers),
            cpu_seconds_per_row=self._llm.spent() / len(answers) + seconds,
        )
        return answers

    def compare_with_zero_shot(self, plain: str) -> None:
        """Note by how much each way is above the zero-shot one of that name, on the same texts."""
        for name, figures in self.figures.items():
            figures["above_zero_shot"] = figures["accuracy"] - self.figures[plain]["accuracy"]
            figures["above_zero_shot_interval"] = interval(self.marks[name], self.marks[plain])
