"""The figures draw the numbers of the evaluation, without a window and without pyplot."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError
from langchain_stormtrooper.evaluation import Evaluation, plot_confusion, plot_reliability, plot_risk_coverage
from langchain_stormtrooper.evaluation.report import summarize
from langchain_stormtrooper.results import Classification, Method

PLOTS = [plot_confusion, plot_reliability, plot_risk_coverage]
SHARES = np.array([[2 / 3, 1 / 3, 0], [0, 1, 0]])
LABELS = [r"$\frac$ 6", "free"]


def _answer(position: int, confidence: float) -> Classification:
    probabilities = {LABELS[position]: confidence, LABELS[1 - position]: 1 - confidence}
    return Classification(
        label=LABELS[position], method=Method.SCORE, confidence=confidence, probabilities=probabilities
    )


@pytest.fixture
def evaluation() -> Evaluation:
    """Three right rows and a wrong one."""
    answers = [_answer(0, 0.95), _answer(0, 0.85), _answer(1, 0.85), _answer(1, 0.55)]
    return summarize(LABELS, [LABELS[0], LABELS[0], LABELS[1], LABELS[0]], answers, seconds=1, bootstrap=0)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def test_confusion_shows_counts_and_shares(evaluation: Evaluation) -> None:
    """Cells hold the counts and are coloured by shares of their row; labels are written as they are."""
    (axes,) = plot_confusion(evaluation).axes
    assert np.allclose(np.array(axes.images[0].get_array(), dtype=float), SHARES)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "2", (1, 0): "1", (2, 0): "0", (0, 1): "0", (1, 1): "1", (2, 1): "0"}
    assert [text.get_text() for text in axes.get_yticklabels()] == LABELS
    assert [text.get_text() for text in axes.get_xticklabels()] == [*LABELS, "no label"]


def test_reliability_shows_the_bins(evaluation: Evaluation) -> None:
    """Bars are as high as the accuracy of their bin, and dots stand at its mean confidence."""
    (axes,) = plot_reliability(evaluation).axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches]  # type: ignore[attr-defined]
    assert np.allclose(bars, [(0.5, 0.1, 0), (0.8, 0.1, 1), (0.9, 0.1, 1)])
    assert np.allclose(axes.lines[1].get_xydata(), [[0.55, 0], [0.85, 1], [0.95, 1]])
    assert axes.get_title() == "expected calibration error 0.225"


def test_risk_coverage_shows_the_curve(evaluation: Evaluation) -> None:
    """The line goes through the points of the curve; equal confidences are one point."""
    (axes,) = plot_risk_coverage(evaluation).axes
    assert np.allclose(axes.lines[0].get_xydata(), [[0.25, 0], [0.75, 0], [1, 0.25]])


@pytest.mark.parametrize("plot", PLOTS)
def test_figures_can_be_saved(plot: Callable[[Evaluation], Figure], evaluation: Evaluation) -> None:
    """A figure becomes an image without any window system, whatever signs the labels hold."""
    assert _png(plot(evaluation)).startswith(b"\x89PNG")


def test_many_labels_have_no_numbers() -> None:
    """With 30 labels the cells are too small for text."""
    labels = [f"label {n}" for n in range(30)]
    answers = [Classification(label=label) for label in labels]
    (axes,) = plot_confusion(summarize(labels, labels, answers, seconds=1, bootstrap=0)).axes
    assert not axes.texts
    assert len(axes.get_yticklabels()) == 30


@pytest.mark.parametrize("plot", PLOTS[1:])
def test_without_confidence_there_is_nothing_to_draw(plot: Callable[[Evaluation], Figure]) -> None:
    """The message says which method gives confidence."""
    evaluation = summarize(LABELS, LABELS, [Classification(label=label) for label in LABELS], seconds=1)
    with pytest.raises(ConfigurationError, match="method='score'"):
        plot(evaluation)


@pytest.mark.parametrize("plot", PLOTS)
def test_without_matplotlib_the_extra_is_named(
    plot: Callable[[Evaluation], Figure], evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"'langchain-stormtrooper\[plots\]'"):
        plot(evaluation)


def test_pyplot_is_not_touched(evaluation: Evaluation) -> None:
    """Drawing and saving do not import pyplot, whose figures are global."""
    code = (
        "import sys\n"
        "from langchain_stormtrooper import evaluation as room\n"
        "evaluation = room.Evaluation.model_validate_json(sys.stdin.read())\n"
        "for plot in (room.plot_confusion, room.plot_reliability, room.plot_risk_coverage):\n"
        "    plot(evaluation).savefig(__import__('io').BytesIO())\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=evaluation.to_json(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
