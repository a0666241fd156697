"""The protocol of OpenAI-compatible servers: `/v1/completions`, `/v1/chat/completions`, `/v1/models`, `/tokenize`.

Sans-IO, see the package docstring. The facts: sampling is on unless `temperature` is 0; errors are an object `error`
with `message`, `type`, `param` and `code`, in older vLLM that object itself, in some gateways `detail` or no JSON at
all; a 400 means an overlong prompt only if it says so; a stream ends with `[DONE]`; fields that a server does not know
are dropped without a word by some and refused by others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from langchain_stormtrooper.wire import Generated, Response, as_count, encode
from langchain_stormtrooper.wire.overlong import overlong, read_overlong

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
DONE = "[DONE]"
_TOO_MANY_NEW = re.compile(r"max_tokens=\d+ cannot be greater than max_model_len=\d+", re.ASCII)
_NO_MODEL = "NotFoundError"
"""What vLLM calls it; a route that does not exist has an error without a type."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a server offers.

    Attributes:
        id: Its name, which requests must give.
        owner: Who the server says owns it, which names the kind of server: "vllm", "sglang", "llamacpp"; None where it
            does not say.
        max_tokens: Tokens that a prompt and its answer may have together; None where it does not say.
    """

    id: str
    owner: str | None = None
    max_tokens: int | None = None


def completion_body(
    model: str,
    prompt: str | Sequence[str | Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    stream: bool = False,
    **extra: Any,
) -> bytes:
    """The body of a greedy `/v1/completions` request.

    Args:
        model: The model's name.
        prompt: A text, or several, each as a text or as token ids.
        max_new_tokens: Tokens to generate at most.
        stop: Texts at which generation ends.
        stream: Whether the answer comes in pieces.
        **extra: Further fields.
    """
    return encode({"model": model, "prompt": prompt, **_greedy(max_new_tokens, stop, stream), **extra})


def chat_body(
    model: str, message: str, *, max_new_tokens: int, stop: Sequence[str] = (), stream: bool = False, **extra: Any
) -> bytes:
    """The body of a greedy `/v1/chat/completions` request for one message of a user; otherwise as `completion_body`."""
    messages = [{"role": "user", "content": message}]
    return encode({"model": model, "messages": messages, **_greedy(max_new_tokens, stop, stream), **extra})


def _greedy(max_new_tokens: int, stop: Sequence[str], stream: bool) -> dict[str, Any]:
    # A temperature of 0 makes `top_p` and its like void, and TGI refuses a `top_p` of 1.
    settings: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": 0, "stream": stream}
    return {**settings, "stop": list(stop)} if stop else settings


def parse_completion(response: Response) -> Generated:
    """The outcome of a request for one prompt, completed or as a chat.

    Raises:
        OverlongInputError: The server refused the prompt for its length.
        AuthenticationError: 401 or 403.
        ConfigurationError: There is no such model.
        EndpointNotFoundError: 404 or 405.
        RequestFailedError: Any other error, or an answer that is not what the protocol promises.
    """
    answer = read_answer(response)
    choice = read_choices(answer)[0]
    usage = answer.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    reason = choice.get("finish_reason")
    return Generated(
        text=_text(choice),
        finish_reason=reason if isinstance(reason, str) else None,
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        generated_tokens=as_count(usage.get("completion_tokens")),
    )


def read_answer(response: Response) -> Mapping[str, Any]:
    """The object that a server answered with.

    Raises:
        StormtrooperError: As `parse_completion`.
    """
    if response.status != 200:
        raise parse_error(response)
    answer = response.json()
    if not isinstance(answer, dict):
        raise ResponseFormatError("The server's answer is not a JSON object.", status=200)
    return answer


def read_choices(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of an answer, at least one, in the order of the prompts."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ResponseFormatError(
            "The server's answer has no `choices`: is it an OpenAI-compatible server?", status=200
        )
    if all(isinstance(choice.get("index"), int) for choice in choices):
        return sorted(choices, key=lambda choice: choice["index"])
    return choices


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    # A message without content: all that was generated is a thought, or nothing.
    if text is None and isinstance(message, dict):
        return ""
    if not isinstance(text, str):
        raise ResponseFormatError("The server's answer has a choice without a text.", status=200)
    return text


def parse_event(data: str) -> str | None:
    """The text of one event of a stream; None if it is the last one.

    Args:
        data: What follows `data:` in the event.

    Raises:
        StormtrooperError: The event reports an error (as `parse_completion`), or is not what the protocol promises.
    """
    if data.strip() == DONE:
        return None
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise ResponseFormatError("The server's stream has an event that is not a JSON object.", status=200)
    if "error" in event or event.get("object") == "error":
        raise _error(_status(event) or 200, event)
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise ResponseFormatError("The server's stream has an event without `choices`.", status=200)
    choice = choices[0] if choices else {}  # the last but one may hold the counts of tokens alone
    delta = choice.get("delta") if isinstance(choice, dict) else None
    piece = (
        delta.get("content") if isinstance(delta, dict) else choice.get("text") if isinstance(choice, dict) else None
    )
    if piece is not None and not isinstance(piece, str):
        raise ResponseFormatError("The server's stream has a piece that is no text.", status=200)
    return piece or ""


def event_status(data: str) -> int | None:
    """The status of the HTTP error that an event of a stream stands for; None if it is no error."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_error = isinstance(event, dict) and ("error" in event or event.get("object") == "error")
    return _status(event) if is_error else None


def _status(event: Mapping[str, Any]) -> int | None:
    code = _described(event).get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else None


def parse_models(response: Response) -> tuple[Model, ...]:
    """The models that `/v1/models` lists; none where the server has no such route.

    Raises:
        StormtrooperError: The answer is neither: a gateway's, or spoilt.
    """
    if response.status in (404, 405, 501):
        return ()
    listed = read_answer(response).get("data")
    if not isinstance(listed, list):
        raise ResponseFormatError("The server's /v1/models answer has no list of models.", status=200)
    models: list[Model] = []
    for entry in listed:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            owner = entry.get("owned_by")
            models.append(
                Model(entry["id"], owner if isinstance(owner, str) else None, as_count(entry.get("max_model_len")))
            )
    return tuple(models)


def tokenize_body(model: str, text: str, *, start: bool) -> bytes:
    """The body of a `/tokenize` request (vLLM, SGLang).

    Args:
        model: The model's name.
        text: The text.
        start: Whether the model's start token, if it wants one, is put before it.
    """
    return encode({"model": model, "prompt": text, "add_special_tokens": start})


def chat_tokenize_body(model: str, message: str) -> bytes:
    """The body of a `/tokenize` request for a user's message, rendered as for a chat (vLLM, SGLang from 0.5.12)."""
    # By default the header of the answer follows and no special token is added; SGLang refuses to be told so for some
    # models.
    return encode({"model": model, "messages": [{"role": "user", "content": message}]})


def parse_tokenize(response: Response) -> tuple[int, ...] | None:
    """Token ids from a `/tokenize` answer; None where the server has no such route.

    Raises:
        StormtrooperError: As `parse_completion`.
    """
    if response.status in (404, 405, 501):
        return None
    tokens = read_answer(response).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise ResponseFormatError("The server's /tokenize answer has no token ids.", status=200)
    return tuple(tokens)


def detokenize_body(model: str, tokens: Sequence[int]) -> bytes:
    """The body of a `/detokenize` request (vLLM, SGLang), for a text with all special tokens."""
    # SGLang leaves them out unless told not to; vLLM never does.
    return encode({"model": model, "tokens": list(tokens), "skip_special_tokens": False})


def parse_detokenize(response: Response) -> str | None:
    """The text from a `/detokenize` answer; None where the server has no such route."""
    if response.status in (404, 405, 501):
        return None
    answer = read_answer(response)
    text = answer.get("prompt", answer.get("text"))
    return text if isinstance(text, str) else None


def parse_error(response: Response) -> StormtrooperError:
    """The error that an answer stands for."""
    return _error(response.status, response.json_or_none())


def _described(body: Any) -> Mapping[str, Any]:
    """The object that describes an error, wherever a server puts it."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _error(status: int, body: Any) -> StormtrooperError:
    error = _described(body)
    message, kind = error.get("message", error.get("detail")), error.get("type")
    message = message if isinstance(message, str) else ""
    if status in (401, 403):
        return AuthenticationError(
            f"The server refuses the key ({status}): check `api_key=` or OPENAI_COMPATIBLE_API_KEY."
        )
    if status in (200, 400, 413, 422, 500):
        refusal = _refusal_for_length(error, message)
        if refusal is not None:
            return refusal
    if status == 400 and _TOO_MANY_NEW.search(message):
        return ConfigurationError(
            "The tokens to generate are more than the model's context holds (400): lower `max_new_tokens=`."
        )
    if status == 422 and "`temperature` must be strictly positive" in message:
        return ConfigurationError(
            "This server always samples over /v1 (TGI before 2.0.4), so that no answer could be relied on: use "
            "`TextGenerationInference`."
        )
    if status == 413:
        return OverlongInputError("The request has more bytes than the server reads (413): shorten the text.")
    names_model = error.get("param") == "model" or error.get("code") == "model_not_found" or kind == _NO_MODEL
    if status == 404 and names_model:
        return ConfigurationError(
            "The server has no model of that name (404): set `model=` to one that /v1/models lists, or leave it out."
        )
    if status in (404, 405):
        return EndpointNotFoundError(
            f"The server has no such route ({status}): check `base_url=`, or take `api='chat'` for a server that has "
            "/v1/chat/completions alone."
        )
    # The server's own words are left out: they may quote the request.
    if status in (400, 422):
        return RequestFailedError(f"The server refused the request as invalid ({status}).", status=status)
    if status == 429:
        return RequestFailedError(
            "The server is overloaded (429) and stayed so through all retries.", status=429, retryable=True
        )
    return RequestFailedError(f"The server answered {status}.", status=status, retryable=status in (502, 503, 504))


def _refusal_for_length(error: Mapping[str, Any], message: str) -> OverlongInputError | None:
    refusal = read_overlong(message)
    if refusal is not None and refusal.tokens is not None:
        return refusal
    if error.get("type") == "exceed_context_size_error":
        limit = as_count(error.get("n_ctx"))
        return overlong(as_count(error.get("n_prompt_tokens")), None if limit is None else limit - 1)
    if error.get("code") == "context_length_exceeded" or error.get("param") == "input_tokens":
        return overlong(None, None)
    return refusal


def retries_allowed(response: Response) -> int | None:
    """How often a request may be repeated after this answer; None means as often as the caller likes, 0 never."""
    return None if response.status in (429, 502, 503, 504) else 0
