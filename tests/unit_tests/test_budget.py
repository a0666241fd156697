"""Cutting a text to a token budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.budget import ROUNDS, cannot_exceed, shorten

WORDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=200).map(" ".join)


@given(st.text(), st.integers(0, 400))
def test_a_text_that_cannot_be_too_long_is_not(text: str, tokens: int) -> None:
    """Even a tokenizer that spends one token on every byte stays within the bound."""
    if cannot_exceed(text, tokens):
        assert len(text.encode("utf-8", "replace")) <= tokens
    elif text.isascii():
        assert len(text) > tokens


@given(WORDS, st.integers(0, 50), st.integers(1, 300), st.integers(1, 4))
def test_a_shortened_text_is_a_true_beginning(text: str, constant: int, limit: int, density: int) -> None:
    """What comes back is the text's own beginning, shorter than before, without white space at the end."""
    shorter = shorten(text, tokens=constant + density * len(text), limit=limit, constant=constant)
    assert text.startswith(shorter)
    assert len(shorter) < len(text)
    assert shorter == shorter.rstrip()


@given(WORDS, st.integers(0, 50), st.integers(60, 300))
def test_a_few_rounds_fit_any_text(text: str, constant: int, limit: int) -> None:
    """Counted by bytes, the densest there is, a text fits after a few rounds and is not cut much below its budget."""

    def count(piece: str) -> int:
        return constant + len(piece.encode())

    rounds, cut = 0, text
    while count(cut) > limit:
        cut = shorten(cut, tokens=count(cut), limit=limit, constant=constant)
        rounds += 1
    assert rounds <= ROUNDS
    if rounds and text.isascii() and " " not in text[: limit * 2]:
        assert count(cut) >= constant + 0.9 * (limit - constant) - 4


def test_the_cut_is_between_words_where_one_ends_nearby() -> None:
    """A word is not cut in two if that costs less than a tenth of the text."""
    text = "abcdefgh " * 100
    cut = shorten(text, tokens=900, limit=450, constant=0)
    assert set(cut.split()) == {"abcdefgh"}
    assert 380 <= len(cut) < 450
