"""llama.cpp's protocol: request bodies, answers, streams, probabilities of chosen tokens."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from wire_answers import answer

from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError, ResponseFormatError
from langchain_stormtrooper.wire import Generated, Response
from langchain_stormtrooper.wire.llamacpp import (
    apply_template_body,
    branch_body,
    constrain_body,
    detokenize_body,
    generate_body,
    grammar,
    parse_apply_template,
    parse_branch,
    parse_detokenize,
    parse_eos,
    parse_event,
    parse_generate,
    parse_tokenize,
    retries_allowed,
    shows_branch,
    tokenize_body,
)

TOO_LONG = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 900,
        "n_ctx": 512,
    }
}


def test_bodies() -> None:
    """Exactly what is sent: greedy, prompts as token ids, special tokens read only where they are meant."""
    assert json.loads(tokenize_body("<s>é", special=False, start=True)) == {
        "content": "<s>é",
        "parse_special": False,
        "add_special": True,
    }
    assert json.loads(generate_body((1, 2), max_new_tokens=5, stop=("\n",))) == {
        "temperature": 0.0,
        "samplers": ["temperature"],
        "cache_prompt": True,
        "prompt": [1, 2],
        "n_predict": 5,
        "stop": ["\n"],
        "stream": False,
    }
    assert json.loads(generate_body([1], max_new_tokens=5, stop=(), stream=True))["stream"] is True
    assert json.loads(apply_template_body("x")) == {"messages": [{"role": "user", "content": "x"}]}


def test_branch_body() -> None:
    """The chosen tokens, all with the same bias, are asked for with their probabilities after sampling."""
    body = json.loads(branch_body((1, 2), (5, 9)))
    assert (body["prompt"], body["n_predict"], body["n_probs"]) == ([1, 2], 1, 2)
    assert (body["post_sampling_probs"], body["temperature"], body["samplers"]) == (True, 1.0, ["temperature"])
    (first, bias), (second, same) = body["logit_bias"]
    assert (first, second) == (5, 9)
    assert bias == same >= 50


def test_tokenize() -> None:
    """Token ids come in order; anything else is no answer of llama.cpp's."""
    assert parse_tokenize(answer({"tokens": [3, 1, 2]})) == (3, 1, 2)
    bodies: list[Any] = [{}, {"tokens": "12"}, {"tokens": [1, "2"]}, {"tokens": [{"id": 1}]}, {"tokens": [1.5]}, []]
    for body in bodies:
        with pytest.raises(ResponseFormatError):
            parse_tokenize(answer(body))


def test_generated() -> None:
    """Text, reason and counts come as the server gives them; what it leaves out is unknown."""
    body = {"content": " sport", "stop_type": "word", "tokens_evaluated": 9, "tokens_predicted": 2}
    assert parse_generate(answer(body)) == Generated(" sport", "word", 9, 2)
    assert parse_generate(answer({"content": "", "stop_type": 3, "tokens_evaluated": -1})) == Generated("")
    with pytest.raises(ResponseFormatError, match=r"is it a llama\.cpp server"):
        parse_generate(answer({"generated_text": "x"}))


def test_overlong() -> None:
    """A prompt that exceeds the context is known by the error's type, over HTTP and in streams."""
    for parse in (lambda: parse_generate(answer(TOO_LONG, 400)), lambda: parse_event(json.dumps(TOO_LONG))):
        with pytest.raises(OverlongInputError, match="900 tokens") as caught:
            parse()
        assert (caught.value.tokens, caught.value.limit) == (900, 511)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 501, 503])
@pytest.mark.parametrize("body", [{"error": {"message": "confidential", "type": "invalid"}}, {"error": "x"}, [], None])
def test_other_errors(status: int, body: Any) -> None:
    """Every other error concerns the row and quotes nothing; only a server that is loading is asked again."""
    with pytest.raises(RequestFailedError, match=str(status)) as caught:
        parse_generate(answer(body, status))
    assert caught.value.status == status
    assert "confidential" not in str(caught.value)
    assert retries_allowed(answer(body, status)) == (None if status == 503 else 0)


def test_errors_that_are_not_json() -> None:
    """An error without a JSON body is an error, and a 200 without one is no answer."""
    with pytest.raises(RequestFailedError, match="500"):
        parse_generate(Response(500, CIMultiDict(), b"<html>"))
    with pytest.raises(ResponseFormatError):
        parse_generate(Response(200, CIMultiDict(), b"<html>"))


def test_events() -> None:
    """Each event gives its piece of text; errors and other things are errors of our own."""
    assert parse_event('{"content": " sp", "stop": false}') == " sp"
    for data in ("", "[DONE]", "[1]", "{}", '{"content": null}', '{"error": "x"}'):
        with pytest.raises(RequestFailedError):
            parse_event(data)


def test_apply_template() -> None:
    """The rendered chat, or None where the model has no template."""
    assert parse_apply_template(answer({"prompt": "<s>x"})) == "<s>x"
    assert parse_apply_template(answer({"prompt": 3})) is None
    assert parse_apply_template(answer({"error": {}}, 500)) is None


def probabilities(entries: Any) -> Response:
    """An answer with probabilities of next tokens."""
    return answer({"content": "x", "completion_probabilities": [{"id": 5, "top_probs": entries}]})


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda weights: sum(weights) > 0.01))
def test_branch(weights: list[float]) -> None:
    """Probabilities come out for exactly the chosen tokens, in their order, summing to 1; one not listed has none."""
    shares = [weight / sum(weights) for weight in weights]
    children = range(10, 10 + len(shares))
    entries = [{"id": token, "token": "x", "prob": share} for token, share in zip(children, shares, strict=True)]
    parsed = parse_branch(probabilities([*entries[::-1], {"id": 99, "prob": 0.0}]), (*children, 77))
    assert list(parsed) == [*children, 77]
    assert list(parsed.values()) == pytest.approx([*shares, 0.0])
    assert sum(parsed.values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "entries",
    [
        [{"id": 1, "prob": 0.5}, {"id": 2, "prob": 0.1}],
        [{"id": 1, "prob": 1.5}, {"id": 2, "prob": -0.5}],
        [{"id": 3, "prob": 1.0}],
        [{"id": 1, "prob": float("nan")}],
        [{"id": 1, "prob": float("inf")}],
        [],
    ],
)
def test_branch_that_was_not_restricted(entries: Any) -> None:
    """Probabilities that do not lie on the chosen tokens mean that the server dropped the bias: never trusted."""
    with pytest.raises(ResponseFormatError, match="did not restrict"):
        parse_branch(probabilities(entries), (1, 2))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"completion_probabilities": []},
        {"completion_probabilities": None},
        {"completion_probabilities": [{"top_logprobs": []}]},
        {"completion_probabilities": [{"top_probs": [{"id": [1], "prob": 1}]}]},
        {"completion_probabilities": [{"top_probs": [{"id": 1, "prob": "x"}]}]},
        {"completion_probabilities": [{"top_probs": [{"id": 1, "prob": None}]}]},
        {"completion_probabilities": [{"top_probs": 3}]},
        {"completion_probabilities": [{"top_probs": [{"id": 1, "prob": 10**400}]}]},
    ],
)
def test_branch_of_another_form(body: Any) -> None:
    """An answer without probabilities is an error of our own."""
    with pytest.raises(ResponseFormatError):
        parse_branch(answer(body), (1, 2))


ESCAPE = re.compile(r'\\U([0-9A-F]{8})|([^\\"\n])')


def read_grammar(text: str) -> list[str]:
    """The answers of a grammar, by a slow reading of the GBNF that llama.cpp documents."""
    assert text.startswith("root ::= ")
    rest, answers = text.removeprefix("root ::= "), []
    while True:
        assert rest[0] == '"'
        position, answer = 1, ""
        while rest[position] != '"':
            found = ESCAPE.match(rest, position)
            assert found is not None, "nothing but code points and plain characters stands in a literal"
            answer += chr(int(found[1], 16)) if found[1] else found[2]
            position = found.end()
        answers.append(answer)
        rest = rest[position + 1 :]
        if not rest:
            return answers
        assert rest.startswith(" | ")
        rest = rest.removeprefix(" | ")


ODD = [
    '"',
    "\\",
    '\\"',
    " | ",
    '" | "',
    "\n",
    "\r\n",
    "[a-z]",
    "root ::= x",
    "é",
    "良い",
    "🙂",
    "\u2028",
    "\x7f",
    "\\U00000041",
]


@given(st.lists(st.one_of(st.sampled_from(ODD), st.text(min_size=1)), min_size=1, max_size=8))
def test_grammar_matches_exactly_the_answers(answers: list[str]) -> None:
    """Whatever stands in a label is itself in the grammar: quotes, backslashes, line breaks and emoji end nothing."""
    text = grammar(answers)
    assert read_grammar(text) == answers
    assert text.isascii()
    assert text.isprintable()


def test_only_ended_answers_may_be_followed_by_a_line_break() -> None:
    """A line break is optional after the answers named alone."""
    text = grammar([" play", " play music"], {" play"})
    assert text == r'root ::= " play" "\n"? | " play music"'
    assert json.loads(constrain_body([1], [" play", " play music"], {" play"}))["grammar"] == text


def test_end_token() -> None:
    """The end token is what `/props` names, empty where there is none; anything else is another server."""
    assert parse_eos(answer({"eos_token": "</s>"})) == "</s>"
    assert parse_eos(answer({"eos_token": ""})) == ""
    with pytest.raises(ResponseFormatError, match="end token"):
        parse_eos(answer({"eos_token": None}))


def test_constrained_body() -> None:
    """A constrained answer has room for a token per byte of the longest label and the end."""
    body = json.loads(constrain_body([1, 2], [" a", " 良い"]))
    assert body["prompt"] == [1, 2]
    assert body["grammar"] == 'root ::= " a" | " \\U0000826F\\U00003044"'
    assert body["n_predict"] == len(" 良い".encode()) + 1
    assert body["temperature"] == 0


def test_detokenized_text() -> None:
    """Tokens are sent as they are, and their text is read."""
    assert json.loads(detokenize_body((1, 2))) == {"tokens": [1, 2]}
    assert parse_detokenize(answer({"content": " a"})) == " a"
    with pytest.raises(ResponseFormatError, match="/detokenize"):
        parse_detokenize(answer({"content": None}))


def test_a_part_of_a_character_shows_nothing() -> None:
    """An answer without probabilities is told from one that has them, and from an error."""
    assert not shows_branch(answer({"content": "", "completion_probabilities": []}))
    assert not shows_branch(answer({"content": " \ufffd"}))
    assert shows_branch(answer({"content": "a", "completion_probabilities": [{"top_probs": []}]}))
    with pytest.raises(RequestFailedError):
        shows_branch(answer({"error": {}}, 500))


def test_a_decoy_is_generated_in_place_of_the_labels() -> None:
    """The decoy is above the labels, which share what it leaves, however little."""
    body = json.loads(branch_body([1], (5, 6), 9))
    bias = dict(body["logit_bias"])
    assert bias[5] == bias[6] < bias[9] - 40
    assert body["n_probs"] == 3
    shown = [{"id": 9, "prob": 1.0}, {"id": 6, "prob": 3e-22}, {"id": 5, "prob": 1e-22}]
    response = answer({"completion_probabilities": [{"top_probs": shown}]})
    assert parse_branch(response, (5, 6), 9) == pytest.approx({5: 0.25, 6: 0.75})
    for missing in (shown[:1], shown[1:]):
        with pytest.raises(ResponseFormatError, match="restrict"):
            parse_branch(answer({"completion_probabilities": [{"top_probs": missing}]}), (5, 6), 9)
