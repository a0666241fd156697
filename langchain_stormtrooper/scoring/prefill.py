"""Labels from the scores of prompts that end with them, as servers give them for the tokens of a prompt.

Exact for labels of any length. A label that starts another one counts for all that does not go on to the longer: its
end needs no token of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def prefill_masses(prompts: Sequence[Sequence[tuple[int, float | None]]], answer_tokens: Sequence[int]) -> list[float]:
    """The probability that the model gives to each label after the prompt.

    Args:
        prompts: For each label, the tokens of the prompt with the label at its end, as pairs of id and natural
            log-probability.
        answer_tokens: For each label, how many of them are its own.

    Returns:
        One probability per label, not renormalized: their sum is the mass that the labels cover.
    """
    ids = [tuple(token for token, _ in prompt) for prompt in prompts]
    start = min(_common_length(ids), *(len(prompt) - own for prompt, own in zip(ids, answer_tokens, strict=True)))
    reached = [
        math.exp(math.fsum(-math.inf if logprob is None else min(0.0, logprob) for _, logprob in prompt[start:]))
        for prompt in prompts
    ]
    # A longer label counts against the longest one that it goes on from, and against that alone.
    ends = list(reached)
    for longer, sequence in enumerate(ids):
        starts = [n for n, other in enumerate(ids) if other != sequence and sequence[: len(other)] == other]
        if starts:
            ends[max(starts, key=lambda n: len(ids[n]))] -= reached[longer]
    return [max(0.0, mass) for mass in ends]


def _common_length(sequences: Sequence[tuple[int, ...]]) -> int:
    low, high = min(sequences), max(sequences)
    return next(
        (position for position, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
