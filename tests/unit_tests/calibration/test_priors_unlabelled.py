"""Priors without bags: texts without content, and unlabelled texts that are one-sided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.calibration import content_free_texts, one_sided
from langchain_stormtrooper.errors import ConfigurationError


def test_content_free_texts_are_those_of_the_paper() -> None:
    """They are Zhao et al.'s three, in a list that the caller may change."""
    content_free_texts().clear()
    assert content_free_texts() == ["N/A", "", "[MASK]"]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((74, 26), False), ((75, 25), True), ((20, 80), True), ((66, 17, 17), False), ((54, *[5] * 9), False)]
    + [((55, *[5] * 9), True), ((1, 0), True), ((10, 10, 10), False)],
)
def test_one_sided_from_half_of_what_the_others_should_have(counts: tuple[int, ...], expected: bool) -> None:
    """Three quarters of one label out of two are one-sided, and 55 % out of ten."""
    predicted = [label for label, count in enumerate(counts) for _ in range(count)]
    assert one_sided(predicted, len(counts)) is expected


@given(st.integers(2, 8).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k - 1), min_size=1))))
def test_one_sidedness_does_not_depend_on_names_or_order(case: tuple[int, list[int]]) -> None:
    """Renaming labels, reordering texts or giving each twice changes nothing."""
    size, predicted = case
    expected = one_sided(predicted, size)
    assert one_sided([size - 1 - label for label in predicted], size) is expected
    assert one_sided([*predicted[::-1], *predicted], size) is expected


@pytest.mark.parametrize("predicted", [[], [0, 2], [-1, 0]])
def test_no_texts_and_no_labels_are_refused(predicted: list[int]) -> None:
    """Nothing to look at, or an index that names no label, is an error of ours."""
    with pytest.raises(ConfigurationError):
        one_sided(predicted, 2)
