"""What one constrained generation tells about all labels: the alternatives that it passed by.

At each step the alternatives are renormalized over what the grammar allows. A branch that was not taken is known as a
whole; if only one label lies under it, so is that label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_stormtrooper.scoring.alternatives import listed_probabilities, unlisted_probability


@dataclass(frozen=True, slots=True)
class PathScores:
    """Probabilities of the labels, as far as one generation shows them.

    Attributes:
        probabilities: One per label, in the order given, summing to 1. Labels under one unexplored branch share what
            it has evenly, and so do those that no list of alternatives shows.
        resolved: Sum of those that are known one by one. No probability is off by more than 1 - `resolved`.
    """

    probabilities: tuple[float, ...]
    resolved: float


def path_scores(
    labels: Sequence[tuple[int, ...]], path: Sequence[int], alternatives: Sequence[Mapping[int, float]]
) -> PathScores:
    """Read the distribution over labels off a constrained generation.

    Args:
        labels: Token sequences, none the start of another (`end_where_needed`).
        path: The tokens that were generated.
        alternatives: For each of them, the natural log-probabilities of the likeliest tokens allowed at that step.
    """
    probabilities = [0.0] * len(labels)
    members, mass, resolved = list(range(len(labels))), 1.0, 0.0

    def settle(indices: Sequence[int], share: float) -> None:
        nonlocal resolved
        for index in indices:
            probabilities[index] = share / len(indices)
        if len(indices) == 1:
            resolved += share

    for step, (token, listed) in enumerate(zip(path, alternatives, strict=False)):
        if len(members) == 1:
            break
        children: dict[int, list[int]] = {}
        for index in members:
            children.setdefault(labels[index][step], []).append(index)
        if token not in children:
            break  # an odd way through the vocabulary, which tells the labels apart no further
        shares = listed_probabilities(listed)
        seen = {child: shares[child] for child in children if child in shares}
        unseen = [index for child, indices in children.items() if child not in listed for index in indices]
        # What a longer list would show belongs to the labels that this one does not.
        rest = unlisted_probability(shares) if unseen else 0.0
        total = math.fsum(seen.values()) + rest
        if not seen.get(token):
            break
        for child, share in seen.items():
            if child != token:
                settle(children[child], mass * share / total)
        for index in unseen:
            probabilities[index] = mass * rest / total / len(unseen)
        mass *= seen[token] / total
        members = children[token]
    settle(members, mass)
    return PathScores(tuple(probabilities), min(1.0, resolved))
