"""What a list of the likeliest next tokens tells about the tokens with which labels go on.

Servers list a handful of alternatives per step, sometimes more (ties in half precision) or fewer (a mask left no
more). A token that is not listed has at most the smallest listed probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shares:
    """Probabilities of some next tokens.

    Attributes:
        probabilities: Probability by token, as the server sees it (not renormalized over the tokens); for a token that
            was not listed, half of what it can have at most, or an even share of what is left.
        covered: Sum of the listed ones.
        error: How far any of the probabilities can be from the truth, half precision aside.
    """

    probabilities: dict[int, float]
    covered: float
    error: float


def listed_probabilities(listed: Mapping[int, float]) -> dict[int, float]:
    """Probabilities from natural log-probabilities, which rounding can put above 0."""
    return {token: math.exp(min(0.0, logprob)) for token, logprob in listed.items()}


def unlisted_probability(listed: Mapping[int, float]) -> float:
    """What tokens that are not listed have together; rounding can make the listed ones sum to a little more than 1."""
    return max(0.0, 1.0 - math.fsum(listed.values()))


def read_shares(
    listed: Mapping[int, float], children: Sequence[int], aliases: Mapping[int, int] | None = None
) -> Shares:
    """Find tokens in a list of alternatives.

    Args:
        listed: Natural log-probability by token.
        children: The tokens wanted.
        aliases: Other spellings (such as without the leading space) and the wanted token that each counts for.
    """
    shares = listed_probabilities(listed)
    found = dict.fromkeys(children, 0.0)
    seen: set[int] = set()
    for token, share in shares.items():
        child = token if token in found else (aliases or {}).get(token)
        if child is not None and child in found:
            found[child] += share
            seen.add(child)
    covered = min(1.0, math.fsum(found.values()))
    unseen = [child for child in children if child not in seen]
    if not unseen:
        return Shares(found, covered, 0.0)
    rest = unlisted_probability(shares)
    most = min([rest, *shares.values()])
    # Together they cannot have more than the rest either.
    guess = min(most / 2, rest / len(unseen))
    return Shares(found | dict.fromkeys(unseen, guess), covered, most - guess)
