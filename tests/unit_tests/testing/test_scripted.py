"""The scripted engine against a slow, obvious reference: its probabilities are exactly those of its script."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.testing import NextTokens, ScriptedEngine, when_contains
from langchain_stormtrooper.testing.tokenizer import EOS

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS = [
    " positive",
    " negative",
    "positive",
    " New York",
    " New Jersey",
    " New",
    " nicht gut",
    " 良い",
    " p",
    "\n",
    " a b c",
]


@st.composite
def scripts(draw: st.DrawFn) -> dict[str, float]:
    """Draw answers whose probabilities add up to at most 1."""
    answers = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6, unique=True))
    weights = [draw(st.integers(1, 100)) for _ in answers]
    scale = draw(st.sampled_from([1.0, 0.9, 0.5])) / sum(weights)
    return {answer: weight * scale for answer, weight in zip(answers, weights, strict=True)}


def longest_match(engine: ScriptedEngine, rest: bytes) -> int:
    """Find the first token of some bytes by trying the whole vocabulary."""
    if not rest:
        return EOS
    fitting = [token for token, text in enumerate(engine.vocabulary) if text and rest.startswith(text)]
    # A byte token and a piece may spell the same character: the piece, which has the higher id, is the natural one.
    return max(fitting, key=lambda token: (len(engine.vocabulary[token]), token))


def longest_path(engine: ScriptedEngine, text: str) -> list[int]:
    """Cut a text by longest match, one token at a time."""
    rest, path = text.encode(), []
    while rest:
        path.append(longest_match(engine, rest))
        rest = rest[len(engine.vocabulary[path[-1]]) :]
    return [*path, EOS]


def reference(engine: ScriptedEngine, script: Mapping[str, float], generated: list[int], noise: float) -> list[float]:
    """Compute the whole next-token distribution by the definition in the engine's docstring."""
    background = engine.next_token("no such prompt", [EOS])
    weights = [background.probability(token) for token in range(len(engine.vocabulary))]
    said = b"".join(engine.vocabulary[token] for token in generated)
    agreeing = [answer for answer in script if longest_path(engine, answer)[: len(generated)] == generated]
    following = [longest_path(engine, answer)[len(generated)] for answer in agreeing]
    if not agreeing:
        agreeing = [answer for answer in script if answer.encode().startswith(said)]
        following = [longest_match(engine, answer.encode()[len(said) :]) for answer in agreeing]
    if not agreeing:
        return weights
    result = [noise * weight for weight in weights]
    total = sum(script[answer] for answer in agreeing)
    for answer, token in zip(agreeing, following, strict=True):
        result[token] += (1 - noise) * script[answer] / total
    return result


def spelled(script: Mapping[str, float], bare: float) -> dict[str, float]:
    """Give each answer with a leading space its share without it."""
    result: dict[str, float] = {}
    for answer, weight in script.items():
        share = bare if answer.startswith(" ") else 0.0
        result[answer] = result.get(answer, 0.0) + weight * (1 - share)
        if share:
            result[answer[1:]] = result.get(answer[1:], 0.0) + weight * share
    return result


@settings(max_examples=60, deadline=None)
@given(scripts(), st.data())
def test_next_token_matches_the_reference(script: dict[str, float], data: st.DataObject) -> None:
    """After any part of any answer, every token has exactly the probability that the definition gives it."""
    noise, bare = 0.01, 0.05
    engine = ScriptedEngine({"?": script}, noise=noise, bare=bare)
    answer = data.draw(st.sampled_from([*engine.distribution("?"), " unheard of"]))
    said = answer.encode()[: data.draw(st.integers(0, len(answer.encode())))]
    generated = [3 + value for value in said] if data.draw(st.booleans()) else engine.tokenizer.encode_bytes(said)
    prediction = engine.next_token("?", generated)
    expected = reference(engine, spelled(engine.distribution("?"), bare), generated, noise)
    found = [prediction.probability(token) for token in range(len(engine.vocabulary))]
    assert found == pytest.approx(expected, abs=1e-12)
    assert math.fsum(found) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(scripts())
def test_chain_rule(script: dict[str, float]) -> None:
    """The step probabilities along an answer multiply to its probability."""
    engine = ScriptedEngine({"?": script}, bare=0.0)
    for answer, weight in engine.distribution("?").items():
        assert math.exp(engine.logprob("?", answer)) == pytest.approx(weight, abs=1e-4)


@given(scripts())
def test_distribution_adds_up(script: dict[str, float]) -> None:
    """All answers together have probability 1, and labels rescaled to each other too, in the order given."""
    engine = ScriptedEngine({"?": script})
    assert math.fsum(engine.distribution("?").values()) == pytest.approx(1.0)
    labels = sorted({answer.strip() for answer in script})
    restricted = engine.distribution("?", labels)
    assert list(restricted) == labels
    assert math.fsum(restricted.values()) == pytest.approx(1.0)


def test_prompt_scores_are_those_of_the_answer() -> None:
    """A prompt that goes on into an answer is predicted as that answer, which is how prefill scoring sees it."""
    script = {" New York": 0.6, " New Jersey": 0.3, " positive": 0.1}
    mapped = ScriptedEngine({"City:": script}, bare=0.0)
    called = ScriptedEngine(lambda _: script, answer_after="City:", bare=0.0)
    for engine in (mapped, called):
        york = engine.encode(" York")[0]
        assert engine.next_token("City: New", ()).probability(york) == pytest.approx(2 / 3, abs=1e-4)
        assert engine.distribution("City: New", ["York", "Jersey"]) == pytest.approx({"York": 2 / 3, "Jersey": 1 / 3})


def test_unknown_prompts_get_the_default() -> None:
    """A prompt that only starts like a known one is an unknown prompt."""
    engine = ScriptedEngine({"Is": " positive"}, default=" negative")
    assert engine.logprob("Is it?", " negative") > math.log(0.99)
    assert engine.logprob("Is", " positive") > math.log(0.99)


def test_next_tokens_rule() -> None:
    """A rule can give the next token from the text so far, and its empty text ends the answer."""
    steps: dict[str, dict[str, float]] = {"": {" a": 3, " b": 1}, " a": {"": 1}, " b": {" a": 1}}
    engine = ScriptedEngine(lambda _: NextTokens(lambda said: steps.get(said, {"": 1})))
    assert math.exp(engine.logprob("x", " a")) == pytest.approx(0.75, abs=1e-4)
    assert math.exp(engine.logprob("x", " b a")) == pytest.approx(0.25, abs=1e-4)
    with pytest.raises(TypeError, match="not known for NextTokens"):
        engine.distribution("x")


def test_when_contains() -> None:
    """Rules by keyword take the first that is found, or the default."""
    rules = when_contains({"great": " positive", "bad": " negative"}, default=" neutral")
    assert [rules(prompt) for prompt in ("great, not bad", "bad", "so so")] == [" positive", " negative", " neutral"]


@pytest.mark.parametrize("script", [{" a": 0.7, " b": 0.5}, {" a": -0.1}])
def test_impossible_probabilities(script: dict[str, float]) -> None:
    """Probabilities that are negative or add up to more than 1 are refused."""
    with pytest.raises(ValueError, match="must be positive and add up to at most 1"):
        ScriptedEngine({"x": script}).next_token("x", ())


def test_labels_without_probability() -> None:
    """Asking for the distribution over labels that the rule never gives is an error, not a division by zero."""
    with pytest.raises(ValueError, match="gives no probability"):
        ScriptedEngine({"x": " a"}).distribution("x", ["b"])


@given(st.integers(2, 3000))
def test_text_of(tokens: int) -> None:
    """A prompt of a wanted length has it, the token before every prompt included."""
    engine = ScriptedEngine()
    assert 1 + len(engine.encode(engine.text_of(tokens))) == tokens


def test_one_text_answers_everything() -> None:
    """A text instead of rules is the answer to every prompt."""
    engine = ScriptedEngine(" science")
    assert engine.distribution("anything") == engine.distribution("else") == {" science": 1.0}
