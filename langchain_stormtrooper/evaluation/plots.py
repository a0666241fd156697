"""Figures of an `Evaluation`: who was taken for whom, whether confidence can be believed, what abstaining gains.

Each function returns a matplotlib `Figure` to show or save, drawn without pyplot: no window, no global state, fit for
threads and servers. matplotlib is an extra and imported inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from langchain_stormtrooper.evaluation.report import Evaluation

_NUMBERED_LABELS = 20
"""With more labels than this, numbers do not fit into the cells of a confusion matrix."""


def require_matplotlib() -> type[Figure]:
    """Matplotlib's class of figures.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("Plotting", "plots") from None
    return Figure


def plot_confusion(evaluation: Evaluation) -> Figure:
    """The confusion matrix: known labels down, answers across, rows coloured by their shares.

    Args:
        evaluation: What to draw.

    Raises:
        MissingExtraError: The extra `plots` is not installed.
    """
    size = 3.0 + 0.45 * len(evaluation.labels)
    figure = require_matplotlib()(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    shares = [[count / max(1, sum(counts)) for count in counts] for counts in evaluation.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # A label is no formula, whatever dollars it has.
    across = [*evaluation.labels, "no label"]
    axes.set_yticks(range(len(shares)), across[: len(shares)], parse_math=False)
    axes.set_xticks(range(len(across)), across, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_ylabel("known")
    axes.set_xlabel("answered")
    if len(evaluation.labels) <= _NUMBERED_LABELS:
        for row, counts in enumerate(evaluation.confusion):
            for column, count in enumerate(counts):
                color = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color)
    return figure


def plot_reliability(evaluation: Evaluation) -> Figure:
    """Accuracy over confidence, in bins; on the diagonal, confidence can be taken at its word.

    Args:
        evaluation: What to draw.

    Raises:
        ConfigurationError: The classifier gave no confidence.
        MissingExtraError: The extra `plots` is not installed.
    """
    if evaluation.reliability is None:
        raise _nothing_to_draw(evaluation)
    figure, axes = _square("confidence", "share of right answers")
    bins = evaluation.reliability
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.bar(
        [b.lower for b in bins],
        [b.accuracy for b in bins],
        width=[b.upper - b.lower for b in bins],
        align="edge",
        color="#9ecae1",
        edgecolor="white",
    )
    axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], "o", color="#08519c")
    axes.set_title(f"expected calibration error {evaluation.ece:.3f}")
    return figure


def plot_risk_coverage(evaluation: Evaluation) -> Figure:
    """The error of decided rows over their share, as the least confidence goes down.

    Args:
        evaluation: What to draw.

    Raises:
        ConfigurationError: The classifier gave no confidence.
        MissingExtraError: The extra `plots` is not installed.
    """
    curve = evaluation.risk_coverage
    if curve is None:
        raise _nothing_to_draw(evaluation)
    figure, axes = _square("share of rows decided", "share of them wrong")
    axes.plot([p.coverage for p in curve.points], [p.error for p in curve.points], color="#08519c", marker=".")
    axes.set_title(f"mean error along the curve {curve.area:.3f}")
    return figure


def _square(across: str, up: str) -> tuple[Figure, Axes]:
    figure = require_matplotlib()(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=across, ylabel=up)
    return figure, axes


def _nothing_to_draw(evaluation: Evaluation) -> ConfigurationError:
    if evaluation.ece is not None:
        return ConfigurationError("There is no row with a label, so that nothing was decided and nothing can be drawn.")
    return ConfigurationError("There is no confidence to draw: the method gives none; use method='score'.")
