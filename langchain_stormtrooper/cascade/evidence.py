"""What texts showed about a cascade: the confidence from which on the cheap stage's answers stay, and what is promised.

Pure. Which counts of the most confident texts are tested, and by what test, is `calibration.thresholds`' business:
fixed-sequence testing with exact binomial tests. Here the threshold lies just above the first text that does not stay,
not at the last one that does. The texts above it are then draws from all that will be above it, so that the promise
does not need the error to fall as the confidence rises, which nobody knows of a stage that may be anything. Called by
`learning`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langchain_stormtrooper.calibration import DECIDES_NOTHING, choose_threshold
from langchain_stormtrooper.calibration.thresholds import error_upper_bound


class CascadeEvidence(BaseModel):
    """What a cascade's threshold rests on; made by `Cascade.calibrate`. Numbers and hashes, never a text.

    `model_dump_json` writes it, `CascadeEvidence.model_validate_json` reads it, and `Cascade(..., evidence=)` takes it.

    Attributes:
        compared_with: What the cheap stage's answers were compared with: known "labels", or the answers of the
            "strong" stage.
        threshold: Answers of the cheap stage stay from this confidence on; just above 1 where no threshold holds the
            promise, so that all rows go on.
        target_error: The promise: of the rows that stay, at most this share is wrong, or answered otherwise than the
            strong stage would.
        confidence: How often the promise holds, at least, over all texts that might have been calibrated with.
        texts: How many texts were compared.
        kept: How many of them stay.
        errors: How many of those that stay are wrong, or answered otherwise by the strong stage.
        cheap: Hash of what the cheap stage is, its model included; None if that cannot be told.
        strong: The same of the strong stage; None where it was not asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    compared_with: Literal["labels", "strong"]
    threshold: float = Field(ge=0, le=DECIDES_NOTHING)
    target_error: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    texts: int = Field(ge=1)
    kept: int = Field(ge=0)
    errors: int = Field(ge=0)
    cheap: str | None = None
    strong: str | None = None

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if not self.errors <= self.kept <= self.texts:
            raise ValueError("more texts stay than there are, or more are wrong than stay")
        return self

    @property
    def share_kept(self) -> float:
        """The share of the texts that stay with the cheap stage."""
        return self.kept / self.texts

    @property
    def observed_error(self) -> float | None:
        """The share of those that stay that is wrong; None if none stays."""
        return self.errors / self.kept if self.kept else None

    @property
    def upper_bound(self) -> float | None:
        """Clopper and Pearson's upper bound of the error of what stays, at most `target_error`; None if nothing stays.

        It is this one threshold's; what holds for the threshold having been chosen is `target_error`.
        """
        return error_upper_bound(self.errors, self.kept, self.confidence) if self.kept else None


def choose_cut(
    confidences: Sequence[float | None], right: Sequence[bool], target_error: float, confidence: float
) -> tuple[float, int, int]:
    """The lowest confidence from which on answers may stay.

    Args:
        confidences: n confidences of the cheap stage; None where it has no answer, which never stays.
        right: n times whether its answer is right.
        target_error: The share of what stays that may be wrong.
        confidence: How sure that is to be.

    Returns:
        The threshold, how many of the n texts stay, and how many of these are wrong.
    """
    ranked = sorted(
        ((value, is_right) for value, is_right in zip(confidences, right, strict=True) if value is not None),
        key=lambda row: -row[0],
    )
    if not ranked:
        return DECIDES_NOTHING, 0, 0
    values = [value for value, _ in ranked]
    chosen = choose_threshold(values, [is_right for _, is_right in ranked], target_error, confidence)
    kept = sum(chosen.decides(value) for value in values)
    errors = sum(not is_right for _, is_right in ranked[:kept])
    if kept == len(values):
        return 0.0, kept, errors
    return (math.nextafter(values[kept], 2) if kept else DECIDES_NOTHING), kept, errors
