"""An `Evaluation` as a table for people. Labels are data: never markup, nor control sequences of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langchain_stormtrooper.terminal import plain

if TYPE_CHECKING:
    from langchain_stormtrooper.evaluation.report import Evaluation, OutOfScopeReport

MATRIX_LABELS = 12
"""With more labels than this, the most frequent confusions are listed in place of the matrix."""

LISTED = 10
"""How many confusions are listed."""

NO_LABEL = "–"


def render(evaluation: Evaluation) -> RenderableType:
    """All numbers, the scores of each label, and what was taken for what."""
    matrix = _matrix(evaluation) if len(evaluation.labels) <= MATRIX_LABELS else _confusions(evaluation)
    return Group(_summary(evaluation), Text(), _classes(evaluation), Text(), matrix)


def _summary(evaluation: Evaluation) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    curve = evaluation.risk_coverage
    without = sum(evaluation.reasons.values())
    reasons = ", ".join(f"{count:,} {reason.value}" for reason, count in evaluation.reasons.items())
    rows: list[tuple[str, str | None, str]] = [
        ("rows", f"{evaluation.rows:,}", f"{without:,} without a label: {reasons}" if reasons else ""),
        ("accuracy", number(evaluation.accuracy), _interval(evaluation.accuracy_interval)),
        ("macro-F1", number(evaluation.macro_f1), _interval(evaluation.macro_f1_interval)),
        ("decided", _percent(evaluation.decided), _of_decided(evaluation.accuracy_of_decided)),
        ("decided safely", _percent(evaluation.decided_safely), "at most 5 % wrong, the most confident first"),
        ("out of scope", *_scope(evaluation.out_of_scope)),
        ("ECE", number(evaluation.ece), "distance of confidence and accuracy"),
        ("Brier score", number(evaluation.brier), "0 is best, 2 worst"),
        ("risk–coverage", number(None if curve is None else curve.area), "mean error, 0 is best"),
        ("flip rate", _percent(evaluation.flip_rate), _rotations(len(evaluation.flip_rates))),
        ("tokens a row", _amount(evaluation.prompt_tokens), _generated(evaluation.generated_tokens)),
        ("seconds a row", f"{evaluation.seconds:.3g}", ""),
    ]
    for name, value, note in rows:
        if value is not None:
            table.add_row(name, Text(value, justify="right"), Text(note, style="dim"))
    return table


def number(value: float | None) -> str | None:
    """A score with three digits; None stays None."""
    return None if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _amount(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"95 %: {interval[0]:.3f} to {interval[1]:.3f}"


def _of_decided(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.3f} of them right"


def _scope(told: OutOfScopeReport | None) -> tuple[str | None, str]:
    """The F1 of texts out of scope, and what it is made of."""
    if told is None:
        return None, ""
    precision = number(told.precision) or NO_LABEL
    return number(told.f1), f"F1 of {told.support:,} rows; precision {precision}, recall {number(told.recall)}"


def _generated(tokens: float | None) -> str:
    return "" if tokens is None else f"and {_amount(tokens)} generated"


def _rotations(count: int) -> str:
    return f"with the labels rotated, {count} {'time' if count == 1 else 'times'}"


def _classes(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label")
    for head in ("precision", "recall", "F1", "rows"):
        table.add_column(head, justify="right")
    for scores in evaluation.classes:
        cells = [number(score) or NO_LABEL for score in (scores.precision, scores.recall, scores.f1)]
        table.add_row(Text(plain(scores.label)), *cells, f"{scores.support:,}")
    return table


def _matrix(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("known, and answered as", no_wrap=True)
    # Names would not fit beside each other.
    for position in range(1, 1 + len(evaluation.labels)):
        table.add_column(str(position), justify="right")
    table.add_column("none", justify="right")
    for position, counts in enumerate(evaluation.confusion):
        is_label = position < len(evaluation.labels)
        cells = [
            Text(f"{count:,}", style="green" if column == position else "red" if count else "dim")
            for column, count in enumerate(counts)
        ]
        name = f"{position + 1} {plain(evaluation.labels[position])}" if is_label else "none"
        table.add_row(Text(name), *cells)
    return table


def _confusions(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("known")
    table.add_column("answered")
    table.add_column("rows", justify="right")
    answers = [*evaluation.labels, NO_LABEL]
    wrong = [
        (count, answers[row], answers[column])
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    for count, label, answer in sorted(wrong, key=lambda entry: -entry[0])[:LISTED]:
        table.add_row(Text(plain(label)), Text(plain(answer)), f"{count:,}")
    return table
