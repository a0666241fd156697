"""Choosing tokens: masks, ties, filters, penalties and rounding, on the raw numbers."""

from __future__ import annotations

import math
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer
from langchain_stormtrooper.testing.bodies import BodyReader
from langchain_stormtrooper.testing.choosing import rounded
from langchain_stormtrooper.testing.decoding import Decoder, Generation
from langchain_stormtrooper.testing.validation import validate

ANSWERS = {" a": 0.4, " b": 0.3, " c": 0.2, " d": 0.1}


class Runner:
    """Runs requests through validation and decoding, without a server."""

    def __init__(self, answers: Any = ANSWERS, **settings: Any) -> None:
        self.config = TGIServer("2.4.1", ScriptedEngine(lambda _: answers, bare=0.0), **settings).config
        self._reader = BodyReader(self.config.release)
        self._decoder = Decoder(self.config)

    def __call__(self, **parameters: Any) -> Generation:
        """Run one request with these parameters."""
        body = self._reader.generate({"inputs": "x a", "parameters": {"max_new_tokens": 3} | parameters})
        generation = Generation()
        for _ in self._decoder.run(validate(body, self.config), generation):
            pass
        return generation


def generate(answers: Any = ANSWERS, settings: dict[str, Any] | None = None, **parameters: Any) -> Generation:
    """Run one request on a model of its own."""
    return Runner(answers, **(settings or {}))(**parameters)


def shares(**parameters: Any) -> dict[str, float]:
    """Draw 400 answers and return how often each came."""
    run = Runner()
    drawn = Counter(run(seed=seed, do_sample=True, **parameters).text for seed in range(400))
    return {text: count / 400 for text, count in drawn.items()}


@given(st.floats(-60_000, 0))
def test_float16(value: float) -> None:
    """Half precision is what the struct module says it is."""
    assert rounded(value, "float16") == struct.unpack("<e", struct.pack("<e", value))[0]


@given(st.floats(-1e30, -1e-30))
def test_bfloat16(value: float) -> None:
    """bfloat16 keeps eight significant bits and rounds to the nearest."""
    result = rounded(value, "bfloat16")
    assert struct.pack(">f", result)[2:] == b"\x00\x00"
    assert abs(result - value) <= abs(value) * 2**-8


def test_no_rounding() -> None:
    """At full precision, and for infinities, a number stays what it is."""
    assert rounded(-0.1, "float64") == -0.1
    assert rounded(-math.inf, "float16") == -math.inf


def test_greedy_takes_the_best() -> None:
    """Without sampling the most probable token wins and no seed is shown."""
    generation = generate()
    assert (generation.text, generation.seed) == (" a", None)
    assert math.exp(generation.steps[0].logprob) == pytest.approx(0.4, abs=1e-4)


def test_ties_are_all_listed() -> None:
    """Tokens that tie with the last of the top list are listed too."""
    answers = {" a": 0.4, " b": 0.2, " c": 0.2, " d": 0.2}
    top = generate(answers, top_n_tokens=2).steps[0].top
    assert len(top) == 4
    assert len({logprob for _, logprob in top[1:]}) == 1


def test_half_precision_makes_ties() -> None:
    """Probabilities that differ by less than half precision can show tie in the top list."""
    answers = {" a": 0.4, " b": 0.300001, " c": 0.299999}
    assert len(generate(answers, {"precision": "bfloat16"}, top_n_tokens=2).steps[0].top) == 3
    assert len(generate(answers, {"precision": "float32"}, top_n_tokens=2).steps[0].top) == 2


def test_sampling_follows_the_distribution() -> None:
    """Drawn answers come as often as they are probable."""
    found = shares()
    for text, probability in ANSWERS.items():
        assert found[text] == pytest.approx(probability, abs=0.08)


def test_seed_repeats() -> None:
    """The same seed draws the same answer and is shown."""
    assert {generate(seed=7, do_sample=True).text for _ in range(5)} == {generate(seed=7, do_sample=True).text}
    assert generate(seed=7, do_sample=True).seed == 7


@pytest.mark.parametrize(
    ("parameters", "possible"),
    [
        ({"top_k": 2}, {" a", " b"}),
        ({"top_p": 0.5}, {" a", " b"}),
        ({"top_p": 0.3}, {" a"}),
        ({"temperature": 0.01}, {" a"}),
        ({"typical_p": 0.25}, {" b"}),
    ],
)
def test_filters(parameters: dict[str, Any], possible: set[str]) -> None:
    """Filters leave exactly the tokens they should, and flash models show the filtered log-probabilities."""
    assert set(shares(**parameters)) == possible
    step = generate(seed=1, top_n_tokens=5, **parameters).steps[0]
    assert sum(math.exp(logprob) for _, logprob in step.top) == pytest.approx(1, abs=1e-3)


def test_repetition_penalty() -> None:
    """A repetition penalty makes a token of the prompt less likely."""
    assert generate(repetition_penalty=3.0).text == " b"


def test_frequency_penalty() -> None:
    """A frequency penalty makes a generated token less likely the next time."""
    answers = {" a a": 0.6, " a b": 0.4}
    assert generate(answers).text == " a a"
    assert generate(answers, frequency_penalty=2.0).text == " a b"


def test_padded_top_tokens_ignore_temperature() -> None:
    """Padded models show top tokens as the model gave them, whatever was done to choose."""
    step = generate(ANSWERS, {"family": "padded"}, temperature=0.01, top_n_tokens=1).steps[0]
    assert math.exp(step.logprob) == pytest.approx(1, abs=1e-3)
    assert math.exp(step.top[0][1]) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize(
    ("answer", "parameters", "text", "reason"),
    [
        (" a b c d", {"max_new_tokens": 2}, " a b", "length"),
        (" a", {"max_new_tokens": 2}, " a", "length"),
        (" a", {"max_new_tokens": 3}, " a", "eos_token"),
        (" a b c d", {"max_new_tokens": 9, "stop": [" c"]}, " a b c", "stop_sequence"),
        (" new york", {"max_new_tokens": 9, "stop": ["yo"]}, " new york", "eos_token"),
        (" 日", {"max_new_tokens": 2}, "", "length"),
        (" 日", {"max_new_tokens": 4}, " 日", "length"),
    ],
)
def test_stopping(answer: str, parameters: dict[str, Any], text: str, reason: str) -> None:
    """The length comes before the end of text, stop sequences are kept, and half a character shows as nothing."""
    generation = generate(answer, **parameters)
    assert (generation.text, generation.finish_reason) == (text, reason)


def test_split_character_shows_once() -> None:
    """The bytes of a character show as empty texts and then as the character."""
    assert [step.text for step in generate(" 日", max_new_tokens=9).steps] == [" ", "", "", "日", "</s>"]


def test_sentencepiece_shows_top_tokens_without_space() -> None:
    """A SentencePiece server drops the leading space in top lists and keeps it in generated tokens."""
    engine = ScriptedEngine(lambda _: " a")
    decoder = Decoder(TGIServer("3.3.7", engine, sentencepiece=True).config)
    token = engine.encode(" a")[0]
    assert decoder.shown(token, -0.1)["text"] == "a"
    assert generate(" a", {"sentencepiece": True}).steps[0].text == " a"
