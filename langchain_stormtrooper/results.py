"""What a classified row looks like: `Classification`, `MultiLabelClassification`, and the words for why and how.

Pure data. Every room that produces or reads an answer uses these types; nothing here does I/O.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Reason(StrEnum):
    """Why a row has no label."""

    OVERLONG = "overlong"
    UNMATCHED = "unmatched"
    LOW_CONFIDENCE = "low_confidence"
    OUT_OF_SCOPE = "out_of_scope"
    FAILED = "failed"


class Method(StrEnum):
    """How a label is obtained from a model."""

    SCORE = "score"
    """The model's probability of every label."""
    CONSTRAIN = "constrain"
    """One generation that a grammar keeps within the labels."""
    GENERATE = "generate"
    """Free text, matched to the nearest label."""


class MatchKind(StrEnum):
    """Which step of the matcher found the label; later steps are weaker evidence."""

    EXACT = "exact"
    NORMALIZED = "normalized"
    NAMED = "named"
    FUZZY = "fuzzy"


class Classification(BaseModel):
    """The answer for one row: a label, or no label and a reason.

    Attributes:
        label: One of the given labels, spelled as given, or None.
        reason: Why there is no label; None exactly when there is one.
        method: How the answer was obtained, in a tree the last one; None if the server was never asked.
        match: Which step of the matcher found the label, for generated text.
        confidence: Probability of `label` (or of the best answer, when it was rejected, and of the option
            `out_of_scope`, when that was the best) in [0, 1]; None where the method yields none.
        probabilities: Probability of every label, in the order the labels were given, summing to 1, or with
            `out_of_scope` to 1. Of a `HierarchicalClassifier`: of the labels that were reached, summing to at most 1.
            With a shortlist, the labels on it have the recall of a shortlist of that size, where that was measured, and
            those left out share the rest evenly; where it was not, those on it have all, as if the right one were sure
            to be there.
        out_of_scope: Probability in [0, 1] of the option that none of the labels fits; None for a classifier without
            that option, and where there are no probabilities.
        covered_mass: Share of the model's probability, in [0, 1], that fell on the labels before normalisation; with a
            shortlist, on those on it.
        truncated: Whether the text was shortened to fit the server's limit.
        n_examples: Few-shot examples in the prompt: fewer than there might be where the prompt had no room for more.
            None for a classifier without examples, and where nothing was answered. This and the tokens are those of all
            questions together, where there were several: an example counts once for each that it was in.
        prompt_tokens: Tokens of the prompt as the server counted them.
        generated_tokens: Tokens that the server generated.
        generation: The raw generated text, for `generate` and `constrain`. Not shown in the repr.
        error: What went wrong, in one sentence without the text; None where the reason alone says it.
        path: The names that lead to `label` in a `HierarchicalClassifier`'s tree; None without a tree, or a label.
        shortlist: The labels that the model was asked about, in the order given; None if about all, or about none.
        stage: Which classifier of a `Cascade` answered, counted from 0, the cheapest; None without a cascade.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    label: str | None = None
    reason: Reason | None = None
    method: Method | None = None
    match: MatchKind | None = None
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    probabilities: dict[str, float] | None = None
    out_of_scope: float | None = Field(default=None, ge=0.0, le=1.0)
    covered_mass: float | None = Field(default=None, ge=0.0, le=1.0)
    truncated: bool = False
    n_examples: int | None = Field(default=None, ge=0)
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    generation: str | None = Field(default=None, repr=False)
    error: str | None = None
    path: tuple[str, ...] | None = None
    shortlist: tuple[str, ...] | None = None
    stage: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _label_or_reason(self) -> Self:
        if (self.label is None) == (self.reason is None):
            raise ValueError("a Classification has either a label or a reason, and never both")
        return self


class MultiLabelClassification(BaseModel):
    """The answer for one row that may have any number of labels: these, or a reason why none could be told.

    Attributes:
        labels: Those of the given labels that apply, spelled and ordered as given, perhaps none; None without an
            answer.
        reason: Why there is no answer; None exactly when there is one.
        method: How the answer was obtained; None if there is none.
        probabilities: For each label, in the order given, the probability in [0, 1] that it applies. They do not sum
            to 1: each is a question of its own. With `ask="once"` they do: the probability that it is the only one.
        truncated: Whether the text was shortened to fit the server's limit.
        prompt_tokens: Tokens of all prompts of the row as the server counted them.
        generated_tokens: Tokens that the server generated for the row.
        error: What went wrong, in one sentence without the text; None where the reason alone says it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    labels: list[str] | None = None
    reason: Reason | None = None
    method: Method | None = None
    probabilities: dict[str, float] | None = None
    truncated: bool = False
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _labels_or_reason(self) -> Self:
        if (self.labels is None) == (self.reason is None):
            raise ValueError("a MultiLabelClassification has either labels, perhaps none, or a reason, and never both")
        return self
