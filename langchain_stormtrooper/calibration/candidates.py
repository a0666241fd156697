"""What is tried on labelled texts: the candidates, from simple to rich.

Pure; `fitting` compares them and is the only caller. A candidate is a way to get a map from texts, so that it can be
fitted anew for every fold of a cross-validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from langchain_stormtrooper.calibration import maps

if TYPE_CHECKING:
    from langchain_stormtrooper.calibration.maps import Array, Indices, LinearMap

Kind: TypeAlias = Literal["prior", "temperature", "logistic"]

TEXTS_FOR_HEAD = 4
"""Labelled texts, for each label on average, from which on the logistic head is tried."""

_TEMPERATURE_PENALTIES = (100.0, 10.0, 1.0, 0.1)
_HEAD_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to get a map from texts.

    Attributes:
        name: For the report.
        kind: What it gives.
        penalty: Of the fit; None for a prior alone.
        prior: The prior to divide by, or to start from; None for the one that matches the texts.
    """

    name: str
    kind: Kind
    penalty: float | None
    prior: Array | None

    def fit(self, probabilities: Array, logs: Array, labels: Indices) -> LinearMap:
        """The map that n texts teach.

        Args:
            probabilities: n×K.
            logs: Their natural logarithms.
            labels: n indices.
        """
        prior = maps.matched_prior(probabilities, labels) if self.prior is None else self.prior
        if self.penalty is None:
            return maps.divide(prior)
        return maps.fit_linear(logs, labels, prior, penalty=self.penalty, full=self.kind == "logistic")


def trials(texts: int, size: int, given: Array | None) -> list[Trial]:
    """What to try.

    Args:
        texts: How many labelled texts there are.
        size: How many labels, K.
        given: A prior of K probabilities that the caller knows; None if there is none.
    """
    import numpy as np

    tried = [Trial("as they are", "prior", None, np.full(size, 1 / size))]
    if given is not None:
        tried.append(Trial("given prior", "prior", None, given))
    tried.append(Trial("prior of the labelled texts", "prior", None, None))
    tried += [
        Trial(f"temperature and bias, penalty {penalty:g}", "temperature", penalty, given)
        for penalty in _TEMPERATURE_PENALTIES
    ]
    if texts >= TEXTS_FOR_HEAD * size:
        tried += [Trial(f"logistic, C = {c:g}", "logistic", 1 / c, given) for c in _HEAD_STRENGTHS]
    return tried
