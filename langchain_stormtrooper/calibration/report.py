"""What fitting a calibration showed: figures before and after, and what was tried.

Pure data; `fitting` makes it, `state` keeps it. It holds numbers only, never a text.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """How good probabilities were on the labelled texts.

    Attributes:
        accuracy: Share of texts whose most probable label is the true one.
        macro_f1: Mean F1 over the labels that occur, as a truth or an answer.
        ece: Expected calibration error, ten bins of equal width (`metrics.expected_calibration_error`).
        brier: Sum over all labels of squared differences, mean over texts (`metrics.brier_score`).
        log_loss: Mean of −ln(probability of the true label), which counts as at least 1e-9.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: float = Field(ge=0, le=1)
    macro_f1: float = Field(ge=0, le=1)
    ece: float = Field(ge=0, le=1)
    brier: float = Field(ge=0, le=2)
    log_loss: float = Field(ge=0)


class Candidate(BaseModel):
    """A map that was tried.

    Attributes:
        name: What it is, for people to read.
        log_loss: Its mean log loss on the texts that each fit had not seen.
        weight: Its share in the map in force; all candidates' shares sum to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    log_loss: float = Field(ge=0)
    weight: float = Field(ge=0, le=1)


class CalibrationReport(BaseModel):
    """Figures of a fit with labels, all out of fold.

    A text's probabilities come from maps that were fitted without the text's own fold, and weighted by their losses on
    the other folds, so that the figures do not flatter: the map in force has seen more texts and is slightly better.
    On few texts the calibration error is overstated, before and after: perfect probabilities of 20 texts show one of
    about .2.

    Attributes:
        texts: Labelled texts.
        per_class: Texts of each label, in the labels' order.
        folds: Parts of the cross-validation.
        before: The model's probabilities as they came.
        after: Calibrated, out of fold.
        candidates: What was tried, simplest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: int = Field(ge=1)
    per_class: tuple[int, ...]
    folds: int = Field(ge=2)
    before: Quality
    after: Quality
    candidates: tuple[Candidate, ...]
