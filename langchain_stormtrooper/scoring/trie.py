"""The trie of the labels' tokens, walked from branch to branch.

`walk` says what to ask next, an engine of `llms` asks it. Labels are token sequences; together they form a trie, and
the probability of a label is the product of the branch probabilities on its path. Only branching
nodes need the model: where all labels go on with the same token, that token is certain. Labels that differ in their
first token cost one request.

A label that is the start of another ends with a line break or the token that ends a generation, whichever way of asking
is taken: both count as one more child (`END`) beside those with which longer labels go on, and the branch is
renormalized over these.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from langchain_stormtrooper.errors import LabelError

END = -1
"""Stands for all tokens that end a label which starts another: a line break, and the end of the generation."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of the label trie at which labels part.

    Attributes:
        prefix: The tokens that follow the prompt up to this node.
        children: The tokens with which labels go on, in ascending order.
    """

    prefix: tuple[int, ...]
    children: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Probabilities of the labels for one prompt.

    Attributes:
        probabilities: One per label, in the order given, summing to 1.
        covered_mass: Share of the model's probability that fell on the labels; None where the engine does not tell.
        prompt_tokens: Tokens of the prompt.
        generated_tokens: Tokens that the engine generated to answer.
        masked: Whether a grammar left nothing but the labels, so that the covered mass says nothing about what the
            model would have said otherwise.
    """

    probabilities: tuple[float, ...]
    covered_mass: float | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    masked: bool = False


def end_where_needed(labels: Sequence[Sequence[int]], end: int) -> list[tuple[int, ...]]:
    """Token sequences of which none is the start of another: `end` marks the end of those that would be.

    Raises:
        LabelError: Two labels are the same tokens, or one holds the end of another.
    """
    sequences = [tuple(label) for label in labels]
    if len(set(sequences)) < len(sequences):
        raise LabelError("Two labels are the same tokens to this model: rename one of them.")
    ended = [(*sequence, end) if _starts_another(sequence, sequences) else sequence for sequence in sequences]
    if any(_starts_another(sequence, ended) for sequence in ended) or len(set(ended)) < len(ended):
        raise LabelError(
            "One label is the start of another up to a line break, which these tokens do not tell apart: rename it."
        )
    return ended


def _starts_another(sequence: tuple[int, ...], sequences: Sequence[tuple[int, ...]]) -> bool:
    return any(other != sequence and other[: len(sequence)] == sequence for other in sequences)


def starting_pairs(answers: Sequence[str]) -> list[tuple[str, str]]:
    """Texts of which one starts another, as pairs; a longer text is paired with the longest that it goes on from."""
    pairs: list[tuple[str, str]] = []
    starts: list[str] = []
    for answer in sorted(set(answers)):
        while starts and not answer.startswith(starts[-1]):
            starts.pop()
        if starts:
            pairs.append((starts[-1], answer))
        starts.append(answer)
    return pairs


def walk(
    labels: Sequence[tuple[int, ...]], negligible: float = 0.0
) -> Generator[list[Branch], Sequence[Mapping[int, float]], list[float]]:
    """Probabilities of labels from the probabilities at the branches of their trie.

    Yields the branches of one depth of branching at a time, since they can be asked at once; is sent, for each, the
    probability of every child (relative: it is normalized here).

    Args:
        labels: Token sequences, none the start of another (`end_where_needed`).
        negligible: Branches with less probability than this are not asked: the labels under them share it evenly.

    Returns:
        The labels' probabilities, in the order given, summing to 1.
    """
    probabilities = [1.0] * len(labels)
    level = [list(range(len(labels)))]
    while level:
        branches: list[Branch] = []
        parted: list[dict[int, list[int]]] = []
        for members in level:
            depth = _common_length([labels[index] for index in members])
            children: dict[int, list[int]] = {}
            for index in members:
                children.setdefault(labels[index][depth], []).append(index)
            branches.append(Branch(labels[members[0]][:depth], tuple(sorted(children))))
            parted.append(children)
        answers = yield branches
        for children, answer in zip(parted, answers, strict=True):
            total = sum(answer[token] for token in children)
            for token, indices in children.items():
                # A branch that the model holds impossible tells nothing about what lies under it.
                share = answer[token] / total if total > 0 else 1 / len(children)
                for index in indices:
                    probabilities[index] *= share
        level = []
        for indices in (indices for children in parted for indices in children.values() if len(indices) > 1):
            if probabilities[indices[0]] >= negligible:
                level.append(indices)
                continue
            for index in indices:
                probabilities[index] /= len(indices)
    total = sum(probabilities)
    return [probability / total for probability in probabilities]


def _common_length(sequences: Sequence[tuple[int, ...]]) -> int:
    # All that lies between the smallest and the largest sequence starts as both do.
    low, high = min(sequences), max(sequences)
    return next(position for position, (a, b) in enumerate(zip(low, high, strict=False)) if a != b)
