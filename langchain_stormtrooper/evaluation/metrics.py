"""The arithmetic of an evaluation: from known labels and answers to numbers.

Pure, and without I/O. Labels are positions here. A text that is known to have no label has the position behind the last
label, and so has a row that was left without one; a row that could not be answered has the position behind that.
What scikit-learn has is taken from it; it is imported inside functions, since it is an extra. `report` is the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_stormtrooper.calibration.metrics import brier_score as brier_score
from langchain_stormtrooper.calibration.metrics import expected_calibration_error as expected_calibration_error
from langchain_stormtrooper.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 10
"""Bins of a confidence, for the calibration error."""

_DRAWS_AT_ONCE = 64
"""Resamples held in memory together: with 150 labels each takes 180 kB."""


class Bin(NamedTuple):
    """Rows whose confidence lies between two bounds; the lower one belongs to the bin, and 1 to the last."""

    lower: float
    upper: float
    rows: int
    confidence: float
    accuracy: float


class Point(NamedTuple):
    """What deciding only rows of at least some confidence would give."""

    confidence: float
    coverage: float
    error: float


class Scores(NamedTuple):
    """One label's scores; None where nothing defines them."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


def require_sklearn() -> Any:
    """scikit-learn's metrics.

    Raises:
        MissingExtraError: They are not installed.
    """
    try:
        import sklearn.metrics
    except ImportError:
        raise MissingExtraError("evaluate()", "sklearn") from None
    return sklearn.metrics


def confidence_bins(confidences: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Rows in equal-width bins of their confidence; empty bins are left out.

    Args:
        confidences: The confidence of each row, in [0, 1].
        correct: Whether each row's label is right.
        bins: How many bins there are.
    """
    members: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in zip(confidences, correct, strict=True):
        members.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, right))
    filled: list[Bin] = []
    for number, rows in sorted(members.items()):
        mean = sum(confidence for confidence, _ in rows) / len(rows)
        accuracy = sum(right for _, right in rows) / len(rows)
        filled.append(Bin(number / bins, (number + 1) / bins, len(rows), mean, accuracy))
    return filled


def risk_coverage(confidences: Sequence[float], correct: Sequence[bool], rows: int) -> list[Point]:
    """Error and coverage at every threshold, from the most confident rows to all decided ones.

    Rows of equal confidence cannot be told apart by a threshold, so they come together.

    Args:
        confidences: The confidence of each decided row.
        correct: Whether each of them is right.
        rows: How many rows there are, decided or not.
    """
    ranked = sorted(zip(confidences, correct, strict=True), reverse=True)
    points: list[Point] = []
    taken = wrong = 0
    for confidence, group in groupby(ranked, key=lambda row: row[0]):
        members = [right for _, right in group]
        taken += len(members)
        wrong += len(members) - sum(members)
        points.append(Point(confidence, taken / rows, wrong / taken))
    return points


def area_under(points: Sequence[Point]) -> float:
    """The mean error along a risk–coverage curve.

    Each row counts with the error of the threshold that just lets it in. Where every row is decided and no two have
    the same confidence, this is the usual area under the curve; else it is divided by the largest coverage, so that
    leaving rows without a label does not make a curve look better.
    """
    coverages = [0.0, *(point.coverage for point in points)]
    steps = [high - low for low, high in pairwise(coverages)]
    area = sum(step * point.error for step, point in zip(steps, points, strict=True))
    return min(1.0, area / coverages[-1])


def share_decided(points: Sequence[Point], error: float) -> float:
    """The largest coverage on a risk–coverage curve whose error is at most this; 0 if there is none."""
    return max((point.coverage for point in points if point.error <= error), default=0.0)


def confusion_counts(known: Sequence[int], answers: Sequence[int], labels: int) -> list[list[int]]:
    """How often each label (a row) was answered with each label or, in the column behind, with none.

    A row for texts without a label, and a column for rows that could not be answered, are there where there are some.
    """
    counts = require_sklearn().confusion_matrix(known, answers, labels=range(labels + 2))
    rows, columns = labels + (labels in known), labels + 1 + (labels + 1 in answers)
    return [[int(count) for count in row[:columns]] for row in counts[:rows]]


def class_scores(known: Sequence[int], answers: Sequence[int], labels: int) -> list[Scores]:
    """Precision, recall and F1 of every label."""
    nan = float("nan")
    columns = require_sklearn().precision_recall_fscore_support(
        known, answers, labels=range(labels), average=None, zero_division=nan
    )
    return [
        Scores(_defined(precision), _defined(recall), _defined(f1), int(support))
        for precision, recall, f1, support in zip(*columns, strict=True)
    ]


def _defined(value: Any) -> float | None:
    return None if value != value else float(value)  # NaN is what differs from itself


def accuracy(known: Sequence[int], answers: Sequence[int]) -> float:
    """The share of right answers."""
    return float(require_sklearn().accuracy_score(known, answers))


def macro_f1(known: Sequence[int], answers: Sequence[int], labels: int) -> float:
    """The mean F1 of the labels that occur, among the known ones or the answers; 1 where none does."""
    nan = float("nan")
    scorer = require_sklearn().f1_score
    mean = _defined(scorer(known, answers, labels=range(labels), average="macro", zero_division=nan))
    return 1.0 if mean is None else mean


def bootstrap_intervals(
    confusion: Sequence[Sequence[int]], draws: int, seed: int, *, labels: int | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % percentile intervals of accuracy and macro-F1 over resamples of the rows.

    Both depend on the confusion matrix alone, so a resample of the rows is a multinomial draw of its cells: the same
    distribution, without going through the rows again.

    Args:
        confusion: As `confusion_counts` gives it.
        draws: How many resamples.
        seed: The same seed gives the same intervals.
        labels: How many labels there are; None for as many as the matrix has rows.
    """
    import numpy as np

    accuracies: list[NDArray[np.float64]] = []
    f1s: list[NDArray[np.float64]] = []
    for resampled in _resample(np.array(confusion), draws, np.random.default_rng(seed)):
        accuracies.append(np.trace(resampled, axis1=1, axis2=2) / resampled.sum(axis=(1, 2)))
        f1s.append(_macro_f1s(resampled, len(confusion) if labels is None else labels))
    return _middle(np.concatenate(accuracies)), _middle(np.concatenate(f1s))


def _resample(counts: NDArray[np.int64], draws: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    rows = int(counts.sum())
    filled = counts.nonzero()
    shares = counts[filled] / rows
    for start in range(0, draws, _DRAWS_AT_ONCE):
        some = min(_DRAWS_AT_ONCE, draws - start)
        resampled = counts[None].repeat(some, axis=0)
        resampled[:, filled[0], filled[1]] = generator.multinomial(rows, shares, size=some)
        yield resampled


def _macro_f1s(confusions: NDArray[np.int64], labels: int) -> NDArray[np.float64]:
    """Macro-F1 of many confusion matrices."""
    import numpy as np

    right = confusions.diagonal(axis1=1, axis2=2)[:, :labels]
    occurrences = confusions[:, :labels].sum(axis=2) + confusions[:, :, :labels].sum(axis=1)
    # The F1 of a label is twice its right answers over all its occurrences, known and answered.
    f1 = 2 * right / np.maximum(occurrences, 1)
    occurring = (occurrences > 0).sum(axis=1)
    means: NDArray[np.float64] = np.where(occurring > 0, f1.sum(axis=1) / np.maximum(occurring, 1), 1.0)
    return means


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
