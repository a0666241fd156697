"""Learning thresholds: a classifier is asked about texts whose labels are known.

What cannot be meant is refused before the model is asked anything. The arithmetic is `thresholds`'. Called by
`runnable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.labelled import read_label_lists
from langchain_stormtrooper.learnt import Learnt, left_out, rendered
from langchain_stormtrooper.multi_label.asking import Room
from langchain_stormtrooper.multi_label.thresholds import AVERAGES, FEW, Average, MultiLabelEvidence, fit_thresholds
from langchain_stormtrooper.results import MultiLabelClassification, Reason
from langchain_stormtrooper.tasks import run_all

if TYPE_CHECKING:
    from langchain_stormtrooper.multi_label.runnable import MultiLabelClassifier
    from langchain_stormtrooper.rows import RowInput

_SHOWN = 5


async def learn(
    classifier: MultiLabelClassifier,
    texts: Iterable[RowInput],
    label_lists: Iterable[Iterable[str | Enum]],
    average: Average,
) -> Learnt[MultiLabelEvidence]:
    """Ask about texts, and fit thresholds; arguments and errors as in `MultiLabelClassifier.acalibrate`."""
    if average not in AVERAGES:
        raise ConfigurationError(f"`average` must be {' or '.join(map(repr, AVERAGES))}, not {average!r}.")
    rows, wanted = read_label_lists(texts, label_lists, classifier.labels, purpose="calibrate")
    if not any(wanted):
        raise ConfigurationError("None of the texts has a label: add texts that have.")
    questions = await classifier._aquestions()
    prompts = rendered(partial(classifier._render, questions), rows)
    # Equal texts share their requests, as in a batch.
    distinct = list(dict.fromkeys(prompt for prompt in prompts if not isinstance(prompt, PromptError)))
    names, places = classifier.labels.names, classifier._concurrency
    room = Room(max(1, places // max(1, len(distinct))))
    # Where the cuts are makes no difference: only probabilities are looked at.
    ask = partial(classifier._aanswer, questions, dict.fromkeys(names, 0.5), room, callbacks=None)
    by_prompt = dict(zip(distinct, await run_all(ask, distinct, places), strict=True))
    answers = [
        MultiLabelClassification(reason=Reason.FAILED, error=str(prompt))
        if isinstance(prompt, PromptError)
        else by_prompt[prompt]
        for prompt in prompts
    ]
    kept = [
        (answer.probabilities, labels)
        for answer, labels in zip(answers, wanted, strict=True)
        if answer.probabilities is not None
    ]
    lost = {row: answer.reason for row, answer in enumerate(answers) if answer.reason is not None}
    if not kept:
        error = next((f" ({answer.error.rstrip('.')})" for answer in answers if answer.error), "")
        raise ConfigurationError(f"None of the {len(rows)} texts got an answer{error}: calibrate with other texts.")
    fitted = fit_thresholds(
        {name: [probabilities[name] for probabilities, _ in kept] for name in names},
        {name: [name in labels for _, labels in kept] for name in names},
        average,
    )
    remarks = [left_out(lost, len(rows), "no answer")] if lost else []
    rare = [one.label for one in fitted if one.positives < FEW]
    if rare:
        remarks.append(_few(rare, len(names), len(kept)))
    model_id = await classifier._scorer.amodel_id()
    evidence = MultiLabelEvidence(
        texts=len(kept), labels=fitted, task=questions.task, model_id=model_id, average=average
    )
    return Learnt(evidence, tuple(remarks))


def _few(rare: Sequence[str], total: int, texts: int) -> str:
    shown = ", ".join(repr(label) for label in rare[:_SHOWN]) + (", …" if len(rare) > _SHOWN else "")
    return (
        f"{len(rare)} of {total} labels occur fewer than {FEW} times in the {texts} texts ({shown}): their thresholds "
        "are mostly what all labels have in common; add texts that have them."
    )
