"""How near texts are, and which examples are taken, against slow and obvious references."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from langchain_stormtrooper.errors import RequestFailedError
from langchain_stormtrooper.selecting.similarity import Bm25, Cosine, Fuzzy, as_compared, nearest, terms

WORDS = st.lists(st.sampled_from(["play", "Play", "song", "rain", "tomorrow", "the", "the", "天気予報"]), max_size=8)
TEXTS = st.lists(WORDS.map(" ".join), max_size=8)
NAMES = ("a", "b", "c")


def slow_bm25(query: str, texts: Sequence[str]) -> list[float]:
    """The formula of Robertson & Zaragoza, written out for one text after another."""
    documents = [terms(text) for text in texts]
    mean = sum(len(document) for document in documents) / max(1, len(documents)) or 1.0
    scores = []
    for document in documents:
        score = 0.0
        for term in set(terms(query)):
            having = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            frequency = document.count(term)
            score += idf * frequency * 2.2 / (frequency + 1.2 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(score)
    return scores


@given(WORDS.map(" ".join), TEXTS)
def test_bm25_is_the_formula(query: str, texts: list[str]) -> None:
    """Scores are those of the formula, for any texts, empty ones too."""
    assert Bm25(texts).to(query) == pytest.approx(slow_bm25(query, texts))


@given(WORDS.map(" ".join), TEXTS)
def test_fuzzy_is_rapidfuzz_with_sorted_words(query: str, texts: list[str]) -> None:
    """Similarities are rapidfuzz's `token_sort_ratio` of the words; a text is as near as can be to itself shuffled."""
    expected = [fuzz.token_sort_ratio(" ".join(terms(query)), " ".join(terms(text))) / 100 for text in texts]
    assert Fuzzy(texts).to(query) == pytest.approx(expected)
    assert Fuzzy(["One two, three."]).to("three TWO one") == [1.0]


def test_words_of_scripts_without_spaces_are_pairs() -> None:
    """Where a script has no spaces, two texts can have pairs of characters in common, and a single one stays."""
    assert terms("Ｈello, wörld! 天気予報 雨 ภาษาไทย") == ["hello", "wörld", "天気", "気予", "予報", "雨"] + [
        "ภาษาไทย"[n : n + 2] for n in range(6)
    ]
    near, far = Bm25(["明日の天気は", "株価が上がる"]).to("東京の天気予報")
    assert near > far == 0


VECTORS = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3)


@given(VECTORS, st.lists(VECTORS, max_size=5))
def test_cosine_is_the_angle_with_and_without_numpy(wanted: list[float], vectors: list[list[float]]) -> None:
    """Both ways of calculating give the cosine, zeros are near to nothing, and a missing vector is zeros."""

    def cosine(one: list[float], other: list[float]) -> float:
        norms = math.hypot(*one) * math.hypot(*other)
        return (
            sum(a / math.hypot(*one) * (b / math.hypot(*other)) for a, b in zip(one, other, strict=True))
            if norms
            else 0
        )

    expected = [cosine(wanted, vector) for vector in vectors]
    with pytest.MonkeyPatch.context() as patch:
        assert Cosine(vectors).to(wanted) == pytest.approx(expected)
        patch.setitem(sys.modules, "numpy", None)
        assert Cosine(vectors).to(wanted) == pytest.approx(expected)
        assert Cosine([*vectors, ()]).to(()) == [0.0] * (len(vectors) + 1)


def test_vectors_of_different_models_are_refused() -> None:
    """Vectors of another length are another model's: the row fails."""
    for known, wanted in (([[1.0, 0.0], [1.0]], [1.0, 0.0]), ([[1.0, 0.0]], [1.0])):
        with pytest.raises(RequestFailedError, match="differ in length"):
            Cosine(known).to(wanted)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9]), st.sampled_from(NAMES)), max_size=12),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sets(st.integers(0, 11)),
)
def test_the_nearest_are_taken_with_few_of_a_label(
    pool: list[tuple[float, str]], n: int, per_label: int, without: set[int]
) -> None:
    """Taking one after another, by similarity and then position, gives the same; only what misses breaks the bound."""
    similarities, labels = [one for one, _ in pool], [label for _, label in pool]
    ranked = sorted(set(range(len(pool))) - without, key=lambda place: (-round(similarities[place], 6), place))
    slow: list[int] = []
    for place in ranked:
        if len(slow) < n and [labels[one] for one in slow].count(labels[place]) < per_label:
            slow.append(place)
    slow += [place for place in ranked if place not in slow][: n - len(slow)]
    taken = nearest(similarities, labels, n, per_label, without=list(without))
    assert taken == sorted(slow, key=ranked.index)
    assert not without.intersection(taken)
    assert len(taken) == min(n, len(ranked))


@given(st.text(max_size=20))
def test_comparing_twice_changes_nothing(text: str) -> None:
    """What is left of a text has neither capitals nor spaces to lose."""
    compared = as_compared(text)
    assert as_compared(f"  {text.upper()}\n") == as_compared(text.upper())
    assert compared == " ".join(compared.split())
