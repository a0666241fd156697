"""Which of the labelled texts become examples and which are for comparing. Pure; the same seed gives the same split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from langchain_stormtrooper.selecting.similarity import as_compared


class Split(NamedTuple):
    """Numbers of texts.

    Attributes:
        held: Those that become examples, for each label in its order.
        compared: Those that candidates are compared on, in the order in which they are asked about.
        repeated: How many are left out because they are the same text as one before.
        contradicting: How many different texts occur with several labels, of which the first was taken.
    """

    held: dict[str, list[int]]
    compared: list[int]
    repeated: int
    contradicting: int


def split(texts: Sequence[str], labels: Sequence[str], names: Sequence[str], per_label: int, seed: int) -> Split:
    """Take a seeded part of each label's texts for examples, and all others in a seeded order.

    A text that occurs again, but for case, spacing and width of characters, counts once: it would be a witness twice,
    or an example of itself.

    Args:
        texts: The texts.
        labels: The label of each.
        names: All labels.
        per_label: How many examples of each label are wanted; at most a third of a label's texts are taken.
        seed: Seed of the choice and of the order.
    """
    first: dict[str, int] = {}
    contradicting: set[int] = set()
    for number, text in enumerate(texts):
        before = first.setdefault(as_compared(text), number)
        if labels[before] != labels[number]:
            contradicting.add(before)
    order = list(first.values())
    random.Random(seed).shuffle(order)  # noqa: S311  # not for secrets
    count = Counter(labels[number] for number in order)
    held: dict[str, list[int]] = {name: [] for name in names}
    compared: list[int] = []
    for number in order:
        label = labels[number]
        if len(held[label]) < min(per_label, count[label] // 3):
            held[label].append(number)
        else:
            compared.append(number)
    return Split(held, compared, len(texts) - len(order), len(contradicting))
