"""Priors: bags of words, and dividing by what the model leans to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.calibration import WORD_BAGS, divide_by_prior, mean_distribution, word_bags
from langchain_stormtrooper.calibration.priors import geometric_mean, prior_beside_option

FIRST_BAG = "show street big mile warm try space once toward run later walk"


@st.composite
def distributions(draw: st.DrawFn, size: int | None = None, smallest: float = 1e-6) -> tuple[float, ...]:
    """A distribution over some labels."""
    count = size or draw(st.integers(2, 6))
    weights = draw(st.lists(st.floats(smallest, 1.0), min_size=count, max_size=count))
    return tuple(weight / sum(weights) for weight in weights)


PAIRS = st.integers(2, 6).flatmap(lambda size: st.tuples(distributions(size), distributions(size)))


def test_bags_are_the_same_everywhere() -> None:
    """A seed gives the same bags on any machine: priors, and so labels, depend on it."""
    assert word_bags() == word_bags(0)
    assert word_bags()[0] == FIRST_BAG
    assert word_bags(1) != word_bags(0)


def test_bags_are_texts_of_common_words() -> None:
    """Bags differ from each other and hold plain words, none of them twice."""
    bags = word_bags()
    assert len(set(bags)) == len(bags) == WORD_BAGS
    for bag in bags:
        words = bag.split(" ")
        assert len(set(words)) == len(words) == 12
        assert all(word.isalpha() and word.islower() for word in words)


def test_more_bags_start_with_the_same() -> None:
    """Asking for more keeps those that fewer would give."""
    assert word_bags(3, 12)[:4] == word_bags(3, 4)


@given(st.integers(2, 4).flatmap(lambda size: st.lists(distributions(size), min_size=1, max_size=5)))
def test_mean_is_a_distribution_between_the_extremes(given_: list[tuple[float, ...]]) -> None:
    """The mean of distributions sums to 1 and lies between the least and the largest for each label."""
    mean = mean_distribution(given_)
    assert math.isclose(sum(mean), 1.0)
    for value, column in zip(mean, zip(*given_, strict=True), strict=True):
        assert min(column) - 1e-12 <= value <= max(column) + 1e-12
    assert mean == pytest.approx(mean_distribution(given_[::-1]))


@given(PAIRS)
def test_division_is_bayes_rule(pair: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    """The result sums to 1, and the odds of any two labels are the odds before, over the odds of the prior."""
    before, prior = pair
    after = divide_by_prior(before, prior)
    assert math.isclose(sum(after), 1.0)
    for i in range(len(after)):
        for j in range(len(after)):
            assert after[i] * before[j] * prior[i] == pytest.approx(after[j] * before[i] * prior[j], rel=1e-9)


@given(distributions())
def test_a_text_like_any_other_says_nothing(prior: tuple[float, ...]) -> None:
    """A text for which the model answers its prior leaves all labels equally likely."""
    assert divide_by_prior(prior, prior) == pytest.approx([1 / len(prior)] * len(prior))


@given(distributions())
def test_an_even_prior_changes_nothing(probabilities: tuple[float, ...]) -> None:
    """A model that leans nowhere is left as it is."""
    even = [1 / len(probabilities)] * len(probabilities)
    assert divide_by_prior(probabilities, even) == pytest.approx(probabilities)


def test_a_prior_of_zero_does_not_decide() -> None:
    """A label of prior zero needs some probability to win; with none it stays at zero."""
    assert divide_by_prior([1.0, 0.0], [1.0, 0.0]) == (1.0, 0.0)
    assert divide_by_prior([1 - 1e-12, 1e-12], [1.0, 0.0])[1] == pytest.approx(1e-3, rel=0.01)
    assert divide_by_prior([1 - 1e-6, 1e-6], [1.0, 0.0])[1] > 0.99


def test_lengths_must_agree() -> None:
    """Probabilities and priors of different labels are a mistake of ours, not something to cut to size."""
    with pytest.raises(ValueError, match="zip"):
        divide_by_prior([0.5, 0.5], [1.0])
    for mean in (mean_distribution, geometric_mean):
        with pytest.raises(ValueError, match="zip"):
            mean([[0.5, 0.5], [1.0]])


@given(st.integers(2, 4).flatmap(lambda size: st.lists(distributions(size), min_size=1, max_size=5)))
def test_the_geometric_mean_is_the_root_of_the_product(given_: list[tuple[float, ...]]) -> None:
    """The n-th root of each label's product, over their sum."""
    roots = [math.prod(column) ** (1 / len(given_)) for column in zip(*given_, strict=True)]
    assert geometric_mean(given_) == pytest.approx([root / sum(roots) for root in roots], rel=1e-9)


def test_a_zero_is_no_veto_in_the_geometric_mean() -> None:
    """A probability of zero counts as 1e-9, and the least that a float holds does not vanish."""
    assert geometric_mean([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx([0.5, 0.5])
    assert geometric_mean([[1.0, 0.0]]) == pytest.approx([1.0, 1e-9], rel=1e-6)


@given(distributions())
def test_the_option_is_divided_by_what_labels_have_on_average(prior: tuple[float, ...]) -> None:
    """Labels keep their odds among themselves, the option at the end has their mean, and all sum to 1."""
    beside = prior_beside_option(prior)
    assert math.isclose(sum(beside), 1.0)
    assert beside[-1] == pytest.approx(sum(beside[:-1]) / (len(prior) - 1))
    for label, other in zip(beside[:-1], prior[:-1], strict=True):
        assert label * prior[0] == pytest.approx(beside[0] * other)


def test_labels_without_any_prior_stay_beside_the_option() -> None:
    """Where the option has everything, nothing is known of the labels, and the prior stays as it is."""
    assert prior_beside_option([0.0, 0.0, 1.0]) == (0.0, 0.0, 1.0)
