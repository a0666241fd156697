"""Learning a cascade's threshold: the cheap stage is asked about texts, and its answers are compared with the truth.

The truth is known labels, or what the strong stage answers. What cannot be meant is refused before a model is asked
anything, and where there are too few texts for any threshold, none is asked. The arithmetic is `evidence`'s. Called by
`runnable`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.calibration import DECIDES_NOTHING, check_promise, fewest_texts
from langchain_stormtrooper.calibration.thresholds import counts_tested
from langchain_stormtrooper.cascade.evidence import CascadeEvidence, choose_cut
from langchain_stormtrooper.cascade.stages import as_classifier
from langchain_stormtrooper.classifiers import FewShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.labelled import read_items, read_scoped
from langchain_stormtrooper.learnt import Learnt
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.tasks import run_all

if TYPE_CHECKING:
    from langchain_stormtrooper.cascade.answering import CascadeAnswering, StagePrompts
    from langchain_stormtrooper.cascade.runnable import Cascade
    from langchain_stormtrooper.rows import RowInput


async def learn(
    cascade: Cascade,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None] | None,
    *,
    target_error: float | None,
    confidence: float,
) -> Learnt[CascadeEvidence]:
    """Ask both stages, or the cheap one, about texts; arguments and errors as in `Cascade.acalibrate`."""
    if target_error is None:
        raise ConfigurationError(
            "There is no error to promise: give the cascade or `calibrate` a `target_error=`, such as 0.05."
        )
    check_promise(target_error, confidence)
    truths: list[str | None] | None = None
    if labels is None:
        rows = read_items("texts", texts)
        if not rows:
            raise ConfigurationError("There is nothing to calibrate on: `texts` is empty.")
    else:
        rows, truths = read_scoped(texts, labels, cascade.labels, purpose="calibrate", option=cascade._option)
    cheap, strong = await cascade._atells()

    def evidence(threshold: float, texts: int, kept: int, errors: int) -> CascadeEvidence:
        return CascadeEvidence(
            compared_with="strong" if truths is None else "labels",
            threshold=threshold,
            target_error=target_error,
            confidence=confidence,
            texts=texts,
            kept=kept,
            errors=errors,
            cheap=cheap,
            strong=strong if truths is None else None,
        )

    fewest = fewest_texts(target_error, confidence)
    if len(rows) < fewest:
        nothing = evidence(DECIDES_NOTHING, len(rows), 0, 0)
        return Learnt(nothing, (_none_kept(nothing, fewest, f"there are {len(rows)} texts in all"),))
    remarks: list[str] = []
    pairs = await _compare(cascade, rows, truths, remarks)
    sure, right = [value for value, _ in pairs], [is_right for _, is_right in pairs]
    found = evidence(*_counted(choose_cut(sure, right, target_error, confidence), len(pairs)))
    if not found.kept:
        remarks.append(_none_kept(found, fewest, _why(pairs, fewest, target_error, confidence)))
    return Learnt(found, tuple(remarks))


def _counted(cut: tuple[float, int, int], texts: int) -> tuple[float, int, int, int]:
    threshold, kept, errors = cut
    return threshold, texts, kept, errors


async def _compare(
    cascade: Cascade, rows: Sequence[RowInput], truths: Sequence[str | None] | None, remarks: list[str]
) -> list[tuple[float | None, bool]]:
    """How sure the cheap stage is of each text, None where it has no label, and whether it is right."""
    answering = await cascade._aarrange(0.0)
    prompts = [_render(answering, row, number) for number, row in enumerate(rows)]
    _refuse_examples(cascade if truths is None else cascade.cheap, prompts)
    first = await _ask(answering.ask_cheap, prompts, cascade._stage.concurrency)
    _look_for_confidences(first, remarks)
    sure = [row.confidence if row.label is not None else None for row in first]
    if truths is not None:
        return [
            (value, value is not None and row.label == truth)
            for value, row, truth in zip(sure, first, truths, strict=True)
        ]
    # What the cheap stage leaves open goes on in any case: only the others have to be compared.
    compared = [prompt for prompt, value in zip(prompts, sure, strict=True) if value is not None]
    second = dict(zip(compared, await _ask(answering.ask_strong, compared, cascade.strong._concurrency), strict=True))
    failed = [prompt in second and second[prompt].reason is Reason.FAILED for prompt in prompts]
    if any(failed):
        remarks.append(f"{sum(failed)} of {len(rows)} texts got no answer from the strong stage and were left out.")
    if sum(failed) == len(compared):
        raise ConfigurationError("The strong stage failed on every text that the cheap one answered: try again later.")
    return [
        (value, value is not None and row.label == second[prompt].label)
        for value, row, prompt, is_gone in zip(sure, first, prompts, failed, strict=True)
        if not is_gone
    ]


def _render(answering: CascadeAnswering, row: RowInput, number: int) -> StagePrompts:
    try:
        return answering.render(row)
    except PromptError as error:
        raise PromptError(f"Row {number} of `texts`, counted from 0: {error}") from None


def _why(pairs: Sequence[tuple[float | None, bool]], fewest: int, target_error: float, confidence: float) -> str:
    """What the first test was about."""
    ranked = sorted((value for value, _ in pairs if value is not None), reverse=True)
    if len(ranked) < fewest:
        return f"it answered {len(ranked)} texts"
    lowest = ranked[counts_tested(len(ranked), target_error, confidence)[0] - 1]
    surest = [is_right for value, is_right in pairs if value is not None and value >= lowest]
    return f"{surest.count(False)} of the {len(surest)} it is surest of are not"


def _none_kept(evidence: CascadeEvidence, fewest: int, why: str) -> str:
    what = "right" if evidence.compared_with == "labels" else "answered as the strong one does"
    return (
        f"No threshold keeps the error of what stays under {evidence.target_error:.3g} with a confidence of "
        f"{evidence.confidence:.3g}, so that every row will go to the strong stage: that takes at least {fewest} "
        f"texts that the cheap one is sure about and that are {what}, and {why}; give more texts, or a higher "
        "`target_error=`."
    )


async def _ask(
    answer: Callable[[StagePrompts], Awaitable[Classification]], prompts: Sequence[StagePrompts], at_once: int
) -> list[Classification]:
    """The answers; equal rows share one request."""
    distinct = list(dict.fromkeys(prompts))
    by_prompt = dict(zip(distinct, await run_all(answer, distinct, at_once), strict=True))
    return [by_prompt[prompt] for prompt in prompts]


def _look_for_confidences(rows: Sequence[Classification], remarks: list[str]) -> None:
    failed = sum(row.reason is Reason.FAILED for row in rows)
    if not any(row.label is not None and row.confidence is not None for row in rows):
        error = next((f" ({row.error.rstrip('.')})" for row in rows if row.error), "")
        raise ConfigurationError(
            f"The cheap stage answered none of the {len(rows)} texts with a confidence{error}: there is nothing to "
            "calibrate with; pass other texts, or another cheap stage."
        )
    if failed:
        remarks.append(
            f"{failed} of {len(rows)} texts got no answer from the cheap stage; such rows go to the strong one."
        )


def _refuse_examples(asked: Any, prompts: Sequence[Prompt]) -> None:
    """A model does better on the examples in its prompt than on what will come."""
    parts = [as_classifier(part) for part in getattr(asked, "stages", (asked,))]
    shown = {example.text for part in parts if isinstance(part, FewShotClassifier) for example in part.examples}
    count = sum(prompt.text in shown for prompt in prompts)
    if count:
        raise ConfigurationError(
            f"{count} of {len(prompts)} texts are examples of a stage's own: calibrate with texts that it has not seen."
        )
