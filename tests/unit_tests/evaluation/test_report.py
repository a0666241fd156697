"""`Evaluation`: worked by hand, written and read again, shown as a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from langchain_stormtrooper.evaluation import Evaluation
from langchain_stormtrooper.evaluation.report import summarize
from langchain_stormtrooper.results import Classification, Method, Reason

LABELS = ["a", "b"]


def scored(first: float, **fields: Any) -> Classification:
    """A row with a probability for each of two labels."""
    best = max(first, 1 - first)
    label = None if "reason" in fields else "a" if first >= 0.5 else "b"
    return Classification(
        label=label,
        method=Method.SCORE,
        confidence=best,
        probabilities={"a": first, "b": 1 - first},
        prompt_tokens=10,
        generated_tokens=1,
        **fields,
    )


UNMATCHED = Classification(reason=Reason.UNMATCHED, method=Method.GENERATE, prompt_tokens=30)
FAILED = Classification(reason=Reason.FAILED, error="no answer")


def generated(label: str) -> Classification:
    """A row without confidence."""
    return Classification(label=label, method=Method.GENERATE)


@pytest.fixture
def four() -> Evaluation:
    """Right with .9, wrong with .6, right with .8, and no label."""
    answers = [scored(0.9), scored(0.4), scored(0.2), UNMATCHED]
    rotated = [[scored(0.9), scored(0.7), scored(0.2), FAILED], [scored(0.1), scored(0.7), scored(0.6), UNMATCHED]]
    return summarize(LABELS, ["a", "a", "b", "b"], answers, seconds=2, rotated=rotated, bootstrap=200, seed=1)


def test_four_rows_by_hand(four: Evaluation) -> None:
    """Every number is that of a calculation on paper."""
    assert (four.rows, four.accuracy, four.decided) == (4, 0.5, 0.75)
    assert four.accuracy_of_decided == pytest.approx(2 / 3)
    assert four.reasons == {Reason.UNMATCHED: 1}
    assert four.methods == {Method.SCORE: 3, Method.GENERATE: 1}
    assert four.confusion == ((1, 1, 0), (0, 1, 1))
    assert four.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert [(c.label, c.precision, c.recall, c.support) for c in four.classes] == [("a", 1, 0.5, 2), ("b", 0.5, 0.5, 2)]
    assert four.ece == pytest.approx((0.1 + 0.6 + 0.2) / 3)
    assert four.brier == pytest.approx((0.02 + 0.72 + 0.08) / 3)
    assert four.risk_coverage is not None
    assert [(p.confidence, p.coverage, p.error) for p in four.risk_coverage.points] == [
        (0.9, 0.25, 0),
        (0.8, 0.5, 0),
        (0.6, 0.75, pytest.approx(1 / 3)),
    ]
    assert four.risk_coverage.area == pytest.approx(1 / 9)
    assert four.decided_safely == 0.5
    # The row that failed is not compared.
    assert list(four.flip_rates) == pytest.approx([1 / 3, 3 / 4])
    assert four.flip_rate == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert (four.prompt_tokens, four.generated_tokens, four.seconds) == (15, 1, 0.5)
    assert four.accuracy_interval is not None
    assert four.accuracy_interval[0] < 0.5 < four.accuracy_interval[1]


def test_without_confidence_what_needs_it_is_none() -> None:
    """Generated labels have accuracy and F1, and nothing that is about probabilities."""
    evaluation = summarize(LABELS, ["a", "b"], [generated("a"), UNMATCHED], seconds=1, bootstrap=0)
    assert (evaluation.accuracy, evaluation.flip_rate, evaluation.flip_rates) == (0.5, None, ())
    for name in ("ece", "brier", "reliability", "risk_coverage", "decided_safely", "accuracy_interval"):
        assert getattr(evaluation, name) is None, name


def test_one_row_without_confidence_leaves_no_curve() -> None:
    """Rows cannot be put in order by what one of them lacks; calibration is about the others."""
    evaluation = summarize(LABELS, ["a", "b"], [scored(0.75), generated("b")], seconds=1, bootstrap=0)
    assert evaluation.risk_coverage is None
    assert evaluation.ece == 0.25


def test_a_rejected_row_counts_for_calibration_and_not_for_coverage() -> None:
    """Low confidence that was right to doubt is calibrated, though the row has no label."""
    answers = [scored(0.9), scored(0.4, reason=Reason.LOW_CONFIDENCE)]
    evaluation = summarize(LABELS, ["a", "a"], answers, seconds=1, bootstrap=0)
    assert evaluation.risk_coverage is not None
    assert [(p.coverage, p.error) for p in evaluation.risk_coverage.points] == [(0.5, 0)]
    assert evaluation.reliability is not None
    assert [(b.rows, b.accuracy) for b in evaluation.reliability] == [(1, 0), (1, 1)]


def test_rows_without_any_label() -> None:
    """Nothing decided: accuracy 0, and no accuracy of decided rows."""
    evaluation = summarize(LABELS, ["a", "b"], [FAILED, UNMATCHED], seconds=1, rotated=[[FAILED] * 2])
    assert (evaluation.accuracy, evaluation.decided, evaluation.accuracy_of_decided) == (0, 0, None)
    assert (evaluation.flip_rate, evaluation.accuracy_interval) == (None, (0, 0))


ANSWERS = st.one_of(st.floats(0, 1).map(scored), st.sampled_from([UNMATCHED, FAILED]))


@given(st.lists(st.tuples(st.sampled_from(LABELS), ANSWERS, ANSWERS), min_size=1, max_size=12))
def test_json_is_read_back_as_it_was_written(rows: list[tuple[str, Classification, Classification]]) -> None:
    """Whatever the answers, all numbers are valid, finite, and the same after a round trip."""
    known = [label for label, _, _ in rows]
    answers, others = [answer for _, answer, _ in rows], [answer for _, _, answer in rows]
    evaluation = summarize(LABELS, known, answers, seconds=1, rotated=[others], bootstrap=20)
    written = evaluation.to_json()
    assert "NaN" not in written
    assert Evaluation.model_validate_json(written) == evaluation


def test_save_and_load(four: Evaluation, tmp_path: Path) -> None:
    """A file holds an evaluation, also with labels that are not ASCII."""
    path = tmp_path / "result.json"
    evaluation = four.model_copy(update={"labels": ("sécurité", "体育")})
    evaluation.save(path)
    assert Evaluation.load(path) == evaluation != four


def test_an_evaluation_does_not_change(four: Evaluation) -> None:
    """It is a record of what was measured."""
    with pytest.raises(ValidationError):
        four.accuracy = 1.0  # type: ignore[misc]  # that it cannot be set is the point


def _shown(evaluation: Evaluation, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(evaluation)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_shows_the_numbers(four: Evaluation) -> None:
    """Accuracy with its interval, the scores of a label, the confusion matrix: each on its line."""
    lines = _shown(four)
    assert any(line.startswith("accuracy") and "0.500  95 %: 0.0" in line for line in lines)
    assert any(line.startswith("flip rate") and "54.2%" in line and "2 times" in line for line in lines)
    assert "1 without a label: 1 unmatched" in lines[0]
    assert [line.split() for line in lines if line.startswith("a ")] == [["a", "1.000", "0.500", "0.667", "2"]]
    assert [line.split() for line in lines[-2:]] == [["1", "a", "1", "1", "0"], ["2", "b", "0", "1", "1"]]


def test_the_table_leaves_out_what_is_not_known() -> None:
    """Without probabilities and rotations there are no lines for them."""
    lines = _shown(summarize(LABELS, ["a", "b"], [generated("a"), generated("b")], seconds=1, bootstrap=0))
    heads = [line.partition("  ")[0] for line in lines[: lines.index("")]]
    assert heads == ["rows", "accuracy", "macro-F1", "decided", "seconds a row"]


def test_many_labels_have_their_confusions_listed() -> None:
    """A matrix of twenty labels fits no terminal: the most frequent confusions come first."""
    labels = [f"label {n}" for n in range(20)]
    known = ["label 3"] * 5 + ["label 4"] * 3 + labels
    answers = [generated("label 7")] * 5 + [UNMATCHED] * 3 + [generated(label) for label in labels]
    lines = _shown(summarize(labels, known, answers, seconds=1, bootstrap=0))
    assert [line.split() for line in lines[-2:]] == [["label", "3", "label", "7", "5"], ["label", "4", "–", "3"]]
    assert max(map(len, lines)) <= 80


def test_labels_are_neither_markup_nor_control_sequences() -> None:
    """A label from a file is shown as it is written, and cannot move the cursor."""
    labels = ["[red]x", "y\x1b[2J"]
    shown = "\n".join(_shown(summarize(labels, labels, [generated(label) for label in labels], seconds=1)))
    assert "[red]x" in shown
    assert "\x1b" not in shown
