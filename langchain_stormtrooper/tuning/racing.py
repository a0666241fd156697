"""Racing: which of several candidates is right most often, told from as few answers as can be.

Pure. All candidates answer the same texts in the same order. After rounds that are fixed beforehand (the looks), those
that another one has been shown to be better than are dropped, and the others go on. Shown is what an exact one-sided
sign test says of the texts that one of two is right on and the other wrong (McNemar's test in its exact form). Racing
is Maron and Moore's (1994, Hoeffding races); with tests on blocks it is Birattari et al.'s F-Race (2002). Successive
halving (Jamieson and Talwalkar 2016) drops half after each round, shown or not, and promises less.

What is promised, for K candidates and R looks: a quarter of 1 − confidence is spent on the R − 1 looks before the last
one, in even parts, and the rest on the last; each part is shared out among the K − 1 comparisons that a candidate is in
(Bonferroni). The best candidate is dropped only if one of these tests wrongly says that another is better, so that it
stays with a probability of at least `confidence`, however answers depend on each other. So a zero-shot candidate that
is the best is kept, too. Assumed is that texts are independent draws of what will come. Ending a race for want of
anything left to show drops nobody and cannot break the promise. Where a budget ends it, the last round is as long as
what is left pays for, so that the last look is at a time that depends on who was dropped before; that the promise holds
then as well is shown by simulation only (the tests).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from langchain_stormtrooper.calibration.thresholds import error_upper_bound
from langchain_stormtrooper.errors import ConfigurationError

GROWTH = 2
"""How many times as many texts each look is at as the one before: few looks cost little of the level."""

EARLY = 0.25
"""What share of the risk is spent before the last look: those are for sparing requests, the last one decides."""

FIRST = 8
"""Texts of the first look at least."""

_OPTIMISM = 0.9


class Plan(NamedTuple):
    """When a race is looked at, and what counts as shown.

    Attributes:
        looks: How many texts each candidate in the race has answered by then, ascending.
        early: The p-value up to which a difference is shown before the last look; 0 if there is but one.
        final: The same at the last look.
    """

    looks: tuple[int, ...]
    early: float
    final: float


class Drop(NamedTuple):
    """How a candidate left the race.

    Attributes:
        after: How many texts it had answered.
        by: The number of the candidate that was shown to be better.
        wins: Texts on which that one was right, and the dropped one wrong.
        losses: Texts on which it was the other way round.
        p_value: One-sided, of the sign test.
    """

    after: int
    by: int
    wins: int
    losses: int
    p_value: float


def sign_test(wins: int, losses: int) -> float:
    """The p-value of the exact one-sided sign test: P(X ≥ wins) for X ~ Binomial(wins + losses, 1/2).

    Args:
        wins: Pairs that speak for it.
        losses: Pairs that speak against it; those that speak for neither are left out.
    """
    # In whole numbers: a p-value that is the level itself must count, whatever logarithms are rounded to.
    pairs, term, favourable = wins + losses, 1, 0
    for heads in range(losses + 1):
        favourable += term
        term = term * (pairs - heads) // (heads + 1)
    return favourable / (1 << pairs)


def plan(texts: int, candidates: int, *, confidence: float, budget: int | None = None) -> Plan:
    """When to look: at all texts, and before that at half as many, again and again.

    Args:
        texts: How many texts there are to answer.
        candidates: How many candidates, at least two.
        confidence: The probability that the best one stays.
        budget: Answers that may be asked for; None for any number. Texts that no course of the race could pay for are
            left out; a course in which fewer are dropped ends before the last look (`Race.reach`).

    Raises:
        ConfigurationError: There are too few texts for anything to be shown, or the budget is too small for one round.
    """
    alpha = 1 - confidence
    # So many wins without a loss are shown at a single look.
    fewest = max(1, math.ceil(math.log2((candidates - 1) / alpha)))
    # Twice as many as are shown at an early one: dropping may begin where some luck with it is enough.
    first = max(FIRST, 2 * math.ceil(math.log2((candidates - 1) / alpha / EARLY)))
    if texts < fewest:
        raise ConfigurationError(
            f"{texts} texts to compare {candidates} candidates on are too few for anything to be shown: that takes at "
            f"least {fewest}, and better {10 * fewest}; give more texts, fewer candidates, or a lower `confidence=`."
        )
    for total in range(texts, 0, -1):
        looks = [total]
        while round(looks[-1] / GROWTH) >= first:
            looks.append(round(looks[-1] / GROWTH))
        looks.reverse()
        # At best only two are left after the first round.
        if budget is None or candidates * looks[0] + 2 * (total - looks[0]) <= budget:
            if total < fewest:
                break
            risk = alpha / (candidates - 1)
            if len(looks) == 1:
                return Plan(tuple(looks), 0.0, risk)
            return Plan(tuple(looks), EARLY * risk / (len(looks) - 1), (1 - EARLY) * risk)
    raise ConfigurationError(
        f"`budget={budget}` is too small: {candidates} candidates have to answer {fewest} texts each for anything "
        f"to be shown; give at least {candidates * fewest}, better {10 * candidates * fewest}, or fewer candidates."
    )


class Race:
    """Who is right on what, and who is still in.

    Args:
        tiers: For each candidate how simple it is: the lower, the simpler.
        plan: When it is looked at, and what counts as shown.

    Attributes:
        right: For each candidate, whether it was right on the texts that it has answered, in their order.
        alive: The candidates in the race.
        drops: How the others left it.
    """

    def __init__(self, tiers: Sequence[int], plan: Plan) -> None:
        self.right: list[list[bool]] = [[] for _ in tiers]
        self.alive = list(range(len(tiers)))
        self.drops: dict[int, Drop] = {}
        self._tiers = tiers
        self._plan = plan
        self._is_finished = False

    @property
    def texts(self) -> int:
        """How many texts those in the race have answered."""
        return len(self.right[self.alive[0]])

    def reach(self, end: int, left: int | None) -> int:
        """After how many texts a round ends that is to end at a look: there, or where the budget does.

        Args:
            end: The look.
            left: Answers that may still be asked for; None for any number.
        """
        return end if left is None else min(end, self.texts + left // len(self.alive))

    def add(self, answers: Mapping[int, Sequence[bool]], *, is_last: bool = False) -> None:
        """Take down a round, and drop who has been shown to be worse than another in the race.

        Args:
            answers: For each candidate in the race, whether it was right on the texts of the round.
            is_last: Whether there is to be none after it, though texts are left.
        """
        for candidate in self.alive:
            self.right[candidate] += answers[candidate]
        if is_last or self.texts == self._plan.looks[-1]:
            self.finish()
        else:
            self._drop_worse(self._plan.early)

    def finish(self) -> None:
        """Look for the last time."""
        self._is_finished = True
        self._drop_worse(self._plan.final)

    def _drop_worse(self, level: float) -> None:
        for candidate in self.alive:
            shown = [drop for by in self.alive if (drop := self._compared(candidate, by)).p_value <= level]
            if shown:
                self.drops[candidate] = min(shown, key=lambda drop: drop.p_value)
        # Nobody can be shown to be better than the one with the most right answers, so that one stays.
        self.alive = [candidate for candidate in self.alive if candidate not in self.drops]

    def _compared(self, candidate: int, by: int) -> Drop:
        wins, losses = self.compare(by, candidate)
        return Drop(self.texts, by, wins, losses, sign_test(wins, losses))

    def compare(self, one: int, other: int) -> tuple[int, int]:
        """On how many texts that both have answered only the one was right, and on how many only the other."""
        pairs = list(zip(self.right[one], self.right[other], strict=False))
        return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)

    def is_shown(self, one: int, other: int) -> bool:
        """Whether the one has been shown to be better than the other, at the last look at both."""
        is_last = self._is_finished and len(self.right[one]) == len(self.right[other]) == self.texts
        return sign_test(*self.compare(one, other)) <= (self._plan.final if is_last else self._plan.early)

    def choice(self, costs: Sequence[float]) -> int:
        """Of those in the race the one of the simplest kind, and among these the one that was right most often.

        Args:
            costs: What an answer of each candidate costs; of equally good ones, the cheapest is chosen, then the first.
        """
        return min(self.alive, key=lambda one: (self._tiers[one], -sum(self.right[one]), costs[one], one))

    def can_change(self, choice: int) -> bool:
        """Whether another one could still be shown to be better than the choice by the last look."""
        rest = self._plan.looks[-1] - self.texts
        return any(self._could_beat(other, choice, rest) for other in self.alive if other != choice)

    def _could_beat(self, one: int, other: int, rest: int) -> bool:
        """Whether it could in the rest of the texts, at the best of luck.

        It loses none more, and wins as often as can be by what has been seen: Clopper and Pearson's bound.
        """
        wins, losses = self.compare(one, other)
        further = math.ceil(rest * error_upper_bound(wins, self.texts, _OPTIMISM))
        return sign_test(wins + further, losses) <= self._plan.final
