"""The toy tokenizer: exact round trips, and a cut that is the same wherever it starts."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from langchain_stormtrooper.testing import ToyTokenizer

TOKENIZER = ToyTokenizer(words=["toxic", "card arrival"])
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from([" positive", "New", " York", " _", "  ", " 5", "é", "ly", "日本", "\n"])).map("".join),
)


@given(TEXTS)
@example("日本語 naïve\r\n\x00 🙂")
def test_round_trip(text: str) -> None:
    """Every text comes back exactly as it was."""
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(TEXTS)
@example("  word _x 5 ly")
def test_chunks_do_not_matter(text: str) -> None:
    """Cutting chunk by chunk gives the same tokens as longest match over the whole text."""
    assert TOKENIZER.encode(text) == TOKENIZER.encode_bytes(text.encode())


@given(TEXTS, st.data())
def test_cut_has_no_memory(text: str, data: st.DataObject) -> None:
    """The rest of a text after any of its tokens is cut as if it stood alone."""
    ids = TOKENIZER.encode(text)
    at = data.draw(st.integers(0, len(ids)))
    assert TOKENIZER.encode_bytes(TOKENIZER.decode_bytes(ids[at:])) == ids[at:]


@given(TEXTS)
def test_longest_match(text: str) -> None:
    """Each token is the longest vocabulary entry that fits where it starts."""
    rest = text.encode()
    for token in TOKENIZER.encode(text):
        fitting = [entry for entry in TOKENIZER.vocabulary if entry and rest.startswith(entry)]
        assert len(TOKENIZER.vocabulary[token]) == max(len(entry) for entry in fitting)
        rest = rest[len(TOKENIZER.vocabulary[token]) :]


def test_known_words_are_single_tokens() -> None:
    """Words of the vocabulary and those given by the user are one token, with a space or without."""
    for text in (" positive", "positive", " Toxic", "toxic", " arrival"):
        assert len(TOKENIZER.encode(text)) == 1


def test_unknown_words_have_several_paths() -> None:
    """A text can be spelled in more than one way, down to its bytes."""
    ids = TOKENIZER.encode("positive")
    by_bytes = [3 + value for value in b"positive"]
    assert ids != by_bytes
    assert TOKENIZER.decode(by_bytes) == "positive"
    assert TOKENIZER.name(by_bytes[0]) == "<0x70>"
    assert "".join(map(TOKENIZER.name, TOKENIZER.encode(" it is"))) == " it is"


def test_lone_surrogates_do_not_crash() -> None:
    """A lone surrogate, which no UTF-8 holds, is cut into bytes."""
    assert len(TOKENIZER.encode("\ud800")) == 3


def test_special_tokens_add_nothing() -> None:
    """Special tokens are left out of decoded text."""
    assert TOKENIZER.decode([1, *TOKENIZER.encode("good"), 2]) == "good"
    assert [TOKENIZER.is_special(token) for token in (0, 1, 2, 3)] == [True, True, True, False]
