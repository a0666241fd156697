"""Patterns for TGI's regex engine, held against the engine itself."""

from __future__ import annotations

import re
import string
from typing import Any

import interegular
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.wire import encode
from langchain_stormtrooper.wire.grammar import pattern, tokens_needed

MARKS = st.text(st.sampled_from(string.punctuation + " \n\t\rab0wdsé日🎉ا‍"), min_size=1, max_size=4)
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
ANSWERS = st.lists(MARKS | ANY, min_size=1, max_size=4, unique=True)


def assert_accepts_exactly(answers: list[str]) -> None:
    """The engine that TGI uses takes each answer, and knows of no other."""
    machine: Any = interegular.parse_pattern(pattern(answers)).to_fsm()
    assert [answer for answer in answers if not machine.accepts(answer)] == []
    # As many texts as there are answers, each of which is one: so there is nothing else that it accepts.
    assert machine.cardinality() == len(set(answers))


@given(ANSWERS)
@settings(max_examples=150)
def test_a_pattern_accepts_its_answers_and_nothing_else(answers: list[str]) -> None:
    """Whatever the labels are made of, the language of the pattern is the set of the labels."""
    assert_accepts_exactly(answers)


@pytest.mark.parametrize("mark", [*string.punctuation, "\n", "\t", "\r", "\x00", "\x7f", "\u2028", "é", "日本", "👩‍🔬"])
def test_every_mark_is_itself(mark: str) -> None:
    """Each punctuation mark, control character and script stands for itself, at any place of a label."""
    assert_accepts_exactly([f" {mark}", f"{mark}a", f"a{mark}b", f"b{mark}"])


@pytest.mark.parametrize(
    "answers",
    [
        ["pos", "positive", "positive!"],
        [" a", " ab", "a"],
        ["(a", "*a", "[z-a]", "(?i)a", "^a$"],
        ["\\d", "\\", "\\\\", "\\n", "\n", "n"],
        ["a|b", "a", "b", "|"],
        ["a{2}", "aa", "a+", "a?", "."],
    ],
)
def test_labels_that_look_like_patterns(answers: list[str]) -> None:
    """Labels that begin others, and labels that are patterns themselves, are still literal texts."""
    assert_accepts_exactly(answers)


def test_a_pattern_keeps_the_order_given() -> None:
    """Equal tasks have equal patterns, so that servers find what they have compiled."""
    assert pattern([" b", " a"]) == "( b| a)"


def test_a_pattern_is_one_line() -> None:
    """Line breaks and tabs of labels are written as escapes."""
    assert pattern(["a\nb", "\t", "\r"]) == r"(a\nb|\t|\r)"


def test_only_ended_answers_may_be_followed_by_a_line_break() -> None:
    """A line break is optional after the answers named, and comes after no other."""
    text = pattern([" play", " play music", "a+"], {" play", "a+"})
    assert text == "( play\\n?| play music|a\\+\\n?)"
    machine: Any = interegular.parse_pattern(text).to_fsm()
    assert machine.cardinality() == 5
    assert all(machine.accepts(answer) for answer in (" play", " play\n", " play music", "a+", "a+\n"))


def test_an_answer_that_the_prompt_holds_already() -> None:
    """The end alone, or a line break, is what is left of an answer that the prompt ends with."""
    machine: Any = interegular.parse_pattern(pattern(["", " music"], {""})).to_fsm()
    assert machine.cardinality() == 3
    assert all(machine.accepts(answer) for answer in ("", "\n", " music"))
    with pytest.raises(ConfigurationError, match="needs answers"):
        pattern([""], {""})


@pytest.mark.parametrize("answers", [[], [""], ["a", ""]])
def test_patterns_that_the_engine_refuses_are_not_made(answers: list[str]) -> None:
    """No answer, or an empty one, is refused here: at the server it would cost other users their requests."""
    with pytest.raises(ConfigurationError, match="needs answers"):
        pattern(answers)


@given(st.lists(st.text(st.characters() | st.sampled_from("\ud800\udfff"), min_size=1, max_size=6), min_size=1))
@example(["\ud800\ud800"])
def test_tokens_are_enough_for_single_bytes(answers: list[str]) -> None:
    """Each answer fits as it is sent, a token for each byte and one for the end; no more is asked for than that."""
    # As JSON without its quotes: what is sent has no escapes but those of JSON.
    plain = [re.sub(r'[\x00-\x1f"\\]', "x", answer) for answer in answers]
    assert tokens_needed(plain) >= max(len(encode(answer)) - 2 for answer in plain) + 1
    if not any("\ud800" <= mark <= "\udfff" for answer in plain for mark in answer):
        assert tokens_needed(plain) == max(len(answer.encode()) for answer in plain) + 1
