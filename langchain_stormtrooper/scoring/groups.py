"""Anchored groups: a distribution over many tokens from lists that hold only a few.

Every group holds one common token, the anchor; within a group, odds against the anchor are exact, and they chain the
groups into one distribution. In half precision the anchor's rounding error is that of its whole group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_LEAST = 1e-12


def anchored_groups(children: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Split tokens into groups of at most `size`, each led by the first token: ceil((n - 1) / (size - 1)) groups."""
    anchor, *others = children
    return [(anchor, *others[start : start + size - 1]) for start in range(0, max(1, len(others)), size - 1)]


def join_groups(shares: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Chain the groups' distributions into one, which sums to 1.

    Args:
        shares: For each group, the probability by token, the anchor's first.
    """
    odds: dict[int, float] = {}
    for group in shares:
        anchor = next(iter(group))
        for token, probability in group.items():
            odds[token] = max(probability, _LEAST) / max(group[anchor], _LEAST)
    total = math.fsum(odds.values())
    return {token: value / total for token, value in odds.items()}
