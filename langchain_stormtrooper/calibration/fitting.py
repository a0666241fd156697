"""Fitting a calibration to labelled texts: how candidates are compared, and what is reported.

Pure, and the only room that needs scikit-learn (with numpy and scipy), which it imports when it is called. Candidates,
from simple to rich: the probabilities as they are; divided by a prior; temperature and bias; a logistic head. They
are compared by log loss on texts that a fit has not seen, since accuracy alone is blind to overconfidence and too
coarse for a few dozen texts. With so few texts the best of a dozen is often best by luck: candidates that do about as
well are averaged instead, which is one map again (pseudo-BMA weights, Yao et al. 2018, arXiv 1704.02030).
"""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.calibration import maps
from langchain_stormtrooper.calibration.candidates import Kind, trials
from langchain_stormtrooper.calibration.metrics import brier_score, expected_calibration_error
from langchain_stormtrooper.calibration.priors import FLOOR
from langchain_stormtrooper.calibration.report import CalibrationReport, Candidate, Quality
from langchain_stormtrooper.calibration.state import Calibration
from langchain_stormtrooper.calibration.thresholds import Threshold
from langchain_stormtrooper.errors import ConfigurationError, LabelError, MissingExtraError

if TYPE_CHECKING:
    from langchain_stormtrooper.calibration.maps import Array, Indices, LinearMap

_FOLDS = 10
_FEWER_FOLDS_FROM = 300
_FLATTENING = 4.0
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Fitted:
    """What labelled texts taught.

    Attributes:
        kind: As in `Calibration`: the richest of the maps that have a share.
        parameters: The fields of `Calibration` that the kind has.
        report: Figures before and after, and what was tried.
        out_of_fold: n×K probabilities of the labelled texts, each by maps that were fitted without it and
            weighted by their losses on other texts: what a threshold is to be chosen on.
    """

    kind: Kind
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


def fit(
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    prior: Sequence[float] | None = None,
    seed: int = 0,
) -> Fitted:
    """Learn a calibration from labelled texts.

    Tried are the probabilities as they are, the prior alone, temperature and bias with four penalties and, from about
    four texts a label on, a logistic head with five. Each is fitted to all texts, and the scores of all are averaged,
    weighted by exp(−L/4), with L the summed log loss in stratified cross-validation: a clear winner stands alone. Ten
    folds, five from 300 texts on; a label's texts are spread over the folds, so that only a label with a single text is
    ever missing from a fit. The same arguments give the same result.

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
    require_packages()
    from threadpoolctl import threadpool_limits

    # On arrays as small as these, threads of BLAS spin while they wait for one another: six times the CPU.
    with threadpool_limits(1, user_api="blas"):
        return _fit(probabilities, labels, prior, seed)


def _fit(
    probabilities: Sequence[Sequence[float]], labels: Sequence[int], prior: Sequence[float] | None, seed: int
) -> Fitted:
    import numpy as np

    p, y = _read(probabilities, labels)
    size = p.shape[1]
    logs = np.log(np.maximum(p, FLOOR))
    tried = trials(len(y), size, None if prior is None else _read_prior(prior, size))
    folds = np.asarray(_folds(y.tolist(), seed))
    parts = [folds == fold for fold in range(max(folds) + 1)]
    held_out = np.empty((len(tried), *p.shape))
    for inside in parts:
        for index, trial in enumerate(tried):
            held_out[index, inside] = trial.fit(p[~inside], logs[~inside], y[~inside]).apply(logs[inside])
    log_held_out = np.log(np.maximum(held_out, FLOOR))
    losses = -log_held_out[:, np.arange(len(y)), y]
    out_of_fold = np.empty_like(p)
    for inside in parts:
        # As the other folds' losses would have it: being best on these texts by luck is no merit.
        shares = _shares(losses[:, ~inside].sum(axis=1))
        out_of_fold[inside] = maps.softmax(np.tensordot(shares, log_held_out[:, inside], 1))
    shares = _shares(losses.sum(axis=1))
    report = CalibrationReport(
        texts=len(y),
        per_class=tuple(np.bincount(y, minlength=size).tolist()),
        folds=len(parts),
        before=_quality(maps.softmax(logs), y),
        after=_quality(out_of_fold, y),
        candidates=tuple(
            Candidate(name=trial.name, log_loss=max(0.0, loss), weight=share)
            for trial, loss, share in zip(tried, losses.mean(axis=1).tolist(), shares.tolist(), strict=True)
        ),
    )
    used = [(trial, share) for trial, share in zip(tried, shares.tolist(), strict=True) if share > 0]
    mixed = maps.mix([trial.fit(p, logs, y) for trial, _ in used], [share for _, share in used])
    kinds = {trial.kind for trial, _ in used}
    kind: Kind = "logistic" if "logistic" in kinds else "temperature" if "temperature" in kinds else "prior"
    return Fitted(kind, _parameters(kind, mixed), report, tuple(map(tuple, out_of_fold.tolist())))


def require_packages() -> None:
    """Refuse to start without what fitting needs.

    Raises:
        MissingExtraError: The extra `sklearn` is not installed.
    """
    try:
        import numpy  # noqa: F401
        import sklearn.metrics  # noqa: F401  # which needs scipy
    except ImportError:
        raise MissingExtraError("calibrate() with labels", "sklearn") from None


def _shares(losses: Array) -> Array:
    """Weights of candidates by their summed log loss: for each 4 more, e times less; those under 1 % are dropped."""
    import numpy as np

    weights: Array = np.exp((losses.min() - losses) / _FLATTENING)
    weights[weights < _LEAST_SHARE * weights.sum()] = 0
    weights /= weights.sum()
    return weights


def _folds(labels: Sequence[int], seed: int) -> list[int]:
    """The fold of every text: each label's texts in random order, dealt out in turn."""
    folds = min(len(labels), _FOLDS if len(labels) < _FEWER_FOLDS_FROM else _FOLDS // 2)
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    order = list(range(len(labels)))
    generator.shuffle(order)
    order.sort(key=labels.__getitem__)
    dealt = [0] * len(labels)
    for turn, position in enumerate(order):
        dealt[position] = turn % folds
    return dealt


def _parameters(kind: str, fitted: LinearMap) -> dict[str, Any]:
    if kind == "prior":
        return {"prior": tuple(maps.softmax(-fitted.bias[None])[0].tolist())}
    bias = tuple((fitted.bias - fitted.bias.mean()).tolist())
    if fitted.weights is None:
        return {"temperature": 1 / fitted.slope, "bias": bias}
    # Softmax does not see what all rows share, which is the same in every column.
    weights = fitted.weights - fitted.weights.mean()
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
        log_loss=float(-np.log(np.minimum(probabilities[rows, labels], 1.0)).mean()),
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
    # Its scale cancels in every map.
    floored: Array = np.maximum(lean, FLOOR)
    return floored
