"""The protocol of OpenAI-compatible servers, with answers as a real vLLM 0.32 gave them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from wire_answers import answer

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.wire import Response, openai
from langchain_stormtrooper.wire.details import NoDetailsError
from langchain_stormtrooper.wire.openai_details import (
    Vocabulary,
    chosen_body,
    details_body,
    parse_chosen,
    parse_details,
    parse_score,
    score_body,
    shows_ids,
)
from langchain_stormtrooper.wire.overlong import read_overlong


def completed(logprobs: Any, text: str = " a", **usage: int) -> Response:
    """A completion with log-probabilities."""
    return answer({"choices": [{"index": 0, "text": text, "logprobs": logprobs}], "usage": usage})


def error(message: str, status: int = 400, **fields: Any) -> Response:
    """An error as vLLM writes it."""
    return answer(
        {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status, **fields}}, status
    )


def test_bodies_are_greedy() -> None:
    """Every request says so, since models bring settings of their own, and holds nothing that was not asked for."""
    greedy = {"max_tokens": 5, "temperature": 0, "stream": False}
    assert json.loads(openai.completion_body("m", "x", max_new_tokens=5)) == {"model": "m", "prompt": "x", **greedy}
    assert json.loads(openai.chat_body("m", "x", max_new_tokens=5, stop=["\n"])) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        **greedy,
        "stop": ["\n"],
    }


@pytest.mark.parametrize(
    ("constraint", "field"),
    [("structured_outputs", {"structured_outputs": {"regex": "a|b"}}), ("regex", {"regex": "a|b"})],
)
def test_a_pattern_stands_where_the_server_takes_it(constraint: Any, field: dict[str, Any]) -> None:
    """Servers have different fields for the same, and no body has two."""
    body = json.loads(
        details_body(openai.COMPLETIONS, "m", "x", max_new_tokens=1, grammar="a|b", constraint=constraint)
    )
    assert {name: body[name] for name in body if name in ("structured_outputs", "regex", "guided_regex")} == field


def test_details_by_id_and_with_the_prompt_echoed() -> None:
    """The prompt's tokens come first; ids are read where they are shown, and the end is known by its id."""
    logprobs = {
        "tokens": ["token_id:8060", "token_id:42", "token_id:2"],
        "token_logprobs": [None, -6.25, -1.5],
        "top_logprobs": [None, {"token_id:42": -6.25}, {"token_id:2": -1.5, "token_id:9": -9999.0}],
    }
    details = parse_details(completed(logprobs, prompt_tokens=2, completion_tokens=1), Vocabulary(), ends=(2,))
    assert [(token.id, token.logprob) for token in details.prefill] == [(8060, None), (42, -6.25)]
    assert [(token.id, token.logprob, token.special) for token in details.tokens] == [(2, -1.5, True)]
    assert [(token.id, token.logprob) for token in details.top_tokens[0]] == [(2, -1.5), (9, None)]
    assert details.prompt_tokens == 2
    assert shows_ids(details)


def test_details_of_a_chat() -> None:
    """A chat's tokens are objects; the same text is the same token wherever it stands."""
    entry = {
        "token": " a",
        "logprob": -0.5,
        "top_logprobs": [{"token": " a", "logprob": -0.5}, {"token": "b", "logprob": -1}],
    }
    body = {
        "choices": [{"message": {"content": " a"}, "logprobs": {"content": [entry]}}],
        "usage": {"completion_tokens": 1},
    }
    vocabulary = Vocabulary()
    vocabulary.learn("b", 17)
    details = parse_details(answer(body), vocabulary)
    assert [(token.id, token.text) for token in details.top_tokens[0]] == [(details.tokens[0].id, " a"), (17, "b")]
    assert not shows_ids(details)


@pytest.mark.parametrize("logprobs", [None, 3])
def test_without_logprobs_there_are_no_details(logprobs: Any) -> None:
    """A server that drops the field without a word is noticed."""
    with pytest.raises(NoDetailsError):
        parse_details(completed(logprobs), Vocabulary())


def test_chosen_tokens() -> None:
    """Beside the tokens asked for, vLLM shows the one it took; the others' probabilities are not renormalized."""
    shown = {"token_id:20085": -1.75, "token_id:2731": -3.0, "token_id:3524": -9999.0}
    response = completed(
        {"tokens": ["token_id:20085"], "token_logprobs": [-1.75], "top_logprobs": [shown]}, prompt_tokens=11
    )
    assert parse_chosen(response, 1, (2731, 3524)) == ([{2731: math.exp(-3), 3524: 0.0}], 11)
    body = json.loads(chosen_body("m", [(1, 2)], (2731, 3524)))
    assert (body["logprobs"], body["logprob_token_ids"], body["prompt"]) == (2, [2731, 3524], [[1, 2]])
    # Dropped without a word, the likeliest tokens are shown instead.
    for prompts, tokens in ((1, (2731, 5)), (2, (2731,))):
        with pytest.raises(ResponseFormatError):
            parse_chosen(response, prompts, tokens)


def test_scored_tokens() -> None:
    """SGLang's scores are asked for after each branch, none of which is empty, and must be probabilities."""
    body = json.loads(score_body("m", (1, 2, 3), [(), (7,)], (5, 6)))
    assert (body["query"], body["items"], body["apply_softmax"]) == ([1, 2], [[3], [3, 7]], False)
    assert parse_score(answer({"scores": [[0.5, 0.25], [0, 1]]}), 2, (5, 6)) == [{5: 0.5, 6: 0.25}, {5: 0.0, 6: 1.0}]
    for scores in ([[0.5]], [[0.5, 2.0], [0, 1]], [[-0.1, 0], [0, 1]], None, [["a", 0], [0, 1]]):
        with pytest.raises(ResponseFormatError):
            parse_score(answer({"scores": scores}), 2, (5, 6))


@pytest.mark.parametrize(
    ("message", "tokens", "limit"),
    [
        ("maximum context length is 8192 tokens. However, your prompt contains at least 8193 input tokens", None, 8192),
        ("maximum context length is 8192 tokens. However, your prompt contains 9000 input tokens", 9000, 8192),
        ("max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", None, None),
        ("maximum context length is 4096 tokens. However, your request has 5000 input tokens.", 5000, 4096),
        ("maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, "
         "100 in the completion)", 4900, 3996),
        ("You passed 5001 input tokens and requested 1 output tokens. However, the model's context length is only "
         "2048 tokens", 5001, 2047),
        ("The input (5001 tokens) is longer than the model's context length (2048 tokens).", 5001, 2048),
        ("Requested token count exceeds the model's maximum context length of 2048 tokens. You requested a total of "
         "5000 tokens: 4900 tokens from the input messages and 100 tokens for the completion.", 4900, 1948),
        ("the request exceeds the available context size (512 tokens), try increasing it", None, 512),
        ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
        ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", 2000, 1024),
        ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and "
         "100 `max_new_tokens`", 2000, 1948),
    ],
)  # fmt: skip
def test_overlong_in_many_words(message: str, tokens: int | None, limit: int | None) -> None:
    """Whatever words a server has for it, a prompt that is too long is that, with the numbers that it tells."""
    found = read_overlong(f"Error: {message} sorry")
    assert found is not None
    assert (found.tokens, found.limit) == (tokens, limit)
    assert isinstance(openai.parse_error(error(message)), OverlongInputError)


@pytest.mark.parametrize("message", ["", "temperature must be at most 2", "the text quotes: context length"])
def test_other_refusals_are_not_overlong(message: str) -> None:
    """A 400 by itself says nothing about length."""
    assert read_overlong(message) is None
    assert isinstance(openai.parse_error(error(message)), RequestFailedError)


def test_errors_say_what_to_do() -> None:
    """Keys, models, routes and settings are told apart, and nothing of the server's own words is shown."""
    missing = error("The model `confidential` does not exist.", 404, type="NotFoundError", param="model")
    cases: list[tuple[Response, type[Exception], str]] = [
        (missing, ConfigurationError, "set `model=`"),
        (answer({"detail": "Not Found"}, 404), EndpointNotFoundError, "api='chat'"),
        (error("confidential", 401), AuthenticationError, "api_key="),
        (error("max_tokens=9 cannot be greater than max_model_len=5."), ConfigurationError, "max_new_tokens="),
        (error("confidential", 429), RequestFailedError, "overloaded"),
        (answer({"object": "error", "message": "confidential", "code": 400}, 400), RequestFailedError, "invalid"),
    ]
    for response, kind, words in cases:
        found = openai.parse_error(response)
        assert type(found) is kind
        assert words in str(found)
        assert "confidential" not in str(found)


def test_events() -> None:
    """Pieces come from completions and chats alike; counts alone are no piece; an error is raised, the end is None."""
    assert openai.parse_event('{"choices": [{"text": " a"}]}') == " a"
    assert openai.parse_event('{"choices": [{"delta": {"content": " b"}}]}') == " b"
    assert openai.parse_event('{"choices": [{"delta": {"role": "assistant"}}]}') == ""
    assert openai.parse_event('{"choices": [], "usage": {}}') == ""
    assert openai.parse_event(" [DONE] ") is None
    with pytest.raises(RequestFailedError):
        openai.parse_event('{"error": {"message": "x", "code": 500}}')
    assert openai.event_status('{"error": {"message": "x", "code": 503}}') == 503
    assert openai.event_status('{"choices": []}') is None


def test_models() -> None:
    """The list names the model, whose server it is and how much it holds; without the route there is none."""
    listed = {"data": [{"id": "smollm2", "owned_by": "vllm", "max_model_len": 8192}, {"id": 3}]}
    assert openai.parse_models(answer(listed)) == (openai.Model("smollm2", "vllm", 8192),)
    assert openai.parse_models(answer({}, 404)) == ()


RECORDED = Path(__file__).parent.parent / "data" / "vllm"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("api_key_wrong", AuthenticationError),
        ("bad_json", RequestFailedError),
        ("completions_logprobs_21", RequestFailedError),
        ("not_utf8", RequestFailedError),
        ("overlong_exactly_8192", OverlongInputError),
        ("overlong_huge", OverlongInputError),
        ("overlong_str", OverlongInputError),
        ("overlong_token_ids", OverlongInputError),
        ("wrong_model", ConfigurationError),
        ("wrong_type_temperature", RequestFailedError),
    ],
)
def test_recorded_refusals(name: str, kind: type[Exception]) -> None:
    """What a real vLLM refused is understood as what it was."""
    recorded = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    assert recorded["status"] != 200
    assert type(openai.parse_error(answer(recorded["answer"], recorded["status"]))) is kind


def test_recorded_answers() -> None:
    """What a real vLLM answered is read: models, tokens, chosen tokens of several prompts, echoed prompts, chats."""

    def recorded(name: str) -> tuple[Any, Response]:
        content = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
        return content["request"], answer(content["answer"])

    (model,) = openai.parse_models(recorded("models")[1])
    assert (model.owner, model.max_tokens) == ("vllm", 8192)
    assert len(openai.parse_tokenize(recorded("tokenize_chat")[1]) or ()) > 3
    echoed = parse_details(recorded("completions_echo_logprobs_max_tokens_1")[1], Vocabulary())
    assert echoed.prompt_tokens == len(echoed.prefill) > 3
    assert [token.logprob is None for token in echoed.prefill] == [True, *[False] * (len(echoed.prefill) - 1)]
    assert len(echoed.tokens) == 1
    chat = parse_details(recorded("chat_logprobs")[1], Vocabulary())
    assert chat.tokens
    assert all(len(step) >= 2 for step in chat.top_tokens)
    request, response = recorded("completions_logprob_token_ids_several_prompts")
    shares, _ = parse_chosen(response, len(request["prompt"]), request["logprob_token_ids"])
    assert len(shares) == 2
    assert all(0 < share < 1 for of_prompt in shares for share in of_prompt.values())
