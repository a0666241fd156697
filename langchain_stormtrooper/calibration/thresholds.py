"""Thresholds: how confident an answer must be, for answers to be wrong as rarely as was promised.

Pure. A classifier that may abstain decides only the rows above a confidence (selective classification, Geifman and
El-Yaniv 2017, arXiv 1705.08500). `choose_threshold` finds how low that confidence may be, with a guarantee for finite
samples: fixed-sequence testing with exact binomial tests, which is Learn-then-Test (Angelopoulos et al. 2021, arXiv
2110.01052).

Why it holds: candidates are the 45 most confident texts, the 47 most confident, and so on; the numbers follow from the
count of texts, the target and the confidence alone, never from what was right. From the top, each is tested for "the
true error above this confidence is over the target", and the first that is not refuted ends it. A wrong promise thus
needs the *first* true hypothesis to be refuted, whose probability is at most 1 − confidence. Assumed is that texts are
independent draws of what will come, that they helped neither in fitting nor in choosing the probabilities, and that
the error of decided rows does not fall as the threshold does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from langchain_stormtrooper.errors import ConfigurationError

DECIDES_NOTHING = math.nextafter(1.0, 2.0)
"""The `min_confidence` that no answer reaches: just above 1."""

_GROWTH = 1.05
_AMPLE = 4


class Threshold(BaseModel):
    """A confidence from which on answers count, and what is promised for it.

    Attributes:
        min_confidence: Answers at least as confident are decided. `DECIDES_NOTHING` where no threshold can be promised
            for; that may be for want of texts.
        target_error: The share of decided rows that may be wrong.
        confidence: How sure it is that the target holds for new texts of the same kind.
        share_decided: Share of the texts that are decided; 0 if none is.
        texts: How many texts it was chosen on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_confidence: float = Field(ge=0, le=DECIDES_NOTHING)
    target_error: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    share_decided: float = Field(ge=0, le=1)
    texts: int = Field(ge=1)

    def decides(self, confidence: float) -> bool:
        """Whether an answer of this confidence counts."""
        return confidence >= self.min_confidence


def choose_threshold(
    confidences: Sequence[float], correct: Sequence[bool | int], target_error: float, confidence: float = 0.9
) -> Threshold:
    """The lowest confidence above which the error is under the target, as surely as asked for.

    Args:
        confidences: n probabilities of the best labels, in [0, 1], by a calibration that has not seen the texts (out
            of fold); texts that share one are decided together.
        correct: n times whether the best label is right.
        target_error: The share of decided rows that may be wrong, in (0, 1).
        confidence: How sure the promise is to be, in (0, 1).

    Returns:
        The threshold. `share_decided` is 0 if there is none: with a target of 5 % and a confidence of .9 at least 45
        texts are needed, all of the most confident right.

    Raises:
        ConfigurationError: No texts, lengths that differ, or numbers outside their range.
    """
    _check(confidences, correct, target_error, confidence)
    ranked = sorted(zip(confidences, correct, strict=True), key=lambda row: -row[0])
    counts = set(counts_tested(len(ranked), target_error, confidence))
    decided = errors = 0
    due = False
    for position, (value, right) in enumerate(ranked, 1):
        errors += not right
        due = due or position in counts
        if not due or (position < len(ranked) and ranked[position][0] == value):
            continue
        due = False
        if binomial_cdf(errors, position, target_error) > 1 - confidence:
            break
        decided = position
    return Threshold(
        min_confidence=ranked[decided - 1][0] if decided else DECIDES_NOTHING,
        target_error=target_error,
        confidence=confidence,
        share_decided=decided / len(ranked),
        texts=len(ranked),
    )


def fewest_texts(target_error: float, confidence: float = 0.9) -> int:
    """The fewest decided texts, all right, from which a target can be promised.

    Args:
        target_error: As in `choose_threshold`.
        confidence: As in `choose_threshold`.
    """
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-target_error) - 1e-9))


def error_upper_bound(errors: int, texts: int, confidence: float = 0.9) -> float:
    """Clopper and Pearson's (1934) exact upper bound of an error rate.

    Args:
        errors: Wrong answers among the texts.
        texts: How many texts.
        confidence: Probability that the true rate is not above the bound, at least.
    """
    low, high = errors / texts, 1.0
    if errors == texts:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if binomial_cdf(errors, texts, middle) <= 1 - confidence else (middle, high)
    return high


def binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """P(X ≤ successes) for X ~ Binomial(trials, probability), with 0 < probability < 1."""
    log_p, log_q, whole = math.log(probability), math.log1p(-probability), math.lgamma(trials + 1)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q)
        for k in range(successes + 1)
    )
    return min(1.0, math.fsum(terms))


def counts_tested(texts: int, target_error: float, confidence: float) -> list[int]:
    """How many of the most confident texts are tested, in order: growing steps, and all of them at the end.

    The first test forgives no error, or one where texts abound: a single confident mistake then does not end it all.
    """
    count = fewest_texts(target_error, confidence)
    if texts >= _AMPLE * count:
        while binomial_cdf(1, count, target_error) > 1 - confidence:
            count += 1
    counts = []
    while count < texts:
        counts.append(count)
        count = max(count + 1, round(count * _GROWTH))
    return [*counts, texts]


def _check(confidences: Sequence[float], correct: Sequence[bool | int], target_error: float, confidence: float) -> None:
    if len(confidences) != len(correct):
        raise ConfigurationError(f"There are {len(confidences)} confidences and {len(correct)} truths: pass pairs.")
    if not confidences:
        raise ConfigurationError("There are no texts to choose a threshold on: pass labelled texts.")
    if not all(0 <= value <= 1 for value in confidences):
        raise ConfigurationError("Confidences must be numbers from 0 to 1.")
    check_promise(target_error, confidence)


def check_promise(target_error: float, confidence: float) -> None:
    """Refuse a target or a confidence that is no share; arguments as in `choose_threshold`."""
    for name, value in (("target_error", target_error), ("confidence", confidence)):
        is_number = isinstance(value, int | float)
        if not is_number or not 0 < value < 1:
            raise ConfigurationError(f"{name}={value!r} must be a number between 0 and 1, both excluded: 0.05 is 5 %.")
