"""`Demands`: what an answer must have to count, and the reason if it does not.

Pure; `score` and `constrain` ask it about every row.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from langchain_stormtrooper.calibration import Threshold
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Reason


@dataclass(frozen=True, slots=True)
class Demands:
    """What an answer must have to count; None for what is not asked for.

    Attributes:
        confidence: Probability of the best label.
        margin: By how much it must be ahead of the second.
        covered_mass: Share of the model's probability that fell on the labels.
    """

    confidence: float | None = None
    margin: float | None = None
    covered_mass: float | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return (self.confidence, self.margin, self.covered_mass) != (None, None, None)

    def with_threshold(self, threshold: Threshold | None) -> Demands:
        """These demands and those of a threshold that was found with labelled texts."""
        if threshold is None:
            return self
        return Demands(max(self.confidence or 0.0, threshold.min_confidence), self.margin, self.covered_mass)

    def refusal(
        self, confidence: float | None, probabilities: Collection[float] | None, covered_mass: float | None
    ) -> Reason | None:
        """Why an answer does not count; None if it does.

        Args:
            confidence: Probability of the best label; None if it is not known.
            probabilities: Probabilities of all labels; None if they are not known.
            covered_mass: Share of the model's probability that fell on the labels; None if it is not known.

        Raises:
            ConfigurationError: What is asked for is not known.
        """
        if self.covered_mass is not None:
            if covered_mass is None:
                raise _unknown(
                    "min_covered_mass", "how much of its probability falls beside the labels", "scoring='raw' on TGI"
                )
            if covered_mass < self.covered_mass:
                return Reason.UNMATCHED
        if self.margin is not None:
            if probabilities is None:
                raise _unknown("min_margin", "the probability of every label", "method='score'")
            best, second = heapq.nlargest(2, probabilities)
            if best - second < self.margin:
                return Reason.LOW_CONFIDENCE
        if self.confidence is not None:
            if confidence is None:
                raise _unknown("min_confidence", "the probability of its answer", "method='score'")
            if confidence < self.confidence:
                return Reason.LOW_CONFIDENCE
        return None


def _unknown(setting: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"`{setting}=` needs to know {what}, which this LLM does not tell: use {remedy}.")
