"""The OpenAI-compatible test server, over a real socket and with plain HTTP: what each flavour does differently."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from langchain_stormtrooper.testing import Fault, OpenAIServer, ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Ask = Callable[..., Awaitable[tuple[int, Any]]]

PROMPT = "Review: a fine film. Sentiment:"
ENGINE = ScriptedEngine(lambda _: {" positive": 0.6, " negative": 0.3}, answer_after="Sentiment:")
POSITIVE, NEGATIVE, NEUTRAL = (ENGINE.encode(text)[0] for text in (" positive", " negative", " neutral"))
MODEL = "stormtrooper/scripted"
FLAVOURS = ["vllm", "sglang", "llama.cpp", "generic"]
MESSAGES = [{"role": "user", "content": "Is it good?"}]


@asynccontextmanager
async def serving(
    flavour: str = "vllm", engine: ScriptedEngine = ENGINE, **settings: Any
) -> AsyncIterator[tuple[OpenAIServer, Ask]]:
    """Run a server and give a function that posts a body to it, or gets a route without one."""
    server = OpenAIServer(flavour, engine, **settings)  # type: ignore[arg-type]
    async with server, aiohttp.ClientSession() as session:

        async def ask(path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any]:
            method = "GET" if body is None else "POST"
            async with session.request(method, server.url + path, json=body, headers=headers) as response:
                text = await response.text()
            if response.content_type == "text/event-stream":
                return response.status, text
            return response.status, json.loads(text) if text else None

        yield server, ask


def body(**more: Any) -> dict[str, Any]:
    """Make a greedy one-token completions request."""
    return {"model": MODEL, "prompt": PROMPT, "max_tokens": 1, "temperature": 0} | more


def first_top(answer: Any, choice: int = 0) -> dict[str, float]:
    """Return the alternatives to the first token of a completion."""
    top: dict[str, float] = answer["choices"][choice]["logprobs"]["top_logprobs"][0]
    return top


def events(text: str) -> list[Any]:
    """Read the events of a stream."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


# --- all flavours ---


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_completion(flavour: str) -> None:
    """Every flavour completes a prompt, counts its tokens and says why it stopped."""
    async with serving(flavour) as (server, ask):
        status, answer = await ask("/v1/completions", body(max_tokens=5))
    choice = answer["choices"][0]
    assert (status, answer["object"], choice["text"], choice["finish_reason"]) == (
        200,
        "text_completion",
        " positive",
        "stop",
    )
    prompt = len(ENGINE.encode(PROMPT)) + 1
    assert answer["usage"]["prompt_tokens"] == prompt
    assert answer["usage"]["completion_tokens"] == 2
    assert server.received[0].json["prompt"] == PROMPT
    assert server.counters.by_prompt[PROMPT] == 1
    assert (server.counters.prompt_tokens, server.counters.generated_tokens) == (prompt, 2)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("ids", [False, True])
async def test_several_prompts(flavour: str, ids: bool) -> None:
    """Several prompts, as texts or as token ids, are answered in their order by one request."""
    engine = ScriptedEngine({"Say a:": " yes", "Say b:": " no"})
    prompts = ["Say a:", "Say b:"]
    given = [engine.encode(prompt) for prompt in prompts] if ids else prompts
    async with serving(flavour, engine) as (server, ask):
        _, answer = await ask("/v1/completions", body(prompt=given))
        _, single = await ask("/v1/completions", body(prompt=given[1]))
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, " yes"), (1, " no")]
    assert single["choices"][0]["text"] == " no"
    # Token ids are taken as they are, texts get the token that starts every prompt.
    assert answer["usage"]["prompt_tokens"] == sum(map(len, map(engine.encode, prompts))) + (0 if ids else 2)
    assert server.counters.generations == 3


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_stream(flavour: str) -> None:
    """A stream of several answers adds up to them, ends with the usage if asked for, and with `[DONE]`."""
    options = {"stream": True, "stream_options": {"include_usage": True}, "logprobs": 1}
    async with serving(flavour) as (_, ask):
        status, text = await ask("/v1/completions", body(prompt=[PROMPT, PROMPT], max_tokens=4, **options))
    chunks = events(text)
    texts = ["", ""]
    for chunk in chunks[:-1]:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["text"]
    assert (status, texts) == (200, [" positive"] * 2)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("stream", [False, True])
async def test_stop(flavour: str, stream: bool) -> None:
    """A stop sequence ends the answer and is not part of it, not even of the part streamed before it was complete."""
    engine = ScriptedEngine(" yes, it is\n\nReview:")
    async with serving(flavour, engine) as (_, ask):
        _, answer = await ask("/v1/completions", body(stop=["\n\n", "never"], max_tokens=20, stream=stream))
    if stream:
        choices = [event["choices"][0] for event in events(answer)]
        text, last = "".join(choice["text"] for choice in choices), choices[-1]
    else:
        last = answer["choices"][0]
        text = last["text"]
    assert (text, last["finish_reason"]) == (" yes, it is", "stop")
    told = {"vllm": "stop_reason", "sglang": "matched_stop"}.get(flavour)
    assert told is None or last[told] == "\n\n"


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_chat(flavour: str) -> None:
    """A chat is rendered through the template and answered with log-probabilities by token, streamed or not."""
    engine = ScriptedEngine({"<|user|>\nIs it good?\n<|assistant|>\n": {"positive": 0.6, "negative": 0.3}})
    chat = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    async with serving(flavour, engine) as (_, ask):
        _, answer = await ask("/v1/chat/completions", chat)
        _, text = await ask("/v1/chat/completions", chat | {"stream": True})
    choice = answer["choices"][0]
    assert (answer["object"], choice["message"]["content"]) == ("chat.completion", "positive")
    top = {item["token"]: math.exp(item["logprob"]) for item in choice["logprobs"]["content"][0]["top_logprobs"]}
    assert top == pytest.approx({"positive": 0.6, "negative": 0.3}, abs=1e-3)
    assert "".join(event["choices"][0]["delta"]["content"] for event in events(text)) == "positive"


@pytest.mark.parametrize(("flavour", "limit"), [("vllm", 20), ("sglang", None), ("llama.cpp", None), ("generic", 5)])
async def test_logprobs_limit(flavour: str, limit: int | None) -> None:
    """20 alternatives are the most that vLLM shows, 5 the most of a gateway; one more is refused."""
    async with serving(flavour) as (_, ask):
        most, _ = await ask("/v1/completions", body(logprobs=limit or 50))
        status, answer = await ask("/v1/completions", body(logprobs=(limit or 50) + 1))
    assert (most, status) == (200, 200 if limit is None else 400)
    assert limit is None or answer["error"]["param"] == "logprobs"


@pytest.mark.parametrize(
    ("flavour", "settings", "where"),
    [
        ("vllm", {}, lambda answer: (answer["error"]["param"], answer["error"]["type"])),
        ("vllm", {"version": "0.9.2"}, lambda answer: (answer["object"], answer["type"])),
        ("sglang", {}, lambda answer: (answer["object"], answer["type"])),
        ("llama.cpp", {}, lambda answer: (answer["error"]["n_ctx"], answer["error"]["type"])),
        ("generic", {}, lambda answer: (answer["error"]["code"], answer["error"]["type"])),
    ],
)
async def test_overlong(flavour: str, settings: Any, where: Any) -> None:
    """A prompt beyond the context is a 400 in the flavour's own words, and one that just fits is answered."""
    expected = {
        "vllm": ("input_tokens", "BadRequestError"),
        "sglang": ("error", "BadRequestError"),
        "llama.cpp": (64, "exceed_context_size_error"),
        "generic": ("context_length_exceeded", "invalid_request_error"),
    }
    async with serving(flavour, max_model_len=64, **settings) as (_, ask):
        fits, _ = await ask("/v1/completions", body(prompt=ENGINE.text_of(63)))
        status, answer = await ask("/v1/completions", body(prompt=["short", ENGINE.text_of(70)]))
    assert (fits, status) == (200, 400)
    assert where(answer) == (("error", "BadRequestError") if settings else expected[flavour])
    said = json.dumps(answer)
    assert "64 tokens" in said
    assert ("maximum context length is 64 tokens" in said) is (flavour in ("vllm", "generic"))


@pytest.mark.parametrize(("flavour", "status"), [("vllm", 404), ("sglang", 200), ("llama.cpp", 200), ("generic", 404)])
async def test_wrong_model(flavour: str, status: int) -> None:
    """Another model's name is refused by vLLM and gateways; SGLang and llama.cpp never look at it."""
    async with serving(flavour) as (_, ask):
        got, answer = await ask("/v1/completions", body(model="other"))
    assert got == status
    assert "does not exist" in answer["error"]["message"] if status == 404 else answer["model"] == "other"


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_key(flavour: str) -> None:
    """A missing or wrong key is a 401; vLLM alone leaves `/tokenize` open to all."""
    tokens = {"model": MODEL, "prompt": "a", "content": "a"}
    async with serving(flavour, api_key="right", tokenize=True) as (_, ask):
        statuses = [
            (await ask("/v1/completions", body(), **headers))[0]
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer right"})
        ]
        opened, _ = await ask("/tokenize", tokens)
        health, _ = await ask("/health")
    assert (statuses, opened, health) == ([401, 401, 200], 200 if flavour == "vllm" else 401, 200)


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_routes(flavour: str) -> None:
    """Each flavour has its own routes, any of which can be left out; vLLM and SGLang tell the context's length."""
    probes: list[tuple[str, dict[str, Any] | None]] = [
        ("/version", None),
        ("/get_model_info", None),
        ("/props", None),
        ("/tokenize", {"model": MODEL, "prompt": "a", "content": "a"}),
        ("/v1/tokenize", {"prompt": "a"}),
    ]
    has = {
        "vllm": [True, False, False, True, False],
        "sglang": [False, True, False, True, True],
        "llama.cpp": [False, False, True, True, False],
        "generic": [False] * 5,
    }
    async with serving(flavour) as (_, ask):
        found = [(await ask(*probe))[0] for probe in probes]
        _, models = await ask("/v1/models")
        wrong, _ = await ask("/v1/completions")
    async with serving(flavour, models=False, completions=False, chat=False, tokenize=False) as (_, ask):
        gone = [(await ask(path))[0] for path in ("/v1/models", "/v1/completions", "/v1/chat/completions", "/tokenize")]
    assert found == [200 if there else 404 for there in has[flavour]]
    assert models["data"][0]["id"] == MODEL
    assert ("max_model_len" in models["data"][0]) is (flavour in ("vllm", "sglang"))
    assert (wrong, gone) == (404 if flavour == "llama.cpp" else 405, [404] * 4)


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_malformed(flavour: str) -> None:
    """A body that is no JSON, or of the wrong shape, is a 400."""
    async with serving(flavour) as (server, ask), aiohttp.ClientSession() as session:
        declared = {"Content-Type": "application/json"}
        statuses = []
        for data in (b"{", b'{"prompt": "\xff"}'):
            async with session.post(server.url + "/v1/completions", data=data, headers=declared) as response:
                statuses.append(response.status)
        bad = (body(prompt=7), body(prompt=[]), body(logprobs="many"), body(max_tokens=0), {"model": MODEL})
        statuses += [(await ask("/v1/completions", wrong))[0] for wrong in bad]
    assert statuses == [400] * 7


@pytest.mark.parametrize(("flavour", "moved"), [("vllm", False), ("llama.cpp", False), ("sglang", True)])
async def test_bias(flavour: str, moved: bool) -> None:
    """A bias changes the choice everywhere, but only SGLang's log-probabilities."""
    async with serving(flavour) as (_, ask):
        _, answer = await ask("/v1/completions", body(logit_bias={str(NEGATIVE): 50}, logprobs=1))
    choice = answer["choices"][0]
    shown = choice["logprobs"]
    shown = shown["content"][0]["logprob"] if "content" in shown else shown["token_logprobs"][0]
    assert choice["text"] == " negative"
    assert math.exp(shown) == pytest.approx(1.0 if moved else 0.3, abs=1e-3)


# --- vLLM ---


async def test_vllm_logprob_token_ids() -> None:
    """`logprob_token_ids` shows exactly those tokens, unscaled, for each prompt of a request."""
    wanted = [NEGATIVE, NEUTRAL]
    async with serving() as (_, ask):
        more = {"logprob_token_ids": wanted, "logprobs": 2, "return_tokens_as_token_ids": True}
        _, answer = await ask("/v1/completions", body(prompt=[PROMPT, "Other. Sentiment:"], **more))
    for index in range(2):
        top = first_top(answer, index)
        assert list(top) == [f"token_id:{token}" for token in (POSITIVE, NEGATIVE, NEUTRAL)]
        assert math.exp(top[f"token_id:{NEGATIVE}"]) == pytest.approx(0.3, abs=1e-4)
        assert math.exp(top[f"token_id:{NEUTRAL}"]) < 1e-6


@pytest.mark.parametrize(
    ("matched", "more", "status"),
    [
        (False, {}, 400),
        (False, {"logprobs": 2, "logprob_token_ids": [10**6]}, 400),
        (False, {"logprobs": 0}, 200),
        (False, {"logprobs": 50, "logprob_token_ids": list(range(300, 350))}, 200),
        (False, {"logprobs": 129, "logprob_token_ids": list(range(300, 429))}, 400),
        (True, {"logprobs": 0}, 400),
        (True, {"logprobs": 2}, 200),
        (True, {"logprobs": 50, "logprob_token_ids": list(range(300, 350))}, 400),
    ],
)
async def test_vllm_logprob_token_ids_refused(matched: bool, more: dict[str, Any], status: int) -> None:
    """`logprob_token_ids` needs `logprobs`, whose number and limit count for it in some releases only."""
    async with serving(matched_counts=matched) as (_, ask):
        got, answer = await ask("/v1/completions", body(**{"logprob_token_ids": [POSITIVE, NEGATIVE]} | more))
    assert got == status
    if status == 200:
        assert len(first_top(answer)) == len({POSITIVE, *more.get("logprob_token_ids", [POSITIVE, NEGATIVE])})


async def test_vllm_drops_logprob_token_ids() -> None:
    """An older release ignores `logprob_token_ids` in silence and shows the likeliest tokens."""
    async with serving(drops_logprob_token_ids=True) as (_, ask):
        status, answer = await ask("/v1/completions", body(logprob_token_ids=[NEUTRAL], logprobs=1))
    assert (status, list(first_top(answer))) == (200, [" positive"])


@pytest.mark.parametrize(
    ("guided", "field", "heard"),
    [
        (False, "structured_outputs", True),
        (False, "guided_choice", False),
        (True, "structured_outputs", False),
        (True, "guided_choice", True),
    ],
)
async def test_vllm_constraint_fields(guided: bool, field: str, heard: bool) -> None:
    """New releases hear `structured_outputs` alone, old ones `guided_choice` alone; the other is ignored in silence."""
    choices = ["negative", "neutral"]
    value = {"choice": choices} if field == "structured_outputs" else choices
    async with serving(guided=guided) as (_, ask):
        status, answer = await ask("/v1/completions", body(max_tokens=8, **{field: value}))
    assert (status, answer["choices"][0]["text"]) == (200, "negative" if heard else " positive")


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        ({"regex": " (negative|neutral)"}, " negative"),
        ({"json": {"enum": ["negative"]}}, '"negative"'),
        ({"grammar": 'root ::= " " kind\nkind ::= "neutral" | "neg" [a-z]+ # either\n'}, " negative"),
    ],
)
async def test_vllm_constraints(constraint: dict[str, Any], text: str) -> None:
    """Patterns, schemas and grammars constrain the answer."""
    async with serving() as (_, ask):
        _, answer = await ask("/v1/completions", body(max_tokens=30, structured_outputs=constraint))
    assert answer["choices"][0]["text"] == text


async def test_vllm_constrained_logprobs() -> None:
    """Under a constraint log-probabilities are those after the mask, odd pieces of the labels among them."""
    async with serving() as (_, ask):
        constraint = {"choice": [" positive", " neutral"]}
        _, answer = await ask("/v1/completions", body(structured_outputs=constraint, logprobs=20))
    top = first_top(answer)
    assert math.exp(top[" positive"]) == pytest.approx(1.0, abs=1e-3)
    assert {" ", " p"} <= top.keys()
    assert " negative" not in {token for token, value in top.items() if value > -9999.0}


@pytest.mark.parametrize(
    "constraint",
    [{"regex": "("}, {"choice": []}, {"choice": ["a"], "regex": "b"}, {"grammar": "root ::= root"}, {"json": "{"}, {}],
)
async def test_vllm_broken_constraints(constraint: dict[str, Any]) -> None:
    """A constraint that cannot be used is refused, also when a stream was asked for."""
    async with serving() as (_, ask):
        statuses = [
            (await ask("/v1/completions", body(structured_outputs=constraint, stream=stream)))[0]
            for stream in (False, True)
        ]
    assert statuses == [400, 400]


async def test_vllm_allowed_tokens() -> None:
    """`allowed_token_ids` changes the choice, but not the log-probabilities."""
    async with serving() as (_, ask):
        _, answer = await ask("/v1/completions", body(allowed_token_ids=[NEGATIVE, NEUTRAL], logprobs=1))
    assert answer["choices"][0]["text"] == " negative"
    assert {token: math.exp(value) for token, value in first_top(answer).items()} == pytest.approx(
        {" negative": 0.3, " positive": 0.6}, abs=1e-4
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_vllm_echo(stream: bool) -> None:
    """`echo` shows the prompt before the answer and scores its tokens, all but the first."""
    prompt = PROMPT + " negative"
    async with serving() as (_, ask):
        _, answer = await ask("/v1/completions", body(prompt=prompt, echo=True, logprobs=1, stream=stream))
    choice = events(answer)[0]["choices"][0] if stream else answer["choices"][0]
    shown = choice["logprobs"]
    assert choice["text"].startswith(prompt)
    assert shown["tokens"][0] == "<s>"
    assert shown["token_logprobs"][0] is None
    at = shown["tokens"].index(" negative")
    assert math.exp(shown["token_logprobs"][at]) == pytest.approx(0.3, abs=1e-4)
    assert shown["text_offset"] == [len("".join(shown["tokens"][:place])) for place in range(len(shown["tokens"]))]


async def test_vllm_prompt_logprobs() -> None:
    """`prompt_logprobs` shows each token of the prompt by id with its rank, beside the likeliest."""
    async with serving() as (_, ask):
        _, answer = await ask("/v1/completions", body(prompt=PROMPT + " negative", prompt_logprobs=1))
        streaming, _ = await ask("/v1/completions", body(prompt_logprobs=1, stream=True))
    shown = answer["choices"][0]["prompt_logprobs"]
    assert shown[0] is None
    assert list(shown[-1]) == [str(NEGATIVE), str(POSITIVE)]
    own = shown[-1][str(NEGATIVE)]
    assert (own["rank"], own["decoded_token"], round(math.exp(own["logprob"]), 4)) == (2, " negative", 0.3)
    assert streaming == 400


async def test_vllm_characters_of_several_tokens() -> None:
    """A character of several tokens shows with the last of them, and the ones before collapse into one empty text."""
    async with serving() as (_, ask):
        more = {"structured_outputs": {"choice": ["日本", "月"]}, "logprobs": 5, "max_tokens": 9}
        _, answer = await ask("/v1/completions", body(**more))
    shown = answer["choices"][0]["logprobs"]
    assert "".join(shown["tokens"][:-1]) == answer["choices"][0]["text"]
    assert shown["tokens"][:2] == ["", ""]
    assert next(iter(shown["top_logprobs"][0])) == ""


async def test_vllm_stop_tokens() -> None:
    """`stop_token_ids` end an answer and are told by number, and a stop sequence may be kept."""
    engine = ScriptedEngine(" yes, it is")
    comma = engine.encode(",")[0]
    async with serving(engine=engine) as (_, ask):
        _, answer = await ask("/v1/completions", body(stop_token_ids=[comma], max_tokens=9))
        _, kept = await ask("/v1/completions", body(stop=[","], include_stop_str_in_output=True, max_tokens=9))
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (" yes", "stop", comma)
    assert (kept["choices"][0]["text"], kept["choices"][0]["stop_reason"]) == (" yes,", ",")


async def test_vllm_echo_alone() -> None:
    """To echo a prompt alone takes `max_tokens` 0; the prompt shows uncut even where it was cut for the model."""
    async with serving() as (_, ask):
        _, whole = await ask("/v1/completions", body(echo=True, max_tokens=0, logprobs=1, truncate_prompt_tokens=3))
    choice = whole["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    assert (len(choice["logprobs"]["tokens"]), whole["usage"]["completion_tokens"]) == (3, 1)


async def test_vllm_content_type() -> None:
    """A body that is not declared as JSON is refused."""
    async with (
        serving() as (server, _),
        aiohttp.ClientSession() as session,
        session.post(server.url + "/v1/completions", data=json.dumps(body())) as response,
    ):
        answer = await response.json()
    assert (response.status, "Unsupported Media Type" in answer["error"]["message"]) == (400, True)


async def test_vllm_unknown_fields() -> None:
    """Unknown fields are ignored without a word, unless the server is told to refuse them."""
    async with serving() as (_, ask):
        status, _ = await ask("/v1/completions", body(no_such_field=1))
    assert status == 200


async def test_vllm_generative_scoring() -> None:
    """`/generative_scoring` tells the first label's share among the labels, for each item."""
    async with serving() as (server, ask):
        request = {"model": MODEL, "query": "Review: ", "items": ["good. Sentiment:", "bad. Sentiment:"]}
        labels = {"label_token_ids": [NEGATIVE, POSITIVE]}
        _, shares = await ask("/generative_scoring", request | labels)
        _, raw = await ask("/generative_scoring", request | labels | {"apply_softmax": False})
        refused, _ = await ask("/generative_scoring", request | {"label_token_ids": [10**6]})
        absent, _ = await ask("/v1/score", request | labels)
    assert [item["score"] for item in shares["data"]] == pytest.approx([1 / 3] * 2, abs=1e-4)
    assert [item["score"] for item in raw["data"]] == pytest.approx([0.3] * 2, abs=1e-4)
    assert (refused, absent) == (400, 404)
    assert server.counters.generations == 4


async def test_vllm_scoring_cuts() -> None:
    """`/generative_scoring` cuts the end of a prompt that is too long, and nothing but the usage tells."""
    engine = ScriptedEngine(lambda prompt: {" positive" if "fine" in prompt else " negative": 0.9})
    async with serving(engine=engine, max_model_len=64) as (_, ask):
        request = {"items": [PROMPT], "label_token_ids": [POSITIVE, NEGATIVE]}
        _, short = await ask("/generative_scoring", request | {"query": " word"})
        status, cut = await ask("/generative_scoring", request | {"query": ENGINE.text_of(80)})
    assert (status, cut["usage"]["prompt_tokens"]) == (200, 63)
    assert (round(short["data"][0]["score"]), round(cut["data"][0]["score"])) == (1, 0)


async def test_vllm_tokens() -> None:
    """`/tokenize` puts the special token first unless told not to, and renders chats; `/detokenize` undoes it."""
    async with serving(max_model_len=99) as (_, ask):
        _, tokens = await ask("/tokenize", {"model": MODEL, "prompt": PROMPT, "return_token_strs": True})
        _, bare = await ask("/tokenize", {"model": MODEL, "prompt": PROMPT, "add_special_tokens": False})
        _, chat = await ask("/tokenize", {"model": MODEL, "messages": MESSAGES})
        _, text = await ask("/detokenize", {"model": MODEL, "tokens": [*bare["tokens"], 10**6]})
        _, special = await ask("/detokenize", {"model": MODEL, "tokens": tokens["tokens"]})
    assert tokens["tokens"] == [ENGINE.bos, *ENGINE.encode(PROMPT)]
    assert (tokens["count"], tokens["max_model_len"], tokens["token_strs"][0]) == (len(tokens["tokens"]), 99, "<s>")
    assert bare["tokens"] == ENGINE.encode(PROMPT)
    assert chat["tokens"] == ENGINE.encode("<|user|>\nIs it good?\n<|assistant|>\n")
    assert (text, special) == ({"prompt": PROMPT}, {"prompt": f"<s>{PROMPT}"})


async def test_vllm_several_answers() -> None:
    """A seed draws the same answers again, which follow their shares; more than one needs a temperature."""
    async with serving() as (_, ask):
        drawing = {"n": 100, "temperature": 1.0, "seed": 1}
        answers = [(await ask("/v1/completions", body(**drawing)))[1] for _ in range(2)]
        refused, _ = await ask("/v1/completions", body(n=2))
    texts = [[choice["text"] for choice in answer["choices"]] for answer in answers]
    assert texts[0] == texts[1]
    assert texts[0].count(" positive") / 100 == pytest.approx(0.6, abs=0.15)
    assert refused == 400


# --- SGLang ---


async def test_sglang_logprobs_shape() -> None:
    """SGLang knows no text places, and shows the likeliest tokens alone."""
    async with serving("sglang") as (_, ask):
        _, answer = await ask("/v1/completions", body(logprobs=2))
        _, none = await ask("/v1/completions", body(logprobs=0))
    shown = answer["choices"][0]["logprobs"]
    assert (shown["text_offset"], list(first_top(answer))) == ([-1], [" positive", " negative"])
    assert none["choices"][0]["logprobs"]["top_logprobs"] == []


@pytest.mark.parametrize(
    "constraint",
    [{"regex": " (negative|neutral)"}, {"ebnf": 'root ::= " neg" "ative"'}, {"json_schema": '{"const": "negative"}'}],
)
async def test_sglang_constraints(constraint: dict[str, Any]) -> None:
    """`regex`, `ebnf` and `json_schema` are fields of their own; vLLM's are ignored."""
    async with serving("sglang") as (_, ask):
        _, answer = await ask("/v1/completions", body(max_tokens=12, **constraint))
        _, ignored = await ask("/v1/completions", body(structured_outputs={"choice": ["negative"]}))
    assert answer["choices"][0]["text"].strip(' "') == "negative"
    assert ignored["choices"][0]["text"] == " positive"


@pytest.mark.parametrize("item_first", [False, True])
async def test_sglang_score(item_first: bool) -> None:
    """`/v1/score` gives one number for each label and item, shares of the labels only if told to."""
    query, items = ("Review: ", ["a Sentiment:", "b Sentiment:"]) if not item_first else (" Sentiment:", ["a", "b"])
    request = {"query": query, "items": items, "label_token_ids": [POSITIVE, NEGATIVE], "item_first": item_first}
    async with serving("sglang") as (_, ask):
        _, raw = await ask("/v1/score", request)
        _, shares = await ask("/v1/score", request | {"apply_softmax": True})
        missing, _ = await ask("/v1/score", {"query": query, "items": items})
    assert raw["scores"] == [pytest.approx([0.6, 0.3], abs=1e-4)] * 2
    assert shares["scores"] == [pytest.approx([2 / 3, 1 / 3], abs=1e-4)] * 2
    assert missing == 400


@pytest.mark.parametrize(("refuses", "status"), [(False, 200), (True, 400)])
async def test_sglang_unknown_fields(refuses: bool, status: int) -> None:
    """SGLang ignores unknown fields, and refuses them where it is told to."""
    async with serving("sglang", refuses_unknown=refuses) as (_, ask):
        unknown, _ = await ask("/v1/completions", body(logprob_token_ids=[POSITIVE], logprobs=1))
        known, _ = await ask("/v1/completions", body(regex=" negative", return_token_ids=True))
    assert (unknown, known) == (status, 200)


async def test_sglang_tokens() -> None:
    """`/tokenize` takes several texts, and `/detokenize` calls what it gives a text."""
    async with serving("sglang") as (_, ask):
        _, tokens = await ask("/v1/tokenize", {"prompt": ["a", "a b"]})
        _, text = await ask("/detokenize", {"tokens": ENGINE.encode("a b")})
    assert (tokens["count"], text) == ([2, 3], {"text": "a b"})


@pytest.mark.parametrize(("version", "status"), [("0.5.11", 400), ("0.5.12", 200), ("0.5.23", 200)])
async def test_sglang_chat_tokens(version: str, status: int) -> None:
    """From 0.5.12 on `/tokenize` renders chats; `/detokenize` leaves special tokens out unless told not to."""
    async with serving("sglang", version=version) as (_, ask):
        found, chat = await ask("/tokenize", {"messages": MESSAGES})
        _, hidden = await ask("/detokenize", {"tokens": [ENGINE.bos, *ENGINE.encode("a b"), ENGINE.eos]})
        _, shown = await ask(
            "/detokenize", {"tokens": [*ENGINE.encode("a b"), ENGINE.eos], "skip_special_tokens": False}
        )
    assert found == status
    if status == 200:
        assert chat["tokens"] == ENGINE.encode("<|user|>\nIs it good?\n<|assistant|>\n")
    assert (hidden, shown) == ({"text": "a b"}, {"text": "a b</s>"})


# --- llama.cpp and gateways ---


async def test_llama_routes() -> None:
    """llama.cpp's server tokenises `content` without a special token, renders chats, and takes a GBNF grammar."""
    async with serving("llama.cpp") as (_, ask):
        _, tokens = await ask("/tokenize", {"content": "a b", "with_pieces": True})
        _, started = await ask("/tokenize", {"content": "a b", "add_special": True})
        _, chat = await ask("/apply-template", {"messages": MESSAGES})
        _, props = await ask("/props")
        _, answer = await ask("/v1/completions", body(max_tokens=8, grammar='root ::= " negative"', n_probs=2))
    assert [item["piece"] for item in tokens["tokens"]] == ["a", " b"]
    assert started["tokens"] == [ENGINE.bos, *ENGINE.encode("a b")]
    assert chat == {"prompt": "<|user|>\nIs it good?\n<|assistant|>\n"}
    assert props["default_generation_settings"]["n_ctx"] == 2048
    assert answer["choices"][0]["text"] == " negative"
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["id"] == NEGATIVE


@pytest.mark.parametrize("field", ["structured_outputs", "logprob_token_ids", "guided_choice", "regex", "top_k"])
async def test_gateway_refuses(field: str) -> None:
    """A gateway refuses every field that OpenAI does not have, and names it."""
    async with serving("generic") as (_, ask):
        status, answer = await ask("/v1/completions", body(**{field: [1]}))
    assert (status, answer["error"]["param"]) == (400, field)
    assert "Extra inputs are not permitted" in answer["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_no_logprobs(path: str) -> None:
    """A gateway without log-probabilities gives null where they were asked for."""
    more = {"logprobs": True, "top_logprobs": 1} if "chat" in path else {"prompt": PROMPT, "logprobs": 1}
    async with serving("generic", logprobs=False) as (_, ask):
        status, answer = await ask(
            path, {"model": MODEL, "messages": MESSAGES} | more if "chat" in path else body(**more)
        )
    assert (status, answer["choices"][0]["logprobs"]) == (200, None)


# --- trouble ---


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("429", 429),
        ("424", 500),
        ("500", 500),
        ("502", 502),
        ("503", 503),
        ("401", 401),
        ("403", 403),
        ("text_422", 400),
    ],
)
@pytest.mark.parametrize("flavour", ["vllm", "generic"])
async def test_faults(flavour: str, kind: str, status: int) -> None:
    """A fault hits its request, in the flavour's own words where the server fails itself, and the next is answered."""
    async with serving(flavour, faults=Fault(kind)) as (server, ask), aiohttp.ClientSession() as session:
        async with session.post(server.url + "/v1/completions", json=body()) as response:
            text = await response.text()
        again, _ = await ask("/v1/completions", body())
    assert (response.status, again) == (status, 200)
    assert server.counters.by_fault == {kind: 1}
    if status in (429, 500, 400):
        assert json.loads(text)["error"]["message"]


@pytest.mark.parametrize("kind", ["reset_before", "reset_middle", "refuse"])
async def test_cut_connections(kind: str) -> None:
    """A connection can be cut before or in the middle of an answer."""
    async with serving(faults=Fault(kind, seconds=0.05)) as (_, ask):
        with pytest.raises(aiohttp.ClientError):
            await ask("/v1/completions", body())


async def test_retry_after_and_scores() -> None:
    """A busy server may say when to come back, and the scoring routes can fail too."""
    faults = [Fault("429", retry_after=3), Fault("424", path="/v1/score", message="out of memory")]
    async with serving("sglang", faults=faults) as (server, ask), aiohttp.ClientSession() as session:
        async with session.post(server.url + "/v1/completions", json=body()) as response:
            wait = response.headers["Retry-After"]
        status, answer = await ask("/v1/score", {"query": "a", "items": ["b"], "label_token_ids": [POSITIVE]})
    assert (wait, status, answer["message"]) == ("3", 500, "out of memory")


async def test_limited_concurrency() -> None:
    """Requests beyond the limit are refused with 429, and a client that leaves frees its place."""
    async with serving(max_concurrent_requests=2, latency_per_request=0.1) as (server, ask):
        answers = await asyncio.gather(*(ask("/v1/completions", body()) for _ in range(4)))
        leaving = asyncio.ensure_future(ask("/v1/completions", body(stream=True)))
        await asyncio.sleep(0.03)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await asyncio.sleep(0.03)
        after = await asyncio.gather(*(ask("/v1/completions", body()) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 200, 429, 429]
    assert server.peak_permits == 2
    assert [status for status, _ in after] == [200, 200]


class Slow(ScriptedEngine):
    """A model that has to be asked on a worker thread."""

    blocking = True


@pytest.mark.parametrize("stream", [False, True])
async def test_blocking_engine(stream: bool) -> None:
    """A model that takes its time is asked elsewhere, and the server answers health checks meanwhile."""

    def think(prompt: str) -> str:
        time.sleep(0.2)
        return " yes"

    async with serving(engine=Slow(think)) as (_, ask):
        asked = asyncio.ensure_future(ask("/v1/completions", body(max_tokens=1, stream=stream)))
        await asyncio.sleep(0.05)
        health, _ = await ask("/health")
        done = asked.done()
        status, answer = await asked
    text = events(answer)[0]["choices"][0]["text"] if stream else answer["choices"][0]["text"]
    assert (health, done, status, text) == (200, False, 200, " yes")


def test_fixture(openai_server: Callable[..., OpenAIServer]) -> None:
    """The fixture starts servers that take what `OpenAIServer` takes, with counters that can be set back."""
    server = openai_server("sglang", max_model_len=128)
    server.restart(down_for=0.0, wait=True)
    assert (server.options.max_model_len, server.counters.restarts) == (128, 1)
    server.reset()
    assert (server.requests, server.counters.restarts, server.healthy) == (0, 0, True)


@pytest.mark.parametrize(
    ("flavour", "settings"),
    [("tgi", {}), ("sglang", {"guided": True}), ("generic", {"old_errors": True}), ("vllm", {"max_model_len": 1})],
)
def test_wrong_settings(flavour: Any, settings: dict[str, Any]) -> None:
    """A server that cannot be is refused before it starts."""
    with pytest.raises(ValueError, match=r"Flavour|vLLM|room"):
        OpenAIServer(flavour, **settings)
