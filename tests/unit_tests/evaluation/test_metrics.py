"""The arithmetic of an evaluation against slow references and scikit-learn."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import defaultdict

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.errors import MissingExtraError
from langchain_stormtrooper.evaluation import metrics

LABELS = 4
ROWS = st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS)), min_size=1, max_size=40)
"""Known labels and answers; the largest answer is none."""

CONFIDENCE = st.one_of(st.floats(0, 1), st.integers(0, 16).map(lambda k: k / 16))
DECIDED = st.lists(st.tuples(CONFIDENCE, st.booleans()), min_size=1, max_size=40)


def _split(rows: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [known for known, _ in rows], [answer for _, answer in rows]


@given(DECIDED, st.sampled_from([1, 2, 4, 16]))
def test_calibration_error_is_that_of_its_definition(rows: list[tuple[float, bool]], bins: int) -> None:
    """Each row is put into its bin by itself, and bins are weighted by their rows."""
    edges = [number / bins for number in range(1, bins + 1)]
    members: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in rows:
        members[min(bisect_right(edges, confidence), bins - 1)].append((confidence, right))
    expected = sum(
        len(group)
        / len(rows)
        * abs(math.fsum(c for c, _ in group) / len(group) - math.fsum(right for _, right in group) / len(group))
        for group in members.values()
    )
    error = metrics.expected_calibration_error([c for c, _ in rows], [right for _, right in rows], bins)
    assert error == pytest.approx(expected, abs=1e-12)
    assert 0 <= error <= 1
    filled = metrics.confidence_bins([c for c, _ in rows], [right for _, right in rows], bins)
    assert [b.rows for b in filled] == [len(members[number]) for number in sorted(members)]


def test_calibration_error_by_hand() -> None:
    """Confidence .9, right half of the time, and .3, never right: (2 · .4 + 1 · .3) / 3."""
    assert metrics.expected_calibration_error([0.9, 0.9, 0.3], [True, False, False]) == pytest.approx(1.1 / 3)


def test_bounds_belong_to_the_upper_bin() -> None:
    """A confidence of .5 is in the bin that begins there, 0 in the first and 1 in the last."""
    filled = metrics.confidence_bins([0.0, 0.5, 1.0], [True] * 3, 2)
    assert [(b.lower, b.upper, b.rows) for b in filled] == [(0, 0.5, 1), (0.5, 1, 2)]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_brier_score_of_two_labels_is_twice_scikit_learns(rows: list[tuple[float, int]]) -> None:
    """scikit-learn counts one of two labels, we count both."""
    probabilities = [[1 - p, p] for p, _ in rows]
    labels = [label for _, label in rows]
    expected = 2 * sklearn.metrics.brier_score_loss(labels, [p for p, _ in rows], pos_label=1)
    assert metrics.brier_score(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_the_brier_score_by_hand() -> None:
    """Three labels: certain and right is 0, certain and wrong 2, a third each 2/3."""
    assert metrics.brier_score([[0, 1, 0]], [1]) == 0
    assert metrics.brier_score([[0, 1, 0]], [2]) == 2
    assert metrics.brier_score([[1 / 3] * 3, [0, 1, 0]], [0, 1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("lengths", [(0, 0), (2, 1)])
def test_scores_of_nothing_or_of_unequal_lengths_are_refused(lengths: tuple[int, int]) -> None:
    """There is no mean of no rows, and a row is not paired with nothing."""
    with pytest.raises(ValueError, match="pass"):
        metrics.brier_score([[0.5, 0.5]] * lengths[0], [0] * lengths[1])
    with pytest.raises(ValueError, match="pass"):
        metrics.expected_calibration_error([0.5] * lengths[0], [True] * lengths[1])


@given(DECIDED, st.integers(0, 10))
def test_the_curve_is_what_each_threshold_gives(rows: list[tuple[float, bool]], undecided: int) -> None:
    """For every confidence that occurs, coverage and error are those of the rows at or above it."""
    total = len(rows) + undecided
    points = metrics.risk_coverage([c for c, _ in rows], [right for _, right in rows], total)
    assert [point.confidence for point in points] == sorted({c for c, _ in rows}, reverse=True)
    for point in points:
        kept = [right for confidence, right in rows if confidence >= point.confidence]
        assert point.coverage == len(kept) / total
        assert point.error == pytest.approx(1 - sum(kept) / len(kept))
    # The area is the mean, over decided rows, of the error at their own confidence.
    errors = {point.confidence: point.error for point in points}
    assert metrics.area_under(points) == pytest.approx(math.fsum(errors[c] for c, _ in rows) / len(rows))
    for limit in (0.0, 0.05, 0.5):
        within = [point.coverage for point in points if point.error <= limit]
        assert metrics.share_decided(points, limit) == (max(within) if within else 0)


def test_a_later_threshold_may_cover_more_with_as_little_error() -> None:
    """One wrong row among the first few does not end the search: 1 of 20 is 5 %."""
    points = metrics.risk_coverage([1 - k / 100 for k in range(21)], [True, False, *[True] * 18, False], 21)
    assert points[1].error == 0.5
    assert metrics.share_decided(points, 0.05) == 20 / 21


@given(ROWS)
def test_class_scores_are_counted(rows: list[tuple[int, int]]) -> None:
    """Precision, recall, F1, confusion and macro-F1 are those that counting rows gives; undefined ones are None."""
    known, answers = _split(rows)
    f1s: list[float] = []
    for label, scores in enumerate(metrics.class_scores(known, answers, LABELS)):
        right = sum(pair == (label, label) for pair in rows)
        support, answered = known.count(label), answers.count(label)
        assert scores.support == support
        assert scores.precision == (pytest.approx(right / answered) if answered else None)
        assert scores.recall == (pytest.approx(right / support) if support else None)
        assert scores.f1 == (pytest.approx(2 * right / (support + answered)) if support + answered else None)
        f1s += [] if scores.f1 is None else [scores.f1]
    confusion = metrics.confusion_counts(known, answers, LABELS)
    assert confusion == [[rows.count((label, answer)) for answer in range(LABELS + 1)] for label in range(LABELS)]
    assert metrics.macro_f1(known, answers, LABELS) == pytest.approx(sum(f1s) / len(f1s))
    assert metrics.accuracy(known, answers) == pytest.approx(sum(a == b for a, b in rows) / len(rows))


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_macro_f1_of_many_matrices_is_scikit_learns_of_each(samples: list[list[tuple[int, int]]]) -> None:
    """What the resamples use gives what scikit-learn gives for the rows behind each matrix."""
    matrices = np.array([metrics.confusion_counts(*_split(rows), LABELS) for rows in samples])
    expected = [metrics.macro_f1(*_split(rows), LABELS) for rows in samples]
    assert metrics._macro_f1s(matrices, LABELS) == pytest.approx(np.array(expected))


def test_intervals_are_those_of_resampled_rows() -> None:
    """Drawing cells gives the percentiles that drawing rows with replacement gives."""
    generator = np.random.default_rng(3)
    known = generator.integers(0, LABELS, 300)
    answers = np.where(generator.random(300) < 0.6, known, generator.integers(0, LABELS + 1, 300))
    accuracies, f1s = [], []
    for _ in range(1500):
        chosen = generator.integers(0, 300, 300)
        accuracies.append(np.mean(known[chosen] == answers[chosen]))
        matrix = np.zeros((1, LABELS, LABELS + 1), dtype=np.int64)
        np.add.at(matrix[0], (known[chosen], answers[chosen]), 1)
        f1s.append(metrics._macro_f1s(matrix, LABELS)[0])
    confusion = metrics.confusion_counts(known.tolist(), answers.tolist(), LABELS)
    intervals = metrics.bootstrap_intervals(confusion, 3000, 0)
    assert intervals[0] == pytest.approx(np.percentile(accuracies, [2.5, 97.5]), abs=0.012)
    assert intervals[1] == pytest.approx(np.percentile(f1s, [2.5, 97.5]), abs=0.012)


def test_intervals_depend_on_the_seed_alone() -> None:
    """The same seed gives the same intervals, another seed others."""
    confusion = [[30, 8, 2], [9, 40, 11]]
    first = metrics.bootstrap_intervals(confusion, 500, 1)
    assert first == metrics.bootstrap_intervals(confusion, 500, 1)
    assert first != metrics.bootstrap_intervals(confusion, 500, 2)
    assert first[0][0] < 70 / 100 < first[0][1]


def test_who_is_always_right_has_no_doubt() -> None:
    """Every resample of right rows is right."""
    assert metrics.bootstrap_intervals([[5, 0, 0], [0, 7, 0]], 50, 0) == ((1, 1), (1, 1))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"evaluate\(\) needs .*'langchain-stormtrooper\[sklearn\]'"):
        metrics.require_sklearn()
