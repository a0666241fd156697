"""Grammars: what they allow is what can still become a match, and what they refuse is what TGI refuses."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.testing import ToyTokenizer
from langchain_stormtrooper.testing.guides import GrammarError, Guides, RegexGuide
from langchain_stormtrooper.testing.schema import SchemaError, to_regex
from langchain_stormtrooper.testing.tokenizer import EOS

TOKENIZER = ToyTokenizer()
GUIDES = Guides(TOKENIZER.vocabulary, EOS)
LABELS = [" positive", "positive", " New York", " New Jersey", " New", "日本", "naïve", "a|b", "(c)", "5 %", "🙂", "p"]


def pattern_of(labels: list[str]) -> str:
    """Write labels as one group, with ASCII punctuation escaped."""
    return "(" + "|".join(re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", label) for label in labels) + ")"


def naively_allowed(labels: list[str], said: bytes) -> set[int]:
    """Try every token of the vocabulary on every label."""
    texts = [label.encode() for label in labels]
    tokens = {
        token
        for token, text in enumerate(TOKENIZER.vocabulary)
        if text and any(label.startswith(said + text) for label in texts)
    }
    return tokens | ({EOS} if said in texts else set())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_any_allowed_walk_ends_in_a_label(labels: list[str], rng: object) -> None:
    """Whatever allowed token is taken, the allowed set is exactly right, and the end is one of the labels."""
    guide = GUIDES.regex(pattern_of(labels))
    state, said = guide.start(), b""
    token = -1
    while token != EOS:
        allowed = guide.allowed(state)
        assert allowed == naively_allowed(labels, said)
        token = sorted(allowed)[rng.randrange(len(allowed))]  # type: ignore[attr-defined]  # hypothesis types no Random
        said += TOKENIZER.vocabulary[token]
        state = guide.advance(state, token)
    assert said.decode() in labels
    assert guide.allowed(state) == {EOS}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("^(a|b)$", "'^'"),
        ("a$", "'$'"),
        (r"\ba", r"Escape \b is not implemented"),
        (r"\Aa", r"Escape \A is not implemented"),
        ("(a", ""),
        ("*a", ""),
        (r"(a)\1", "Group references are not implemented"),
        ("(?<=a)b", "lookbacks are not implemented"),
        ("()", "The vocabulary does not allow us to build a sequence that matches the input regex"),
    ],
)
def test_refused_patterns(pattern: str, message: str) -> None:
    """Anchors, references and broken patterns are refused with the engine's own words."""
    with pytest.raises(GrammarError) as caught:
        GUIDES.regex(pattern)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?:yes|no)+", "yesno"),
        (r"[a-c]{2,3}", "abc"),
        (r"\d+\.\d*", "12.5"),
        (r"(?i)yes", "YeS"),
        (r".*\!", "é日🙂!"),
        (r"a\ b\-c", "a b-c"),
        (r"[^a]", "é"),
    ],
)
def test_accepted_patterns(pattern: str, text: str) -> None:
    """The rest of the dialect works, over texts in any script."""
    guide = GUIDES.regex(pattern)
    assert accepts(guide, text)
    assert not accepts(guide, text + "~")


def accepts(guide: RegexGuide, text: str) -> bool:
    """Walk a text along its natural tokens."""
    state = guide.start()
    for token in [*TOKENIZER.encode(text), EOS]:
        if token not in guide.allowed(state):
            return False
        state = guide.advance(state, token)
    return True


def test_cache_keeps_32() -> None:
    """A pattern is compiled once, until 32 others have been used since."""
    guides = Guides(TOKENIZER.vocabulary, EOS)
    for index in [0, 0, *range(32), 0]:
        guides.regex(f"x{index}")
    assert guides.compiled == 32
    guides.regex("x32")
    guides.regex("x0")
    assert guides.compiled == 33
    guides.regex("x1")
    assert guides.compiled == 34


SCHEMA = {
    "properties": {
        "label": {"enum": ["spam", "not (spam)"]},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        "sure": {"type": ["boolean", "null"]},
    },
    "required": ["label", "sure"],
}


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"label": "spam", "sure": True}, True),
        ({"label": "not (spam)", "score": -1.5, "sure": None}, True),
        ({"label": "spam", "tags": [], "sure": False}, True),
        ({"label": "spam", "score": 1, "tags": ["a", "bcd"], "sure": False}, True),
        ({"label": "spam"}, False),
        ({"label": "ham", "sure": True}, False),
        ({"label": "spam", "tags": ["a", "b", "c"], "sure": True}, False),
        ({"label": "spam", "tags": ["abcd"], "sure": True}, False),
        ({"sure": True, "label": "spam"}, False),
    ],
)
def test_schema_to_pattern(value: object, fits: bool) -> None:
    """A schema's pattern matches the JSON texts that the schema describes, with or without spaces, and no others."""
    pattern = to_regex(SCHEMA)
    for separators in [(",", ":"), (", ", ": ")]:
        assert (re.fullmatch(pattern, json.dumps(value, separators=separators)) is not None) is fits


def test_schema_references() -> None:
    """References inside a schema are followed, and those that lead nowhere or for ever are refused."""
    schema = {"$defs": {"x": {"const": "a.b"}}, "properties": {"k": {"$ref": "#/$defs/x"}}, "required": ["k"]}
    assert re.fullmatch(to_regex(schema), '{"k":"a.b"}')
    assert not re.fullmatch(to_regex(schema), '{"k":"axb"}')
    with pytest.raises(SchemaError, match="cannot follow"):
        to_regex({"$ref": "#/nowhere"})
    with pytest.raises(SchemaError, match="too deeply"):
        to_regex({"$ref": "#/a", "a": {"$ref": "#/a"}})
    for reference in ("other.json", 5, "#/$defs/x/const/y"):
        with pytest.raises(SchemaError, match="cannot follow"):
            to_regex(schema | {"$ref": reference})
    unsupported: list[object] = [{"not": {}}, 5, {"properties": {"k": 5}}]
    for one in unsupported:
        with pytest.raises(SchemaError, match="Unsupported"):
            to_regex(one)


@pytest.mark.parametrize(
    ("schema", "fits", "other"),
    [
        ({"type": "string"}, '"ab \\" c"', "5"),
        ({"type": "string", "minLength": 2}, '"ab"', '"a"'),
        ({"type": "string", "pattern": "^[a-c]+$"}, '"abc"', '"abcd"'),
        ({"properties": {}}, "{ }", '{"a":1}'),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "[1, -20]", "[1]"),
    ],
)
def test_schema_keywords(schema: object, fits: str, other: str) -> None:
    """Lengths and patterns of strings, objects without properties and lists with a least length mean what they say."""
    pattern = to_regex(schema)
    assert re.fullmatch(pattern, fits)
    assert not re.fullmatch(pattern, other)


def test_nothing_follows_the_end() -> None:
    """A token that a pattern does not allow cannot be taken, and after the end of the text none can be."""
    guide = GUIDES.regex("a")
    (token,) = TOKENIZER.encode("a")
    with pytest.raises(ValueError, match="not allowed here"):
        guide.advance(guide.start(), TOKENIZER.encode("b")[0])
    ended = guide.advance(guide.advance(guide.start(), token), EOS)
    assert guide.allowed(ended) == {EOS}
    with pytest.raises(ValueError, match="not allowed here"):
        guide.advance(ended, token)
