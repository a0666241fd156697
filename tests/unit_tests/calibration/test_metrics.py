"""ECE and Brier score against slow references and scikit-learn."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from langchain_stormtrooper.calibration import brier_score, expected_calibration_error
from langchain_stormtrooper.errors import ConfigurationError

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def slow_ece(pairs: list[tuple[float, bool]], bins: int) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for number in range(bins):
        inside = [
            (confidence, right)
            for confidence, right in pairs
            if math.floor(confidence * bins) == number or (number == bins - 1 and confidence == 1)
        ]
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += abs(mean - accuracy) * len(inside) / len(pairs)
    return total


@given(PAIRS, st.integers(1, 20))
def test_ece_is_its_definition(pairs: list[tuple[float, bool]], bins: int) -> None:
    """The fast sum equals the weighted mean of the bins' gaps."""
    confidences, correct = zip(*pairs, strict=True)
    assert expected_calibration_error(confidences, correct, bins) == pytest.approx(slow_ece(pairs, bins), abs=1e-12)


def test_ece_of_known_cases() -> None:
    """Certainty that is always wrong has 1, half-sure coin tosses 0, and borders belong to the upper bin."""
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1
    assert expected_calibration_error([0.5, 0.5], [True, False]) == 0
    assert expected_calibration_error([0.5, 0.45], [True, False]) == pytest.approx(0.475)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_brier_of_two_labels_is_twice_the_binary_one(rows: list[tuple[float, int]]) -> None:
    """scikit-learn's binary score looks at one of the two labels."""
    labels = [label for _, label in rows]
    ours = brier_score([[1 - p, p] for p, _ in rows], labels)
    binary = brier_score_loss(labels, [p for p, _ in rows], labels=[0, 1], pos_label=1)
    assert ours == pytest.approx(2 * binary, abs=1e-12)


def test_brier_of_many_labels() -> None:
    """Even probabilities get 1 − 1/K, the truth 0, certainty of a wrong label 2."""
    assert brier_score([[0.25] * 4] * 3, [0, 1, 3]) == pytest.approx(0.75)
    assert brier_score([[0.0, 1.0, 0.0]], [1]) == 0
    assert brier_score([[0.0, 1.0, 0.0]], [2]) == 2


def test_probabilities_from_the_truth_are_calibrated() -> None:
    """With many texts, outcomes drawn from the stated confidences show next to no calibration error."""
    generator = random.Random(0)
    confidences = [generator.random() for _ in range(20_000)]
    correct = [generator.random() < confidence for confidence in confidences]
    assert expected_calibration_error(confidences, correct) < 0.02
    assert expected_calibration_error([c**3 for c in confidences], correct) > 0.2


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan])
def test_confidences_are_probabilities(confidence: float) -> None:
    """A number that is no probability is refused."""
    with pytest.raises(ConfigurationError, match="0 to 1"):
        expected_calibration_error([confidence], [True])


def test_nothing_and_unequal_lengths_are_refused() -> None:
    """There is no mean over no texts, and pairs are pairs."""
    with pytest.raises(ConfigurationError, match="no texts"):
        expected_calibration_error([], [])
    with pytest.raises(ConfigurationError, match="1 answers and 2 truths"):
        brier_score([[0.5, 0.5]], [0, 1])
