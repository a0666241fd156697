"""The pure parts of the OpenAI-compatible test server: grammars, constraints, distributions, bodies, errors."""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.testing import OpenAIServer, Prediction, ScriptedEngine
from langchain_stormtrooper.testing.answers import dumps
from langchain_stormtrooper.testing.openai.bodies import Reader
from langchain_stormtrooper.testing.openai.constraints import pattern_of
from langchain_stormtrooper.testing.openai.facts import Facts
from langchain_stormtrooper.testing.openai.front import prompts_of
from langchain_stormtrooper.testing.openai.generating import Distribution, Generation, Generator
from langchain_stormtrooper.testing.openai.grammars import grammar_pattern
from langchain_stormtrooper.testing.openai.lengths import check_length
from langchain_stormtrooper.testing.openai.options import Options
from langchain_stormtrooper.testing.openai.refusals import ApiError, error_body
from langchain_stormtrooper.testing.openai.scores import Scorer
from langchain_stormtrooper.testing.openai.shapes import Shapes


def options(flavour: str = "vllm", engine: ScriptedEngine | None = None, **settings: Any) -> Options:
    """Make the settings of a server that is never started."""
    return OpenAIServer(flavour, engine, **settings).options  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grammar", "matching", "other"),
    [
        ('root ::= "a" | "b"', ["a", "b"], ["ab", ""]),
        ('root ::= ("a" | "b") [0-9]+ "."?', ["a1.", "b22"], ["a", "1"]),
        ('# first\nroot ::= word # here\nword ::= "x" end\nend ::= "y" | ""\n', ["x", "xy"], ["y"]),
        (r'root ::= "a.b\n" "\"q\""', ['a.b\n"q"'], ['axb\n"q"']),
        ('root ::= [^"\\]]*', ["abc", ""], ["]", '"']),
        ('start: " a" | more\nmore: /b+[.]/ "c"?', [" a", "bb.", "b.c"], ["b", "a"]),
    ],
)
def test_grammars(grammar: str, matching: list[str], other: list[str]) -> None:
    """A grammar without recursion becomes a pattern that matches the same texts."""
    pattern = re.compile(grammar_pattern(grammar))
    assert all(pattern.fullmatch(text) for text in matching)
    assert not any(pattern.fullmatch(text) for text in other)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= a", "no rule 'a'"),
        ("begin ::= b", "no rule 'root'"),
        ("", "no rule 'root'"),
        ('root ::= "a" list\nlist ::= root', "uses itself"),
        ("root ::= $", "cannot read"),
    ],
)
def test_broken_grammars(grammar: str, reason: str) -> None:
    """A grammar that cannot be read, or uses itself, is refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        grammar_pattern(grammar)


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4))
def test_choices(choices: list[str]) -> None:
    """The pattern of a choice matches exactly its texts, whatever is in them."""
    pattern = pattern_of({"structured_outputs": {"choice": choices}}, options())
    assert pattern is not None
    assert all(re.fullmatch(pattern, text) for text in choices)
    assert not any(re.fullmatch(pattern, text + "!") for text in choices if text + "!" not in choices)


@pytest.mark.parametrize(
    ("flavour", "body", "pattern"),
    [
        ("vllm", {"structured_outputs": {"regex": "^a|b$"}}, "a|b"),
        ("vllm", {"guided_regex": "a", "regex": "a", "grammar": 'root ::= "a"'}, None),
        ("vllm", {"structured_outputs": {"json_object": True}}, None),
        ("sglang", {"regex": "a", "structured_outputs": {"regex": "b"}}, "a"),
        ("llama.cpp", {"grammar": 'root ::= "a"', "regex": "b"}, "((a))"),
        ("generic", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}}, "(?:1)"),
        ("generic", {"response_format": {"type": "text"}}, None),
    ],
)
def test_constraint_fields(flavour: str, body: dict[str, Any], pattern: str | None) -> None:
    """Each flavour listens to its own fields and to OpenAI's `response_format`."""
    assert pattern_of(body, options(flavour)) == pattern


def test_distribution() -> None:
    """A mask rescales, a bias moves, and impossible tokens fill a list that is too short."""
    settings = options(precision="float64")
    prediction = Prediction({5: 0.5, 6: 0.3, 7: 0.2})
    raw = Distribution(prediction, None, settings)
    assert [(item.token, item.rank) for item in raw.top(2)] == [(5, 1), (6, 2)]
    assert (raw.shown(7).rank, raw.logprob(8)) == (3, -9999.0)
    masked = Distribution(prediction, frozenset({6, 7}), settings)
    assert math.exp(masked.logprob(6)) == pytest.approx(0.6)
    assert [item.token for item in masked.top(3)] == [6, 7, 0]
    assert masked.top(3)[2].logprob == -9999.0
    moved = raw.changed({7: math.log(10)}, None, without=5)
    assert [moved.probability(token) for token in (5, 6, 7)] == pytest.approx([0, 0.3 / 2.3, 2 / 2.3])
    assert raw.warmed(0.5).probability(5) == pytest.approx(0.25 / 0.38)


@pytest.mark.parametrize(("ignore", "least", "text"), [(False, 0, " é"), (True, 0, " é"), (False, 2, " é")])
def test_generation(ignore: bool, least: int, text: str) -> None:
    """Text comes out whole characters at a time, and the end of the text can be ignored or put off."""
    settings = options(engine=ScriptedEngine(" é"))
    more = {"max_tokens": 6, "temperature": 0, "ignore_eos": ignore, "min_tokens": least, "seed": 1}
    ask = Reader(settings).completion({"prompt": "a", **more})
    generation = Generation()
    steps = list(Generator(settings).run(ask, ask.prompts[0], generation))
    assert generation.text.startswith(text)
    assert "\ufffd" not in generation.text[:2]
    assert "".join(step.text for step in steps) == generation.text
    assert len(steps) == 6 if ignore else generation.ended


def test_token_prompts() -> None:
    """A prompt of token ids is the text they spell, special tokens left out; unknown ids are refused."""
    engine = ScriptedEngine()
    reader = Reader(options(engine=engine))
    prompt = reader.prompt([1, *engine.encode("a good film")])
    assert (prompt.text, len(prompt.ids)) == ("a good film", 4)
    with pytest.raises(ApiError, match="out of vocabulary"):
        reader.prompt([10**6])


@pytest.mark.parametrize(("keep", "tokens"), [(2, 2), (-1, 4)])
def test_truncation(keep: int, tokens: int) -> None:
    """`truncate_prompt_tokens` keeps the end of a prompt, -1 as much of it as fits."""
    settings = options(engine=ScriptedEngine(), max_model_len=5)
    ask = Reader(settings).completion({"prompt": " word" * 9, "max_tokens": 1, "truncate_prompt_tokens": keep})
    assert ask.prompts[0].text == " word" * tokens


def test_continued_message() -> None:
    """`continue_final_message` leaves the last message open, so that a chat can hold the start of its answer."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "The"}]
    ask = Reader(options()).chat({"messages": messages, "continue_final_message": True})
    assert ask.prompts[0].text == "<|user|>\nHi\n<|assistant|>\nThe"


@pytest.mark.parametrize("template", [None, "objects"])
def test_templates(template: str | None) -> None:
    """A server without a template, or one whose template objects, refuses chats."""

    def objecting(messages: Any, add: bool) -> str:
        raise ValueError("no system role")

    settings = options(chat_template=None if template is None else objecting)
    with pytest.raises(ApiError, match=r"template|system role"):
        Reader(settings).chat({"messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompt": "\ud800"}, "TextEncodeInput"),
        ({"prompt": []}, "at least one prompt"),
        ({"prompt": [10**6]}, "out of vocabulary"),
        ({"prompt": "a", "allowed_token_ids": []}, "empty"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "cannot be converted"),
        ({"prompt": "a", "allowed_token_ids": [10**6]}, "out-of-vocab"),
        ({"prompt": "a", "logit_bias": {"5": "x"}}, "valid number"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, "only be defined when `stream=True`"),
        ({"prompt": "a", "temperature": -0.5}, "must be non-negative"),
        ({"prompt": "a", "logprobs": -2}, "must be a positive value or -1"),
        ({"prompt": [""], "add_special_tokens": False}, "decoder prompt cannot be empty"),
        ({"prompt": "a", "echo": True, "max_tokens": 0, "logprobs": 1, "logprob_token_ids": [5]}, "no output tokens"),
        ({"messages": [{"role": 5, "content": "a"}]}, "valid string"),
        ({"messages": []}, "empty conversation"),
        ({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 1}, "must be set to true"),
        (
            {
                "messages": [{"role": "user", "content": "a"}],
                "continue_final_message": True,
                "add_generation_prompt": True,
            },
            "Cannot set both",
        ),
    ],
)
def test_vllm_refusals(body: dict[str, Any], reason: str) -> None:
    """What a recorded vLLM 0.32 refused is refused with its reason."""
    reader = Reader(options())
    with pytest.raises(ApiError, match=reason):
        (reader.chat if "messages" in body else reader.completion)(body)


def test_what_is_no_object_is_no_body() -> None:
    """A body that is JSON but no object is refused as such."""
    with pytest.raises(ApiError, match="valid dictionary"):
        Reader(options()).completion([{"prompt": "a"}])


def test_a_list_of_prompts_is_bounded() -> None:
    """A server that takes a few prompts at once refuses more of them."""
    reader = Reader(options(max_prompts=2))
    assert len(reader.completion({"prompt": ["a", "b"]}).prompts) == 2
    with pytest.raises(ApiError, match="length 3 exceeds the maximum allowed count of 2"):
        reader.completion({"prompt": ["a", "b", "c"]})


def test_dropped_fields() -> None:
    """A field that is dropped counts as not sent, and null counts as absent."""
    reader = Reader(options("generic", drops=["temperature", "structured_outputs"]))
    body = {
        "model": "stormtrooper/scripted",
        "prompt": "a",
        "temperature": 0,
        "structured_outputs": {},
        "logprobs": None,
    }
    ask = reader.completion(body)
    assert (ask.temperature, ask.logprobs) == (1.0, None)


def refused(tokens: int, wanted: int, settings: Options, text: str | None = "a") -> tuple[str, str | None]:
    """Return what a server says of a prompt that is too long, and the field that it blames."""
    with pytest.raises(ApiError) as caught:
        check_length(text, tokens, wanted, settings)
    body = error_body(caught.value, settings)
    inner = body.get("error", body)
    return inner["message"], inner.get("param")


@pytest.mark.parametrize(
    ("tokens", "wanted", "text", "words", "param"),
    [
        (99, 1, "a", "contains at least 65 input tokens, which exceeds this limit", "input_tokens"),
        (99, 1, None, "contains 99 input tokens, which exceeds this limit", "input_tokens"),
        (64, 1, "a", "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens"),
        (9, 65, "a", "max_tokens=65 cannot be greater than max_model_len=64", "max_tokens"),
        (999, 1, "a" * 9999, "contains 9999 characters", "input_text"),
    ],
)
def test_vllm_lengths(tokens: int, wanted: int, text: str | None, words: str, param: str) -> None:
    """The five ways of vLLM 0.32 to refuse a length do not all name the context or the prompt."""
    said = refused(tokens, wanted, options("vllm", max_model_len=64), text)
    assert words in said[0]
    assert said[1] == param


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            "0.19.1",
            "requested 8 output tokens and your prompt contains at least 57 input tokens, for a total of at least 65",
        ),
        (
            "0.17.0",
            "You passed 57 input tokens and requested 8 output tokens. However, the model's context length is only",
        ),
        (
            "0.15.0",
            "is too large: 8. This model's maximum context length is 64 tokens and your request has 60 input tokens",
        ),
        ("0.9.2", "However, you requested 68 tokens (60 in the messages, 8 in the completion)"),
    ],
)
def test_older_vllm_lengths(version: str, words: str) -> None:
    """Older releases want room for the whole answer, and each has its own words."""
    settings = options("vllm", max_model_len=64, version=version)
    assert words in refused(60, 8, settings)[0]
    check_length("a", 56, 8, settings)


def test_a_prompt_that_leaves_an_older_vllm_no_room() -> None:
    """Where the prompt alone fills the context, nothing is said of the answer's length."""
    said = refused(70, 8, options("vllm", version="0.15.0", max_model_len=64))[0]
    assert said.endswith("your request has 70 input tokens. Please reduce the length of the input messages.")


@pytest.mark.parametrize(
    ("flavour", "tokens", "wanted", "words"),
    [
        ("sglang", 64, 1, "The input (64 tokens) is longer than the model's context length (64 tokens)"),
        ("sglang", 60, 8, "You requested a total of 68 tokens: 60 tokens from the input messages"),
        ("llama.cpp", 64, 1, "exceeds the available context size (64 tokens)"),
        ("generic", 60, 8, "your messages resulted in 60 tokens"),
    ],
)
def test_other_lengths(flavour: str, tokens: int, wanted: int, words: str) -> None:
    """The other flavours have one or two sentences each, and take what just fits."""
    settings = options(flavour, max_model_len=64)
    assert words in refused(tokens, wanted, settings)[0]
    check_length("a", 63, 1, settings)


@pytest.mark.parametrize(
    ("version", "guided", "old_errors"), [("0.32.0", False, False), ("0.10.1", True, False), ("0.9.2", True, True)]
)
def test_release_defaults(version: str, guided: bool, old_errors: bool) -> None:
    """The version of a vLLM decides which constraints it hears and what its errors look like."""
    settings = options("vllm", version=version)
    assert (settings.guided, settings.old_errors) == (guided, old_errors)


@pytest.mark.parametrize(
    ("body", "prompts"),
    [
        ({"prompt": "a"}, ["a"]),
        ({"prompt": ["a", [1, 2]]}, ["a", "[1, 2]"]),
        ({"prompt": [1, 2]}, ["[1, 2]"]),
        ({"query": "q", "items": ["i", "j"]}, ["i", "j"]),
        ({"messages": [{"role": "user", "content": "m"}]}, ["m"]),
        ({"messages": []}, []),
        ([], []),
    ],
)
def test_prompts_of(body: Any, prompts: list[str]) -> None:
    """Requests are counted, and faults chosen, by their prompts, items or last message."""
    assert prompts_of(body) == prompts


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 400)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([10**30, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["1", "x", "type", "choice"]), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = [
    *[
        "prompt",
        "messages",
        "max_tokens",
        "temperature",
        "stop",
        "logprobs",
        "top_logprobs",
        "echo",
        "n",
        "seed",
        "model",
    ],
    *["logit_bias", "allowed_token_ids", "logprob_token_ids", "prompt_logprobs", "structured_outputs", "regex", "ebnf"],
    *["response_format", "stream", "stream_options", "truncate_prompt_tokens", "min_tokens", "add_special_tokens"],
    *["query", "items", "label_token_ids", "tokens", "content", "continue_final_message"],
]


@given(
    st.sampled_from(["vllm", "sglang", "llama.cpp", "generic"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)
def test_any_body(flavour: str, body: dict[str, Any]) -> None:
    """Whatever is in a body, it is answered or refused, and the answer can be written as JSON."""
    settings = options(flavour, max_model_len=40, refuses_unknown=False)
    reader, generator = Reader(settings), Generator(settings)
    facts, scorer = Facts(settings, reader, generator.piece), Scorer(settings, reader, generator)
    messages = {"messages": [{"role": "user", "content": "a"}]}
    defaults = {"prompt": "a", "max_tokens": 2, "query": "q", "items": ["i"], "label_token_ids": [5]} | messages
    body = defaults | {"model": settings.model_id} | body
    for read in (reader.completion, reader.chat):
        with contextlib.suppress(ApiError):
            ask = read(body)
            ask.n = 1
            generations = [Generation() for _ in ask.prompts]
            for prompt, generation in zip(ask.prompts, generations, strict=True):
                for _ in generator.run(ask, prompt, generation):
                    pass
            scored = [generator.score(prompt, 1) for prompt in ask.prompts]
            json.loads(dumps(Shapes(settings, generator).answer(ask, generations, scored)))
    with contextlib.suppress(ApiError):
        scores, _ = scorer.score(body)
        json.loads(dumps(scores))
    for tell in (facts.tokenize, facts.detokenize, facts.apply_template):
        with contextlib.suppress(ApiError):
            json.loads(dumps(tell(body)))


@pytest.mark.parametrize(
    ("flavour", "labels", "reason"),
    [
        ("vllm", None, "Field required"),
        ("sglang", None, "label_token_ids is required"),
        ("vllm", [5] * 21, "Requested sample logprobs of 21"),
        ("vllm", [], "at least one token"),
        ("vllm", [10**6], "out of vocabulary range"),
        ("sglang", [10**6], "is out of vocabulary"),
    ],
)
def test_refused_scores(flavour: str, labels: list[int] | None, reason: str) -> None:
    """A route that scores wants tokens that the model has, and no more of them than it shows."""
    settings = options(flavour)
    scorer = Scorer(settings, Reader(settings), Generator(settings))
    body = {"model": settings.model_id, "query": "q", "items": ["i"], "label_token_ids": labels}
    with pytest.raises(ApiError, match=reason):
        scorer.score(body)
