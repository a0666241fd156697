"""The conformance table of the TGI protocol, row by row, on both sides of every version boundary.

Each test is one row; its ids are `row-<number>-<version>`. Unless a row says otherwise the server has the limits of the
table: 1024 input tokens, 2048 in total, 128 permits, top 5. Everything goes over a real socket on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import RELEASES, Fault, ScriptedEngine, TGIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

Body = dict[str, Any]

# Both sides of every boundary in the version map, so that rows that hold everywhere are tried everywhere.
EVERYWHERE = (
    "1.0.3", "1.1.0", "1.1.1", "1.3.2", "1.3.3", "1.3.4", "1.4.0", "1.4.1", "1.4.5", "2.0.0", "2.0.4", "2.1.0", "2.2.0",
    "2.3.0", "2.4.0", "2.4.1", "3.0.0", "3.1.0", "3.1.1", "3.3.7",
)  # fmt: skip
DROPPED_BY_INFO = {
    "model_dtype",
    "model_device_type",
    "waiting_served_ratio",
    "max_batch_total_tokens",
    "max_waiting_tokens",
    "max_batch_size",
}


def row(number: int, *versions: str) -> pytest.MarkDecorator:
    """Parametrise a test of one row over versions."""
    return pytest.mark.parametrize("version", versions, ids=[f"row-{number}-{version}" for version in versions])


def before(version: str, boundary: str) -> bool:
    """Tell whether a version is older than another."""
    return RELEASES.index(version) < RELEASES.index(boundary)


@dataclass
class Reply:
    """A response read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, as JSON; `[DONE]` as text."""
        lines = [line[5:].strip() for line in self.text.splitlines() if line.startswith("data:")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


class Client:
    """A server with a client at hand."""

    def __init__(self, server: TGIServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        """Send a request and read the whole response."""
        async with self.session.request(method, self.server.url + path, **options) as response:
            return Reply(response.status, response.headers, await response.text())

    async def get(self, path: str) -> Reply:
        """Send a GET."""
        return await self.send("GET", path)

    async def post(self, path: str, body: Body, **options: Any) -> Reply:
        """Send JSON."""
        return await self.send("POST", path, json=body, **options)

    async def generate(self, inputs: str = "x", **parameters: Any) -> Reply:
        """Send a prompt with parameters to `/generate`."""
        return await self.post("/generate", {"inputs": inputs, "parameters": parameters})

    def prompt(self, tokens: int) -> str:
        """Make a prompt of exactly so many tokens."""
        return ScriptedEngine().text_of(tokens)


@asynccontextmanager
async def serving(version: str, answers: Any = " positive", **settings: Any) -> AsyncIterator[Client]:
    """Run a server whose model gives the same answers to every prompt."""
    server = TGIServer(version, ScriptedEngine(lambda _: answers), **settings)
    # As many connections as it takes: the default of 100 would queue the 129th request in the client.
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Client(server, session)


def assert_invalid(reply: Reply, message: str) -> None:
    """Check a refusal by the router's validation."""
    assert reply.status == 422
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {"error": f"Input validation error: {message}", "error_type": "validation"}


def assert_text(reply: Reply, status: int, start: str) -> None:
    """Check a refusal by the HTTP layer."""
    assert reply.status == status
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.startswith(start)


def total_message(limit: int, given: int, new: int) -> str:
    """Word the refusal of too many tokens in total."""
    return (
        f"`inputs` tokens + `max_new_tokens` must be <= {limit}. "
        f"Given: {given} `inputs` tokens and {new} `max_new_tokens`"
    )


DESERIALISE = "Failed to deserialize the JSON body into the target type: "
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}
REGEX = {"type": "regex", "value": "( a| b)"}


@row(1, *EVERYWHERE)
async def test_healthy(version: str) -> None:
    """A healthy server answers 200 with an empty body."""
    async with serving(version) as client:
        reply = await client.get("/health")
    assert (reply.status, reply.text) == (200, "")


@row(2, *EVERYWHERE)
async def test_unhealthy(version: str) -> None:
    """An unhealthy server answers 503 and says so in JSON."""
    async with serving(version) as client:
        client.server.healthy = False
        reply = await client.get("/health")
    assert (reply.status, reply.json) == (503, {"error": "unhealthy", "error_type": "healthcheck"})


@row(3, "1.3.4", "1.4.0", "1.4.1", "3.3.7")
async def test_get_root(version: str) -> None:
    """`GET /` is a health check in every version but 1.4.0, where it is the wrong method."""
    async with serving(version) as client:
        reply = await client.get("/")
    assert (reply.status, reply.text) == (405 if version == "1.4.0" else 200, "")
    assert version != "1.4.0" or reply.headers["allow"] == "POST"


@row(4, "1.0.3", "1.4.1", "2.0.1", "2.0.3", "2.0.4")
async def test_info_calls_it_input_length(version: str) -> None:
    """Up to 2.0.4 `/info` has `max_input_length` and no `max_input_tokens`."""
    async with serving(version) as client:
        shown = (await client.get("/info")).json
    assert shown["max_input_length"] == 1024
    assert "max_input_tokens" not in shown
    assert ("max_batch_size" in shown) is not before(version, "1.4.1")
    assert ("max_client_batch_size" in shown) is not before(version, "2.0.1")
    assert ("router" in shown) is not before(version, "2.0.3")
    assert shown["version"] == ("2.0.2" if version == "2.0.3" else version)


@row(5, "2.1.0", "2.1.1", "2.2.0")
async def test_info_calls_it_input_tokens(version: str) -> None:
    """From 2.1.0 to 2.2.0 `/info` has `max_input_tokens` beside the scheduler's numbers."""
    async with serving(version) as client:
        shown = (await client.get("/info")).json
    assert shown["max_input_tokens"] == 1024
    assert "max_input_length" not in shown
    assert shown.keys() >= DROPPED_BY_INFO


@row(6, "2.3.0", "2.4.1", "3.3.7")
async def test_info_is_slim(version: str) -> None:
    """From 2.3.0 on `/info` has exactly the 14 keys that are left."""
    async with serving(version) as client:
        shown = (await client.get("/info")).json
    assert len(shown) == 14
    assert not shown.keys() & DROPPED_BY_INFO
    assert shown["router"] == "text-generation-router"
    assert shown["max_input_tokens"] == 1024


@row(7, *EVERYWHERE)
async def test_plain_generation(version: str) -> None:
    """A plain request is answered with an object that has no `details`."""
    async with serving(version) as client:
        reply = await client.generate(max_new_tokens=5)
    assert (reply.status, reply.json) == (200, {"generated_text": " positive"})


@row(8, *EVERYWHERE)
async def test_root_wraps_in_a_list(version: str) -> None:
    """The same request to `/` is answered with a list of one object."""
    async with serving(version, pipeline_tag=None) as client:
        parameters = {"max_new_tokens": 5}
        reply = await client.post("/", {"inputs": "x", "parameters": parameters | {"return_full_text": False}})
        defaulted = await client.post("/", {"inputs": "x", "parameters": parameters})
    assert (reply.status, reply.json) == (200, [{"generated_text": " positive"}])
    assert defaulted.json == [{"generated_text": " positive" if before(version, "1.4.2") else "x positive"}]


@row(9, *EVERYWHERE)
async def test_details(version: str) -> None:
    """Details of a greedy request have an empty prefill, a null seed and no keys for what was not asked."""
    async with serving(version) as client:
        details = (await client.generate(max_new_tokens=5, details=True)).json["details"]
    assert details.keys() == {"finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
    assert (details["prefill"], details["seed"]) == ([], None)
    assert (details["finish_reason"], details["generated_tokens"]) == ("eos_token", 2)
    assert [token["text"] for token in details["tokens"]] == [" positive", "</s>"]
    assert [token["special"] for token in details["tokens"]] == [False, True]


@row(10, *EVERYWHERE)
async def test_top_tokens(version: str) -> None:
    """Top tokens come as one list for each generated token, best first."""
    async with serving(version, {" positive": 0.7, " negative": 0.2}) as client:
        details = (await client.generate(max_new_tokens=5, details=True, top_n_tokens=5)).json["details"]
    assert len(details["top_tokens"]) == details["generated_tokens"] == len(details["tokens"])
    first = details["top_tokens"][0]
    assert [token["text"] for token in first[:2]] == [" positive", " negative"]
    assert len(first) == 5
    assert [token["logprob"] for token in first] == sorted((token["logprob"] for token in first), reverse=True)
    assert math.exp(first[0]["logprob"]) == pytest.approx(0.7, abs=1e-3)


@row(11, *EVERYWHERE)
async def test_too_many_top_tokens(version: str) -> None:
    """More top tokens than the server gives are refused with its limit."""
    async with serving(version) as client:
        reply = await client.generate(top_n_tokens=6, max_new_tokens=1)
    assert_invalid(reply, "`top_n_tokens` must be >= 0 and <= 5. Given: 6")


@row(12, *EVERYWHERE)
async def test_empty_inputs(version: str) -> None:
    """An empty prompt is refused."""
    async with serving(version) as client:
        reply = await client.generate("")
    assert_invalid(reply, "`inputs` cannot be empty")


@row(13, *EVERYWHERE)
async def test_temperature_zero(version: str) -> None:
    """A temperature of 0 is refused: greedy means leaving it out."""
    async with serving(version) as client:
        reply = await client.generate(temperature=0)
    assert_invalid(reply, "`temperature` must be strictly positive")


@row(14, *EVERYWHERE)
async def test_top_p_one(version: str) -> None:
    """A top_p of exactly 1 is refused."""
    async with serving(version) as client:
        reply = await client.generate(top_p=1.0)
    assert_invalid(reply, "`top_p` must be > 0.0 and < 1.0")


@row(15, *EVERYWHERE)
async def test_too_many_stops(version: str) -> None:
    """More stop sequences than allowed are refused with both numbers."""
    async with serving(version) as client:
        reply = await client.generate(stop=["a", "b", "c", "d", "e"])
    assert_invalid(reply, "`stop` supports up to 4 stop sequences. Given: 5")


@row(16, *EVERYWHERE)
async def test_no_new_tokens(version: str) -> None:
    """Asking for no new tokens is refused."""
    async with serving(version) as client:
        reply = await client.generate(max_new_tokens=0)
    assert_invalid(reply, "`max_new_tokens` must be strictly positive")


@row(17, *EVERYWHERE)
async def test_overlong_prompt(version: str) -> None:
    """A prompt over the input limit is refused with the limit and its length."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(1030), max_new_tokens=20)
    assert_invalid(reply, "`inputs` must have less than 1024 tokens. Given: 1030")


@row(18, *EVERYWHERE)
async def test_longest_prompt(version: str) -> None:
    """A prompt of exactly the input limit is accepted."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(1024), max_new_tokens=20)
    assert reply.status == 200


@row(19, *(version for version in EVERYWHERE if before(version, "3.1.1")))
async def test_too_many_tokens_in_total(version: str) -> None:
    """Prompt and answer together over the total limit are refused with all three numbers."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(1000), max_new_tokens=1049)
    assert_invalid(reply, total_message(2048, 1000, 1049))


@row(20, "3.1.1", "3.2.0", "3.3.7")
async def test_new_tokens_are_clipped(version: str) -> None:
    """From 3.1.1 on only 1024 of the new tokens count, so the same request is accepted."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(1000), max_new_tokens=1049)
        limit = await client.generate(client.prompt(1024), max_new_tokens=5000)
        over = await client.generate(client.prompt(1025), max_new_tokens=5000)
    assert (reply.status, limit.status) == (200, 200)
    assert_invalid(over, total_message(2048, 1025, 1024))


@row(21, *EVERYWHERE)
async def test_total_is_checked_before_input(version: str) -> None:
    """A prompt that breaks both limits is refused for the total."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(1030), max_new_tokens=1020)
    assert_invalid(reply, total_message(2048, 1030, 1020))


@row(22, *EVERYWHERE)
async def test_default_of_new_tokens(version: str) -> None:
    """The refusal of a far too long prompt shows each version's default for `max_new_tokens`."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(5000))
    hundred = before(version, "3.0.0") and not before(version, "1.3.3")
    default = 20 if before(version, "1.1.1") else 100 if hundred else 0
    assert_invalid(reply, total_message(2048, 5000, default))


@row(23, "1.0.3", "1.4.5", "2.0.0", "2.0.1", "2.0.2", "2.0.3", "3.3.7")
async def test_truncate(version: str) -> None:
    """`truncate` saves a long prompt, except from 2.0.0 to 2.0.2, where the checks ignore it."""
    async with serving(version) as client:
        reply = await client.generate(client.prompt(5000), max_new_tokens=20, truncate=500)
    if version in ("2.0.0", "2.0.1", "2.0.2"):
        assert_invalid(reply, total_message(2048, 5000, 20))
    else:
        assert reply.status == 200


@row(24, *EVERYWHERE)
async def test_truncate_too_large(version: str) -> None:
    """A `truncate` over the input limit is refused with both numbers; the limit itself is fine."""
    async with serving(version) as client:
        reply = await client.generate(truncate=2000)
        fine = await client.generate(truncate=1024)
    assert_invalid(reply, "`truncate` must be strictly positive and less than 1024. Given: 2000")
    assert fine.status == 200


@row(25, "1.0.3", "1.1.0", "1.1.1", "3.3.7")
async def test_null_new_tokens(version: str) -> None:
    """A null `max_new_tokens` is a type error up to 1.1.0 and accepted later."""
    async with serving(version) as client:
        reply = await client.generate(max_new_tokens=None)
    if before(version, "1.1.1"):
        assert_text(reply, 422, DESERIALISE)
    else:
        assert reply.status == 200


@row(26, *EVERYWHERE)
async def test_null_stop(version: str) -> None:
    """Null is a type error for keys that are not nullable."""
    async with serving(version) as client:
        for key in ("stop", "do_sample", "watermark", "details", "decoder_input_details"):
            reply = await client.post("/generate", {"inputs": "x", "parameters": {key: None}})
            assert_text(reply, 422, DESERIALISE)


@row(27, *EVERYWHERE)
async def test_broken_json(version: str) -> None:
    """A body that breaks off is refused as not JSON, in plain text."""
    async with serving(version) as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.send("POST", "/generate", data=b'{"inputs":', headers=headers)
    assert_text(reply, 400, "Failed to parse the request body as JSON: ")


@row(28, *EVERYWHERE)
async def test_missing_inputs(version: str) -> None:
    """A body without `inputs` is refused by name, in plain text."""
    async with serving(version) as client:
        reply = await client.post("/generate", {"parameters": {}})
    assert_text(reply, 422, f"{DESERIALISE}missing field `inputs`")


@row(29, *EVERYWHERE)
async def test_wrong_content_type(version: str) -> None:
    """A body of another content type is refused unread; `+json` types are accepted."""
    async with serving(version) as client:
        data = b'{"inputs":"x","parameters":{}}'
        reply = await client.send("POST", "/generate", data=data, headers={"Content-Type": "text/plain"})
        fine = await client.send("POST", "/generate", data=data, headers={"Content-Type": "application/vnd.x+json"})
    assert_text(reply, 415, "Expected request with `Content-Type: application/json`")
    assert fine.status == 200


@row(30, "1.0.3", "2.4.0", "2.4.1", "3.3.7")
async def test_body_limit(version: str) -> None:
    """A body of 2,050,000 bytes is too large from 2.4.1 on, and just a long prompt before."""
    async with serving(version) as client:
        body = json.dumps({"inputs": "x", "parameters": {}, "ignored": ""})
        body = body[:-2] + "a" * (2_050_000 - len(body)) + '"}'
        headers = {"Content-Type": "application/json"}
        reply = await client.send("POST", "/generate", data=io.BytesIO(body.encode()), headers=headers)
    if before(version, "2.4.1"):
        assert reply.status == 200
    else:
        assert_text(reply, 413, "Failed to buffer the request body: length limit exceeded")


@row(31, *EVERYWHERE)
async def test_overload(version: str) -> None:
    """Past the last permit every request is answered 429, an invalid one too, with no Retry-After."""
    async with serving(version, latency_per_request=60.0) as client:
        waiting = await fill(client, 128)
        valid, invalid = await client.generate(), await client.generate("", temperature=0)
        for task in waiting:
            task.cancel()
    assert [reply.status for reply in (valid, invalid)] == [429, 429]
    assert valid.json == invalid.json == OVERLOADED
    assert "retry-after" not in valid.headers


async def fill(client: Client, permits: int) -> list[asyncio.Task[Reply]]:
    """Take permits with requests that will not finish soon."""
    tasks = [asyncio.create_task(client.generate()) for _ in range(permits)]
    await until(lambda: client.server.permits_in_use == permits, seconds=30)
    return tasks


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition of the server's own thread, and fail if it does not come true in time."""
    deadline = time.monotonic() + seconds
    for _ in iter(lambda: time.monotonic() < deadline, False):
        if condition():
            return
        await asyncio.sleep(0.002)
    pytest.fail("what was waited for did not happen")


@row(32, *EVERYWHERE)
async def test_overload_in_streams(version: str) -> None:
    """A stream past the last permit is a 200 with one error event."""
    async with serving(version, latency_per_request=60.0, max_concurrent_requests=1) as client:
        waiting = await fill(client, 1)
        reply = await client.post("/generate_stream", {"inputs": "x", "parameters": {}})
        waiting[0].cancel()
    assert reply.status == 200
    assert reply.events == [OVERLOADED]


@row(33, *EVERYWHERE)
async def test_shard_exception(version: str) -> None:
    """An exception in the model process fails every request of the batch with its text."""
    boom = Fault("424", when=lambda prompt: prompt == "bad", message="boom")
    async with serving(version, faults=boom, batch_window=0.15) as client:
        replies = await asyncio.gather(*(client.generate(prompt) for prompt in ("good", "bad", "fine")))
        later = await client.generate("good")
    message = {"error": "Request failed during generation: Server error: boom", "error_type": "generation"}
    assert [(reply.status, reply.json) for reply in replies] == [(424, message)] * 3
    assert later.status == 200


@row(34, "1.0.3", "2.2.0", "2.3.0", "3.3.7")
async def test_incomplete_generation(version: str) -> None:
    """A generation that breaks off is a 500, and in streams an event with a wording of its own from 2.3.0 on."""
    async with serving(version, faults=Fault("500", times=None)) as client:
        reply = await client.generate()
        stream = await client.post("/generate_stream", {"inputs": "x", "parameters": {}})
    assert (reply.status, reply.json) == (500, incomplete(""))
    assert stream.status == 200
    assert stream.events[-1] == incomplete("" if before(version, "2.3.0") else " stream")
    assert all(event["generated_text"] is None for event in stream.events[:-1])


def incomplete(suffix: str) -> Body:
    """Word the error of a broken-off generation."""
    error_type = "incomplete_generation" + suffix.replace(" ", "_")
    return {"error": f"Incomplete generation{suffix}", "error_type": error_type}


@row(35, "1.0.3", "2.0.4", "2.1.0", "3.3.7")
async def test_stream_frames(version: str) -> None:
    """Stream frames have a space after the colon from 2.1.0 on, and silence is filled with comments."""
    assert TGIServer(version).config.keepalive == 15.0
    async with serving(version, latency_per_request=0.2, keepalive=0.05) as client:
        reply = await client.post("/generate_stream", {"inputs": "x", "parameters": {}})
    frames = reply.text.split("\n\n")
    assert frames[0] == ":"
    assert frames[-1] == ""
    events = [frame for frame in frames[:-1] if frame != ":"]
    prefix = "data:{" if before(version, "2.1.0") else "data: {"
    assert len(events) == 2
    assert all(event.startswith(prefix) and "\n" not in event for event in events)


@row(36, "1.0.3", "1.3.4", "1.4.0", "2.3.0", "3.3.7")
async def test_stream_index(version: str) -> None:
    """Stream events count from 1 in `index` from 1.4.0 on, and only the last has text and details."""
    async with serving(version) as client:
        reply = await client.post("/generate_stream", {"inputs": "x", "parameters": {"details": True}})
    events = reply.events
    assert [event.get("index") for event in events] == ([None, None] if before(version, "1.4.0") else [1, 2])
    assert [event["generated_text"] for event in events] == [None, " positive"]
    assert events[0]["details"] is None
    expected = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None}
    assert events[1]["details"] == (expected if before(version, "2.3.0") else expected | {"input_length": 2})


@row(37, *EVERYWHERE)
async def test_prefill_in_streams(version: str) -> None:
    """Prefill details cannot be streamed; the refusal is an event."""
    async with serving(version) as client:
        body = {"inputs": "x", "parameters": {"decoder_input_details": True}}
        reply = await client.post("/generate_stream", body)
    message = "`decoder_input_details` == true is not supported when streaming tokens"
    assert reply.status == 200
    assert reply.events == [{"error": f"Input validation error: {message}", "error_type": "validation"}]


@row(38, "1.0.3", "1.3.4", "1.4.0")
async def test_grammar_ignored(version: str) -> None:
    """Up to 1.4.0 a grammar is dropped without a word."""
    async with serving(version) as client:
        reply = await client.generate(grammar=REGEX, max_new_tokens=5)
    assert (reply.status, reply.json["generated_text"]) == (200, " positive")


@row(39, "1.4.1", "1.4.5", "2.4.0", "2.4.1", "3.3.7")
async def test_anchored_grammar(version: str) -> None:
    """An anchor in a pattern fails the whole batch, neighbours with good patterns included."""
    async with serving(version, batch_window=0.05) as client:
        bad, good = await asyncio.gather(
            client.generate(grammar={"type": "regex", "value": "^(a|b)$"}, max_new_tokens=5),
            client.generate(grammar=REGEX, max_new_tokens=5),
        )
    message = "Request failed during generation: Server error: '^'"
    assert [(reply.status, reply.json["error"]) for reply in (bad, good)] == [(424, message)] * 2


@row(40, "1.4.1", "2.4.1", "3.3.7")
async def test_grammar_disabled(version: str) -> None:
    """A server without grammar support refuses grammars in validation."""
    async with serving(version, grammar=False) as client:
        reply = await client.generate(grammar=REGEX)
    assert_invalid(reply, "grammar is not supported")


@row(41, "1.4.1", "1.4.3", "1.4.4", "1.4.5", "3.3.7")
async def test_mixed_batch(version: str) -> None:
    """From 1.4.1 to 1.4.4 a batch with and without grammars fails with an empty message; later it works."""
    async with serving(version, batch_window=0.05) as client:
        replies = await asyncio.gather(client.generate(grammar=REGEX, max_new_tokens=5), client.generate())
        alone = await client.generate(grammar=REGEX, max_new_tokens=5)
    if before(version, "1.4.5"):
        message = "Request failed during generation: Server error: "
        assert [(reply.status, reply.json["error"]) for reply in replies] == [(424, message)] * 2
    else:
        assert [reply.status for reply in replies] == [200, 200]
    assert alone.status == 200


async def masked(version: str, family: str) -> tuple[Body, list[Body]]:
    """Ask for one of two letters; return the first token and its top tokens."""
    answers = {" a": 0.3, " b": 0.1, " positive": 0.6}
    async with serving(version, answers, family=family) as client:
        reply = await client.generate(grammar=REGEX, max_new_tokens=5, details=True, top_n_tokens=5)
    details = reply.json["details"]
    return details["tokens"][0], details["top_tokens"][0]


@row(42, "1.4.5", "2.4.1", "3.3.7")
async def test_masked_top_tokens(version: str) -> None:
    """Under a grammar, flash models renormalise over the allowed tokens and list only those."""
    token, top = await masked(version, "flash")
    assert [entry["text"] for entry in top[:2]] == [" a", " b"]
    assert all(" a".startswith(entry["text"]) or " b".startswith(entry["text"]) for entry in top)
    assert sum(math.exp(entry["logprob"]) for entry in top) == pytest.approx(1, abs=1e-3)
    assert math.exp(token["logprob"]) == pytest.approx(0.75, abs=1e-3)


@row(43, "1.4.4", "2.4.1", "3.3.7")
async def test_unmasked_top_tokens(version: str) -> None:
    """Padded models show raw top tokens beside a masked choice."""
    token, top = await masked(version, "padded")
    assert (token["text"], top[0]["text"]) == (" a", " positive")
    assert math.exp(token["logprob"]) == pytest.approx(0.75, abs=1e-3)
    assert math.exp(top[0]["logprob"]) == pytest.approx(0.6, abs=1e-3)


@row(44, "1.0.3", "2.2.0", "2.4.1")
async def test_prefill(version: str) -> None:
    """Up to 2.4.1 causal models give a log-probability for every prompt token but the first."""
    async with serving(version) as client:
        details = (await client.generate("Is it good?", decoder_input_details=True)).json["details"]
    prefill = details["prefill"]
    assert [token["text"] for token in prefill] == ["<s>", "Is", " it", " good", "?"]
    assert prefill[0]["logprob"] is None
    assert all(token["logprob"] < 0 for token in prefill[1:])


@row(45, "2.4.1", "3.0.0", "3.3.7")
async def test_prefill_needs_a_flag(version: str) -> None:
    """From 3.0.0 on flash models give no prefill without the operator's flag; padded ones still do."""
    counts = {}
    servers: dict[str, Body] = {"flash": {}, "flag": {"prefill_logprobs": True}, "padded": {"family": "padded"}}
    for name, settings in servers.items():
        async with serving(version, **settings) as client:
            reply = await client.generate("Is it good?", decoder_input_details=True)
            counts[name] = len(reply.json["details"]["prefill"])
    assert counts == {"flash": 5 if before(version, "3.0.0") else 0, "flag": 5, "padded": 5}


@row(46, "1.0.3", "2.4.1", "3.3.7")
async def test_prefill_of_seq2seq(version: str) -> None:
    """Encoder-decoder models give the decoder's start token and nothing else."""
    async with serving(version, family="seq2seq") as client:
        details = (await client.generate("Is it good?", decoder_input_details=True)).json["details"]
    assert details["prefill"] == [{"id": 0, "text": "<pad>", "logprob": None}]


@row(47, "1.0.3", "1.3.4")
async def test_no_tokenize(version: str) -> None:
    """Up to 1.3.4 there is no `/tokenize`."""
    async with serving(version) as client:
        reply = await client.post("/tokenize", {"inputs": "x"})
    assert (reply.status, reply.text) == (404, "")


@row(48, "1.4.0", "2.1.0", "2.4.1", "3.3.7")
async def test_tokenize(version: str) -> None:
    """`/tokenize` lists every token with its place in bytes, special tokens included."""
    async with serving(version) as client:
        reply = await client.post("/tokenize", {"inputs": "Is é good"})
    tokens = reply.json
    assert [token.keys() for token in tokens] == [{"id", "text", "start", "stop"}] * len(tokens)
    assert tokens[0]["id"] == 1
    assert [(token["start"], token["stop"]) for token in tokens] == [(0, 0), (0, 2), (2, 3), (3, 4), (4, 5), (5, 10)]
    # Versions that cut characters by byte offsets are wrong after the first non-ASCII character.
    assert tokens[-1]["text"] == ("good" if version == "1.4.0" else " good")


@row(49, "1.4.0", "2.4.0", "2.4.1", "3.3.7")
async def test_tokenize_without_fast_tokenizer(version: str) -> None:
    """Without a fast tokenizer `/tokenize` is a 404 up to 2.4.0, and counts without texts later."""
    async with serving(version, has_tokenizer=False) as client:
        reply = await client.post("/tokenize", {"inputs": "Is it good"})
    if before(version, "2.4.1"):
        message = "No fast tokenizer or tokenizer.json for this model"
        assert (reply.status, reply.json) == (404, {"error": message, "error_type": "no fast tokenizer"})
    else:
        assert [(token["text"], token["start"], token["stop"]) for token in reply.json] == [("", 0, 0)] * 4


def chat(content: str = "x", **options: Any) -> Body:
    """Write a chat body."""
    return {"messages": [{"role": "user", "content": content}], **options}


@row(50, "1.4.0", "2.1.1", "2.2.0", "3.3.7")
async def test_chat_model(version: str) -> None:
    """Chat bodies must name a model up to 2.1.1."""
    async with serving(version) as client:
        reply = await client.post("/v1/chat/completions", chat())
    if before(version, "2.2.0"):
        assert_text(reply, 422, f"{DESERIALISE}missing field `model`")
    else:
        assert reply.json["choices"][0]["message"] == {"role": "assistant", "content": " positive"}


@row(51, "1.4.0", "2.0.1", "2.0.2", "3.3.7")
async def test_chat_temperature_zero(version: str) -> None:
    """A chat temperature of 0 is an error up to 2.0.1 and greedy later."""
    async with serving(version, {" a": 0.51, " b": 0.49}) as client:
        replies = [await client.post("/v1/chat/completions", chat(model="tgi", temperature=0)) for _ in range(10)]
    if before(version, "2.0.2"):
        assert_invalid(replies[0], "`temperature` must be strictly positive")
    else:
        assert {reply.json["choices"][0]["message"]["content"] for reply in replies} == {" a"}


@row(52, "1.4.0", "2.2.0", "3.3.7")
async def test_chat_without_template(version: str) -> None:
    """A model without a chat template refuses chats."""
    async with serving(version, chat_template=None) as client:
        reply = await client.post("/v1/chat/completions", chat(model="tgi"))
    expected = {"error": "Template error: template not found", "error_type": "template_error"}
    assert (reply.status, reply.json) == (422, expected)


@row(53, "2.2.0", "2.4.1", "3.3.7")
async def test_chat_stream_error(version: str) -> None:
    """From 2.4.1 on errors in chat streams have OpenAI's shape; `[DONE]` follows."""
    async with serving(version) as client:
        reply = await client.post("/v1/chat/completions", chat(client.prompt(3000), stream=True, max_tokens=20))
    event, done = reply.events
    assert (reply.status, done) == (200, "[DONE]")
    error = event if before(version, "2.4.1") else event["error"]
    message = error["error"] if before(version, "2.4.1") else error["message"]
    assert re.fullmatch(r"Input validation error: `inputs` tokens \+ .* must be <= 2048\. Given: 30\d\d .*", message)
    assert before(version, "2.4.1") or error["http_status_code"] == 422


@row(54, "2.3.0", "2.4.1", "3.3.7")
async def test_api_key(version: str) -> None:
    """A wrong bearer token is a 401 with an empty body on `/generate` and no matter on `/info`."""
    async with serving(version, api_key="Secret") as client:
        statuses = []
        for bearer in ("Bearer wrong", "Bearer Secret", "bearer secret"):
            headers = {"Authorization": bearer}
            reply = await client.post("/generate", {"inputs": "x", "parameters": {}}, headers=headers)
            statuses.append(reply.status)
        missing = await client.generate()
        shown = await client.get("/info")
        served = await client.post("/invocations", {"inputs": "x", "parameters": {}})
    assert statuses == [401, 200, 200]
    assert (missing.status, missing.text, shown.status) == (401, "", 200)
    assert "www-authenticate" not in missing.headers
    assert served.status == (200 if before(version, "2.4.0") else 401)


@row(55, "1.3.4", "1.4.0", "2.4.1", "3.3.7")
async def test_no_parameters(version: str) -> None:
    """From 1.4.0 on a body without `parameters` is sampled, and never has details."""
    async with serving(version, {" a": 0.5, " b": 0.5}) as client:
        replies = [await client.post("/generate", {"inputs": "x"}) for _ in range(40)]
    assert all(reply.json.keys() == {"generated_text"} for reply in replies)
    texts = {reply.json["generated_text"] for reply in replies}
    assert (len(texts) == 1) is before(version, "1.4.0")


@row(56, "1.0.3", "1.4.2", "1.4.3", "3.3.7")
async def test_compute_time(version: str) -> None:
    """`x-compute-time` is whole milliseconds up to 1.4.2 and seconds with decimals later."""
    async with serving(version, latency_per_request=0.03) as client:
        reply = await client.generate()
        failed = await client.generate("")
    shown = reply.headers["x-compute-time"]
    if before(version, "1.4.3"):
        assert shown == reply.headers["x-total-time"]
        assert 30 <= int(shown) < 3000
    else:
        assert 0.03 <= float(shown) < 3
        assert "." in shown
    assert reply.headers["x-compute-type"] == "gpu+optimized"
    assert reply.headers["x-compute-characters"] == "1"
    assert int(reply.headers["x-inference-time"]) >= 30
    assert not any(name.lower().startswith("x-") for name in failed.headers)


@row(57, "1.3.4", "1.4.0", "2.4.1", "3.3.7")
async def test_prompt_tokens_header(version: str) -> None:
    """From 1.4.0 on `x-prompt-tokens` equals the length of the `/tokenize` list."""
    async with serving(version) as client:
        reply = await client.generate("Is it good?")
        tokens = await client.post("/tokenize", {"inputs": "Is it good?"})
    if before(version, "1.4.0"):
        assert "x-prompt-tokens" not in reply.headers
    else:
        assert int(reply.headers["x-prompt-tokens"]) == len(tokens.json)
        assert reply.headers["x-generated-tokens"] == "2"


@row(58, *EVERYWHERE)
async def test_disconnect(version: str) -> None:
    """A client that goes away frees its permit at once, whether it waited for an answer or read a stream."""
    async with serving(version, " a a a a a a", latency_per_token=0.5) as client:
        task = (await fill(client, 1))[0]
        task.cancel()
        # Half a second is one token: a permit held until the model is done would come too late.
        await until(lambda: client.server.permits_in_use == 0, seconds=0.4)
        body = {"inputs": "x", "parameters": {}}
        async with client.session.post(client.server.url + "/generate_stream", json=body) as response:
            await response.content.readany()
            taken = client.server.permits_in_use
        await until(lambda: client.server.permits_in_use == 0, seconds=0.4)
    assert taken == 1
    assert client.server.counters.disconnects == 2
    assert client.server.counters.generations == 0
