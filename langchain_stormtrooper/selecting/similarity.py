"""How near examples are to a text, by their words and letters, and which of them to take.

Pure. A text is compared with all examples at once; `choosers` makes a choice of it.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from rapidfuzz import fuzz

from langchain_stormtrooper.errors import RequestFailedError

DIGITS = 6
"""Decimals in which similarities count: what differs less is a matter of rounding, and is told apart by position."""

_K1, _B = 1.2, 0.75

# Scripts that put no space between words: pairs of characters stand for these.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TERM = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")


def as_compared(text: str) -> str:
    """A text as it is compared: without differences in case, spacing and width of its characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def terms(text: str) -> list[str]:
    """The words of a text; pairs of characters where a script has no spaces."""
    found: list[str] = []
    for piece in _TERM.findall(as_compared(text)):
        if _IS_UNSPACED.match(piece) and len(piece) > 2:
            found += [piece[start : start + 2] for start in range(len(piece) - 1)]
        else:
            found.append(piece)
    return found


class Fuzzy:
    """The share of letters that two texts have in common, with their words in alphabetical order, in [0, 1].

    `rapidfuzz.fuzz.token_sort_ratio`: good for short texts that are worded alike.

    Args:
        texts: What is compared with.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    @cached_property
    def _sorted(self) -> list[str]:
        return [_in_order(text) for text in self._texts]

    def to(self, text: str) -> list[float]:
        """How near each text is to another."""
        wanted = _in_order(text)
        return [fuzz.ratio(wanted, known) / 100 for known in self._sorted]


def _in_order(text: str) -> str:
    return " ".join(sorted(terms(text)))


class Bm25:
    """Okapi BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"), with k1 = 1.2 and b = 0.75.

    Rare words count more, and long texts are no better for being long. The weight of a word that more than half of the
    texts have is kept above zero, as in Lucene; a word counts once, however often the text to compare has it.

    Args:
        texts: What is compared with.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    @cached_property
    def _postings(self) -> dict[str, list[tuple[int, float]]]:
        """For each word the texts that have it, and what it adds to their score."""
        counted = [Counter(terms(text)) for text in self._texts]
        lengths = [counts.total() for counts in counted]
        mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
        frequency = Counter(term for counts in counted for term in counts)
        postings: dict[str, list[tuple[int, float]]] = {}
        for number, (counts, length) in enumerate(zip(counted, lengths, strict=True)):
            saturation = _K1 * (1 - _B + _B * length / mean)
            for term, count in counts.items():
                rarity = math.log(1 + (len(counted) - frequency[term] + 0.5) / (frequency[term] + 0.5))
                weight = rarity * count * (_K1 + 1) / (count + saturation)
                postings.setdefault(term, []).append((number, weight))
        return postings

    def to(self, text: str) -> list[float]:
        """How near each text is to another."""
        scores = [0.0] * len(self._texts)
        # In the order of the text: a sum of floats depends on its order.
        for term in dict.fromkeys(terms(text)):
            for number, weight in self._postings.get(term, ()):
                scores[number] += weight
        return scores


def normalized(vector: Sequence[float]) -> list[float]:
    """A vector of length 1; one of zeros stays as it is."""
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else list(vector)


class Cosine:
    """The cosine of the angle between vectors, in [-1, 1]; 0 where one has no direction.

    Args:
        vectors: What is compared with; empty ones have no direction.

    Raises:
        RequestFailedError: They differ in length.
    """

    def __init__(self, vectors: Sequence[Sequence[float]]) -> None:
        self._number = len(vectors)
        self._size = max((len(vector) for vector in vectors), default=0)
        self._vectors: Any = [normalized(self._whole(vector)) for vector in vectors]
        try:
            import numpy as np  # only an extra has it, and thousands of examples take their time without
        except ImportError:
            return
        self._vectors = np.asarray(self._vectors, dtype=np.float64)

    def _whole(self, vector: Sequence[float]) -> Sequence[float]:
        if vector and len(vector) != self._size:
            raise RequestFailedError("The embeddings differ in length: not all are of the same model.")
        return vector or [0.0] * self._size

    def to(self, vector: Sequence[float]) -> list[float]:
        """How near each vector is to another."""
        if not self._size:
            return [0.0] * self._number
        wanted = normalized(self._whole(vector))
        if isinstance(self._vectors, list):
            return [sum(map(operator.mul, wanted, known)) for known in self._vectors]
        return [float(value) for value in self._vectors @ wanted]


def nearest(
    similarities: Sequence[float], labels: Sequence[str], n: int, per_label: int, *, without: Sequence[int] = ()
) -> list[int]:
    """Which examples to take, the nearest first.

    Of each label, only so many are taken as long as there are others; what is then missing, the nearest of the rest
    make up. Equally near ones stand in the order given.

    Args:
        similarities: How near each example is.
        labels: The label of each.
        n: How many to take at most.
        per_label: How many of one label.
        without: Positions that are not to be taken.
    """
    left_out = set(without)
    rounded = [round(similarity, DIGITS) for similarity in similarities]
    ranked = [position for position in range(len(labels)) if position not in left_out]
    # Stable, also in reverse: equal ones keep their order.
    ranked.sort(key=rounded.__getitem__, reverse=True)
    taken: dict[int, None] = {}
    of_label: Counter[str] = Counter()
    for position in ranked:
        if len(taken) == n:
            break
        if of_label[labels[position]] < per_label:
            of_label[labels[position]] += 1
            taken[position] = None
    for position in ranked:
        if len(taken) >= n:
            break
        taken.setdefault(position)
    return [position for position in ranked if position in taken]
