"""The penalised fits: gradients, optimality, and scikit-learn's logistic regression as oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from sklearn.linear_model import LogisticRegression

from langchain_stormtrooper.calibration import maps
from langchain_stormtrooper.calibration.maps import LinearMap

if TYPE_CHECKING:
    from langchain_stormtrooper.calibration.maps import Array, Indices

SIZES = st.tuples(st.integers(2, 5), st.integers(2, 40), st.integers(0, 10_000))


def sample(size: int, texts: int, seed: int) -> tuple[Array, Indices, Array]:
    """Log-probabilities, labels that have to do with them, and a prior."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(size, size=texts)
    scores = generator.normal(size=(texts, size)) + 1.5 * np.eye(size)[labels] + generator.normal(size=size)
    logs: Array = log_softmax(scores, axis=1)
    prior: Array = generator.dirichlet(np.full(size, 3.0))
    return logs, labels, prior


def slow_loss(parameters: Array, logs: Array, labels: Indices, prior: Array, penalty: float, full: bool) -> float:
    """What is minimised, text by text, from its definition."""
    size = logs.shape[1]
    slope, bias = np.exp(parameters[0]), parameters[1 : size + 1]
    matrix = parameters[size + 1 :].reshape(size, size) if full else np.zeros((size, size))
    loss = penalty / 2 * (np.sum(bias**2) + np.sum(matrix**2)) + parameters[0] ** 2 * maps._SLOPE_PENALTY / 2
    for row, label in zip(logs, labels, strict=True):
        x = row - np.log(prior)
        x = x - x.mean()
        loss -= log_softmax(slope * x + matrix @ x + bias)[label]
    return float(loss)


@settings(max_examples=30)
@given(SIZES, st.booleans())
def test_the_gradient_is_that_of_the_loss(case: tuple[int, int, int], full: bool) -> None:
    """Loss and gradient agree with the definition and with finite differences."""
    logs, labels, prior = sample(*case)
    size = case[0]
    x = logs - np.log(prior)
    x = x - x.mean(axis=1, keepdims=True)
    truth = np.eye(size)[labels]
    at = np.random.default_rng(1).normal(scale=0.3, size=1 + size + (size * size if full else 0))
    assert maps._loss(at, x, truth, 0.7)[0] == pytest.approx(slow_loss(at, logs, labels, prior, 0.7, full))
    difference = check_grad(lambda t: maps._loss(t, x, truth, 0.7)[0], lambda t: maps._loss(t, x, truth, 0.7)[1], at)
    assert difference < 1e-4 * max(1, len(labels))


@settings(max_examples=15)
@given(st.tuples(st.integers(2, 3), st.integers(4, 20), st.integers(0, 1000)), st.booleans())
def test_the_fit_is_where_a_slow_search_ends(case: tuple[int, int, int], full: bool) -> None:
    """A search without gradients on the definition finds the same probabilities."""
    logs, labels, prior = sample(*case)
    size = case[0]
    slow = minimize(
        slow_loss,
        np.zeros(1 + size + (size * size if full else 0)),
        args=(logs, labels, prior, 2.0, full),
        method="BFGS",
    ).x
    x = logs - np.log(prior)
    x = x - x.mean(axis=1, keepdims=True)
    matrix = slow[size + 1 :].reshape(size, size) if full else np.zeros((size, size))
    expected = scipy_softmax(np.exp(slow[0]) * x + x @ matrix.T + slow[1 : size + 1], axis=1)
    assert maps.fit_linear(logs, labels, prior, penalty=2.0, full=full).apply(logs) == pytest.approx(expected, abs=2e-3)


@settings(max_examples=20)
@given(st.tuples(st.integers(3, 5), st.integers(20, 60), st.integers(0, 1000)), st.sampled_from([0.1, 1.0, 3.0]))
def test_from_nothing_the_head_is_scikit_learns(case: tuple[int, int, int], strength: float) -> None:
    """With the pull towards even instead of towards the prior's correction, it is multinomial logistic regression.

    The slope is held at e^-20, and the oracle's intercept is a column of ones, so that it is penalised as ours is.
    """
    logs, labels, prior = sample(*case)
    size = case[0]
    labels[:size] = np.arange(size)
    x = logs - np.log(prior)
    x = x - x.mean(axis=1, keepdims=True)
    ours = minimize(
        maps._loss,
        [-20.0, *np.zeros(size + size * size)],
        args=(x, np.eye(size)[labels], 1 / strength),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-20, -20)] + [(None, None)] * (size + size * size),
        options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9},
    ).x
    probabilities = scipy_softmax(x @ ours[size + 1 :].reshape(size, size).T + ours[1 : size + 1], axis=1)
    features = np.hstack([x, np.ones((len(x), 1))])
    oracle = LogisticRegression(C=strength, fit_intercept=False, tol=1e-9, max_iter=5000).fit(features, labels)
    assert probabilities == pytest.approx(oracle.predict_proba(features), abs=1e-4)


@given(SIZES)
def test_a_large_penalty_leaves_the_prior(case: tuple[int, int, int]) -> None:
    """Where nothing may move but the slope, answers are the division by the prior, sharper or softer."""
    logs, labels, prior = sample(*case)
    fitted = maps.fit_linear(logs, labels, prior, penalty=1e9, full=True)
    expected = scipy_softmax(fitted.slope * (logs - np.log(prior)), axis=1)
    assert fitted.apply(logs) == pytest.approx(expected, abs=1e-4)


@given(SIZES)
def test_dividing_by_a_prior(case: tuple[int, int, int]) -> None:
    """The simplest map is Bayes' rule."""
    logs, _, prior = sample(*case)
    expected = np.exp(logs) / prior
    assert maps.divide(prior).apply(logs) == pytest.approx(expected / expected.sum(axis=1, keepdims=True))


@given(SIZES, st.floats(0, 1), st.booleans())
def test_mixing_maps_is_a_geometric_mean_of_answers(case: tuple[int, int, int], share: float, full: bool) -> None:
    """One map gives what pooling the answers of several gives."""
    logs, labels, prior = sample(*case)
    several = [maps.divide(prior), maps.fit_linear(logs, labels, prior, penalty=1, full=full)]
    mixed = maps.mix(several, [share, 1 - share])
    pooled = several[0].apply(logs) ** share * several[1].apply(logs) ** (1 - share)
    assert mixed.apply(logs) == pytest.approx(pooled / pooled.sum(axis=1, keepdims=True), abs=1e-9)
    assert (mixed.weights is not None) is full
    assert mixed.slope == pytest.approx(share * several[0].slope + (1 - share) * several[1].slope)
    alone = maps.mix(several[1:], [1.0])
    assert alone.apply(logs) == pytest.approx(several[1].apply(logs), abs=1e-9)


@given(SIZES)
def test_the_matched_prior_of_balanced_texts_is_their_mean(case: tuple[int, int, int]) -> None:
    """With as many texts of each label, it is batch calibration's prior."""
    logs, _, _ = sample(case[0], 3 * case[0], case[2])
    probabilities = np.exp(logs)
    labels = np.repeat(np.arange(case[0]), 3)
    assert maps.matched_prior(probabilities, labels) == pytest.approx(probabilities.mean(axis=0))


def test_the_matched_prior_takes_what_is_common_for_common() -> None:
    """A model that says 90 % where 90 % are of one label leans nowhere."""
    labels = np.array([0] * 89 + [1] * 9)
    probabilities = np.tile([0.9, 0.1], (98, 1))
    assert maps.matched_prior(probabilities, labels) == pytest.approx([0.5, 0.5])


def test_the_matched_prior_knows_labels_without_texts() -> None:
    """A label of which there is no text counts as one that has a single text more than none."""
    probabilities = np.tile([0.5, 0.3, 0.2], (4, 1))
    expected = np.array([0.5 / 3, 0.3 / 3, 0.2 / 1])
    assert maps.matched_prior(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(expected / expected.sum())


def test_the_slope_has_a_bound() -> None:
    """Scores that tell all with small differences are not multiplied without end."""
    labels = np.array([0, 1] * 500)
    logs = np.log(0.5 + 0.02 * np.array([[1, -1], [-1, 1]] * 500))
    fitted = maps.fit_linear(logs, labels, np.array([0.5, 0.5]), penalty=1.0, full=False)
    assert fitted.slope == pytest.approx(np.exp(4))


def test_the_loss_of_large_scores() -> None:
    """Texts are weighed each by itself: one with large scores takes nothing from the others."""
    loss, gradient = maps._loss(np.zeros(3), np.array([[1000.0, -1000.0], [0.0, 0.0]]), np.eye(2), 1.0)
    assert loss == pytest.approx(np.log(2))
    assert np.isfinite(gradient).all()


def test_softmax_of_large_scores() -> None:
    """Large scores overflow nothing."""
    assert maps.softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_a_map_without_weights_scales() -> None:
    """The slope alone multiplies log-probabilities."""
    doubled = LinearMap(2.0, None, np.zeros(2)).apply(np.log([[0.8, 0.2]]))
    assert doubled[0] == pytest.approx([0.64 / 0.68, 0.04 / 0.68])
