"""Thresholds of labels are those of the slow reference, and follow the common ones where positives are few."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_stormtrooper import ConfigurationError
from langchain_stormtrooper.multi_label import LabelThreshold, MultiLabelEvidence
from langchain_stormtrooper.multi_label.thresholds import WEIGHT, fit_thresholds

VALUES = st.sampled_from([i / 8 for i in range(9)]) | st.floats(0, 1)
LABELS = ["a", "b", "c"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, list[float]], dict[str, list[bool]]]:
    """Probabilities and truths of up to three labels for the same texts."""
    texts = draw(st.integers(1, 12))
    labels = LABELS[: draw(st.integers(1, 3))]
    row = st.lists(VALUES, min_size=texts, max_size=texts)
    so = st.lists(st.booleans(), min_size=texts, max_size=texts)
    return {label: draw(row) for label in labels}, {label: draw(so) for label in labels}


def score(
    label: str, cut: float, probabilities: dict[str, list[float]], truths: dict[str, list[bool]]
) -> tuple[Fraction, int]:
    """The shrunk F1 of a cut and how many texts it gives the label, counted text by text and exactly."""
    given_to = [value >= cut for value in probabilities[label]]
    positives = sum(truths[label])
    times = Fraction(sum(given_to), positives)
    right = sum(is_given and is_so for is_given, is_so in zip(given_to, truths[label], strict=True))
    found = everything = 0
    for other, values in probabilities.items():
        own = sum(truths[other])
        for value, is_so in zip(values, truths[other], strict=True):
            everything += is_so
            found += is_so and sum(one >= value for one in values) <= times * own
    recall = (right + Fraction(WEIGHT) * Fraction(found, everything)) / (positives + Fraction(WEIGHT))
    return 2 * recall / (1 + times), sum(given_to)


@given(tables())
def test_thresholds_are_the_obvious_ones(table: tuple[dict[str, list[float]], dict[str, list[bool]]]) -> None:
    """No cut has a higher F1 than the one chosen, and what it gives the label to is what the threshold says."""
    probabilities, truths = table
    if not any(any(row) for row in truths.values()):
        with pytest.raises(ConfigurationError, match="None of the texts"):
            fit_thresholds(probabilities, truths)
        return
    for fitted in fit_thresholds(probabilities, truths):
        values = probabilities[fitted.label]
        assert fitted.positives == sum(truths[fitted.label])
        assert sum(value >= fitted.threshold for value in values) == fitted.assigned
        if not fitted.positives:
            assert fitted.assigned == 0
            continue
        best = max(score(fitted.label, cut, probabilities, truths)[0] for cut in values)
        reached, _ = score(fitted.label, fitted.threshold, probabilities, truths)
        assert reached == pytest.approx(best, abs=1e-12)


def together(cuts: Sequence[float], probabilities: dict[str, list[float]], truths: dict[str, list[bool]]) -> Fraction:
    """The shrunk F1 of all labels' decisions at once, added up label by label."""
    hits, given_to, positives = Fraction(0), 0, 0
    for label, cut in zip(probabilities, cuts, strict=True):
        own = sum(truths[label])
        positives += own
        if own:
            one, count = score(label, cut, probabilities, truths)
            given_to += count
            hits += one * (own + count) / 2
    return 2 * hits / (given_to + positives)


@settings(deadline=None)
@given(tables())
def test_thresholds_for_all_together_are_the_obvious_ones(
    table: tuple[dict[str, list[float]], dict[str, list[bool]]],
) -> None:
    """Of all combinations of cuts, none has a higher F1 of all decisions together."""
    probabilities = {label: values[:6] for label, values in table[0].items()}
    truths = {label: values[:6] for label, values in table[1].items()}
    assume(any(any(row) for row in truths.values()))
    fitted = fit_thresholds(probabilities, truths, "micro")
    for one in fitted:
        assert sum(value >= one.threshold for value in probabilities[one.label]) == one.assigned
        assert one.positives or not one.assigned
    ways = [[2.0, *sorted(set(values))] if any(truths[label]) else [2.0] for label, values in probabilities.items()]
    best = max(together(cuts, probabilities, truths) for cuts in product(*ways))
    reached = together([one.threshold for one in fitted], probabilities, truths)
    assert float(reached) == pytest.approx(float(best), abs=1e-12)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_texts_changes_nothing(
    table: tuple[dict[str, list[float]], dict[str, list[bool]]], luck: random.Random
) -> None:
    """The same texts in another order give the same thresholds."""
    probabilities, truths = table
    order = list(range(len(next(iter(truths.values())))))
    luck.shuffle(order)
    if any(any(row) for row in truths.values()):
        turned = [{label: [row[i] for i in order] for label, row in one.items()} for one in (probabilities, truths)]
        assert fit_thresholds(*turned) == fit_thresholds(probabilities, truths)  # type: ignore[arg-type]


def test_many_positives_have_a_threshold_of_their_own() -> None:
    """It separates what can be separated, whatever the scale of the label's probabilities is."""
    places = [number / 100 for number in range(100)]
    high = [value >= 0.6 for value in places]
    tiny = [value / 50 for value in places]
    fitted = fit_thresholds({"a": places, "b": tiny}, {"a": high, "b": high})
    assert [one.assigned for one in fitted] == [40, 40]
    assert fitted[0].threshold == pytest.approx(0.595)
    assert fitted[1].threshold == pytest.approx(0.595 / 50)


def test_a_rare_label_follows_the_others() -> None:
    """One positive that happens to stand far down does not make the label apply to nearly everything."""
    places = [number / 100 for number in range(100)]
    clear = [value >= 0.6 for value in places]
    unlucky = [number == 20 for number in range(100)]
    *_, rare = fit_thresholds({"a": places, "b": places, "c": places}, {"a": clear, "b": clear, "c": unlucky})
    assert (rare.positives, rare.assigned) == (1, 1)
    assert rare.threshold == pytest.approx(0.985)


def test_of_equals_the_one_that_gives_less() -> None:
    """Where two cuts have the same F1, the label goes to fewer texts; texts that are alike go together."""
    falling = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert fit_thresholds({"a": falling}, {"a": [True, False, False, True, False]})[0].assigned == 1
    alike = [0.9, 0.5, 0.5, 0.5, 0.1]
    assert fit_thresholds({"a": alike}, {"a": [True, True, False, False, False]})[0].assigned in (1, 4)


def test_a_label_that_no_text_has() -> None:
    """It applies only above all that was seen; a certain text leaves nothing above."""
    places, none = [0.2, 0.9], [False, False]
    fitted = fit_thresholds({"a": places, "b": places, "c": [0.5, 1.0]}, {"a": [True, True], "b": none, "c": none})
    assert 0.9 < fitted[1].threshold < 0.9 + 1e-12
    assert 1 < fitted[2].threshold < 1 + 1e-12


def test_evidence_is_checked() -> None:
    """Counts that cannot be are refused, and thresholds are there by label."""
    one = LabelThreshold(label="a", positives=2, assigned=3, threshold=0.25)
    assert MultiLabelEvidence(texts=3, labels=(one,), task="0").thresholds == {"a": 0.25}
    with pytest.raises(ValidationError, match="than there are"):
        MultiLabelEvidence(texts=2, labels=(one,), task="0")
