"""`Evaluation`: how good a classifier is on labelled texts, as an object, as JSON and as a table.

Made from the answers by `summarize`; holds labels and numbers and no text. Asking the classifier is `running`'s
business, arithmetic is `metrics`', drawing is `plots`' and `table`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from rich.console import RenderableType

from langchain_stormtrooper.evaluation import metrics
from langchain_stormtrooper.evaluation.metrics import Bin, Point
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.saving import Frozen, Saved

ACCEPTED_ERROR = 0.05
"""The error up to which rows count as decided safely."""

_UNANSWERED = (Reason.FAILED, Reason.OVERLONG)

Share = Annotated[float, Field(ge=0, le=1)]


class ClassReport(Frozen):
    """The scores of one label.

    Attributes:
        label: The label.
        precision: Share of its answers that are right; None if it was never answered.
        recall: Share of its rows that were answered right; None if no row has it.
        f1: The harmonic mean of both; None if it does not occur at all.
        support: How many rows have it.
    """

    label: str
    precision: Share | None
    recall: Share | None
    f1: Share | None
    support: int = Field(ge=0)


class ReliabilityBin(Frozen):
    """Rows whose confidence lies between two bounds.

    Attributes:
        lower: The lower bound, inside.
        upper: The upper bound, outside (but for 1).
        rows: How many rows; bins without any are left out.
        confidence: Their mean confidence.
        accuracy: The share of them that is right.
    """

    lower: Share
    upper: Share
    rows: int = Field(ge=1)
    confidence: Share
    accuracy: Share


class CurvePoint(Frozen):
    """What deciding only rows of at least some confidence would give.

    Attributes:
        confidence: The least confidence.
        coverage: The share of all rows that would be decided.
        error: The share of these that would be wrong.
    """

    confidence: Share
    coverage: Share
    error: Share


class RiskCoverage(Frozen):
    """Error over coverage, as the least confidence goes down.

    Attributes:
        points: One per confidence that occurs, the highest first.
        area: The mean error along the curve; smaller is better.
    """

    points: tuple[CurvePoint, ...] = Field(min_length=1)
    area: Share


class OutOfScopeReport(Frozen):
    """How well texts that none of the labels fits were told from the others: by leaving them without a label.

    Rows that could not be answered (failed, overlong) are not told to be anything.

    Attributes:
        precision: Share of the rows left without a label that are such texts; None if none was left.
        recall: Share of such texts that were left without a label.
        f1: The harmonic mean of both.
        support: How many such texts there are.
    """

    precision: Share | None
    recall: Share
    f1: Share
    support: int = Field(ge=1)


class Evaluation(Saved):
    """How good a classifier is on labelled texts. Holds no text.

    Where a classifier gives no confidence, what depends on it is None. Rows without a label are wrong, but for those of
    texts that are known to have none, which are right without one unless they could not be answered (failed, overlong).

    Attributes:
        rows: How many rows there are.
        labels: The labels, in the classifier's order.
        accuracy: Share of right rows.
        accuracy_interval: Its 95 % bootstrap interval; None without resamples.
        decided: Share of rows that have a label.
        accuracy_of_decided: Share of these that are right; None if there are none.
        reasons: How many rows have no label, by reason.
        methods: How many rows were answered by which method.
        macro_f1: Mean F1 of the labels that occur, among the known ones or the answers; 1 where none does.
        macro_f1_interval: Its 95 % bootstrap interval; None without resamples.
        classes: The scores of every label.
        out_of_scope: How well texts known to have no label were told; None if there are none.
        confusion: For every known label (a row), how often each label was answered, and at the end of the row how
            often none. Texts known to have no label, if there are any, are a row at the end.
        ece: Expected calibration error: the mean distance between confidence and accuracy, in ten bins.
        brier: Brier score: the mean squared distance between probabilities and truth, from 0 to 2; None where a row has
            probabilities of some labels only.
        reliability: The bins of `ece`.
        risk_coverage: Error over coverage as the least confidence goes down; rows without a label are never covered.
        decided_safely: The largest coverage on that curve with at most 5 % error.
        flip_rates: For rotations of the labels by 1, 2, … positions: the share of rows with another answer than before.
            Rows whose request failed are not compared; None if none is left.
        flip_rate: The mean of these; None without rotations.
        prompt_tokens: Mean tokens of a row's prompt; None if the model does not tell.
        generated_tokens: Mean tokens generated for a row; None if the model does not tell.
        seconds: Wall-clock seconds per row, of the batch as a whole and without getting the model ready.
    """

    rows: int = Field(ge=1)
    labels: tuple[str, ...]
    accuracy: Share
    accuracy_interval: tuple[Share, Share] | None
    decided: Share
    accuracy_of_decided: Share | None
    reasons: dict[Reason, int]
    methods: dict[Method, int]
    macro_f1: Share
    macro_f1_interval: tuple[Share, Share] | None
    classes: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: Share | None
    brier: Annotated[float, Field(ge=0, le=2 + 1e-9)] | None
    reliability: tuple[ReliabilityBin, ...] | None
    risk_coverage: RiskCoverage | None
    decided_safely: Share | None
    flip_rates: tuple[Share | None, ...]
    flip_rate: Share | None
    prompt_tokens: float | None
    generated_tokens: float | None
    seconds: float = Field(ge=0)
    out_of_scope: OutOfScopeReport | None = None

    def __rich__(self) -> RenderableType:
        """A table for `rich.print` and the command line."""
        from langchain_stormtrooper.evaluation.table import render

        return render(self)


def summarize(
    labels: Sequence[str],
    known: Sequence[str | None],
    answers: Sequence[Classification],
    *,
    seconds: float,
    rotated: Sequence[Sequence[Classification]] = (),
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Compare answers with known labels.

    Args:
        labels: The labels of the classifier.
        known: The right label of each row, one of them, or None.
        answers: What the classifier said to each row.
        seconds: How long all rows took together.
        rotated: What it said to the same rows with the labels rotated by 1, 2, … positions.
        bootstrap: Resamples for the intervals; 0 for none.
        seed: Seed of the resamples.
    """
    none = len(labels)
    positions: dict[str | None, int] = {label: position for position, label in enumerate([*labels, None])}
    right = [positions[label] for label in known]
    given = [none + 1 if answer.reason in _UNANSWERED else positions[answer.label] for answer in answers]
    decided = [row for row, position in enumerate(given) if position < none]
    confusion = metrics.confusion_counts(right, given, none)
    intervals = metrics.bootstrap_intervals(confusion, bootstrap, seed, labels=none) if bootstrap else (None, None)
    *classes, scope = metrics.class_scores(right, given, none + 1)
    bins = _bins(known, answers)
    curve = _curve(known, answers)
    flips = tuple(_flip_rate(answers, others) for others in rotated)
    return Evaluation(
        rows=len(known),
        labels=tuple(labels),
        accuracy=metrics.accuracy(right, given),
        accuracy_interval=intervals[0],
        decided=len(decided) / len(known),
        accuracy_of_decided=(
            metrics.accuracy([right[row] for row in decided], [given[row] for row in decided]) if decided else None
        ),
        reasons=Counter(answer.reason for answer in answers if answer.reason is not None),
        methods=Counter(answer.method for answer in answers if answer.method is not None),
        macro_f1=metrics.macro_f1(right, given, none),
        macro_f1_interval=intervals[1],
        classes=tuple(
            ClassReport(label=label, **scores._asdict()) for label, scores in zip(labels, classes, strict=True)
        ),
        out_of_scope=OutOfScopeReport(**scope._asdict()) if scope.support else None,
        confusion=tuple((*counts[:none], sum(counts[none:])) for counts in confusion),
        ece=None if bins is None else bins[0],
        brier=_brier(labels, right, answers),
        reliability=None if bins is None else tuple(ReliabilityBin(**b._asdict()) for b in bins[1]),
        risk_coverage=None
        if curve is None
        else RiskCoverage(points=tuple(CurvePoint(**p._asdict()) for p in curve), area=metrics.area_under(curve)),
        decided_safely=None if curve is None else metrics.share_decided(curve, ACCEPTED_ERROR),
        flip_rates=flips,
        flip_rate=_mean([rate for rate in flips if rate is not None]),
        prompt_tokens=_mean([a.prompt_tokens for a in answers if a.prompt_tokens is not None]),
        generated_tokens=_mean([a.generated_tokens for a in answers if a.generated_tokens is not None]),
        seconds=seconds / len(known),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _is_best(label: str | None, answer: Classification) -> bool | None:
    """Whether a label, or none of them, is what the confidence is about, also in a row that was rejected for it.

    None where that is not known.
    """
    if answer.label is not None or answer.reason is Reason.OUT_OF_SCOPE:
        return label == answer.label
    if not answer.probabilities:
        return None
    best = max(answer.probabilities, key=answer.probabilities.__getitem__)
    return label == (best if answer.probabilities[best] >= (answer.out_of_scope or 0.0) else None)


def _bins(known: Sequence[str | None], answers: Sequence[Classification]) -> tuple[float, list[Bin]] | None:
    """Calibration error and its bins, over rows that have a confidence."""
    confidences: list[float] = []
    correct: list[bool] = []
    for label, answer in zip(known, answers, strict=True):
        is_best = _is_best(label, answer)
        if answer.confidence is not None and is_best is not None:
            confidences.append(answer.confidence)
            correct.append(is_best)
    if not confidences:
        return None
    return metrics.expected_calibration_error(confidences, correct), metrics.confidence_bins(confidences, correct)


def _brier(labels: Sequence[str], right: Sequence[int], answers: Sequence[Classification]) -> float | None:
    """Brier score over rows that have probabilities; None where they are not of all labels."""
    if any(not set(labels) <= set(answer.probabilities) for answer in answers if answer.probabilities is not None):
        return None
    scored = [
        ([*(answer.probabilities[label] for label in labels), answer.out_of_scope or 0.0], position)
        for position, answer in zip(right, answers, strict=True)
        if answer.probabilities is not None
    ]
    return metrics.brier_score([p for p, _ in scored], [position for _, position in scored]) if scored else None


def _curve(known: Sequence[str | None], answers: Sequence[Classification]) -> list[Point] | None:
    """Risk over coverage; None where rows with a label have no confidence to order them by."""
    confidences: list[float] = []
    correct: list[bool] = []
    for label, answer in zip(known, answers, strict=True):
        if answer.label is None:
            continue
        if answer.confidence is None:
            return None
        confidences.append(answer.confidence)
        correct.append(answer.label == label)
    return metrics.risk_coverage(confidences, correct, len(known)) if confidences else None


def _flip_rate(answers: Sequence[Classification], others: Sequence[Classification]) -> float | None:
    """The share of rows with another answer, among those whose requests did not fail."""
    pairs = [
        (one.label, other.label)
        for one, other in zip(answers, others, strict=True)
        if Reason.FAILED not in (one.reason, other.reason)
    ]
    return _mean([one != other for one, other in pairs])
