"""The OpenAI-style routes beyond the conformance table: shapes, versions, errors, metrics."""

from __future__ import annotations

import json
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    Post = Callable[[str, dict[str, Any]], Awaitable[tuple[int, str]]]

MESSAGES = [{"role": "user", "content": "Is it good?"}]
ANSWERS = {" positive": 0.7, " negative": 0.3}


@asynccontextmanager
async def serving(version: str, answers: Any = ANSWERS, **settings: Any) -> AsyncIterator[tuple[TGIServer, Post]]:
    """Run a server and give a function that posts to it."""
    engine = ScriptedEngine(lambda _: answers)
    async with TGIServer(version, engine, **settings) as server, aiohttp.ClientSession() as session:

        async def post(path: str, body: dict[str, Any]) -> tuple[int, str]:
            async with session.post(server.url + path, json={"model": "tgi"} | body) as response:
                return response.status, await response.text()

        yield server, post


def events(text: str) -> list[Any]:
    """Read the events of a stream."""
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize("version", ["1.4.0", "1.4.1", "1.4.5", "2.1.0", "2.1.1", "2.3.0", "3.3.7"])
async def test_chat_shape(version: str) -> None:
    """A chat answer has each version's object name, finish reason and shape of log-probabilities."""
    async with serving(version) as (server, post):
        body = {"messages": MESSAGES, "seed": 1, "temperature": 0.5, "logprobs": True, "top_logprobs": 2}
        status, text = await post("/v1/chat/completions", body)
    release, answer = server.config.release, json.loads(text)
    choice = answer["choices"][0]
    assert status == 200
    assert answer["object"] == ("chat.completion" if release.since("2.1.1") else "text_completion")
    assert answer["system_fingerprint"] == f"{release.reported}-native"
    assert choice["finish_reason"] == ("stop" if release.since("2.3.0") else "eos_token")
    assert answer["usage"]["completion_tokens"] == 2
    if version == "1.4.0":
        assert [type(logprob) for logprob in choice["logprobs"]] == [float, float]
    else:
        first = choice["logprobs"]["content"][0]
        assert first["token"] == choice["message"]["content"]
        assert len(first["top_logprobs"]) == (2 if release.since("1.4.5") else 0)


@pytest.mark.parametrize("version", ["1.4.0", "2.1.1", "2.2.0", "2.3.0", "3.1.1", "3.2.0"])
async def test_chat_stream(version: str) -> None:
    """A chat stream ends with the finish reason, with usage if asked for, and with `[DONE]` from 2.2.0 on."""
    async with serving(version, " positive") as (server, post):
        options = {"stream": True, "stream_options": {"include_usage": True}}
        _, text = await post("/v1/chat/completions", {"messages": MESSAGES, "seed": 1, **options})
    release, received = server.config.release, events(text)
    assert (received[-1] == "[DONE]") is release.since("2.2.0")
    chunks = [event for event in received if event != "[DONE]"]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert [choice["delta"]["content"] for choice in choices] == [
        " positive",
        "" if release.since("2.3.0") else "</s>",
    ]
    assert choices[-1]["finish_reason"] == ("stop" if release.since("2.3.0") else "eos_token")
    usage = [chunk["usage"] for chunk in chunks if "usage" in chunk]
    assert len(usage) == release.since("2.3.0")
    assert (chunks[-1]["choices"] == []) is release.since("3.2.0")


@pytest.mark.parametrize(("version", "expected"), [("2.2.0", 2), ("2.4.0", 1), ("2.4.1", 2)])
async def test_failing_chat_stream(version: str, expected: int) -> None:
    """2.4.0 alone keeps quiet about an error inside a chat stream and just ends it."""
    async with serving(version) as (_, post):
        status, text = await post("/v1/chat/completions", {"messages": MESSAGES, "stream": True, "max_tokens": 5000})
    assert status == 200
    assert len(events(text)) == expected
    assert events(text)[-1] == "[DONE]"


async def test_chat_grammar() -> None:
    """A `response_format` constrains the answer, and its log-probabilities are those of the allowed tokens."""
    async with serving("3.3.7", {" a": 0.1, " b": 0.3, " positive": 0.6}) as (_, post):
        body = {"messages": MESSAGES, "temperature": 0, "logprobs": True, "max_tokens": 5}
        grammar = {"type": "regex", "value": "( a| b)"}
        _, text = await post("/v1/chat/completions", body | {"response_format": grammar})
        nested = {"type": "json_schema", "json_schema": {}}
        status, refusal = await post("/v1/chat/completions", body | {"response_format": nested})
    choice = json.loads(text)["choices"][0]
    assert choice["message"]["content"] == " b"
    assert math.exp(choice["logprobs"]["content"][0]["logprob"]) == pytest.approx(0.75, abs=1e-3)
    assert (status, "missing field `value`" in refusal) == (422, True)


async def test_presence_penalty_trap() -> None:
    """A presence penalty of -2 becomes a repetition penalty of 0, which is an error."""
    async with serving("3.3.7") as (_, post):
        status, text = await post("/v1/chat/completions", {"messages": MESSAGES, "presence_penalty": -2})
    assert (status, json.loads(text)["error_type"]) == (422, "validation")
    assert "`repetition_penalty` must be strictly positive" in text


TOOL = {
    "type": "function",
    "function": {"name": "label", "parameters": {"properties": {"as": {"enum": ["a", "b"]}}, "required": ["as"]}},
}


@pytest.mark.parametrize("version", ["1.4.3", "2.0.4", "3.1.1", "3.2.0"])
async def test_tools(version: str) -> None:
    """A tool call has arguments as an object up to 3.1.1 and as JSON text later, and number ids at first."""
    async with serving(version, '{"function":{"_name":"label","as":"b"}}') as (server, post):
        _, text = await post("/v1/chat/completions", {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "label"})
    release, call = server.config.release, json.loads(text)["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["name"] == "label"
    assert call["function"]["arguments"] == ('{"as":"b"}' if release.since("3.2.0") else {"as": "b"})
    assert call["id"] == ("0" if release.since("2.0.4") else 0)


@pytest.mark.parametrize("version", ["2.0.4", "3.3.7"])
async def test_tool_stream(version: str) -> None:
    """A streamed tool call comes as pieces of its arguments, which together are what the model wrote."""
    said = '{"function":{"_name":"label","as":"b"}}'
    async with serving(version, said) as (_, post):
        body = {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "label", "stream": True, "max_tokens": 60}
        _, text = await post("/v1/chat/completions", body)
    deltas = [event["choices"][0]["delta"] for event in events(text) if event != "[DONE]" and event["choices"]]
    assert len(deltas) > 2
    pieces = [call["function"]["arguments"] for delta in deltas for call in delta["tool_calls"]]
    assert "".join(pieces).removesuffix("</s>") == said


@pytest.mark.parametrize("version", ["1.4.0", "1.4.5", "3.3.7"])
async def test_scores_in_a_chat_stream(version: str) -> None:
    """Each piece has its token's log-probability: 1.4.0 shows the number alone, later versions OpenAI's object."""
    async with serving(version) as (_, post):
        body = {"messages": MESSAGES, "seed": 1, "temperature": 0.5, "stream": True, "logprobs": True}
        _, text = await post("/v1/chat/completions", body)
    first = events(text)[0]["choices"][0]
    if version == "1.4.0":
        assert first["logprobs"] < 0
    else:
        (shown,) = first["logprobs"]["content"]
        assert shown["token"] == first["delta"]["content"]
        assert shown["logprob"] < 0


@pytest.mark.parametrize(
    ("version", "body", "error_type"),
    [
        ("2.2.0", {"tools": [TOOL], "response_format": {"type": "regex", "value": "a"}}, "grammar and tools"),
        ("2.3.0", {"tools": [TOOL], "response_format": {"type": "regex", "value": "a"}}, "tool_error"),
        ("3.3.7", {"tools": [TOOL], "tool_choice": "other"}, "tool_error"),
        ("3.3.7", {"tools": [TOOL], "max_tokens": 3}, "tool_error"),
    ],
)
async def test_tool_errors(version: str, body: dict[str, Any], error_type: str) -> None:
    """Tools that cannot be called are refused in each version's way."""
    async with serving(version) as (_, post):
        status, text = await post("/v1/chat/completions", {"messages": MESSAGES} | body)
    assert (status, json.loads(text)["error_type"]) == (422, error_type)


def strict_template(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """Render like a model that knows no system role."""
    if messages[0]["role"] == "system":
        raise ValueError("System role not supported")
    return "".join(message["content"] + ";" for message in messages) + ("A:" if add_generation_prompt else "")


async def test_templates() -> None:
    """A template may object, 1.4.0 asks for no answer header, and from 3.0.0 on a last assistant message goes on."""
    system = [{"role": "system", "content": "Be brief."}]
    continued = [*MESSAGES, {"role": "assistant", "content": "Label:"}]
    async with serving("3.3.7", chat_template=strict_template) as (_, post):
        status, text = await post("/v1/chat/completions", {"messages": system})
        assert (status, json.loads(text)["error_type"]) == (422, "template_error")
        assert "Template error: syntax error: System role not supported (in <string>:1)" in text
        rendered = [
            json.loads((await post("/chat_tokenize", {"messages": messages}))[1]) for messages in (MESSAGES, continued)
        ]
    assert [answer["templated_text"] for answer in rendered] == ["Is it good?;A:", "Is it good?;Label:"]
    assert all(answer["tokenize_response"][0]["id"] != 1 for answer in rendered)
    engine = ScriptedEngine({"Is it good?;": " bare", "Is it good?;A:": " headed"})
    for version, expected in (("1.4.0", " bare"), ("1.4.1", " headed")):
        server = TGIServer(version, engine, chat_template=strict_template)
        async with server, aiohttp.ClientSession() as session:
            body = {"model": "tgi", "messages": MESSAGES, "seed": 1}
            answer = await (await session.post(f"{server.url}/v1/chat/completions", json=body)).json()
        assert answer["choices"][0]["message"]["content"] == expected


@pytest.mark.parametrize(("version", "bos"), [("2.2.0", 1), ("2.3.0", 0)])
async def test_chat_special_tokens(version: str, bos: int) -> None:
    """Up to 2.2.0 the tokenizer adds its start token to the rendered chat."""
    async with serving(version, chat_template=lambda *_: "Is it good?") as (_, post):
        _, text = await post("/v1/chat/completions", {"messages": MESSAGES})
    assert json.loads(text)["usage"]["prompt_tokens"] == 4 + bos


@pytest.mark.parametrize("version", ["1.4.4", "2.0.1", "2.0.4", "2.3.0", "3.3.7"])
async def test_completions(version: str) -> None:
    """Completions take a list of prompts from 2.0.1 on, number their choices, and never have log-probabilities."""
    async with serving(version) as (server, post):
        one = await post("/v1/completions", {"prompt": "x", "seed": 1})
        two = await post("/v1/completions", {"prompt": ["x", "y"], "seed": 1})
        stream = await post("/v1/completions", {"prompt": "x", "stream": True, "seed": 1})
        suffix = await post("/v1/completions", {"prompt": "x", "suffix": "y"})
        many = await post("/v1/completions", {"prompt": ["x"] * 5})
        zero = await post("/v1/completions", {"prompt": "x", "temperature": 0})
    release = server.config.release
    choice = json.loads(one[1])["choices"][0]
    assert (choice["index"], choice["logprobs"]) == (0, None)
    assert events(stream[1])[0]["choices"][0]["text"] == choice["text"]
    assert json.loads(suffix[1])["error_type"] == "suffix not supported"
    if release.since("2.0.1"):
        assert [choice["index"] for choice in json.loads(two[1])["choices"]] == [0, 1]
        assert "maximum allowed batch size of 4" in many[1]
    else:
        assert two[0] == 422
    assert zero[0] == (200 if release.since("2.0.4") else 422)


async def test_completions_take_a_permit_each() -> None:
    """Each prompt of a completions request takes a permit, and one refusal fails them all."""
    async with serving("3.3.7", max_concurrent_requests=2, latency_per_request=0.05) as (server, post):
        fine = await post("/v1/completions", {"prompt": ["x", "y"]})
        over = await post("/v1/completions", {"prompt": ["x", "y", "z"]})
        assert server.permits_in_use == 0
    assert (fine[0], over[0]) == (200, 429)


async def test_completions_bypass_the_prefix_cache() -> None:
    """Completions that are not streamed neither read nor fill the prefix cache; streamed ones do."""
    async with serving("3.3.7") as (server, post):
        for _ in range(2):
            await post("/v1/completions", {"prompt": "the same prompt"})
        assert server.counters.cached_tokens == 0
        for _ in range(2):
            await post("/v1/completions", {"prompt": "the same prompt", "stream": True})
        assert server.counters.cached_tokens > 0


@pytest.mark.parametrize(("version", "chats", "texts"), [("2.3.0", 422, 422), ("2.4.0", 200, 200)])
async def test_invocations(version: str, chats: int, texts: int) -> None:
    """`/invocations` takes generate bodies always, and chat and completion bodies from 2.4.0 on."""
    async with serving(version) as (_, post):
        statuses = [
            (await post("/invocations", body))[0]
            for body in ({"inputs": "x", "parameters": {}}, {"messages": MESSAGES}, {"prompt": "x"}, {"nothing": 1})
        ]
    assert statuses == [200, chats, texts, 422]
    async with serving("1.4.0", messages_api=True) as (_, post):
        assert (await post("/invocations", {"messages": MESSAGES}))[0] == 200


async def test_models_and_metrics() -> None:
    """`/v1/models` lists the model, and `/metrics` shows what happened."""
    async with serving("3.3.7", model_id="me/model") as (server, post):
        await post("/generate", {"inputs": "x", "parameters": {}})
        await post("/generate", {"inputs": "", "parameters": {}})
        async with aiohttp.ClientSession() as session:
            models = await (await session.get(f"{server.url}/v1/models")).json()
            metrics = await (await session.get(f"{server.url}/metrics")).text()
    assert models["data"] == [{"id": "me/model", "object": "model", "created": 0, "owned_by": "me/model"}]
    assert "tgi_request_count 2\n" in metrics
    assert "tgi_request_success 1\n" in metrics
    assert 'tgi_request_failure{err="validation"} 1\n' in metrics
    assert "tgi_request_generated_tokens_sum 2\n" in metrics


async def test_best_of() -> None:
    """`best_of` takes a permit for each sequence and shows the others beside the best."""
    async with serving("3.3.7") as (server, post):
        body = {"inputs": "x", "parameters": {"best_of": 2, "do_sample": True, "details": True}}
        _, text = await post("/generate", body)
    details = json.loads(text)["details"]
    assert server.peak_permits == 2
    assert len(details["best_of_sequences"]) == 1
    best = sum(token["logprob"] for token in details["tokens"])
    assert best >= sum(token["logprob"] for token in details["best_of_sequences"][0]["tokens"])
