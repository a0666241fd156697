"""`evaluate` and `aevaluate`: ask a classifier about labelled texts and report how good its answers are.

What cannot be meant is refused before the model is asked anything. Numbers are made by `report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from typing import Any, TypeAlias, cast

from langchain_stormtrooper import bridge
from langchain_stormtrooper.calibrating import AS_THEY_ARE, reorder
from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.evaluation.metrics import require_sklearn
from langchain_stormtrooper.evaluation.report import Evaluation, summarize
from langchain_stormtrooper.labelled import read_scoped
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_classifier import RowClassifier
from langchain_stormtrooper.rows import RowCall, RowInput

Note: TypeAlias = Callable[[int, Classification], None]
"""Told the number of each answer, counted on through the rotations, and the answer."""


async def aevaluate(
    classifier: RowClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    rotations: int = 0,
    on_answer: Note | None = None,
) -> Evaluation:
    """Measure a classifier on labelled texts.

    Args:
        classifier: A `ZeroShotClassifier`, `FewShotClassifier`, `HierarchicalClassifier` or `Cascade`.
        texts: The texts, or dicts that hold them.
        labels: The right label of each text, one of the classifier's; None for a text that none of them fits, which
            is answered right where the classifier leaves it without a label.
        bootstrap: Resamples for the 95 % intervals of accuracy and macro-F1; 0 for none.
        seed: Seed of the resamples.
        rotations: How often to ask all texts again with the order of the labels rotated by 1, 2, … positions, to see
            how many answers depend on it.
        on_answer: Called with each answer as soon as it is there, and its number: that of the row in the first pass,
            counting on in those with rotated labels.

    Raises:
        ConfigurationError: Texts and labels do not go together, or an argument is out of range.
        LabelError: A right label is not one of the classifier's.
        MissingExtraError: The extra `sklearn` is not installed.
        ServerError: Something is wrong for every row.
    """
    measured, calls = await _measure(
        classifier, texts, labels, bootstrap=bootstrap, seed=seed, rotations=rotations, on_answer=on_answer
    )
    return _warned(measured, calls)


def evaluate(
    classifier: RowClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    rotations: int = 0,
    on_answer: Note | None = None,
) -> Evaluation:
    """Like `aevaluate`.

    Examples:
        >>> from langchain_stormtrooper import ZeroShotClassifier, evaluate
        >>> classifier = ZeroShotClassifier(["politics", "science"])
        >>> evaluation = evaluate(classifier, ["The senate votes.", "Atoms have a nucleus."], ["politics", "science"])
        >>> evaluation.rows, evaluation.accuracy
        (2, 1.0)
    """
    ask = partial(_measure, bootstrap=bootstrap, seed=seed, rotations=rotations, on_answer=on_answer)
    return _warned(*bridge.run(ask, classifier, texts, labels))


async def _measure(
    classifier: RowClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    bootstrap: int,
    seed: int,
    rotations: int,
    on_answer: Note | None,
) -> tuple[Evaluation, list[RowCall[Classification]]]:
    """The evaluation, and what is still to be warned about, in the caller's own thread."""
    require_sklearn()
    rows, known = check(classifier, texts, labels, bootstrap=bootstrap, rotations=rotations)
    first, seconds = await _ask(classifier, rows, 0, on_answer)
    calls = [first]
    for positions in range(1, rotations + 1):
        call, _ = await _ask(
            await _aturn(cast("TextClassifier", classifier), positions), rows, positions * len(rows), on_answer
        )
        calls.append(call)
    answers, *rotated = (cast("list[Classification]", call.rows) for call in calls)
    evaluation = summarize(
        classifier.labels.names, known, answers, seconds=seconds, rotated=rotated, bootstrap=bootstrap, seed=seed
    )
    return evaluation, calls


def _warned(evaluation: Evaluation, calls: Sequence[RowCall[Classification]]) -> Evaluation:
    for call in calls:
        call.warn()
    return evaluation


def rotate(classifier: TextClassifier, positions: int) -> TextClassifier:
    """The same classifier with its labels in another order: the first ones moved to the end."""
    labels = classifier.labels.labels
    order = LabelSet(labels[positions:] + labels[:positions])
    changed: dict[str, Any] = {"labels": order}
    if isinstance(classifier.parser, LabelOutputParser):
        changed["parser"] = classifier.parser.model_copy(update={"labels": order})
    return classifier.model_copy(update=changed)


async def _aturn(classifier: TextClassifier, positions: int) -> TextClassifier:
    """Like `rotate`, with the calibration turned as well: the same correction for the same label."""
    calibration = classifier.calibration
    if calibration is None:
        return rotate(classifier, positions)
    turned = rotate(classifier.model_copy(update=AS_THEY_ARE), positions)
    order = reorder(calibration, turned._choices.names, await turned.afingerprint())
    return rotate(classifier, positions).model_copy(update={"calibration": order})


async def _ask(
    classifier: RowClassifier, rows: Sequence[RowInput], first: int, note: Note | None
) -> tuple[RowCall[Classification], float]:
    """The answers, and how many seconds they took; getting the model ready is not counted."""
    await classifier._aprepare()
    started = time.perf_counter()
    detailed = classifier.with_details()
    call = RowCall(rows, detailed._face)
    async for index, answer in detailed._acompleted(call, None, {}):
        if note is not None:
            note(first + index, cast("Classification", answer))
    return call, time.perf_counter() - started


def check(
    classifier: RowClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    bootstrap: int = 0,
    rotations: int = 0,
) -> tuple[list[RowInput], list[str | None]]:
    """Refuse what `aevaluate` cannot measure.

    Returns:
        The texts and their labels as lists.

    Raises:
        ConfigurationError: Texts and labels do not go together, or an argument is out of range.
        LabelError: A label is not one of the classifier's.
    """
    if not isinstance(classifier, RowClassifier):
        raise ConfigurationError(
            "`classifier` must be a ZeroShotClassifier, a FewShotClassifier, a HierarchicalClassifier or a Cascade, "
            f"not {type(classifier).__name__}."
        )
    if rotations and not isinstance(classifier, TextClassifier):
        raise ConfigurationError(
            "`rotations=` turns the labels of one prompt: evaluate classifiers of one prompt one by one for it."
        )
    count = len(classifier.labels)
    if bootstrap < 0:
        raise ConfigurationError(f"`bootstrap=` must be 0 or more, not {bootstrap}.")
    if not 0 <= rotations < count:
        raise ConfigurationError(
            f"`rotations=` must be from 0 to {count - 1}, since there are {count} labels, not {rotations}."
        )
    return read_scoped(texts, labels, classifier.labels, purpose="evaluate", option=classifier._option)
