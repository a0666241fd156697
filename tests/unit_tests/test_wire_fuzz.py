"""No bytes from a server may raise anything but our errors, or come back in their messages."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from langchain_stormtrooper.errors import RequestFailedError, StormtrooperError
from langchain_stormtrooper.reading import EventReader
from langchain_stormtrooper.wire import Response, llamacpp, openai, openai_details, tgi, tgi_details

MARK = "confidential"
KEYS = [
    *("generated_text", "details", "error", "error_type", "token", "text", "special", "input_length"),
    *("generated_tokens", "finish_reason", "templated_text", "model_id", "version", "max_input_tokens"),
    *("max_input_length", "max_total_tokens", "max_concurrent_requests", "tokens", "content", "stop_type"),
    *("completion_probabilities", "top_probs", "id", "prob", "prompt", "type", "n_prompt_tokens", "n_ctx"),
    *("tokens_evaluated", "message", "top_tokens", "prefill", "logprob"),
    *("choices", "index", "logprobs", "token_logprobs", "top_logprobs", "usage", "prompt_tokens", "completion_tokens"),
    *("delta", "data", "owned_by", "max_model_len", "scores", "code", "param", "detail", "object"),
]
TEXTS = st.sampled_from(
    [
        MARK,
        "",
        f"Input validation error: `inputs` must have less than {'9' * 13} tokens. Given: 5 {MARK}",
        f"{MARK} `inputs` must have less than 5 tokens. Given: 9",
        f"Input validation error: `stop` supports up to 4 stop sequences. Given: {MARK}",
        f"Input validation error: `inputs` cannot be empty {MARK}",
        *("Input validation error: `inputs` cannot be empty", "grammar is not supported"),
        f"This model's maximum context length is 5 tokens. However, your request has 9 input tokens {MARK}",
        *("[DONE]", "NotFoundError", "model", "input_tokens", "context_length_exceeded", "token_id:7", "error"),
        *("validation", "overloaded", "generation", "incomplete_generation", "exceed_context_size_error", "\ud800"),
    ]
) | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS | st.just(float("nan"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
BODIES = (
    VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=30).map(lambda junk: MARK.encode() + junk)
    | st.sampled_from([b"", b"[" * 50_000, b'{"a":' * 50_000, b"1" * 5000, b"\xef\xbb\xbf{}", b'"\\ud800"'])
)
STATUSES = st.sampled_from([200, 204, 301, 400, 401, 403, 404, 405, 413, 422, 424, 429, 500, 503]) | st.integers(
    100, 599
)
RESPONSES = st.builds(
    Response,
    STATUSES,
    st.dictionaries(
        st.sampled_from(["content-type", "X-Prompt-Tokens", "x-generated-tokens", "Retry-After"]),
        st.sampled_from(["application/json", "application/problem+json; x", ";", "text/plain", "12", "-1", "½", MARK]),
    ).map(CIMultiDict),
    BODIES,
)
PARSERS: list[Callable[[Response], Any]] = [
    tgi.parse_generate,
    tgi.parse_info,
    tgi.parse_chat_tokenize,
    tgi.parse_tokenize,
    tgi_details.parse_details,
    llamacpp.parse_tokenize,
    llamacpp.parse_detokenize,
    llamacpp.parse_generate,
    llamacpp.shows_branch,
    llamacpp.parse_apply_template,
    lambda response: llamacpp.parse_branch(response, (1, 2)),
    llamacpp.parse_n_ctx,
    openai.parse_completion,
    openai.parse_models,
    openai.parse_tokenize,
    openai.parse_detokenize,
    lambda response: openai_details.parse_details(response, openai_details.Vocabulary(), (7,)),
    lambda response: openai_details.parse_chosen(response, 1, (7,)),
    lambda response: openai_details.parse_score(response, 1, (7,)),
]


def error_of(parse: Callable[[Any], Any], data: Any) -> StormtrooperError | None:
    """Our error, if parsing ends with one; any other goes through and fails the test."""
    try:
        parse(data)
    except StormtrooperError as error:
        return error
    return None


@pytest.mark.parametrize("parse", PARSERS)
@given(response=RESPONSES)
def test_any_answer(parse: Callable[[Response], Any], response: Response) -> None:
    """Any status, headers and body give an outcome or an error of ours, which quotes nothing."""
    error = error_of(parse, response)
    if error is not None:
        assert MARK not in f"{error} {error!r}"
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


@given(RESPONSES)
@settings(max_examples=150)
def test_any_refusal(response: Response) -> None:
    """Any other answer than a 200 stands for an error, and for a number of tries that makes sense."""
    for parse_error in (tgi.parse_error, openai.parse_error):
        error = parse_error(response)
        assert isinstance(error, StormtrooperError)
        assert MARK not in f"{error} {error!r}"
    for retries_allowed in (tgi.retries_allowed, llamacpp.retries_allowed, openai.retries_allowed):
        assert retries_allowed(response) in (None, 0, 2)


@pytest.mark.parametrize("parse", [tgi.parse_event, llamacpp.parse_event, openai.parse_event])
@given(body=BODIES)
def test_any_event(parse: Callable[[str], Any], body: bytes) -> None:
    """Any data in a stream gives a piece of text or an error of ours, which quotes nothing."""
    error = error_of(parse, body.decode("utf-8", "replace"))
    assert error is None or MARK not in f"{error} {error!r}"


@given(body=BODIES)
def test_any_first_event(body: bytes) -> None:
    """Any data at the start of a stream stands for no error, or for one whose status and retries make sense."""
    data = body.decode("utf-8", "replace")
    assert openai.event_status(data) in (None, *range(400, 600))
    status = tgi.event_status(data)
    assert status in (None, 422, 424, 429, 500)
    if status is not None:
        response = Response(status, {"content-type": "application/json"}, data.encode())
        error = tgi.parse_error(response)
        assert isinstance(error, StormtrooperError)
        assert MARK not in f"{error} {error!r}"
        assert tgi.retries_allowed(response) in (None, 0, 2)


class Chunks:
    """A body that comes in pieces, as aiohttp gives it.

    Args:
        pieces: The pieces; none is empty.
    """

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def readany(self) -> bytes:
        """The next piece, empty at the end."""
        return self.pieces.pop(0) if self.pieces else b""


LINES = st.lists(
    st.sampled_from([b"data:", b"data: x", b"\n", b"\r\n", b":", b"event: y", b"\xff", b" ", b"data", b"z" * 40])
    | st.binary(max_size=6),
    max_size=12,
).map(b"".join)


@given(LINES, st.lists(st.integers(1, 9)))
def test_events_however_they_are_cut(body: bytes, sizes: list[int]) -> None:
    """Any bytes, in any pieces, give the events that a slow reading line by line gives."""
    pieces, rest = [], body
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    reader = EventReader(Chunks([piece for piece in [*pieces, rest] if piece]), math.inf)  # type: ignore[arg-type]

    async def read() -> list[str]:
        return [event async for event in _until_none(reader)]

    expected = [line[5:].strip().decode("utf-8", "replace") for line in body.split(b"\n") if line.startswith(b"data:")]
    assert asyncio.run(read()) == expected


async def _until_none(reader: EventReader) -> AsyncIterator[str]:
    while (event := await reader.read()) is not None:
        yield event


async def test_events_beyond_all_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is too long, all together that is too long, and what comes too late, are errors."""
    monkeypatch.setattr("langchain_stormtrooper.reading.MAX_EVENT_BYTES", 50)
    monkeypatch.setattr("langchain_stormtrooper.reading.MAX_RESPONSE_BYTES", 200)
    line = b"data: " + b"x" * 40 + b"\n"
    for pieces, deadline, error in [
        ([b"data: " + b"x" * 60], math.inf, RequestFailedError),
        ([b"x" * 20] * 4, math.inf, RequestFailedError),
        ([line] * 5, math.inf, RequestFailedError),
        ([b":\n"] * 101, math.inf, RequestFailedError),
        ([line], 0.0, TimeoutError),
    ]:
        reader = EventReader(Chunks(list(pieces)), deadline)  # type: ignore[arg-type]
        with pytest.raises(error):
            [event async for event in _until_none(reader)]


def test_a_long_line_takes_linear_time() -> None:
    """A line just short of the limit that drips in byte by byte is searched once, not once per byte."""
    line = b"data: " + b"x" * (2**20 - 7)
    reader = EventReader(Chunks([]), math.inf)  # type: ignore[arg-type]
    started = time.process_time()
    for start in range(len(line)):
        reader._take(line[start : start + 1])
    assert time.process_time() - started < 8
