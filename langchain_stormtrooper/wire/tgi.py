"""The protocol of Text Generation Inference (TGI) 1.0.3 to 3.3.7: `/generate`, `/generate_stream`, `/info`.

Sans-IO, see the package docstring. The facts: greedy parameters are always sent, since a server from 1.4.0 on samples
when `parameters` is missing; a 422 means an overlong prompt only if its message says so; error bodies are JSON with
`error` and `error_type`, or plain text when the request never reached the handler; `/generate_stream` answers 200 and
reports errors as events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
    StormtrooperError,
)
from langchain_stormtrooper.wire import Generated, Response, as_count, encode, encode_text, to_json
from langchain_stormtrooper.wire.overlong import TGI_INPUT, TGI_TOTAL
from langchain_stormtrooper.wire.tgi_refusals import explain

_INCOMPLETE = ("incomplete_generation", "incomplete_generation_stream")
_STATUSES = {"validation": 422, "overloaded": 429, "generation": 424, **dict.fromkeys(_INCOMPLETE, 500)}


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What `/info` tells; every field but the model id is None where the server does not say.

    Attributes:
        model_id: Name of the served model; None where the server does not say.
        version: Version string of the server, not always its release tag.
        max_input_tokens: Longest allowed prompt in tokens, inclusive.
        max_total_tokens: Largest sum of prompt and new tokens, inclusive.
        max_concurrent_requests: Requests queued or running, of all clients together.
        model_sha: Revision of the served model.
    """

    model_id: str | None = None
    version: str | None = None
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None
    max_concurrent_requests: int | None = None
    model_sha: str | None = None


def generate_body(prompt: str, *, max_new_tokens: int, stop: Sequence[str] = ()) -> bytes:
    """The body of a greedy `/generate` or `/generate_stream` request."""
    return encode_text(f'{{"inputs":{to_json(prompt)},"parameters":{_parameters(max_new_tokens, tuple(stop))}}}')


@lru_cache(maxsize=64)
def _parameters(max_new_tokens: int, stop: tuple[str, ...]) -> str:
    """The part of a body that is the same for all rows of a task.

    Raises:
        ConfigurationError: A stop string is empty, which every text ends with.
    """
    if "" in stop:
        raise ConfigurationError("A stop string is empty: leave it out of `stop=`.")
    return to_json(
        {"do_sample": False, "max_new_tokens": max_new_tokens, "return_full_text": False, "stop": list(stop)}
    )


def parse_generate(response: Response) -> Generated:
    """The outcome of a `/generate` request.

    Raises:
        OverlongInputError: The server refused the prompt for its length.
        AuthenticationError: 401 or 403.
        ConfigurationError: The server refused the settings, which are the same for every row.
        EndpointNotFoundError: 404 or 405.
        RequestFailedError: Any other error, or an answer that is not what the protocol promises.
    """
    if response.status != 200:
        raise parse_error(response)
    return Generated(
        text=_generated_text(unwrapped(response.json())),
        prompt_tokens=as_count(response.headers.get("x-prompt-tokens")),
        generated_tokens=as_count(response.headers.get("x-generated-tokens")),
    )


def unwrapped(answer: Any) -> Any:
    """The object in a list of one: the root route, which some gateways map to /generate, answers so."""
    return answer[0] if isinstance(answer, list) and len(answer) == 1 else answer


def _generated_text(answer: Any) -> str:
    text = answer.get("generated_text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise ResponseFormatError(
            "The server's answer has no `generated_text`: is it a Text Generation Inference server?", status=200
        )
    return text


def parse_event(data: str) -> tuple[str, Generated | None]:
    """One event of `/generate_stream`: the token's text, and the whole answer if it is the last event.

    Args:
        data: What follows `data:` in the event.

    Raises:
        StormtrooperError: The event reports an error (as `parse_generate`), or is not what the protocol promises.
    """
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise ResponseFormatError("The server's stream has an event that is not JSON.", status=200) from None
    if not isinstance(event, dict):
        raise ResponseFormatError("The server's stream has an event that is not an object.", status=200)
    if "error" in event:
        raise _error(200, event)
    token = event.get("token")
    token = token if isinstance(token, dict) else {}
    text = token.get("text")
    if not isinstance(text, str):
        raise ResponseFormatError("The server's stream has an event without a token.", status=200)
    piece = "" if token.get("special") is True else text
    if event.get("generated_text") is None:
        return piece, None
    details = event.get("details")
    details = details if isinstance(details, dict) else {}
    finish_reason = details.get("finish_reason")
    return piece, Generated(
        text=_generated_text(event),
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        prompt_tokens=as_count(details.get("input_length")),
        generated_tokens=as_count(details.get("generated_tokens")),
    )


def event_status(data: str) -> int | None:
    """The status of the HTTP error that an event of `/generate_stream` stands for; None if it is no error we know.

    Args:
        data: What follows `data:` in the event.
    """
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    kind = event.get("error_type") if isinstance(event, dict) and "error" in event else None
    return _STATUSES.get(kind) if isinstance(kind, str) else None


def parse_info(response: Response) -> ServerInfo:
    """What `/info` tells, under the names of any version; empty where the server has no such route.

    Raises:
        StormtrooperError: The answer is neither: a gateway's, or spoilt.
    """
    if response.status in (404, 405):
        return ServerInfo()
    if response.status != 200:
        raise parse_error(response)
    info = response.json()
    if not isinstance(info, dict):
        raise ResponseFormatError("The server's /info answer is no object.", status=200)

    def text(key: str) -> str | None:
        value = info.get(key)
        return value if isinstance(value, str) else None

    return ServerInfo(
        model_id=text("model_id"),
        version=text("version"),
        max_input_tokens=as_count(info.get("max_input_tokens") or info.get("max_input_length")),
        max_total_tokens=as_count(info.get("max_total_tokens")),
        max_concurrent_requests=as_count(info.get("max_concurrent_requests")),
        model_sha=text("model_sha"),
    )


def neutralize_images(prompt: str) -> str:
    """The prompt with a space in every `![`: a vision model's server fetches what `![...](...)` names (2.0.0)."""
    # Every one, image or not: telling them apart would mean to look ahead from each, in quadratic time.
    return prompt.replace("![", "! [")


def tokenize_body(prompt: str) -> bytes:
    """The body of a `/tokenize` request (1.4.0). Without parameters: some versions would apply a `truncate`."""
    return encode({"inputs": prompt})


def parse_tokenize(response: Response) -> tuple[int, ...] | None:
    """Ids of the tokens, with the special ones that the server adds; None where the server has no fast tokenizer.

    Their number is what the server compares with its limits; texts and offsets are wrong in some versions.

    Raises:
        StormtrooperError: As `parse_generate`, but for 404, which older servers and slow tokenizers answer.
    """
    if response.status == 404:
        return None
    if response.status != 200:
        raise parse_error(response)
    tokens = response.json()
    if not isinstance(tokens, list):
        tokens = [None]
    ids = tuple(token["id"] for token in tokens if isinstance(token, dict) and isinstance(token.get("id"), int))
    if len(ids) < len(tokens):
        raise ResponseFormatError("The server's /tokenize answer is no list of tokens.", status=200)
    return ids


def prompt_limit(info: ServerInfo, max_new_tokens: int) -> int | None:
    """Tokens that a prompt may have on a server; None if it does not tell.

    From 3.1.1 on the server counts at most 1,024 of the tokens to generate.

    Raises:
        ConfigurationError: The tokens to generate leave no room for any prompt.
    """
    limits = [] if info.max_input_tokens is None else [info.max_input_tokens]
    if info.max_total_tokens is not None:
        clips = (read_version(info.version) or ()) >= (3, 1, 1)
        counted = min(max_new_tokens, 1024) if clips else max_new_tokens
        if counted >= info.max_total_tokens:
            raise _no_room(info.max_total_tokens)
        limits.append(info.max_total_tokens - counted)
    return min(limits, default=None)


@lru_cache(maxsize=64)
def read_version(version: str | None) -> tuple[int, ...] | None:
    """The version that `/info` tells as numbers, None if it does not; not always the release's tag ("2.3.1-dev0")."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version or "")
    return tuple(map(int, found.groups())) if found else None


# What /chat_tokenize shows at the start, and /generate adds itself.
_BOS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")


def chat_tokenize_body(message: str) -> bytes:
    """The body of a `/chat_tokenize` request (2.3.0) for one message of a user."""
    return encode({"model": "tgi", "messages": [{"role": "user", "content": message}]})


def parse_chat_tokenize(response: Response) -> str | None:
    """The chat as the model's template renders it, ready for `/generate`; None where the server cannot.

    Raises:
        ResponseFormatError: The answer is not JSON.
    """
    if response.status != 200:
        if response.status == 422 and not response.is_json:
            raise ResponseFormatError("The server refused the chat as invalid (422).", status=422)
        return None
    answer = response.json()
    rendered = answer.get("templated_text") if isinstance(answer, dict) else None
    if not isinstance(rendered, str):
        return None
    for bos in _BOS:
        rendered = rendered.removeprefix(bos)
    return rendered


def parse_error(response: Response) -> StormtrooperError:
    """The error that an answer with another status than 200 stands for."""
    if response.status in (401, 403):
        return AuthenticationError(
            f"The server refused the credentials ({response.status}): set `api_key=` or TGI_API_KEY to its key."
        )
    if response.status in (404, 405):
        return EndpointNotFoundError(
            f"The server has no such endpoint ({response.status}): is `base_url` the root of a Text Generation "
            "Inference server, without a path such as /generate or /v1? For vLLM, SGLang and llama.cpp's server take "
            "OpenAICompletions."
        )
    if 300 <= response.status < 400:
        return EndpointNotFoundError(
            f"The server redirects elsewhere ({response.status}). Redirects are not followed, so that prompts and keys "
            "go only to the host you named: set `base_url` to the final address."
        )
    return _error(response.status, response.json_or_none())


def _error(status: int, body: Any) -> StormtrooperError:
    """The error behind an error object, from an HTTP answer or an event."""
    message = body.get("error") if isinstance(body, dict) else None
    kind = body.get("error_type") if isinstance(body, dict) else None
    if isinstance(message, str) and status in (200, 413, 422):
        refusal = _overlong(message)
        if refusal is not None:
            return refusal
    if status == 413:
        return OverlongInputError("The request has more bytes than the server reads (413): shorten the text.")
    if isinstance(message, str) and kind == "validation" and status in (200, 422):
        refused = explain(message)
        if refused is not None:
            return refused
    # Any other message of the server is left out: a validation error may quote the request.
    if status == 422 or (status == 200 and kind == "validation"):
        return RequestFailedError("The server refused the request as invalid (422).", status=422)
    if status == 429 or kind == "overloaded":
        return RequestFailedError(
            "The server is overloaded (429) and stayed so through all retries.", status=429, retryable=True
        )
    if status == 424 or kind == "generation":
        return RequestFailedError("The model failed while generating (424).", status=424, retryable=True)
    if kind in _INCOMPLETE:
        return RequestFailedError("The server ended the generation early (500).", status=500, retryable=True)
    if status == 200:
        return RequestFailedError("The server reported an error in its stream.", status=200)
    return RequestFailedError(f"The server answered {status}.", status=status, retryable=status in (502, 503, 504))


def _overlong(message: str) -> OverlongInputError | ConfigurationError | None:
    if found := TGI_TOTAL.search(message):
        if int(found["new"]) >= int(found["all"]):
            return _no_room(int(found["all"]))
        tokens, limit = int(found["tokens"]), int(found["all"]) - int(found["new"])
    elif found := TGI_INPUT.search(message):
        tokens, limit = int(found["tokens"]), int(found["limit"])
    else:
        return None
    return overlong(tokens, limit)


def _no_room(limit: int) -> ConfigurationError:
    """The error for tokens to generate that fill the server's limit on prompt and answer by themselves."""
    return ConfigurationError(
        "The tokens to generate leave no room for any prompt: lower `max_new_tokens=` below the server's limit of "
        f"{limit} tokens, or start the server with a larger --max-total-tokens."
    )


def overlong(tokens: int, limit: int) -> OverlongInputError:
    """The error for a prompt with more tokens than the server takes."""
    return OverlongInputError(
        f"The prompt has {tokens} tokens, the server takes at most {limit}: shorten the text, or start the server with "
        "a larger --max-input-tokens and --max-total-tokens.",
        tokens=tokens,
        limit=limit,
    )


def retries_allowed(response: Response) -> int | None:
    """How often a request may be repeated after this answer; None means as often as the caller likes, 0 never.

    Overload and gateway errors pass; a 424 may be a neighbour's fault in the server's batch, so it is worth two more
    tries; everything else would fail again.
    """
    if response.status in (429, 502, 503, 504):
        return None
    if response.status == 424:
        return 2
    if response.status == 500:
        body = response.json_or_none()
        if isinstance(body, dict) and body.get("error_type") in _INCOMPLETE:
            return None
    return 0
