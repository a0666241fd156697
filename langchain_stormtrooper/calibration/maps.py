"""The penalised fits: one temperature and a bias, or a whole matrix, both starting from the prior's correction.

Pure numpy and scipy, which the caller has made sure of; only `fitting` calls it. Scores x are log-probabilities minus
the log of a prior, centred per text. A map is softmax((a·I + D)·x + d): *temperature* has D = 0; *logistic* is
multinomial logistic regression on the labels' log-probabilities, in the form of Dirichlet calibration with penalties
off the diagonal and on the intercept (Kull et al. 2019, arXiv 1910.12656). Penalties pull towards a = 1, D = 0, d = 0,
which is the division by the prior: with few texts little changes, whereas plain logistic regression would fall back on
even probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = "NDArray[np.float64]"
    Indices: TypeAlias = "NDArray[np.intp]"

_SLOPE_PENALTY = 4.0
_SLOPE_BOUND = 4.0


@dataclass(frozen=True, slots=True)
class LinearMap:
    """softmax(weights · z + bias), with z the K log-probabilities of a text.

    Attributes:
        slope: a, the inverse of the temperature; the whole of the weights where `weights` is None.
        weights: K×K, or None.
        bias: K.
    """

    slope: float
    weights: Array | None
    bias: Array

    def apply(self, logs: Array) -> Array:
        """Probabilities, n×K, of texts given by their log-probabilities, n×K."""
        return softmax((self.slope * logs if self.weights is None else logs @ self.weights.T) + self.bias)


def softmax(scores: Array) -> Array:
    """Probabilities from scores, row by row."""
    import numpy as np

    weights: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def divide(prior: Array) -> LinearMap:
    """The map that divides by a prior of K probabilities above 0."""
    import numpy as np

    return LinearMap(1.0, None, -np.log(prior))


def mix(linear: Sequence[LinearMap], shares: Sequence[float]) -> LinearMap:
    """The map whose scores are the weighted mean of the maps' scores: their geometric mean, normalised.

    Args:
        linear: At least one.
        shares: As many weights, summing to 1.
    """
    import numpy as np

    pairs = list(zip(linear, shares, strict=True))
    bias: Array = sum((share * each.bias for each, share in pairs), start=np.zeros_like(linear[0].bias))
    slope = sum(share * each.slope for each, share in pairs)
    if all(each.weights is None for each in linear):
        return LinearMap(slope, None, bias)
    even: Array = np.eye(len(bias))
    weights: Array = sum(
        (share * (each.slope * even if each.weights is None else each.weights) for each, share in pairs),
        start=np.zeros_like(even),
    )
    return LinearMap(slope, weights, bias)


def matched_prior(probabilities: Array, labels: Indices) -> Array:
    """The prior whose removal makes the mean prediction agree with how often labels occur.

    The mean prediction over the texts, divided by the labels' frequencies (one text added to each). Where texts are
    balanced it is batch calibration's prior (Zhou et al. 2023, arXiv 2309.17249); where they are not, it does not take
    what is common for a lean.

    Args:
        probabilities: n×K.
        labels: n indices.

    Returns:
        K probabilities above 0.
    """
    import numpy as np

    counts = np.bincount(labels, minlength=probabilities.shape[1]) + 1.0
    prior: Array = np.maximum(probabilities.mean(axis=0), 1e-9) / counts
    prior /= prior.sum()
    return prior


def fit_linear(logs: Array, labels: Indices, prior: Array, *, penalty: float, full: bool) -> LinearMap:
    """The map of least penalised log loss.

    Minimises Σ −ln p(label) + penalty/2·(‖d‖² + ‖D‖²) + 2·(ln a)² with L-BFGS, from the division by the prior. The
    slope's own penalty is fixed: few texts suffice to tell a single number.

    Args:
        logs: Log-probabilities, n×K.
        labels: n indices; labels may be missing.
        prior: K probabilities to start from.
        penalty: Above 0; the more, the closer to the division by the prior.
        full: Whether to fit D too.
    """
    import numpy as np
    from scipy.optimize import minimize

    size = logs.shape[1]
    centre = np.eye(size) - 1 / size
    x = (logs - np.log(prior)) @ centre
    truth = np.eye(size)[labels]
    start = np.zeros(1 + size + (size * size if full else 0))
    bounds = [(-_SLOPE_BOUND, _SLOPE_BOUND)] + [(None, None)] * (len(start) - 1)
    solution = minimize(
        _loss, start, args=(x, truth, penalty), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}
    ).x
    slope = float(np.exp(solution[0]))
    shift = solution[1 : 1 + size]
    if not full:
        return LinearMap(slope, None, shift - slope * np.log(prior))
    # The centring of x becomes part of the weights.
    weights = (slope * np.eye(size) + solution[1 + size :].reshape(size, size)) @ centre
    return LinearMap(slope, weights, shift - weights @ np.log(prior))


def _loss(parameters: Array, x: Array, truth: Array, penalty: float) -> tuple[float, Any]:
    """The penalised loss and its gradient."""
    import numpy as np

    size = x.shape[1]
    slope, shift, matrix = np.exp(parameters[0]), parameters[1 : 1 + size], parameters[1 + size :]
    scores = slope * x + shift
    if matrix.size:
        scores = scores + x @ matrix.reshape(size, size).T
    highest = scores.max(axis=1, keepdims=True)
    log_sums = highest[:, 0] + np.log(np.exp(scores - highest).sum(axis=1))
    missed = np.exp(scores - log_sums[:, None]) - truth
    loss = (log_sums - (scores * truth).sum(axis=1)).sum()
    loss += penalty / 2 * (parameters[1:] ** 2).sum() + _SLOPE_PENALTY / 2 * parameters[0] ** 2
    parts = [[(missed * x).sum() * slope + _SLOPE_PENALTY * parameters[0]], missed.sum(axis=0) + penalty * shift]
    if matrix.size:
        parts.append((missed.T @ x).ravel() + penalty * matrix)
    return float(loss), np.concatenate(parts)
