"""Thresholds keep their promise."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from langchain_stormtrooper.calibration import DECIDES_NOTHING, Threshold, choose_threshold
from langchain_stormtrooper.calibration.thresholds import binomial_cdf, counts_tested, error_upper_bound, fewest_texts
from langchain_stormtrooper.errors import ConfigurationError

ROWS = st.lists(st.tuples(st.sampled_from([i / 16 for i in range(17)]), st.booleans()), min_size=1, max_size=120)
TARGETS = st.sampled_from([0.02, 0.05, 0.1, 0.3, 0.5])


def pick(rows: list[tuple[float, bool]], target: float, confidence: float = 0.9) -> Threshold:
    """The threshold for rows of confidence and correctness."""
    return choose_threshold([value for value, _ in rows], [right for _, right in rows], target, confidence)


@given(st.integers(0, 300), st.integers(1, 300), st.floats(1e-4, 1 - 1e-4))
def test_the_binomial_is_scipys(successes: int, trials: int, probability: float) -> None:
    """The plain sum is the binomial distribution function."""
    successes = min(successes, trials)
    assert binomial_cdf(successes, trials, probability) == pytest.approx(
        float(binom.cdf(successes, trials, probability)), rel=1e-9, abs=1e-12
    )


@given(st.integers(0, 100), st.integers(1, 100), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_upper_bound_is_clopper_and_pearsons(errors: int, texts: int, confidence: float) -> None:
    """The bound is the quantile of the beta distribution that the textbooks give."""
    errors = min(errors, texts)
    expected = 1.0 if errors == texts else float(beta.ppf(confidence, errors + 1, texts - errors))
    assert error_upper_bound(errors, texts, confidence) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.005, 0.9), st.floats(0.5, 0.999))
def test_fewest_texts_are_enough_and_one_fewer_is_not(target: float, confidence: float) -> None:
    """With no error among that many, the bound is at the target; with one text fewer it is above."""
    fewest = fewest_texts(target, confidence)
    assert binomial_cdf(0, fewest, target) <= (1 - confidence) * (1 + 1e-6)
    assert fewest == 1 or binomial_cdf(0, fewest - 1, target) > 1 - confidence


def test_known_counts() -> None:
    """45 texts without an error show less than 5 % with 90 % confidence, 59 with 95 %."""
    assert (fewest_texts(0.05), fewest_texts(0.05, 0.95), fewest_texts(0.1)) == (45, 59, 22)
    assert error_upper_bound(0, 45) <= 0.05 < error_upper_bound(0, 44)


@pytest.mark.parametrize(
    ("texts", "target", "confidence", "counts"),
    [
        (45, 0.05, 0.9, [45]),
        (60, 0.05, 0.9, [45, 47, 49, 51, 54, 57, 60]),
        (59, 0.05, 0.95, [59]),
        (60, 0.05, 0.95, [59, 60]),
        (10, 0.05, 0.9, [10]),
        (26, 0.1, 0.9, [22, 23, 24, 25, 26]),
    ],
)
def test_counts_that_are_tested(texts: int, target: float, confidence: float, counts: list[int]) -> None:
    """From the fewest texts that can show the target on, in steps of a twentieth, and all of them at the end."""
    assert counts_tested(texts, target, confidence) == counts


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_where_texts_abound_the_first_test_forgives_an_error(target: float) -> None:
    """With four times the fewest texts, the first count is the fewest that show the target with one error."""
    fewest = fewest_texts(target)
    assert counts_tested(4 * fewest - 1, target, 0.9)[0] == fewest
    first = counts_tested(4 * fewest, target, 0.9)[0]
    assert error_upper_bound(1, first) <= target < error_upper_bound(1, first - 1)


def test_only_the_planned_counts_are_tested() -> None:
    """What no test looks at ends nothing: two errors are too many among 103 texts, and few enough among 107."""
    rows = [(1 - i / 1000, i not in (77, 102)) for i in range(107)]
    assert error_upper_bound(2, 103) > 0.05
    assert pick(rows, 0.05).share_decided == 1


def test_equal_confidences_are_tested_together() -> None:
    """A test that falls among equals waits for the last of them."""
    rows = [*[(0.95, True)] * 44, (0.9, True), (0.9, True), (0.9, False)]
    assert pick(rows[:-1], 0.05).share_decided == 1
    assert pick(rows, 0.05).share_decided == 0


def test_the_threshold_is_the_lowest_confidence_decided() -> None:
    """All texts down to the threshold are decided; unless told otherwise it is sure by 90 %."""
    rows = [(1 - i / 1000, True) for i in range(45)]
    threshold = choose_threshold([value for value, _ in rows], [True] * 45, 0.05)
    assert threshold == pick(rows, 0.05)
    assert threshold.min_confidence == rows[-1][0]


@given(ROWS, TARGETS, st.sampled_from([0.8, 0.9]))
def test_what_is_decided_passes_the_exact_test(rows: list[tuple[float, bool]], target: float, level: float) -> None:
    """The decided rows' exact bound is within the target, and all rows of a tie are decided or none."""
    threshold = pick(rows, target, level)
    decided = [right for value, right in rows if threshold.decides(value)]
    assert threshold.share_decided == pytest.approx(len(decided) / len(rows))
    assert threshold.texts == len(rows)
    if decided:
        assert error_upper_bound(decided.count(False), len(decided), level) <= target + 1e-9
        assert threshold.min_confidence in {value for value, _ in rows}
    else:
        assert threshold.min_confidence == DECIDES_NOTHING > 1


@given(ROWS, TARGETS, st.randoms(use_true_random=False))
def test_order_of_texts_does_not_matter(rows: list[tuple[float, bool]], target: float, shuffler: random.Random) -> None:
    """The same texts in another order, ties included, give the same threshold."""
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert pick(rows, target) == pick(shuffled, target)


@given(ROWS, TARGETS)
def test_correcting_a_row_decides_no_less(rows: list[tuple[float, bool]], target: float) -> None:
    """One error less can only lower the threshold: which counts are tested does not follow from what was right."""
    before = pick(rows, target).share_decided
    for index, (value, _) in itertools.islice(enumerate(rows), 10):
        assert pick([*rows[:index], (value, True), *rows[index + 1 :]], target).share_decided >= before


def test_the_first_failure_ends_it() -> None:
    """Confident errors at the top leave nothing decided, however good the rest is."""
    good = [(0.5 - i / 1000, True) for i in range(400)]
    assert pick([*[(0.9, False)] * 20, *good], 0.05).share_decided == 0
    assert pick(good, 0.05).share_decided == 1


def test_one_confident_mistake_among_many_texts_is_forgiven() -> None:
    """Where texts abound, the most confident one may be wrong."""
    rows = [(1.0, False), *[(0.9 - i / 1000, True) for i in range(199)]]
    assert pick(rows, 0.05).share_decided == 1
    assert pick(rows[:60], 0.05).share_decided == 0


def test_too_few_texts_decide_nothing() -> None:
    """44 right answers show nothing about 5 %, 45 do."""
    assert pick([(0.9, True)] * 44, 0.05) == Threshold(
        min_confidence=DECIDES_NOTHING, target_error=0.05, confidence=0.9, share_decided=0.0, texts=44
    )
    assert pick([(0.9, True)] * 45, 0.05).share_decided == 1
    assert pick([(0.9, True)] * 45, 0.05).decides(0.9)
    assert not pick([(0.9, True)] * 45, 0.05).decides(0.8999)
    assert not pick([(1.0, True)] * 44, 0.05).decides(1.0)


def test_deciding_nothing_survives_json() -> None:
    """The number just above 1 is still above 1 after writing and reading."""
    threshold = pick([(1.0, True)], 0.05)
    assert Threshold.model_validate_json(threshold.model_dump_json()) == threshold
    assert not threshold.decides(1.0)


def true_error(threshold: float, power: int) -> float:
    """The error at u ≥ threshold, for u even on [0, 1] and wrong with probability (1 − u)^power / 2."""
    left = 1 - threshold
    return left**power / (2 * (power + 1))


@pytest.mark.parametrize(("texts", "target", "power"), [(60, 0.1, 3), (150, 0.05, 4), (400, 0.05, 2), (150, 0.1, 0)])
def test_the_promise_holds(texts: int, target: float, power: int) -> None:
    """Over 1,000 samples of known truth, the true error of what is decided is over the target in at most 10 %."""
    generator = random.Random(f"{texts} {target} {power}")
    broken = some = 0
    for _ in range(1000):
        rows = [(u, generator.random() >= (1 - u) ** power / 2) for u in (generator.random() for _ in range(texts))]
        threshold = pick(rows, target)
        some += threshold.share_decided > 0
        broken += threshold.share_decided > 0 and true_error(threshold.min_confidence, power) > target
    # Three standard errors of a share of 10 % of 1,000.
    assert broken <= 100 + 29
    # With power 0 every answer is wrong half the time, so that deciding is always a mistake.
    assert some > 200 or power == 0


def test_the_promise_is_not_empty_at_its_edge() -> None:
    """Where the error is just over the target at every confidence, the promise breaks nearly as often as it may."""
    generator = random.Random(0)
    broken = 0
    for _ in range(1000):
        broken += pick([(generator.random(), generator.random() >= 0.101) for _ in range(60)], 0.1).share_decided > 0
    assert 50 < broken <= 100 + 29


@pytest.mark.parametrize(
    ("confidences", "correct", "target", "level", "message"),
    [
        ([], [], 0.05, 0.9, "no texts"),
        ([0.5], [True, False], 0.05, 0.9, "1 confidences and 2 truths"),
        ([1.5], [True], 0.05, 0.9, "from 0 to 1"),
        ([math.nan], [True], 0.05, 0.9, "from 0 to 1"),
        ([0.5], [True], 0.0, 0.9, "target_error=0.0"),
        ([0.5], [True], 5, 0.9, "target_error=5"),
        ([0.5], [True], 0.05, 1.0, "confidence=1.0"),
    ],
)
def test_what_makes_no_question_is_refused(
    confidences: list[float], correct: list[bool], target: float, level: float, message: str
) -> None:
    """Every argument out of range is named."""
    with pytest.raises(ConfigurationError, match=message):
        choose_threshold(confidences, correct, target, level)
