"""The threshold of a cascade is the obvious one, and keeps its promise whatever the errors look like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom

from langchain_stormtrooper.calibration import DECIDES_NOTHING, fewest_texts
from langchain_stormtrooper.calibration.thresholds import counts_tested
from langchain_stormtrooper.cascade import CascadeEvidence
from langchain_stormtrooper.cascade.evidence import choose_cut

VALUES = st.none() | st.sampled_from([i / 16 for i in range(17)]) | st.floats(0, 1)
LUCK = st.integers(0, 9)
ANYHOW = st.tuples(VALUES, LUCK.map(bool))
SURELY = st.tuples(VALUES, LUCK).map(lambda row: (row[0], row[1] < 3 + 14 * (row[0] or 0)))
"""Right from a confidence of one half on, and less and less below it."""
ROWS = st.lists(ANYHOW, min_size=1, max_size=120) | st.lists(SURELY, min_size=60, max_size=150)
TARGETS = st.sampled_from([0.02, 0.05, 0.1, 0.3, 0.5])


def obvious(rows: list[tuple[float | None, bool]], target: float, confidence: float) -> tuple[int, int]:
    """How many stay and how many of these are wrong: every count looked at from the whole list, with scipy's test."""
    answered = [(value, right) for value, right in rows if value is not None]
    kept = errors = 0
    for count in counts_tested(len(answered), target, confidence) if answered else []:
        lowest = sorted((value for value, _ in answered), reverse=True)[count - 1]
        inside = [right for value, right in answered if value >= lowest]
        if binom.cdf(inside.count(False), len(inside), target) > 1 - confidence:
            break
        kept, errors = len(inside), inside.count(False)
    return kept, errors


@given(ROWS, TARGETS, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_threshold_is_the_obvious_one(
    rows: list[tuple[float | None, bool]], target: float, confidence: float
) -> None:
    """As many texts stay as the slow reference says, and these are exactly those from the threshold on."""
    cut, kept, errors = choose_cut([value for value, _ in rows], [right for _, right in rows], target, confidence)
    assert (kept, errors) == obvious(rows, target, confidence)
    staying = [right for value, right in rows if value is not None and value >= cut]
    assert (len(staying), staying.count(False)) == (kept, errors)
    answered = [value for value, _ in rows if value is not None]
    if not kept:
        assert cut == DECIDES_NOTHING > 1
    elif kept == len(answered):
        assert cut == 0
    else:
        # Just above the first text that goes on, which the promise is made of.
        first = max(value for value in answered if value < cut)
        assert cut == math.nextafter(first, 2)


@given(ROWS, TARGETS, st.randoms(use_true_random=False))
def test_order_of_texts_does_not_matter(
    rows: list[tuple[float | None, bool]], target: float, shuffler: random.Random
) -> None:
    """The same texts in another order give the same threshold."""
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    one, other = (
        choose_cut([value for value, _ in order], [right for _, right in order], target, 0.9)
        for order in (rows, shuffled)
    )
    assert one == other


SHAPES: dict[str, Callable[[float], float]] = {
    "falls with the confidence": lambda u: (1 - u) ** 2 / 2,
    "just over the target everywhere": lambda u: 0.101,
    "surest answers are the worst": lambda u: 0.5 if u > 0.97 else 0.07,
    "rises with the confidence": lambda u: 0.02 + 0.2 * u,
    "good and bad bands": lambda u: 0.02 if u > 0.8 else 0.45 if u > 0.6 else 0.0 if u > 0.3 else 0.3,
    "waves around the target": lambda u: 0.11 + 0.1 * math.sin(40 * u),
}
STEPS = 2000


@pytest.mark.parametrize("texts", [60, 250])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_promise_holds_whatever_the_errors_look_like(shape: str, texts: int) -> None:
    """Over 400 samples of known truth, the true error of what stays is over 10 % in at most 5 %."""
    wrong = SHAPES[shape]
    each = [wrong((step + 0.5) / STEPS) for step in range(STEPS)]
    above = [0.0]
    for error in reversed(each):
        above.append(above[-1] + error)
    true_error = [above[STEPS - step] / (STEPS - step) for step in range(STEPS)]
    generator = random.Random(f"{shape} {texts}")
    broken = some = 0
    for _ in range(400):
        values = [generator.random() for _ in range(texts)]
        right = [generator.random() >= wrong(value) for value in values]
        cut, kept, _ = choose_cut(values, right, 0.1, 0.95)
        some += kept > 0
        broken += kept > 0 and true_error[min(STEPS - 1, int(cut * STEPS))] > 0.1
    # 5 % of 400, and three standard errors of that.
    assert broken <= 20 + 13
    assert some > 80 or shape != "falls with the confidence"


def evidence(**given: object) -> CascadeEvidence:
    """Some evidence."""
    numbers = {"threshold": 0.7, "target_error": 0.05, "confidence": 0.95, "texts": 200, "kept": 120, "errors": 1}
    return CascadeEvidence.model_validate({"compared_with": "labels", **numbers, **given})


def test_evidence_says_what_was_seen() -> None:
    """Shares and the exact bound follow from the counts, and there are none where nothing stays."""
    seen = evidence()
    assert seen.share_kept == 0.6
    assert seen.observed_error == pytest.approx(1 / 120)
    assert seen.upper_bound is not None
    assert binom.cdf(1, 120, seen.upper_bound) == pytest.approx(0.05)
    nothing = evidence(threshold=DECIDES_NOTHING, kept=0, errors=0)
    assert (nothing.share_kept, nothing.observed_error, nothing.upper_bound) == (0, None, None)


@pytest.mark.parametrize("cut", [0.0, math.nextafter(0.3, 2), 1.0, DECIDES_NOTHING])
def test_evidence_survives_json(cut: float) -> None:
    """Every threshold is the same number after writing and reading, also the one just above 1."""
    seen = evidence(threshold=cut, cheap="0" * 64)
    assert CascadeEvidence.model_validate_json(seen.model_dump_json()) == seen


@pytest.mark.parametrize("given", [{"kept": 201}, {"errors": 121}, {"threshold": 1.5}, {"compared_with": "x"}])
def test_evidence_that_cannot_be_is_refused(given: dict[str, object]) -> None:
    """Counts and thresholds out of range are noticed when a file is read."""
    with pytest.raises(ValidationError):
        evidence(**given)


def test_known_count() -> None:
    """59 texts without an error show less than 5 % with 95 % confidence, 58 do not."""
    assert fewest_texts(0.05, 0.95) == 59
    assert choose_cut([0.9] * 59, [True] * 59, 0.05, 0.95) == (0.0, 59, 0)
    assert choose_cut([0.9] * 58, [True] * 58, 0.05, 0.95) == (DECIDES_NOTHING, 0, 0)
    assert choose_cut([None] * 9, [False] * 9, 0.05, 0.95) == (DECIDES_NOTHING, 0, 0)


def test_the_threshold_lies_just_above_what_goes_on() -> None:
    """Not at the lowest confidence that stays: rows between the two stay as well."""
    cut, kept, errors = choose_cut([0.9] * 100 + [0.4] * 100, [True] * 100 + [False] * 100, 0.05, 0.95)
    assert (cut, kept, errors) == (math.nextafter(0.4, 2), 100, 0)
