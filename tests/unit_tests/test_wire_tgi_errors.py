"""TGI's errors, row by row: what each means, whether it is worth another try, and that none quotes the request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    StormtrooperError,
)
from langchain_stormtrooper.wire import Response
from langchain_stormtrooper.wire.tgi import (
    ServerInfo,
    event_status,
    parse_error,
    parse_event,
    parse_generate,
    prompt_limit,
    retries_allowed,
)

SECRET = "confidential"


def refusal(status: int, kind: str, message: str) -> Response:
    """An error of the router."""
    body = json.dumps({"error": message, "error_type": kind}).encode()
    return Response(status, CIMultiDict({"content-type": "application/json"}), body)


def plain(status: int, text: str = "") -> Response:
    """An error made before the request reached a handler."""
    headers = CIMultiDict({"content-type": "text/plain; charset=utf-8"} if text else {})
    return Response(status, headers, text.encode())


def row(status: int, kind: str, message: str, error: type[StormtrooperError], retries: int | None) -> Any:
    """A row of the protocol's table."""
    return pytest.param(refusal(status, kind, message), error, retries, id=f"{status} {kind}")


ROUTER = [
    row(422, "validation", f"Input validation error: {SECRET}", RequestFailedError, 0),
    row(424, "generation", f"Request failed during generation: Server error: {SECRET}", RequestFailedError, 2),
    row(429, "overloaded", "Model is overloaded", RequestFailedError, None),
    row(500, "incomplete_generation", "Incomplete generation", RequestFailedError, None),
    row(500, "incomplete_generation_stream", "Incomplete generation stream", RequestFailedError, None),
    row(500, "stream_serialization_error", "Stream event serialization error", RequestFailedError, 0),
    row(422, "template_error", f"Template error: {SECRET}", RequestFailedError, 0),
    row(422, "missing_template_variable", f"Missing template vatiable: {SECRET}", RequestFailedError, 0),
    row(422, "tool_error", f"Tool error: {SECRET}", RequestFailedError, 0),
    row(422, "suffix not supported", "Suffix is not supported and can be …", RequestFailedError, 0),
    row(422, "batch size exceeded", "Number of prompts exceeds the maximum …", RequestFailedError, 0),
    row(422, "grammar and tools", "Grammar and tools are mutually exclusive", RequestFailedError, 0),
    row(404, "no fast tokenizer", "No fast tokenizer or tokenizer.json for this model", EndpointNotFoundError, 0),
    row(503, "healthcheck", "unhealthy", RequestFailedError, None),
]
BEFORE_THE_HANDLER = [
    pytest.param(plain(status, text), error, retries, id=f"{status} {text[:20]}")
    for status, text, error, retries in [
        (400, f"Failed to parse the request body as JSON: {SECRET}", RequestFailedError, 0),
        (422, f"Failed to deserialize the JSON body into the target type: {SECRET}", RequestFailedError, 0),
        (415, "Expected request with `Content-Type: application/json`", RequestFailedError, 0),
        (413, "Failed to buffer the request body: length limit exceeded", OverlongInputError, 0),
        (401, "", AuthenticationError, 0),
        (403, f"<html>{SECRET}</html>", AuthenticationError, 0),
        (404, "", EndpointNotFoundError, 0),
        (405, "", EndpointNotFoundError, 0),
        (500, "", RequestFailedError, 0),
        (502, f"<html>{SECRET}</html>", RequestFailedError, None),
        (503, "", RequestFailedError, None),
        (504, "", RequestFailedError, None),
    ]
]


@pytest.mark.parametrize(("response", "error", "retries"), ROUTER + BEFORE_THE_HANDLER)
def test_every_error(response: Response, error: type[StormtrooperError], retries: int | None) -> None:
    """Each error has its class, carries its status and quotes nothing; only what may pass is tried again."""
    with pytest.raises(StormtrooperError) as caught:
        parse_generate(response)
    assert type(caught.value) is error
    assert str(response.status) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert retries_allowed(response) == retries
    if isinstance(caught.value, RequestFailedError):
        assert caught.value.status == response.status
        assert caught.value.is_retryable is (retries != 0)


TOTAL = "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 64 `max_new_tokens`"
INPUT = "`inputs` must have less than 1024 tokens. Given: 2000"
OVERLONG = [
    (422, "validation", f"Input validation error: {TOTAL}", 1984),
    (422, "validation", f"Input validation error: {INPUT}", 1024),
    (422, "validation", f"gateway: upstream said: Input validation error: {INPUT} (request 7)", 1024),
    (413, "Validation", INPUT, 1024),
]


@pytest.mark.parametrize(("status", "kind", "message", "limit"), OVERLONG)
def test_overlong(status: int, kind: str, message: str, limit: int) -> None:
    """Both messages mean an overlong prompt, prefixed or not, and tell its tokens and how many it may have."""
    with pytest.raises(OverlongInputError, match=f"2000 tokens, the server takes at most {limit}") as caught:
        parse_generate(refusal(status, kind, message))
    assert (caught.value.tokens, caught.value.limit) == (2000, limit)
    assert retries_allowed(refusal(status, kind, message)) == 0


@pytest.mark.parametrize("new", [10, 64])
def test_no_room_for_a_prompt(new: int) -> None:
    """New tokens that alone fill the total are a wrong setting, not a long text."""
    message = f"`inputs` tokens + `max_new_tokens` must be <= 10. Given: 3 `inputs` tokens and {new} `max_new_tokens`"
    error = parse_error(refusal(422, "validation", message))
    assert isinstance(error, ConfigurationError)
    assert "lower `max_new_tokens=` below the server's limit of 10 tokens" in str(error)
    almost = parse_error(refusal(422, "validation", message.replace(f"and {new} ", "and 9 ")))
    assert isinstance(almost, OverlongInputError)
    assert almost.limit == 1


@pytest.mark.parametrize(("version", "new", "limit"), [("2.4.1", 2047, 1), ("3.3.7", 5000, 1024)])
def test_the_room_that_new_tokens_leave(version: str, new: int, limit: int) -> None:
    """What a prompt may have is known from `/info`; new tokens that leave nothing are a wrong setting."""
    assert prompt_limit(ServerInfo(version=version, max_input_tokens=1500, max_total_tokens=2048), new) == limit
    with pytest.raises(ConfigurationError, match="below the server's limit of 1000 tokens"):
        prompt_limit(ServerInfo(version=version, max_total_tokens=1000), new)
    assert prompt_limit(ServerInfo(version=version), new) is None


NOT_OVERLONG = [
    refusal(422, "validation", "Input validation error: `inputs` cannot be empty"),
    refusal(422, "validation", "Input validation error: `inputs` must have less than many tokens. Given: 2000"),
    plain(422, f"Failed to deserialize the JSON body into the target type: {INPUT}"),
    plain(422, json.dumps({"error": f"Input validation error: {INPUT}", "error_type": "validation"})),
    refusal(424, "generation", f"Request failed during generation: Server error: {INPUT}"),
    refusal(500, "validation", INPUT),
]


@pytest.mark.parametrize("response", NOT_OVERLONG)
def test_other_refusals_are_not_overlong(response: Response) -> None:
    """A 422 alone does not mean overlong, nor does the message where the server would not put it."""
    assert type(parse_error(response)) is RequestFailedError


SETTINGS = [
    ("`max_new_tokens` must be <= 1024. Given: 2000", "lower `max_new_tokens=`"),
    ("one of `max_new_tokens` or `truncate` must be set if a fast tokenizer is not in use", "set `max_new_tokens=`"),
    ("`max_new_tokens` must be strictly positive", "1 or more"),
    ("`stop` supports up to 4 stop sequences. Given: 5", "--max-stop-sequences"),
    ("`top_n_tokens` must be >= 0 and <= 5. Given: 6", "--max-top-n-tokens"),
    ("grammar is not supported", "--disable-grammar-support"),
    ("`truncate` must be strictly positive and less than 9. Given: 9", "a parameter that we do not send"),
    ("`temperature` must be strictly positive", "a parameter that we do not send"),
    ("`repetition_penalty` must be strictly positive", "a parameter"),
    ("`frequency_penalty` must be >= -2.0 and <= 2.0", "a parameter"),
    ("`top_p` must be > 0.0 and < 1.0", "a parameter"),
    ("`typical_p` must be > 0.0 and < 1.0", "a parameter"),
    ("`top_k` must be strictly positive", "a parameter"),
    ("`best_of` must be > 0 and <= 2. Given: 3", "a parameter"),
    ("`best_of` != 1 is not allowed for this endpoint", "a parameter"),
    ("you must use sampling when `best_of` is > 1", "a parameter"),
    ("`seed` must not be set when `best_of` > 1", "a parameter"),
    ("`best_of` != 1 is not supported when streaming tokens", "a parameter"),
    ("`decoder_input_details` == true is not supported when streaming tokens", "a parameter"),
]


@pytest.mark.parametrize(("message", "advice"), SETTINGS)
def test_refused_settings(message: str, advice: str) -> None:
    """What is wrong for every row is a ConfigurationError in the server's words, with what to do, in streams too."""
    refused = refusal(422, "validation", f"Input validation error: {message}")
    ways: list[Callable[[], object]] = [lambda: parse_generate(refused), lambda: parse_event(refused.body.decode())]
    for way in ways:
        with pytest.raises(ConfigurationError) as caught:
            way()
        assert str(caught.value).startswith(f"The server refuses the settings (422): {message}: ")
        assert advice in str(caught.value)
    assert retries_allowed(refused) == 0


@pytest.mark.parametrize(
    "message", ["`inputs` cannot be empty", "Image size 900 bytes exceeds maximum allowed size of 800 bytes"]
)
def test_refused_rows_say_why(message: str) -> None:
    """What is wrong with one row is that row's failure, and names the cause."""
    with pytest.raises(RequestFailedError) as caught:
        parse_generate(refusal(422, "validation", f"Input validation error: {message}"))
    assert str(caught.value) == f"The server refused the request (422): {message}."
    assert caught.value.status == 422
    assert not caught.value.is_retryable


KNOWN = [message for message, _ in SETTINGS] + ["`inputs` cannot be empty"]


@pytest.mark.parametrize("message", KNOWN)
@pytest.mark.parametrize("form", ["{} {}", "{1} {0}", "grammar is not valid: {1}\n{0}", "{0}\n", "{0} {0}"])
def test_a_message_that_may_quote_is_not_shown(form: str, message: str) -> None:
    """A known sentence within another message proves nothing, since a text may hold it: nothing of it is shown."""
    said = f"Input validation error: {form.format(message, SECRET)}"
    error = parse_error(refusal(422, "validation", said))
    assert type(error) is RequestFailedError
    assert str(error) == "The server refused the request as invalid (422)."


@pytest.mark.parametrize(
    "response",
    [
        refusal(422, "template_error", "Input validation error: `inputs` cannot be empty"),
        refusal(400, "validation", "Input validation error: `top_k` must be strictly positive"),
        refusal(
            422, "validation", f"Input validation error: `stop` supports up to {'9' * 13} stop sequences. Given: 5"
        ),
        refusal(422, "validation", "Input validation error: `stop` supports up to ٤ stop sequences. Given: ٥"),
        plain(422, "Input validation error: `top_k` must be strictly positive"),
    ],
)
def test_known_words_elsewhere_are_not_shown(response: Response) -> None:
    """Only where TGI's validation speaks, and only with numbers that it would use."""
    error = parse_error(response)
    assert type(error) is RequestFailedError
    assert "`" not in str(error)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"error": "x", "error_type": "validation"}, 422),
        ({"error": "x", "error_type": "overloaded"}, 429),
        ({"error": "x", "error_type": "generation"}, 424),
        ({"error": "x", "error_type": "incomplete_generation"}, 500),
        ({"error": "x", "error_type": "incomplete_generation_stream"}, 500),
        ({"error": "x", "error_type": "something new"}, None),
        ({"error": "x", "error_type": ["overloaded"]}, None),
        ({"error": "x"}, None),
        ({"error_type": "overloaded"}, None),
        ({"token": {"text": "x"}}, None),
        ([], None),
    ],
)
def test_the_status_of_an_event(event: object, status: int | None) -> None:
    """An error in a stream stands for the HTTP error that it would have been."""
    assert event_status(json.dumps(event)) == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"error": 3}', b'{"error": {"message": "x"}}', b"\xff"])
@pytest.mark.parametrize("status", [422, 424, 429, 500, 503])
def test_error_bodies_of_another_form(status: int, body: bytes) -> None:
    """What says that it is JSON and is not, or is other JSON, is judged by its status alone."""
    response = Response(status, CIMultiDict({"content-type": "application/json"}), body)
    error = parse_error(response)
    assert type(error) is RequestFailedError
    assert error.status == status
    assert error.is_retryable is (status in (424, 429, 503))
    assert retries_allowed(response) == {424: 2, 429: None, 503: None}.get(status, 0)


def test_authentication_says_what_to_set() -> None:
    """A newcomer with a wrong key is told where keys are given."""
    with pytest.raises(AuthenticationError, match=r"`api_key=` or TGI_API_KEY"):
        parse_generate(plain(401))


def test_missing_route_says_what_to_check() -> None:
    """A base URL with a path too much is the usual reason."""
    with pytest.raises(EndpointNotFoundError, match="without a path such as /generate"):
        parse_generate(plain(404))
