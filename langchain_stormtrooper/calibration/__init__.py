"""Calibration: from the probabilities a model gives to probabilities that can be believed.

Pure: nothing here asks a model, reads a text, or does I/O but for `Calibration.save` and `load`. `priors` takes out how
a model leans towards labels; `fitting` learns a map from labelled texts, out of `candidates`, by the penalised fits of
`maps`; `state` is what was learnt, applied to every row without numpy; `thresholds` says from which confidence on to
answer; `metrics` and `report` say how good it is. Called by `answering` and the classifiers.
"""

from langchain_stormtrooper.calibration.fitting import Fitted, fit, require_packages
from langchain_stormtrooper.calibration.metrics import brier_score, expected_calibration_error
from langchain_stormtrooper.calibration.priors import (
    PRIOR_TEXTS,
    WORD_BAGS,
    PriorName,
    content_free_texts,
    divide_by_prior,
    geometric_mean,
    mean_distribution,
    one_sided,
    prior_beside_option,
    word_bags,
)
from langchain_stormtrooper.calibration.report import CalibrationReport, Candidate, Quality
from langchain_stormtrooper.calibration.state import Calibration
from langchain_stormtrooper.calibration.thresholds import (
    DECIDES_NOTHING,
    Threshold,
    check_promise,
    choose_threshold,
    fewest_texts,
)

__all__ = [
    "DECIDES_NOTHING",
    "PRIOR_TEXTS",
    "WORD_BAGS",
    "Calibration",
    "CalibrationReport",
    "Candidate",
    "Fitted",
    "PriorName",
    "Quality",
    "Threshold",
    "brier_score",
    "check_promise",
    "choose_threshold",
    "content_free_texts",
    "divide_by_prior",
    "expected_calibration_error",
    "fewest_texts",
    "fit",
    "geometric_mean",
    "mean_distribution",
    "one_sided",
    "prior_beside_option",
    "require_packages",
    "word_bags",
]
