"""Fitting with labels: better probabilities, honest figures, and no harm from few texts."""

from __future__ import annotations

import math
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from langchain_stormtrooper.calibration import (
    Fitted,
    brier_score,
    choose_threshold,
    expected_calibration_error,
    fit,
    maps,
)
from langchain_stormtrooper.calibration.candidates import trials
from langchain_stormtrooper.calibration.fitting import _folds, _shares
from langchain_stormtrooper.errors import ConfigurationError, LabelError, MissingExtraError

TASK = "0" * 64
Array = NDArray[np.float64]


def world(size: int, seed: int, *, slope: float = 2.0, lean: float = 1.5) -> tuple[Array, NDArray[np.intp]]:
    """2,000 texts whose true probabilities a model distorts: too sure (slope > 1), and leaning to the last labels."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, (2000, size))
    labels = (maps.softmax(scores).cumsum(axis=1) > generator.random((2000, 1))).argmax(axis=1)
    return maps.softmax(slope * scores + lean * np.linspace(-1, 1, size)), labels


def split(labels: NDArray[np.intp], each: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The first texts of every label, and which texts are left."""
    chosen = np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(labels.max() + 1)])
    left = np.ones(len(labels), dtype=bool)
    left[chosen] = False
    return chosen, left


def fit_some(size: int, seed: int, each: int, **distortion: float) -> tuple[Fitted, Array, Array, NDArray[np.intp]]:
    """A fit on some texts of each label, and the others' probabilities before and after, with their labels."""
    probabilities, labels = world(size, seed, **distortion)
    chosen, left = split(labels, each)
    fitted = fit(probabilities[chosen].tolist(), labels[chosen].tolist())
    calibration = fitted.calibration([str(label) for label in range(size)], TASK, None)
    after = np.array([calibration.apply(row) for row in probabilities[left].tolist()])
    return fitted, probabilities[left], after, labels[left]


def ece(probabilities: Array, labels: NDArray[np.intp]) -> float:
    """The calibration error of the best labels."""
    return expected_calibration_error(
        np.minimum(probabilities.max(axis=1), 1).tolist(), (probabilities.argmax(axis=1) == labels).tolist()
    )


@pytest.mark.parametrize("size", [2, 5, 10])
def test_eight_texts_a_label_calibrate(size: int) -> None:
    """On texts not seen, accuracy, log loss and calibration error are better than the raw ones, in the mean."""
    figures = []
    for seed in range(4):
        _, raw, after, labels = fit_some(size, seed, 8)
        names = list(range(size))
        figures.append(
            (
                accuracy_score(labels, after.argmax(axis=1)) - accuracy_score(labels, raw.argmax(axis=1)),
                log_loss(labels, raw, labels=names) - log_loss(labels, after, labels=names),
                ece(raw, labels) / 2 - ece(after, labels),
            )
        )
    assert (np.mean(figures, axis=0) > 0).all()


@pytest.mark.parametrize("size", [2, 5, 10])
def test_eight_texts_a_label_do_little_harm_to_perfect_scores(size: int) -> None:
    """Where there is nothing to correct, log loss grows by no more than a tenth of a unit, in the mean."""
    harms = []
    for seed in range(4):
        _, raw, after, labels = fit_some(size, seed, 8, slope=1.0, lean=0.0)
        harms.append(log_loss(labels, after) - log_loss(labels, raw))
    assert np.mean(harms) < 0.1


def test_with_many_texts_the_truth_is_found() -> None:
    """From 600 texts the distortion is undone: temperature 2, and what the model leans to."""
    probabilities, labels = world(3, 0)
    fitted, raw, after, left = fit_some(3, 0, 200)
    truth = maps.softmax(np.log(probabilities) / 2 - 0.75 * np.linspace(-1, 1, 3))
    assert np.abs(after - truth[split(labels, 200)[1]]).mean() < 0.02
    assert ece(after, left) < 0.03 < ece(raw, left)
    assert fitted.report.folds == 5


def test_the_report_is_honest() -> None:
    """Over some fits, figures out of fold agree with those on texts not seen; accuracy and loss are not flattered."""
    differences = []
    for seed in range(6):
        fitted, _, after, labels = fit_some(5, seed, 8)
        report = fitted.report.after
        differences.append(
            (accuracy_score(labels, after.argmax(axis=1)) - report.accuracy, report.log_loss - log_loss(labels, after))
        )
    assert (np.abs(np.mean(differences, axis=0)) < (0.06, 0.12)).all()


def test_the_reports_figures_are_scikit_learns() -> None:
    """Each figure is what scikit-learn or `metrics` says of the probabilities before, and of those out of fold."""
    probabilities, labels = world(4, 1)
    chosen, _ = split(labels, 6)
    fitted = fit(probabilities[chosen].tolist(), labels[chosen].tolist())
    for quality, rows in ((fitted.report.before, probabilities[chosen]), (fitted.report.after, fitted.out_of_fold)):
        answers = np.argmax(rows, axis=1)
        assert quality.accuracy == accuracy_score(labels[chosen], answers)
        assert quality.macro_f1 == pytest.approx(f1_score(labels[chosen], answers, average="macro"))
        assert quality.ece == pytest.approx(ece(np.asarray(rows), labels[chosen]))
        assert quality.brier == pytest.approx(brier_score([[*row] for row in rows], labels[chosen].tolist()))
        assert quality.log_loss == pytest.approx(log_loss(labels[chosen], np.asarray(rows)))
    assert (fitted.report.texts, fitted.report.per_class, fitted.report.folds) == (24, (6, 6, 6, 6), 10)


def test_a_text_is_not_fitted_to_its_own_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another label for a text moves no probability of its fold, and all others, where weights are held."""
    probabilities, labels = world(2, 3)
    rows, before = probabilities[:40].tolist(), labels[:40].tolist()
    monkeypatch.setattr("langchain_stormtrooper.calibration.fitting._folds", lambda *_: [i % 4 for i in range(40)])
    # One candidate has all the weight, so that weights cannot differ.
    monkeypatch.setattr("langchain_stormtrooper.calibration.fitting._shares", lambda losses: np.eye(len(losses))[-1])
    one, other = fit(rows, before), fit(rows, [1 - before[0], *before[1:]])
    same = [
        pair[0] == pytest.approx(pair[1], abs=1e-6) for pair in zip(one.out_of_fold, other.out_of_fold, strict=True)
    ]
    assert same == [index % 4 == 0 for index in range(40)]


def test_scores_that_know_nothing_are_reported_as_such() -> None:
    """Out of fold, scores that know nothing of the labels are no better than even probabilities."""
    losses = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        rows = maps.softmax(generator.normal(0, 1, (40, 4)))
        losses.append(fit(rows.tolist(), [index % 4 for index in range(40)]).report.after.log_loss)
    assert np.mean(losses) > math.log(4)


def test_the_same_arguments_give_the_same_fit() -> None:
    """A fit is a function of its arguments, and the seed only moves the folds."""
    probabilities, labels = world(3, 2)
    rows, truths = probabilities[:30].tolist(), labels[:30].tolist()
    assert fit(rows, truths) == fit(rows, truths, seed=0)
    assert fit(rows, truths, seed=4).out_of_fold != fit(rows, truths, seed=5).out_of_fold


def test_the_head_comes_with_four_texts_a_label() -> None:
    """With fewer texts than four times the labels, no logistic head is tried; the weights sum to 1."""
    probabilities, labels = world(3, 5)
    for texts, heads in ((11, 0), (12, 5)):
        report = fit(probabilities[:texts].tolist(), labels[:texts].tolist()).report
        assert sum(candidate.name.startswith("logistic") for candidate in report.candidates) == heads
        assert math.isclose(sum(candidate.weight for candidate in report.candidates), 1)
        best = min(report.candidates, key=lambda candidate: candidate.log_loss)
        assert best.weight == max(candidate.weight for candidate in report.candidates)


def test_a_given_prior_is_tried_and_started_from() -> None:
    """A prior that the caller knows is among the candidates, and with few texts decides most."""
    probabilities, labels = world(2, 7, slope=1.0)
    chosen, left = split(labels, 3)
    truth = maps.softmax(np.array([[-1.5, 1.5]]))[0]
    rows = probabilities[chosen].tolist()
    known = fit(rows, labels[chosen].tolist(), prior=truth.tolist())
    assert "given prior" in {candidate.name for candidate in known.report.candidates}
    misled = fit(rows, labels[chosen].tolist(), prior=truth[::-1].tolist())
    losses = [
        log_loss(
            labels[left],
            np.array([fitted.calibration(["a", "b"], TASK, None).apply(row) for row in probabilities[left]]),
        )
        for fitted in (known, misled)
    ]
    assert losses[0] < losses[1]


def test_a_label_may_have_nothing_of_a_prior() -> None:
    """A prior of 0 is raised to what can be divided by, as probabilities are."""
    fitted = fit([[0.6, 0.4], [0.1, 0.9], [0.7, 0.3]], [0, 1, 0], prior=[1.0, 0.0])
    assert "given prior" in {candidate.name for candidate in fitted.report.candidates}


def test_the_calibration_is_the_map_of_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one candidate has all the weight, what is kept gives what its map gives, in the form that sums to 0."""
    probabilities, labels = world(3, 6)
    p, y = probabilities[:12], labels[:12]
    prior = np.array([0.5, 0.3, 0.2])
    for winner, trial in enumerate(trials(12, 3, prior)):
        monkeypatch.setattr(
            "langchain_stormtrooper.calibration.fitting._shares",
            lambda losses, winner=winner: np.eye(len(losses))[winner],
        )
        fitted = fit(p.tolist(), y.tolist(), prior=prior.tolist())
        calibration = fitted.calibration(["a", "b", "c"], TASK, None)
        assert calibration.kind == trial.kind
        expected = trial.fit(p, np.log(p), y).apply(np.log(p))
        assert np.array([calibration.apply(row) for row in p.tolist()]) == pytest.approx(expected)
        # Softmax does not see what all scores share.
        assert np.sum(calibration.bias or 0) == pytest.approx(0, abs=1e-9)
        assert np.sum(calibration.weights or 0, axis=0) == pytest.approx(0, abs=1e-9)


def test_the_calibration_of_several_is_their_geometric_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates of all kinds that share the weight are one map, in the form that sums to 0."""
    probabilities, labels = world(3, 6)
    p, y = probabilities[:12], labels[:12]
    monkeypatch.setattr(
        "langchain_stormtrooper.calibration.fitting._shares", lambda losses: np.full(len(losses), 1 / len(losses))
    )
    calibration = fit(p.tolist(), y.tolist()).calibration(["a", "b", "c"], TASK, None)
    answers = [trial.fit(p, np.log(p), y).apply(np.log(p)) for trial in trials(12, 3, None)]
    expected = maps.softmax(np.log(answers).mean(axis=0))
    assert np.array([calibration.apply(row) for row in p.tolist()]) == pytest.approx(expected)
    assert calibration.weights is not None
    assert np.sum(calibration.weights, axis=0) == pytest.approx(0, abs=1e-9)


def test_what_is_tried() -> None:
    """From simple to rich: nothing, priors, temperatures and, where texts suffice, heads."""
    known, unknown = trials(12, 3, np.array([0.5, 0.3, 0.2])), trials(11, 3, None)
    assert [(trial.name, trial.kind, trial.penalty) for trial in known] == [
        ("as they are", "prior", None),
        ("given prior", "prior", None),
        ("prior of the labelled texts", "prior", None),
        ("temperature and bias, penalty 100", "temperature", 100),
        ("temperature and bias, penalty 10", "temperature", 10),
        ("temperature and bias, penalty 1", "temperature", 1),
        ("temperature and bias, penalty 0.1", "temperature", 0.1),
        ("logistic, C = 0.03", "logistic", 1 / 0.03),
        ("logistic, C = 0.1", "logistic", 10),
        ("logistic, C = 0.3", "logistic", 1 / 0.3),
        ("logistic, C = 1", "logistic", 1),
        ("logistic, C = 3", "logistic", 1 / 3),
    ]
    assert [trial.name for trial in unknown] == [trial.name for trial in (known[0], *known[2:7])]


@pytest.mark.parametrize("given", [None, [0.5, 0.3, 0.2]])
def test_what_a_candidate_starts_from(given: list[float] | None) -> None:
    """Priors are divided by, and fits start from the one given, else from the one that the texts show."""
    probabilities, labels = world(3, 8)
    p, y = probabilities[:12], labels[:12]
    logs, shown = np.log(p), maps.matched_prior(p, y)
    start = shown if given is None else np.array(given)
    for trial in trials(12, 3, None if given is None else start):
        if trial.penalty is None:
            divided = p / {"as they are": 1.0, "given prior": start, "prior of the labelled texts": shown}[trial.name]
            expected = divided / divided.sum(axis=1, keepdims=True)
        else:
            full = trial.name.startswith("logistic")
            expected = maps.fit_linear(logs, y, start, penalty=trial.penalty, full=full).apply(logs)
        assert trial.fit(p, logs, y).apply(logs) == pytest.approx(expected)


def test_a_fit_becomes_a_calibration_of_its_task() -> None:
    """What is kept says for which labels, task and model, from which confidence on, and how well."""
    fitted = fit([[0.6, 0.4], [0.1, 0.9], [0.7, 0.3]], [0, 1, 0])
    threshold = choose_threshold([0.9], [True], 0.5)
    calibration = fitted.calibration(["a", "b"], TASK, "m", threshold)
    assert (calibration.labels, calibration.task, calibration.model_id) == (("a", "b"), TASK, "m")
    assert (calibration.threshold, calibration.report) == (threshold, fitted.report)


def test_weights_of_candidates() -> None:
    """For each 4 that a log loss is higher the weight is e times less; under a hundredth of all it is dropped."""
    shares = _shares(np.array([16.0, 0.0, 4.0, 4 * math.log(1 / 0.012)]))
    weights = np.array([math.exp(-4), 1, math.exp(-1), 0])
    assert shares == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize(("texts", "number"), [(9, 9), (10, 10), (299, 10), (300, 5)])
def test_numbers_of_folds(texts: int, number: int) -> None:
    """Ten, fewer where there are fewer texts, and five from 300 on."""
    assert set(_folds([0] * texts, 0)) == set(range(number))


def test_the_scale_of_a_prior_makes_no_difference() -> None:
    """A prior that does not sum to 1 is the prior that it stands for."""
    probabilities, labels = world(3, 4)
    rows, truths = probabilities[:20].tolist(), labels[:20].tolist()
    one, ten = (fit(rows, truths, prior=[scale * lean for lean in (0.6, 0.3, 0.1)]) for scale in (1, 10))
    assert np.asarray(ten.out_of_fold) == pytest.approx(np.asarray(one.out_of_fold), abs=1e-6)


def test_the_scale_of_a_row_makes_no_difference() -> None:
    """Rows that do not sum to 1 count like others, each for the probabilities that it stands for."""
    probabilities, labels = world(3, 4)
    rows, truths = probabilities[:20], labels[:20].tolist()
    scaled = rows * np.array([[0.125], [8.0]] * 10)
    one, other = fit(rows.tolist(), truths), fit(scaled.tolist(), truths)
    assert np.asarray(other.out_of_fold) == pytest.approx(np.asarray(one.out_of_fold), abs=1e-6)


@settings(max_examples=25)
@given(
    st.integers(2, 4).flatmap(
        lambda size: st.lists(
            st.tuples(
                st.lists(st.sampled_from([0, 1e-30, 0.2, 1.0]), min_size=size, max_size=size), st.integers(0, size - 1)
            ),
            min_size=2,
            max_size=10,
        )
    )
)
def test_any_texts_with_two_labels_are_fitted(rows: list[tuple[list[float], int]]) -> None:
    """Ties, zeros, labels with one text or none: there is always a calibration, and it gives probabilities."""
    probabilities = [row if sum(row) else [1.0] * len(row) for row, _ in rows]
    labels = [label for _, label in rows]
    labels[:2] = [0, 1]
    fitted = fit(probabilities, labels)
    calibration = fitted.calibration([str(index) for index in range(len(probabilities[0]))], TASK, "m")
    assert calibration.kind == fitted.kind
    for row, held_out in zip(probabilities, fitted.out_of_fold, strict=True):
        assert math.isclose(sum(calibration.apply(row)), 1, abs_tol=1e-9)
        assert math.isclose(sum(held_out), 1, abs_tol=1e-9)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=400), st.integers(0, 5))
def test_folds_are_even_in_size_and_labels(labels: list[int], seed: int) -> None:
    """Folds differ by one text at most, also within a label, so that only single texts are missing from a fit."""
    folds = _folds(labels, seed)
    number = min(len(labels), 10 if len(labels) < 300 else 5)
    assert set(folds) == set(range(number))
    for label in [None, *set(labels)]:
        counts = Counter(fold for fold, other in zip(folds, labels, strict=True) if label in (None, other))
        assert max(counts.values()) - min(counts[fold] for fold in range(number)) <= 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        ([], [], ConfigurationError, "no labelled texts"),
        ([[0.5, 0.5]], [0, 1], ConfigurationError, "1 texts and 2 labels"),
        ([[0.5, 0.5], [0.1, 0.9]], [1, 1], LabelError, "same label"),
        ([[0.5, 0.5], [0.1, 0.9]], [0, 2], LabelError, "from 0 to 1, and there is 2"),
        ([[0.5, 0.5], [0.1, 0.9]], [0, -1], LabelError, "there is -1"),
        ([[0.5, 0.5], [1.0]], [0, 1], ConfigurationError, "one probability for each label"),
        ([[1.0], [1.0]], [0, 0], ConfigurationError, "at least two"),
        ([[0.5, math.nan], [0.1, 0.9]], [0, 1], ConfigurationError, "finite"),
        ([[-0.5, 1.5], [0.1, 0.9]], [0, 1], ConfigurationError, "at least 0"),
        ([[0.0, 0.0], [0.1, 0.9]], [0, 1], ConfigurationError, "not all 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    probabilities: list[list[float]], labels: list[int], error: type[ConfigurationError], message: str
) -> None:
    """What is wrong is said, and by the class that a caller would look for."""
    with pytest.raises(error, match=message) as caught:
        fit(probabilities, labels)
    assert type(caught.value) is error


@pytest.mark.parametrize("prior", [[1.0], [0.5, math.nan], [-1, 2], [0, 0], [[0.5, 0.5]]])
def test_a_prior_of_another_shape_is_refused(prior: list[float]) -> None:
    """A prior is one number of at least 0 for each label."""
    with pytest.raises(ConfigurationError, match="The prior must be 2"):
        fit([[0.5, 0.5], [0.1, 0.9]], [0, 1], prior=prior)


@pytest.mark.parametrize("package", ["numpy", "sklearn.metrics"])
def test_without_the_extra_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scikit-learn is missing, the error names the extra."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"calibrate\(\) with labels .*langchain-stormtrooper\[sklearn\]"):
        fit([[0.5, 0.5]], [0])
