"""How good probabilities are: expected calibration error and Brier score.

Pure Python, small, and the only place where the two are defined: `fitting` reports them before and after, and an
evaluation reports the same figures. Accuracy and F1 are scikit-learn's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from langchain_stormtrooper.errors import ConfigurationError

ECE_BINS = 10
"""Bins of the expected calibration error: equal in width, 0 to .1, .1 to .2, and so on."""


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool | int], bins: int = ECE_BINS
) -> float:
    """How far confidence is from accuracy, on average over the texts.

    Texts are put into bins of equal width by their confidence; a bin's gap is the distance between its mean confidence
    and its accuracy; the result is the mean gap, weighted by the bins' texts (Guo et al. 2017, arXiv 1706.04599). A
    few dozen texts show a gap of some hundredths also for perfect probabilities.

    Args:
        confidences: n probabilities of the chosen labels, each in [0, 1].
        correct: n times whether the chosen label was right.
        bins: How many; a confidence on a border counts to the upper bin, 1 to the last.

    Returns:
        A number in [0, 1]; 0 is best.

    Raises:
        ConfigurationError: There are no texts, lengths differ, or a confidence is outside [0, 1].
    """
    _check_lengths(len(confidences), len(correct))
    if not all(0 <= confidence <= 1 for confidence in confidences):
        raise ConfigurationError("Confidences must be numbers from 0 to 1.")
    gaps = [0.0] * bins
    for confidence, right in zip(confidences, correct, strict=True):
        gaps[min(int(confidence * bins), bins - 1)] += confidence - bool(right)
    return math.fsum(map(abs, gaps)) / len(confidences)


def brier_score(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """The mean squared distance between probabilities and truth (Brier 1950).

    For a text it is the sum over *all* labels of (probability − 1 if it is the true label else 0)²: for two labels
    twice what scikit-learn's binary score gives by default.

    Args:
        probabilities: n rows of K probabilities.
        labels: n indices of the true labels.

    Returns:
        A number in [0, 2]; 0 is best, and 1 − 1/K what even probabilities get.

    Raises:
        ConfigurationError: There are no texts, or lengths differ.
    """
    _check_lengths(len(probabilities), len(labels))
    return math.fsum(
        (probability - (index == label)) ** 2
        for row, label in zip(probabilities, labels, strict=True)
        for index, probability in enumerate(row)
    ) / len(labels)


def _check_lengths(rows: int, truths: int) -> None:
    if rows != truths:
        raise ConfigurationError(f"There are {rows} answers and {truths} truths: pass one for each.")
    if not rows:
        raise ConfigurationError("There are no texts to measure on: pass at least one.")
