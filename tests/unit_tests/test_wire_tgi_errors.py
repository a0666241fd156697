"""TGI's errors, row by row: what each means, whether it is worth another try, and that none quotes the request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from langchain_stormtrooper.errors import (
    AuthenticationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    StormtrooperError,
)
from langchain_stormtrooper.wire import Response
from langchain_stormtrooper.wire.tgi import parse_error, parse_generate, retries_allowed

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


def test_no_room_for_a_prompt() -> None:
    """New tokens that alone exceed the total leave a limit of zero, not a negative one."""
    message = "`inputs` tokens + `max_new_tokens` must be <= 10. Given: 3 `inputs` tokens and 64 `max_new_tokens`"
    error = parse_error(refusal(422, "validation", message))
    assert isinstance(error, OverlongInputError)
    assert error.limit == 0


NOT_OVERLONG = [
    refusal(422, "validation", "Input validation error: `inputs` cannot be empty"),
    refusal(422, "validation", "Input validation error: `max_new_tokens` must be <= 1024. Given: 2000"),
    refusal(
        422, "validation", "Input validation error: `truncate` must be strictly positive and less than 9. Given: 9"
    ),
    refusal(422, "validation", "Input validation error: `stop` supports up to 4 stop sequences. Given: 5"),
    refusal(422, "validation", "Input validation error: `temperature` must be strictly positive"),
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


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"error": 3}', b'{"error": {"message": "x"}}', b"\xff"])
@pytest.mark.parametrize("status", [422, 424, 429, 500, 503])
def test_error_bodies_of_another_form(status: int, body: bytes) -> None:
    """What says that it is JSON and is not, or is other JSON, is judged by its status alone."""
    response = Response(status, CIMultiDict({"content-type": "application/json"}), body)
    error = parse_error(response)
    assert type(error) is RequestFailedError
    assert error.status == status
    assert retries_allowed(response) == {424: 2, 429: None, 503: None}.get(status, 0)


def test_authentication_says_what_to_set() -> None:
    """A newcomer with a wrong key is told where keys are given."""
    with pytest.raises(AuthenticationError, match=r"`api_key=` or TGI_API_KEY"):
        parse_generate(plain(401))


def test_missing_route_says_what_to_check() -> None:
    """A base URL with a path too much is the usual reason."""
    with pytest.raises(EndpointNotFoundError, match="without a path such as /generate"):
        parse_generate(plain(404))
