"""The classifiers as scikit-learn estimators, under the names that stormtrooper's users know.

`classes` reads labels as scikit-learn has them, `original` what stormtrooper's arguments mean here, `base` is what both
estimators do, `kinds` holds them. They wrap a Runnable and never ask a model, match or score anything themselves.
Needs the extra `sklearn`; nothing but `TextClassifier.as_estimator` and the package's public names imports it.
"""

from __future__ import annotations

from langchain_stormtrooper.errors import MissingExtraError

try:
    from langchain_stormtrooper.estimators.kinds import TGIFewShotClassifier, TGIZeroShotClassifier, estimator_of
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("numpy", "sklearn"):
        raise
    raise MissingExtraError("A scikit-learn estimator", "sklearn") from None

__all__ = ["TGIFewShotClassifier", "TGIZeroShotClassifier", "estimator_of"]
