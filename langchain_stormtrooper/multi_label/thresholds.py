"""From which probability on a label applies: one threshold per label, fitted to labelled texts.

Pure. For each label, the threshold whose F1 on the texts is the highest: SCut in the words of Yang (2001, "A study of
thresholding strategies for text categorization"). Fitted to few positives it follows their accidents (Lipton, Elkan
and Naryanaswamy 2014, arXiv 1402.1892), so that recall is shrunk to what all labels have in common. Probabilities of
different labels cannot be compared, places can: how much of a label's positives is among its most probable texts, when
these are x times as many as it has positives. With x alone this is Yang's PCut, which serves rare labels well.

    recall(k) = (positives among the k most probable + WEIGHT · common recall at k / positives) / (positives + WEIGHT)
    F1(k)     = 2 · recall(k) / (1 + k / positives)

A label with many positives has its own threshold then, one with few nearly the common one, and there is no step
between. Where all decisions together are to have the highest F1 (micro-averaged), labels are no longer independent: one
whose texts the model cannot tell is better left out, since its false alarms cost all others. The maximum of that ratio
is found by Dinkelbach's iteration (1967, "On nonlinear fractional programming"). Called by `learning`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langchain_stormtrooper.calibration import DECIDES_NOTHING
from langchain_stormtrooper.errors import ConfigurationError

WEIGHT = 10.0
"""Positives that what all labels have in common weighs as much as."""

FEW = 5
"""Positives below which a label's threshold is mostly that of the others."""


Average: TypeAlias = Literal["macro", "micro"]
"""Whose F1 is to be high: the mean of the labels' own, or that of all decisions together."""

AVERAGES: tuple[Average, ...] = get_args(Average)


class LabelThreshold(BaseModel):
    """What texts taught of one label.

    Attributes:
        label: The label.
        positives: How many of the texts have it.
        assigned: How many of the texts would get it.
        threshold: It applies from this probability on; just above that of the most probable text where no text has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label: str
    positives: int = Field(ge=0)
    assigned: int = Field(ge=0)
    threshold: float = Field(ge=0, le=DECIDES_NOTHING)


class MultiLabelEvidence(BaseModel):
    """What the thresholds of a `MultiLabelClassifier` rest on; made by `calibrate`. Numbers and hashes, never a text.

    Attributes:
        texts: How many texts it was learnt from.
        labels: What they taught of each label, in order.
        task: Hash of the questions, the method and the prior.
        model_id: The model's name; None where the server did not tell.
        average: Whose F1 is the highest with these thresholds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    texts: int = Field(ge=1)
    labels: tuple[LabelThreshold, ...]
    task: str
    model_id: str | None = None
    average: Average = "macro"

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if any(max(one.positives, one.assigned) > self.texts for one in self.labels):
            raise ValueError("more texts have a label, or would get it, than there are")
        return self

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds by label."""
        return {one.label: one.threshold for one in self.labels}


def fit_thresholds(
    probabilities: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[bool]], average: Average = "macro"
) -> tuple[LabelThreshold, ...]:
    """The threshold of each label.

    Nothing is drawn: the same texts give the same thresholds, in whatever order they are.

    Args:
        probabilities: For each label, n probabilities that it applies, in [0, 1].
        truths: For each label, n times whether it does.
        average: Whose F1 is to be high: with "macro" each label's own, with "micro" that of all decisions together.

    Raises:
        ConfigurationError: No text has any label.
    """
    ranks = {label: _ranks(probabilities[label], truths[label]) for label in probabilities}
    common = sorted(rank / len(own) for own in ranks.values() for rank in own)
    if not common:
        raise ConfigurationError("None of the texts has a label: add texts that have.")
    candidates = [_candidates(probabilities[label], own, common) for label, own in ranks.items()]
    positives = [len(own) for own in ranks.values()]
    choose = _best_each if average == "macro" else _best_together
    return tuple(
        LabelThreshold(
            label=label,
            positives=has,
            assigned=assigned,
            threshold=_between(sorted(probabilities[label], reverse=True), assigned),
        )
        for label, has, (assigned, _) in zip(ranks, positives, choose(candidates, positives), strict=True)
    )


def _ranks(probabilities: Sequence[float], truths: Sequence[bool]) -> list[int]:
    """For each positive, how many texts are at least as probable, in order; texts that are alike go together."""
    ordered = sorted(probabilities)
    return sorted(
        len(ordered) - _below(ordered, value) for value, is_so in zip(probabilities, truths, strict=True) if is_so
    )


def _below(ordered: Sequence[float], value: float) -> int:
    return bisect_right(ordered, math.nextafter(value, -math.inf))


def _candidates(probabilities: Sequence[float], own: Sequence[int], common: Sequence[float]) -> list[tuple[int, float]]:
    """How many texts a label may be given to, in order, and how many of them are likely to have it."""
    found = [(0, 0.0)]
    values = sorted(probabilities, reverse=True)
    # A label that no text has is given to none of them.
    for count in range(1, len(values) + 1 if own else 1):
        # Texts that are alike go together.
        if count == len(values) or values[count] < values[count - 1]:
            shared = bisect_right(common, count / len(own)) / len(common)
            recall = (bisect_right(own, count) + WEIGHT * shared) / (len(own) + WEIGHT)
            found.append((count, recall * len(own)))
    return found


def _best_each(candidates: Sequence[Sequence[tuple[int, float]]], positives: Sequence[int]) -> list[tuple[int, float]]:
    """The candidate of each label with its highest F1; of equals, the one that gives the label to fewer."""
    # A label that no text has leaves no choice.
    return [
        max(own, key=lambda one: one[1] / max(1, has + one[0])) for own, has in zip(candidates, positives, strict=True)
    ]


def _best_together(
    candidates: Sequence[Sequence[tuple[int, float]]], positives: Sequence[int]
) -> list[tuple[int, float]]:
    """The candidates with the highest F1 of all decisions together.

    That F1 is a ratio of sums over labels, so that at its highest value f each label's choice is the one with the most
    2 · hits - f · count, and iterating from any f climbs to it.
    """
    score, chosen = 0.0, [own[-1] for own in candidates]
    while True:
        reached = 2 * math.fsum(hits for _, hits in chosen) / (sum(positives) + sum(count for count, _ in chosen))
        if reached <= score:
            return chosen
        score = reached
        chosen = [max(own, key=lambda one: 2 * one[1] - score * one[0]) for own in candidates]


def _between(values: Sequence[float], assigned: int) -> float:
    """Halfway between the last text that gets the label and the first that does not."""
    if assigned == 0:
        return math.nextafter(values[0], 2)
    if assigned == len(values):
        return 0.0
    middle = (values[assigned - 1] + values[assigned]) / 2
    # Neighbouring numbers have none between them.
    return middle if middle > values[assigned] else values[assigned - 1]
