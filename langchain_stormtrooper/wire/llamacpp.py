"""The protocol of llama.cpp's server: `/completion`, `/tokenize`, `/detokenize`, `/apply-template`.

Sans-IO, see the package docstring. Prompts are sent as token ids, since the server would read special tokens out of
a text. Probabilities of chosen tokens come from one generated token with an equal bias on each of them: the bias
lifts them above all others and cancels among them, so that the result is exactly the model's distribution renormalized
over the chosen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError, ResponseFormatError, StormtrooperError
from langchain_stormtrooper.wire import Generated, Response, as_count, encode

_BIAS = 80.0
"""More than any gap between logits, less than what float32 cannot hold beside them."""

_DECOY = 50.0
"""More than any label is likely to be above the decoy, and little enough that the labels stay above zero below it."""

_GREEDY = {"temperature": 0.0, "samplers": ["temperature"], "cache_prompt": True}


def tokenize_body(text: str, *, special: bool, start: bool) -> bytes:
    """The body of a `/tokenize` request.

    Args:
        text: The text.
        special: Whether the names of special tokens in it become those tokens.
        start: Whether the model's start token, if it wants one, is put before it.
    """
    return encode({"content": text, "parse_special": special, "add_special": start})


def parse_tokenize(response: Response) -> tuple[int, ...]:
    """Token ids from a `/tokenize` answer."""
    tokens = _object(response).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise ResponseFormatError("The server's /tokenize answer has no token ids.", status=200)
    return tuple(tokens)


def detokenize_body(tokens: Sequence[int]) -> bytes:
    """The body of a `/detokenize` request."""
    return encode({"tokens": list(tokens)})


def parse_detokenize(response: Response) -> str:
    """The text from a `/detokenize` answer."""
    content = _object(response).get("content")
    if not isinstance(content, str):
        raise ResponseFormatError("The server's /detokenize answer has no text.", status=200)
    return content


def generate_body(tokens: Sequence[int], *, max_new_tokens: int, stop: Sequence[str], stream: bool = False) -> bytes:
    """The body of a greedy `/completion` request."""
    return encode(
        {**_GREEDY, "prompt": list(tokens), "n_predict": max_new_tokens, "stop": list(stop), "stream": stream}
    )


def parse_generate(response: Response) -> Generated:
    """The outcome of a `/completion` request.

    Raises:
        OverlongInputError: The prompt does not fit the context.
        RequestFailedError: Any other error, or an answer that is not what the protocol promises.
    """
    return _generated(_object(response))


def _generated(answer: Mapping[str, Any]) -> Generated:
    text, reason = answer.get("content"), answer.get("stop_type")
    if not isinstance(text, str):
        raise ResponseFormatError("The server's answer has no `content`: is it a llama.cpp server?", status=200)
    return Generated(
        text=text,
        finish_reason=reason if isinstance(reason, str) else None,
        prompt_tokens=as_count(answer.get("tokens_evaluated")),
        generated_tokens=as_count(answer.get("tokens_predicted")),
    )


def parse_event(data: str) -> str:
    """The text of one event of a streamed `/completion`."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise ResponseFormatError("The server's stream has an event that is not a JSON object.", status=200)
    if "error" in event:
        raise _error(200, event)
    return _generated(event).text


def grammar(answers: Sequence[str], ended: Collection[str] = ()) -> str:
    """A grammar (GBNF) that matches exactly the answers.

    Args:
        answers: What may be generated, with a leading space where the prompt makes one natural. The model must be able
            to write each of them: where no token can follow, llama.cpp ends the whole process.
        ended: Those that start another and may be followed by a line break, with which many models end an answer.
    """
    return "root ::= " + " | ".join(
        f'"{_literal(answer)}"' + (r' "\n"?' if answer in ended else "") for answer in answers
    )


def _literal(answer: str) -> str:
    # Everything but plain ASCII as a code point: no quote, line break or byte can end the literal.
    return "".join(mark if " " <= mark <= "~" and mark not in '"\\[]' else f"\\U{ord(mark):08X}" for mark in answer)


def constrain_body(tokens: Sequence[int], answers: Sequence[str], ended: Collection[str] = ()) -> bytes:
    """The body of a greedy `/completion` request whose answer is one of those given.

    Under a grammar the server takes odd ways through the vocabulary: an answer may have a token for every byte.
    Arguments as in `grammar`.
    """
    longest = max(len(answer.encode()) for answer in answers)
    return encode(
        {**_GREEDY, "prompt": list(tokens), "n_predict": longest + 1, "stop": [], "grammar": grammar(answers, ended)}
    )


def branch_body(tokens: Sequence[int], children: Sequence[int], decoy: int | None = None) -> bytes:
    """The body of a `/completion` request for the probabilities of some next tokens.

    Args:
        tokens: The prompt.
        children: The tokens.
        decoy: Another token that shall be generated in their place, far above them. The server shows nothing for a
            token that is only a part of a character, such as the first byte of one.
    """
    bias = [[token, _BIAS] for token in children] + ([] if decoy is None else [[decoy, _BIAS + _DECOY]])
    return encode(
        {
            "prompt": list(tokens),
            "n_predict": 1,
            "temperature": 1.0,
            "samplers": ["temperature"],
            "logit_bias": bias,
            "n_probs": len(bias),
            "post_sampling_probs": True,
            "cache_prompt": True,
        }
    )


def shows_branch(response: Response) -> bool:
    """Whether there are probabilities at all: none are shown where a part of a character was generated."""
    return bool(_object(response).get("completion_probabilities"))


def parse_branch(response: Response, children: Sequence[int], decoy: int | None = None) -> dict[int, float]:
    """Probabilities of the chosen next tokens, renormalized over them; arguments as in `branch_body`.

    Raises:
        ResponseFormatError: The answer does not hold them: the server dropped a parameter, or is another.
    """
    answer = _object(response)
    try:
        listed = {entry["id"]: float(entry["prob"]) for entry in answer["completion_probabilities"][0]["top_probs"]}
        chosen = {token: listed.get(token, 0.0) for token in children}
        total = math.fsum(chosen.values())
        biased = total if decoy is None else total + listed.get(decoy, 0.0)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise ResponseFormatError("The server's answer has no probabilities of next tokens.", status=200) from None
    # The biased tokens have all the probability there is; anything else means that the bias was not applied.
    if not 0.99 <= biased <= 1.01 or min(chosen.values()) < 0 or not total > 0:
        raise ResponseFormatError("The server did not restrict the next token to the labels.", status=200)
    return {token: probability / total for token, probability in chosen.items()}


def parse_eos(response: Response) -> str:
    """The text of the token that ends a generation, from a `/props` answer; empty if the model has none."""
    token = _object(response).get("eos_token")
    if not isinstance(token, str):
        raise ResponseFormatError("The server's /props answer does not name the model's end token.", status=200)
    return token


def parse_n_ctx(response: Response) -> int | None:
    """Tokens of the context that a prompt and its answer share, from a `/props` answer; None if there is no such."""
    if response.status != 200:
        return None
    settings = _object(response).get("default_generation_settings")
    return as_count(settings.get("n_ctx")) if isinstance(settings, dict) else None


def apply_template_body(message: str) -> bytes:
    """The body of an `/apply-template` request for one message of a user."""
    return encode({"messages": [{"role": "user", "content": message}]})


def parse_apply_template(response: Response) -> str | None:
    """The chat as the model's template renders it; None if the model has none."""
    if response.status != 200:
        return None
    rendered = _object(response).get("prompt")
    return rendered if isinstance(rendered, str) else None


def _object(response: Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ResponseFormatError:
        if response.status == 200:
            raise
        answer = {}
    if response.status != 200:
        raise _error(response.status, answer)
    if not isinstance(answer, dict):
        raise ResponseFormatError("The server's answer is not a JSON object.", status=200)
    return answer


def _error(status: int, answer: Any) -> StormtrooperError:
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    if error.get("type") == "exceed_context_size_error":
        return overlong(as_count(error.get("n_prompt_tokens")), as_count(error.get("n_ctx")))
    return RequestFailedError(f"llama.cpp answered {status}.", status=status)


def overlong(tokens: int | None, n_ctx: int | None) -> OverlongInputError:
    """The error for a prompt that fills the context.

    Args:
        tokens: Tokens of the prompt.
        n_ctx: Tokens of the context, which must hold an answer as well.
    """
    return OverlongInputError(
        f"The prompt has {tokens} tokens, the model's context {n_ctx}: shorten the text, start the server with a "
        "larger --ctx-size, or, with `LlamaCpp`, raise `n_ctx=`.",
        tokens=tokens,
        limit=None if n_ctx is None else n_ctx - 1,
    )


def retries_allowed(response: Response) -> int | None:
    """None without bound for a server that is still loading (503), else 0: it is ours alone and fails for a reason."""
    return None if response.status == 503 else 0
