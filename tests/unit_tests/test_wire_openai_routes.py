"""OpenAI-compatible servers to the letter: whole bodies, whole answers, every kind of refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wire_answers import answer

from langchain_stormtrooper.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.wire import Generated, Response, openai
from langchain_stormtrooper.wire.details import Details, NoDetailsError, Token
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

GREEDY = {"max_tokens": 5, "temperature": 0, "stream": False}


def test_whole_bodies_of_generations() -> None:
    """What is asked for stands in the body, under the protocol's names."""
    sent = openai.completion_body("m", ["x", "y"], max_new_tokens=5, stop=("\n",), stream=True, echo=True)
    assert json.loads(sent) == {
        "model": "m",
        "prompt": ["x", "y"],
        **GREEDY,
        "stream": True,
        "stop": ["\n"],
        "echo": True,
    }
    sent = openai.chat_body("m", "x", max_new_tokens=5, stream=True, top_p=1)
    message = {"role": "user", "content": "x"}
    assert json.loads(sent) == {"model": "m", "messages": [message], **GREEDY, "stream": True, "top_p": 1}


def test_whole_bodies_of_tokens() -> None:
    """Texts are sent with or without the start token, tokens with the special ones kept."""
    for start in (False, True):
        body = {"model": "m", "prompt": "x", "add_special_tokens": start}
        assert json.loads(openai.tokenize_body("m", "x", start=start)) == body
    messages = [{"role": "user", "content": "x"}]
    assert json.loads(openai.chat_tokenize_body("m", "x")) == {"model": "m", "messages": messages}
    tokens = {"model": "m", "tokens": [1, 2], "skip_special_tokens": False}
    assert json.loads(openai.detokenize_body("m", (1, 2))) == tokens


def test_whole_answers() -> None:
    """Text, reason and counts are read from completions and chats; what is missing or odd is unknown."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    choice: dict[str, Any] = {"index": 0, "text": " a", "finish_reason": "stop"}
    assert openai.parse_completion(answer({"choices": [choice], "usage": usage})) == Generated(" a", "stop", 9, 2)
    chat = {"index": 0, "message": {"content": " b"}, "finish_reason": "length"}
    assert openai.parse_completion(answer({"choices": [chat], "usage": usage})) == Generated(" b", "length", 9, 2)
    odd = {"text": " a", "finish_reason": 3}
    for counts in ({}, {"usage": None}, {"usage": {"prompt_tokens": "many"}}):
        assert openai.parse_completion(answer({"choices": [odd], **counts})) == Generated(" a")
    # A chat that thought and did not answer.
    assert openai.parse_completion(answer({"choices": [{"message": {"content": None}}]})) == Generated("")
    without: list[Any] = [{"text": None}, {"message": {"content": 3}}, {}]
    for choice in without:
        with pytest.raises(ResponseFormatError, match="choice without a text") as caught:
            openai.parse_completion(answer({"choices": [choice]}))
        assert caught.value.status == 200


def test_choices_come_in_the_order_of_the_prompts() -> None:
    """They are sorted by their numbers where all have one, and stay as they came where not."""
    first, second = {"index": 0, "text": "a"}, {"index": 1, "text": "b"}
    assert openai.read_choices({"choices": [second, first]}) == [first, second]
    assert openai.read_choices({"choices": [second, {"text": "a"}]}) == [second, {"text": "a"}]
    for choices in (None, [], "ab", [first, 3]):
        with pytest.raises(ResponseFormatError, match="OpenAI-compatible") as caught:
            openai.read_choices({"choices": choices})
        assert caught.value.status == 200


@pytest.mark.parametrize("status", [404, 405, 501])
def test_routes_that_a_server_has_not(status: int) -> None:
    """Without the route there are no models, tokens or texts; that is no error."""
    response = answer({"data": [{"id": "m"}], "tokens": [1], "prompt": "x"}, status)
    assert openai.parse_models(response) == ()
    assert openai.parse_tokenize(response) is None
    assert openai.parse_detokenize(response) is None


@pytest.mark.parametrize("parse", [openai.parse_models, openai.parse_tokenize, openai.parse_detokenize])
def test_routes_that_fail(parse: Any) -> None:
    """Any other status is an error, and so is an answer that is no object."""
    with pytest.raises(RequestFailedError) as failed:
        parse(answer({}, 503))
    assert (failed.value.status, failed.value.is_retryable) == (503, True)
    with pytest.raises(ResponseFormatError) as caught:
        parse(answer([1]))
    assert caught.value.status == 200


def test_tokens_and_texts() -> None:
    """Ids come in order, texts under either name; other things are no answer."""
    assert openai.parse_tokenize(answer({"tokens": [3, 1]})) == (3, 1)
    for tokens in (None, "12", [1, "2"]):
        with pytest.raises(ResponseFormatError, match="/tokenize") as caught:
            openai.parse_tokenize(answer({"tokens": tokens}))
        assert caught.value.status == 200
    assert openai.parse_detokenize(answer({"prompt": "a", "text": "b"})) == "a"
    assert openai.parse_detokenize(answer({"text": "b"})) == "b"
    assert openai.parse_detokenize(answer({"prompt": 3})) is None


def test_models_of_any_server() -> None:
    """A model needs a name and nothing else; entries without one are passed over."""
    listed = [{"id": "a", "owned_by": 3, "max_model_len": "x"}, 3, {"name": "c"}, {"id": "b", "max_model_len": 8}]
    assert openai.parse_models(answer({"data": listed})) == (openai.Model("a"), openai.Model("b", None, 8))
    with pytest.raises(ResponseFormatError, match="/v1/models") as caught:
        openai.parse_models(answer({"data": {}}))
    assert caught.value.status == 200


def test_events_of_any_server() -> None:
    """A piece may be null; an event without choices, of another form or with another piece is none."""
    for event in ({"choices": [{"text": None}]}, {"choices": [{"delta": {"content": None}}]}, {"choices": [3]}):
        assert openai.parse_event(json.dumps(event)) == ""
    for data in ("x", "[]", '{"choices": 3}', '{"choices": [{"text": 3}]}', '{"choices": [{"delta": {"content": 3}}]}'):
        with pytest.raises(ResponseFormatError) as caught:
            openai.parse_event(data)
        assert caught.value.status == 200


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"error": {"code": 400}}, 400),
        ({"error": {"code": 599}}, 599),
        ({"error": {"code": 399}}, None),
        ({"error": {"code": 600}}, None),
        ({"error": {"code": "503"}}, None),
        ({"error": "x"}, None),
        ({"object": "error", "code": 429}, 429),
        ({"object": "chunk", "code": 429}, None),
        ({"choices": [], "code": 429}, None),
        ([], None),
        ("error", None),
    ],
)
def test_the_status_of_an_event(event: Any, status: int | None) -> None:
    """Errors in a stream carry the status that they would have had, in either form."""
    assert openai.event_status(json.dumps(event)) == status


def test_errors_in_a_stream() -> None:
    """They are the errors that their status stands for, or of 200 without one."""
    cases: list[tuple[dict[str, Any], int]] = [
        ({"error": {"code": 503}}, 503),
        ({"object": "error", "code": 400}, 400),
        ({"error": "x"}, 200),
    ]
    for event, status in cases:
        with pytest.raises(RequestFailedError) as caught:
            openai.parse_event(json.dumps(event))
        assert caught.value.status == status
    with pytest.raises(OverlongInputError):
        openai.parse_event('{"error": "prompt is too long"}')
    assert openai.event_status("{") is None


@pytest.mark.parametrize("status", [400, 415, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [{"error": {"message": "x"}}, {"error": "x"}, {"detail": "x"}, {"message": 3}, [], 3])
def test_other_refusals(status: int, body: Any) -> None:
    """They carry their status; overload and gateways pass, the rest would fail again."""
    error = openai.parse_error(answer(body, status))
    assert isinstance(error, RequestFailedError)
    assert type(error) is RequestFailedError
    assert str(status) in str(error)
    assert (error.status, error.is_retryable) == (status, status in (429, 502, 503, 504))
    assert openai.retries_allowed(answer(body, status)) == (None if error.is_retryable else 0)


@pytest.mark.parametrize("status", [200, 400, 413, 422, 500])
@pytest.mark.parametrize(
    ("body", "tokens", "limit"),
    [
        ({"error": {"message": "prompt is too long: 9 tokens > 5 maximum"}}, 9, 5),
        ({"detail": "prompt is too long: 9 tokens > 5 maximum"}, 9, 5),
        ({"error": "prompt is too long: 9 tokens > 5 maximum"}, 9, 5),
        ({"message": "prompt is too long"}, None, None),
        ({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5}}, 9, 4),
        ({"error": {"type": "exceed_context_size_error"}}, None, None),
        ({"error": {"code": "context_length_exceeded"}}, None, None),
        ({"error": {"param": "input_tokens"}}, None, None),
    ],
)
def test_overlong_by_words_or_codes(status: int, body: Any, tokens: int | None, limit: int | None) -> None:
    """A prompt that is too long is known by the message, by llama.cpp's type, or by a code."""
    error = openai.parse_error(answer(body, status))
    assert isinstance(error, OverlongInputError)
    assert (error.tokens, error.limit) == (tokens, limit)


def test_overlong_elsewhere_is_not_believed() -> None:
    """A gateway's overload says nothing of the prompt's length, whatever words come with it."""
    assert type(openai.parse_error(answer({"error": "prompt is too long"}, 429))) is RequestFailedError


def test_codes_tell_more_than_words_without_numbers() -> None:
    """Where the sentence has no numbers, those of llama.cpp's fields are told."""
    described = {"message": "prompt is too long", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 5}
    error = openai.parse_error(answer({"error": described}, 400))
    assert isinstance(error, OverlongInputError)
    assert (error.tokens, error.limit) == (9, 4)


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"error": {"param": "model"}}, 404, ConfigurationError, "no model of that name"),
        ({"error": {"code": "model_not_found"}}, 404, ConfigurationError, "no model of that name"),
        ({"error": {"type": "NotFoundError"}}, 404, ConfigurationError, "no model of that name"),
        ({"error": {"param": "model"}}, 405, EndpointNotFoundError, "no such route (405)"),
        ({"error": {"param": "route"}}, 404, EndpointNotFoundError, "no such route (404)"),
        ({"error": {"param": "model"}}, 400, RequestFailedError, "invalid (400)"),
        ({}, 413, OverlongInputError, "more bytes"),
        ({"error": "`temperature` must be strictly positive"}, 422, ConfigurationError, "always samples"),
        ({"error": "`temperature` must be strictly positive"}, 400, RequestFailedError, "invalid (400)"),
        (
            {"error": "max_tokens=9 cannot be greater than max_model_len=5"},
            400,
            ConfigurationError,
            "more than the model's context",
        ),
        (
            {"error": "max_tokens=9 cannot be greater than max_model_len=5"},
            422,
            RequestFailedError,
            "invalid (422)",
        ),
    ],
)
def test_refusals_that_say_what_to_do(body: Any, status: int, kind: type[Exception], words: str) -> None:
    """A status alone and a word alone are not enough: both must fit."""
    error = openai.parse_error(answer(body, status))
    assert type(error) is kind
    assert words in str(error)


def test_an_error_that_is_not_json_is_judged_by_its_status() -> None:
    """What says that it is JSON and is not, or does not say so, tells nothing more."""
    for kind in ("application/json", "text/plain"):
        error = openai.parse_error(Response(400, {"content-type": kind}, b"prompt is too long"))
        assert type(error) is RequestFailedError
    plain = Response(400, {"content-type": "text/plain"}, b'{"error": "prompt is too long"}')
    assert type(openai.parse_error(plain)) is RequestFailedError


def test_whole_bodies_of_details() -> None:
    """Completions and chats ask for alternatives in their own ways, and for a pattern, an echo or ids on demand."""

    def sent(path: str, **settings: Any) -> Any:
        return json.loads(details_body(path, "m", "x", max_new_tokens=5, **settings))

    completion = {"model": "m", "prompt": "x", **GREEDY}
    assert sent(openai.COMPLETIONS) == {**completion, "logprobs": 0}
    assert sent(openai.COMPLETIONS, top_n_tokens=3, prefill=True, ids=True) == {
        **completion,
        "logprobs": 3,
        "echo": True,
        "return_tokens_as_token_ids": True,
    }
    assert sent(openai.COMPLETIONS, grammar="a", constraint="guided_regex")["guided_regex"] == "a"
    assert sent(openai.COMPLETIONS, grammar="a") == {**completion, "logprobs": 0}
    assert sent(openai.COMPLETIONS, constraint="regex") == {**completion, "logprobs": 0}
    chat = {"model": "m", "messages": [{"role": "user", "content": "x"}], **GREEDY, "logprobs": True}
    assert sent(openai.CHAT, prefill=True) == {**chat, "top_logprobs": 0}
    assert sent(openai.CHAT, top_n_tokens=3, grammar="a", constraint="structured_outputs") == {
        **chat,
        "top_logprobs": 3,
        "structured_outputs": {"regex": "a"},
    }


def completed(logprobs: Any, **usage: int) -> Response:
    """A completion with log-probabilities."""
    return answer({"choices": [{"index": 0, "text": " a", "logprobs": logprobs}], "usage": usage})


def test_whole_details() -> None:
    """Prompt and answer are parted by the number of generated tokens; without it, all are the answer's."""
    logprobs = {
        "tokens": ["token_id:7", "token_id:8"],
        "token_logprobs": [-1, -8999.5],
        "top_logprobs": [{"token_id:7": -1, "x": -9000}, {}],
    }
    first, second = Token(7, "token_id:7", -1.0), Token(8, "token_id:8", -8999.5, special=True)
    listed = (first, Token(10**9, "x", None))
    details = parse_details(completed(logprobs, prompt_tokens=4, completion_tokens=1), Vocabulary(), ends=(8,))
    assert details == Details(" a", (second,), (), (first,), 4)
    details = parse_details(completed(logprobs), Vocabulary(), ends=(8,))
    assert details == Details(" a", (first, second), (listed,), (), None)
    # A server that counts a token that it does not list.
    assert parse_details(completed(logprobs, completion_tokens=3), Vocabulary()).prefill == ()
    assert shows_ids(details)
    assert not shows_ids(Details("", (), (), ()))
    assert not shows_ids(Details("", (first, Token(1, "x", None)), (), ()))


def test_ends_are_known_by_their_texts_too() -> None:
    """Where no ids are shown, the end of an answer is one of the texts that models have for it."""
    logprobs = {"tokens": ["a", "</s>"], "token_logprobs": [None, -1]}
    details = parse_details(completed(logprobs), Vocabulary())
    assert [token.special for token in details.tokens] == [False, True]
    assert details.top_tokens == ()


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": None, "token_logprobs": []},
        {"tokens": [], "token_logprobs": None},
        {"tokens": ["a"], "token_logprobs": []},
        {"tokens": [1], "token_logprobs": [-1]},
        {"tokens": ["a"], "token_logprobs": [True]},
        {"tokens": ["a"], "token_logprobs": ["x"]},
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [3]},
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"a": "x"}]},
        {"content": [3]},
        {"content": [{"token": None, "logprob": -1}]},
        {"content": [{"token": "a", "logprob": "x"}]},
        {"content": [{"token": "a", "logprob": -1, "top_logprobs": [3]}]},
    ],
)
def test_details_of_another_form(logprobs: Any) -> None:
    """What is no list of tokens with scores is refused."""
    with pytest.raises(ResponseFormatError, match="`logprobs` hold") as caught:
        parse_details(completed(logprobs), Vocabulary())
    assert caught.value.status == 200
    assert not isinstance(caught.value, NoDetailsError)


def test_a_list_of_alternatives_of_another_length_is_none() -> None:
    """Alternatives that belong to no token are left out; the tokens stand for themselves."""
    others: list[Any] = [[], [{}, {}], {}, None]
    for top in others:
        logprobs = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": top}
        details = parse_details(completed(logprobs), Vocabulary())
        assert (len(details.tokens), details.top_tokens) == (1, ())
    chat = {"content": [{"token": "a", "logprob": -1, "top_logprobs": None}]}
    details = parse_details(completed(chat), Vocabulary())
    assert (details.tokens, details.top_tokens) == ((Token(10**9, "a", -1.0),), ())
    assert parse_details(completed({"content": None}), Vocabulary()).tokens == ()


def test_a_vocabulary_numbers_texts() -> None:
    """Ids are read, learnt ids kept, and every other text has a number of its own, the same each time."""
    vocabulary = Vocabulary()
    assert vocabulary.number("token_id:12") == 12
    assert [vocabulary.number(text) for text in ("a", "b", "a", "token_id:x")] == [
        10**9,
        10**9 + 1,
        10**9,
        10**9 + 2,
    ]
    vocabulary.learn("b", 5)
    assert vocabulary.number("b") == 5


def test_whole_bodies_of_chosen_tokens() -> None:
    """One greedy token is asked for, with the log-probabilities of those chosen."""
    assert json.loads(chosen_body("m", ("x", "y"), (5, 6))) == {
        "model": "m",
        "prompt": ["x", "y"],
        "max_tokens": 1,
        "temperature": 0,
        "stream": False,
        "logprobs": 2,
        "logprob_token_ids": [5, 6],
        "return_tokens_as_token_ids": True,
    }
    assert json.loads(score_body("m", (1, 2), [(), (7,)], (5, 6))) == {
        "model": "m",
        "query": [1],
        "items": [[2], [2, 7]],
        "label_token_ids": [5, 6],
        "apply_softmax": False,
        "item_first": False,
    }


def test_answers_without_chosen_tokens() -> None:
    """An answer without them is refused; one without a count has none."""
    shown = {"tokens": ["token_id:5"], "token_logprobs": [0.5], "top_logprobs": [{"token_id:5": 0.5}]}
    body = {"choices": [{"logprobs": shown}]}
    assert parse_chosen(answer(body), 1, (5,)) == ([{5: 1.0}], None)
    assert parse_chosen(answer({**body, "usage": {"prompt_tokens": 7}}), 1, (5,)) == ([{5: 1.0}], 7)
    nothing: dict[str, Any] = {"tokens": [], "token_logprobs": []}
    for logprobs in (None, nothing, {**shown, "top_logprobs": None}):
        with pytest.raises(ResponseFormatError, match="does not show the tokens") as caught:
            parse_chosen(answer({"choices": [{"logprobs": logprobs}]}), 1, (5,))
        assert caught.value.status == 200
    with pytest.raises(ResponseFormatError, match="every prompt") as caught:
        parse_chosen(answer(body), 2, (5,))
    assert caught.value.status == 200


@pytest.mark.parametrize("scores", [None, [[0.5]], [[0.5, 0.5]] * 2, [3], [[0.5, None]], [[0.5, 1.01]], [[-0.1, 1]]])
def test_scores_of_another_form(scores: Any) -> None:
    """One probability for each token after each branch, or an error."""
    with pytest.raises(ResponseFormatError, match="/v1/score") as caught:
        parse_score(answer({"scores": scores}), 1, (5, 6))
    assert caught.value.status == 200
