"""Fitting a calibration to labelled texts: what to try, how to choose, what to report.

Pure, and the only room that needs scikit-learn (with numpy and scipy), which it imports when it is called. Candidates,
from simple to rich: the probabilities as they are; divided by a prior; temperature and bias; a logistic head. They
are compared by log loss on texts that a fit has not seen, since accuracy alone is blind to overconfidence and too
coarse for a few dozen texts.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_stormtrooper.calibration import maps
from langchain_stormtrooper.calibration.metrics import brier_score, expected_calibration_error
from langchain_stormtrooper.calibration.report import CalibrationReport, Candidate, Quality
from langchain_stormtrooper.calibration.state import FLOOR, Calibration
from langchain_stormtrooper.calibration.thresholds import Threshold
from langchain_stormtrooper.errors import ConfigurationError, LabelError, MissingExtraError

if TYPE_CHECKING:
    from langchain_stormtrooper.calibration.maps import Array, Indices, LinearMap

FOLDS = 10
TEXTS_FOR_HEAD = 4
"""Labelled texts, for each label on average, from which on the logistic head is tried."""

_TEMPERATURE_PENALTIES = (100.0, 10.0, 1.0, 0.1)
_HEAD_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FEWER_FOLDS_FROM = 300


@dataclass(frozen=True, slots=True)
class Fitted:
    """What labelled texts taught.

    Attributes:
        kind: As in `Calibration`.
        parameters: The fields of `Calibration` that the kind has.
        report: Figures before and after, and what was tried.
        out_of_fold: n×K probabilities of the labelled texts, each by a map that was fitted and chosen without it:
            what a threshold is to be chosen on.
    """

    kind: Literal["prior", "temperature", "logistic"]
    parameters: Mapping[str, Any]
    report: CalibrationReport
    out_of_fold: tuple[tuple[float, ...], ...]

    def calibration(
        self, labels: Sequence[str], task: str, model_id: str | None, threshold: Threshold | None = None
    ) -> Calibration:
        """The state to keep.

        Args:
            labels: The K labels.
            task: As in `Calibration`.
            model_id: As in `Calibration`.
            threshold: As in `Calibration`.
        """
        return Calibration(
            labels=tuple(labels),
            task=task,
            model_id=model_id,
            kind=self.kind,
            threshold=threshold,
            report=self.report,
            **self.parameters,
        )


@dataclass(frozen=True, slots=True)
class _Trial:
    """One way to get a map from texts.

    Attributes:
        name: For the report.
        kind: What it gives.
        penalty: Of the fit; None for a prior.
        prior: The prior to divide by, or to start from; None for the one that matches the texts.
    """

    name: str
    kind: Literal["prior", "temperature", "logistic"]
    penalty: float | None
    prior: Array | None

    def fit(self, probabilities: Array, logs: Array, labels: Indices) -> LinearMap:
        prior = maps.matched_prior(probabilities, labels) if self.prior is None else self.prior
        if self.penalty is None:
            return maps.divide(prior)
        return maps.fit_linear(logs, labels, prior, penalty=self.penalty, full=self.kind == "logistic")


def fit(
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    prior: Sequence[float] | None = None,
    seed: int = 0,
) -> Fitted:
    """Learn a calibration from labelled texts.

    Tried are the probabilities as they are, the prior alone, temperature and bias with four penalties and, from about
    four texts a label on, a logistic head with six; whichever has the least log loss in stratified cross-validation
    is fitted to all texts. Ten folds, five from 300 texts on; a label's texts are spread over the folds, so that only
    a label with a single text is ever missing from a fit. The same arguments give the same result.

    The labels' shares among these texts are taken for those of the texts to come.

    Args:
        probabilities: n rows of K probabilities, as the model gives them.
        labels: n indices of the true labels.
        prior: K probabilities, from unlabelled texts or bags of words, that fits start from; None for the mean over
            the labelled texts, set against how often labels occur.
        seed: Decides which texts share a fold.

    Raises:
        MissingExtraError: The extra `sklearn` is not installed.
        LabelError: Fewer than two labels occur, or an index names no label.
        ConfigurationError: There are no texts, or lengths differ, or numbers are not probabilities.
    """
    try:
        import numpy as np
        import sklearn.metrics  # noqa: F401  # which needs scipy
    except ImportError:
        raise MissingExtraError("calibrate with labels", "sklearn") from None
    p, y = _read(probabilities, labels)
    size = p.shape[1]
    logs = np.log(np.maximum(p, FLOOR))
    trials = _trials(len(y), size, None if prior is None else _read_prior(prior, size))
    folds = _folds(y.tolist(), seed)
    held_out = np.empty((len(trials), *p.shape))
    for fold in sorted(set(folds)):
        inside = np.asarray(folds) == fold
        for index, trial in enumerate(trials):
            fitted = trial.fit(p[~inside], logs[~inside], y[~inside])
            held_out[index, inside] = fitted.apply(logs[inside])
    losses = -np.log(np.maximum(held_out[:, np.arange(len(y)), y], FLOOR))
    # What a fold reports is by the map that the other folds would choose.
    out_of_fold = np.empty_like(p)
    for fold in sorted(set(folds)):
        inside = np.asarray(folds) == fold
        out_of_fold[inside] = held_out[losses[:, ~inside].sum(axis=1).argmin(), inside]
    best = int(losses.mean(axis=1).argmin())
    candidates = zip(trials, losses.mean(axis=1).tolist(), strict=True)
    report = CalibrationReport(
        texts=len(y),
        per_class=tuple(np.bincount(y, minlength=size).tolist()),
        folds=len(set(folds)),
        before=_quality(maps.softmax(logs), y),
        after=_quality(out_of_fold, y),
        candidates=tuple(
            Candidate(name=trial.name, log_loss=loss, chosen=index == best)
            for index, (trial, loss) in enumerate(candidates)
        ),
    )
    chosen = trials[best]
    parameters = _parameters(chosen.kind, chosen.fit(p, logs, y))
    return Fitted(chosen.kind, parameters, report, tuple(map(tuple, out_of_fold.tolist())))


def _trials(texts: int, size: int, given: Array | None) -> list[_Trial]:
    import numpy as np

    trials = [_Trial("as they are", "prior", None, np.full(size, 1 / size))]
    if given is not None:
        trials.append(_Trial("given prior", "prior", None, given))
    trials.append(_Trial("prior of the labelled texts", "prior", None, None))
    trials += [
        _Trial(f"temperature and bias, penalty {penalty:g}", "temperature", penalty, given)
        for penalty in _TEMPERATURE_PENALTIES
    ]
    if texts >= TEXTS_FOR_HEAD * size:
        trials += [_Trial(f"logistic, C = {c:g}", "logistic", 1 / c, given) for c in _HEAD_STRENGTHS]
    return trials


def _folds(labels: Sequence[int], seed: int) -> list[int]:
    """The fold of every text: each label's texts in random order, dealt out in turn."""
    folds = min(len(labels), FOLDS if len(labels) < _FEWER_FOLDS_FROM else FOLDS // 2)
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    order = list(range(len(labels)))
    generator.shuffle(order)
    order.sort(key=labels.__getitem__)
    dealt = [0] * len(labels)
    for turn, position in enumerate(order):
        dealt[position] = turn % folds
    return dealt


def _parameters(kind: str, fitted: LinearMap) -> dict[str, Any]:
    import numpy as np

    if kind == "prior":
        return {"prior": tuple(maps.softmax(-fitted.bias[None])[0].tolist())}
    bias = tuple((fitted.bias - fitted.bias.mean()).tolist())
    if fitted.weights is None:
        return {"temperature": 1 / fitted.slope, "bias": bias}
    # Softmax does not see what all rows share.
    weights = fitted.weights - np.mean(fitted.weights, axis=0)
    return {"weights": tuple(map(tuple, weights.tolist())), "bias": bias}


def _quality(probabilities: Array, labels: Indices) -> Quality:
    import numpy as np
    from sklearn.metrics import accuracy_score, f1_score

    answers = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    confidences = np.minimum(probabilities[rows, answers], 1.0).tolist()
    return Quality(
        accuracy=float(accuracy_score(labels, answers)),
        macro_f1=float(f1_score(labels, answers, average="macro")),
        ece=expected_calibration_error(confidences, (answers == labels).tolist()),
        brier=brier_score(probabilities.tolist(), labels.tolist()),
        log_loss=float(-np.log(np.clip(probabilities[rows, labels], FLOOR, 1.0)).mean()),
    )


def _read(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> tuple[Array, Indices]:
    import numpy as np

    if len(probabilities) != len(labels):
        raise ConfigurationError(f"There are {len(probabilities)} texts and {len(labels)} labels: pass one for each.")
    if not len(labels):
        raise ConfigurationError("There are no labelled texts to calibrate with: pass some, of every label.")
    size = len(probabilities[0])
    if size < 2 or any(len(row) != size for row in probabilities):
        raise ConfigurationError("Every text needs one probability for each label, and there are at least two.")
    p = np.asarray(probabilities, dtype=np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and (p.sum(axis=1) > 0).all()):
        raise ConfigurationError("Probabilities must be finite numbers of at least 0, and not all 0.")
    indices = [operator.index(label) for label in labels]
    wrong = sorted({index for index in indices if not 0 <= index < size})
    if wrong:
        raise LabelError(f"Labels must be indices from 0 to {size - 1}, and there is {wrong[0]}.")
    if len(set(indices)) < 2:
        raise LabelError("All labelled texts have the same label: add texts of the others.")
    return p / p.sum(axis=1, keepdims=True), np.asarray(indices, dtype=np.intp)


def _read_prior(prior: Sequence[float], size: int) -> Array:
    import numpy as np

    lean = np.asarray(prior, dtype=np.float64)
    if lean.shape != (size,) or not np.isfinite(lean).all() or (lean < 0).any() or not lean.any():
        raise ConfigurationError(f"The prior must be {size} probabilities, one for each label.")
    lean = np.maximum(lean, FLOOR)
    normalized: Array = lean / lean.sum()
    return normalized
