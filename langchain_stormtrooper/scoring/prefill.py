"""Labels from the scores of prompts that end with them, as servers give them for the tokens of a prompt.

Exact for labels of any length. The end of a label that starts another one is read off the likeliest tokens after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_stormtrooper.scoring.alternatives import listed_probabilities, unlisted_probability
from langchain_stormtrooper.scoring.trie import END, end_where_needed, walk


@dataclass(frozen=True, slots=True)
class PrefillScores:
    """Probabilities of the labels, read off prompts.

    Attributes:
        probabilities: One per label, in the order given, summing to 1.
        covered: What the model gives to the labels, as far as the prompts and lists show it.
    """

    probabilities: tuple[float, ...]
    covered: float


def prefill_scores(
    prompts: Sequence[Sequence[tuple[int, float | None]]],
    answer_tokens: Sequence[int],
    following: Sequence[Mapping[int, float]],
) -> PrefillScores:
    """The probability that the model gives to each label after the prompt.

    Args:
        prompts: For each label, the tokens of the prompt with the label at its end, as pairs of id and natural
            log-probability.
        answer_tokens: For each label, how many of them are its own.
        following: For each label, natural log-probabilities of the likeliest tokens after it, of which those that end
            it are `END`; looked at only for labels that start another. An end that is not listed gets half of what it
            can have at most.
    """
    ids = [tuple(token for token, _ in prompt) for prompt in prompts]
    start = min(_common_length(ids), *(len(prompt) - own for prompt, own in zip(ids, answer_tokens, strict=True)))
    sequences = end_where_needed([prompt[start:] for prompt in ids], END)
    shares: dict[tuple[int, ...], dict[int, float]] = {}
    for prompt in prompts:
        own = prompt[start:]
        for depth, (token, logprob) in enumerate(own):
            node = shares.setdefault(tuple(token for token, _ in own[:depth]), {})
            node[token] = 0.0 if logprob is None else math.exp(min(0.0, logprob))
    seen = {prefix: dict(node) for prefix, node in shares.items()}
    for sequence, after in zip(sequences, following, strict=True):
        if sequence[-1] == END:
            node = shares[sequence[:-1]]
            listed = listed_probabilities(after)
            rest = unlisted_probability(node | listed)
            seen[sequence[:-1]][END] = listed.get(END, 0.0)
            node[END] = listed[END] if END in listed else min([rest, *listed.values()]) / 2
    steps = walk(sequences)
    try:
        branches = next(steps)
        while True:
            branches = steps.send([shares[branch.prefix] for branch in branches])
    except StopIteration as end:
        probabilities = tuple(end.value)
    covered = math.fsum(
        math.prod(seen[sequence[:depth]][token] for depth, token in enumerate(sequence)) for sequence in sequences
    )
    return PrefillScores(probabilities, min(1.0, covered))


def _common_length(sequences: Sequence[tuple[int, ...]]) -> int:
    low, high = min(sequences), max(sequences)
    return next(
        (position for position, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
