"""Details of generations: real answers are read right, and damaged ones raise our errors or stay sane."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from langchain_stormtrooper.errors import ResponseFormatError, StormtrooperError
from langchain_stormtrooper.wire import Response
from langchain_stormtrooper.wire.details import Details, NoDetailsError, Token
from langchain_stormtrooper.wire.tgi_details import details_body, parse_details

# What TGI 2.4.1 answers, shortened. The prompt's first token has no score.
REAL: dict[str, Any] = {
    "generated_text": " positive",
    "details": {
        "finish_reason": "length",
        "generated_tokens": 1,
        "seed": None,
        "prefill": [{"id": 1, "text": "<s>", "logprob": None}, {"id": 660, "text": "Re", "logprob": -8.5}],
        "tokens": [{"id": 6374, "text": " positive", "logprob": -0.25, "special": False}],
        "top_tokens": [
            [
                {"id": 6374, "text": " positive", "logprob": -0.25, "special": False},
                {"id": 8178, "text": " negative", "logprob": -1.5, "special": False},
            ]
        ],
    },
}
JUNK: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(-(10**400))
    | st.floats()
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
    | st.just([[]])
    | st.just([{"id": True, "text": "x", "logprob": -1}])
)


def answer(body: bytes) -> Response:
    """A JSON answer."""
    return Response(200, CIMultiDict({"content-type": "application/json"}), body)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def damaged(path: tuple[Any, ...], junk: Any, *, drop: bool) -> Any:
    """The real answer with something else, or nothing, at one place."""
    whole = [json.loads(json.dumps(REAL))]
    at: Any = whole
    for key in (0, *path)[:-1]:
        at = at[key]
    last = (0, *path)[-1]
    if drop and path:
        del at[last]
    else:
        at[last] = junk
    return whole[0]


def assert_sane(details: Details) -> None:
    """Everything is of its type, and every score can be computed with."""
    assert isinstance(details.text, str)
    for token in (*details.tokens, *(token for step in details.top_tokens for token in step), *details.prefill):
        assert type(token.id) is int
        assert isinstance(token.text, str)
        assert token.logprob is None or (type(token.logprob) is float and math.isfinite(token.logprob))


def test_a_real_answer() -> None:
    """Tokens, alternatives and prompt tokens come with their scores; the text is in no repr."""
    details = parse_details(answer(json.dumps(REAL).encode()))
    assert details.text == " positive"
    assert details.tokens == (Token(6374, " positive", -0.25),)
    assert details.top_tokens == ((Token(6374, " positive", -0.25), Token(8178, " negative", -1.5)),)
    assert details.prefill == (Token(1, "<s>", None), Token(660, "Re", -8.5))
    assert "positive" not in repr(details)


def test_a_text_alone_is_told_from_a_spoilt_answer() -> None:
    """A whole answer without details says what the server shows; a spoilt one, or plain text, says nothing."""
    with pytest.raises(NoDetailsError):
        parse_details(answer(b'{"generated_text":"a"}'))
    spoilt = [answer(b'{"generated_text":"a","details":[]}'), answer(b'{"generated_te'), answer(b"{}")]
    for response in [*spoilt, Response(422, CIMultiDict({"content-type": "text/plain"}), b"missing field")]:
        with pytest.raises(ResponseFormatError) as caught:
            parse_details(response)
        assert not isinstance(caught.value, NoDetailsError)


def test_an_answer_in_a_list() -> None:
    """A gateway that maps the root route to /generate answers with a list of one."""
    whole = json.dumps(REAL).encode()
    assert parse_details(answer(b"[" + whole + b"]")) == parse_details(answer(whole))
    with pytest.raises(ResponseFormatError):
        parse_details(answer(b"[" + whole + b"," + whole + b"]"))


def test_what_the_server_did_not_send_is_empty() -> None:
    """Servers that send no alternatives or no prompt tokens, as null or not at all, give empty lists."""
    body = {"generated_text": "a", "details": {"tokens": [], "top_tokens": None}}
    assert parse_details(answer(json.dumps(body).encode())) == Details("a", (), (), ())


@given(st.sampled_from(places(REAL)), JUNK, st.booleans())
@settings(max_examples=200)
def test_damaged_answers(path: tuple[Any, ...], junk: Any, drop: bool) -> None:
    """Whatever is wrong or missing in an answer, it is an error of ours or all of it can be used."""
    try:
        details = parse_details(answer(json.dumps(damaged(path, junk, drop=drop)).encode()))
    except StormtrooperError as error:
        assert isinstance(error, ResponseFormatError)  # the other way out is as good
    else:
        assert_sane(details)


@given(st.integers(0, 400), st.integers(0, 400), st.binary(max_size=4))
@settings(max_examples=200)
def test_answers_with_other_bytes_in_them(start: int, length: int, junk: bytes) -> None:
    """An answer that lost bytes, or got others, is an error of ours or can be used."""
    body = json.dumps(REAL).encode()
    try:
        assert_sane(parse_details(answer(body[:start] + junk + body[start + length :])))
    except StormtrooperError as error:
        assert "positive" not in str(error)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_scores_that_are_no_numbers(score: str) -> None:
    """Python's JSON reads NaN and infinities; as scores they count as not sent."""
    body = json.dumps(REAL).replace("-0.25", score).encode()
    assert parse_details(answer(body)).tokens[0].logprob is None


def test_what_is_asked() -> None:
    """A request for details is greedy and asks for no more than wanted; a null would be refused."""
    parameters = json.loads(details_body("x", max_new_tokens=3))["parameters"]
    assert parameters == {
        "do_sample": False,
        "max_new_tokens": 3,
        "return_full_text": False,
        "details": True,
        "decoder_input_details": False,
    }
    more = json.loads(details_body("x", max_new_tokens=3, top_n_tokens=5, prefill=True, grammar="( a)"))["parameters"]
    assert (more["top_n_tokens"], more["decoder_input_details"]) == (5, True)
    assert more["grammar"] == {"type": "regex", "value": "( a)"}
