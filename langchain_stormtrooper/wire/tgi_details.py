"""What TGI's `details` tell about a generation: chosen tokens, alternatives, and scores of the prompt.

Sans-IO, see the package docstring; used by `probing`, and by whoever scores on a TGI server. A null log-probability
means that it is not a number or infinite. Lists of alternatives may hold more entries than asked for (ties) or fewer (a
masked vocabulary).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_stormtrooper.errors import ResponseFormatError
from langchain_stormtrooper.wire import Response, as_count, encode
from langchain_stormtrooper.wire.details import Details, NoDetailsError, Token
from langchain_stormtrooper.wire.tgi import parse_error, unwrapped


def details_body(
    prompt: str,
    *,
    max_new_tokens: int,
    top_n_tokens: int | None = None,
    prefill: bool = False,
    grammar: str | None = None,
) -> bytes:
    """The body of a greedy `/generate` request with details.

    Args:
        prompt: The prompt.
        max_new_tokens: Tokens to generate at most.
        top_n_tokens: Alternatives wanted per step; servers take 5 unless told otherwise.
        prefill: Whether scores of the prompt are wanted; such a request bypasses the server's prefix cache.
        grammar: A pattern of `grammar.pattern`; ignored without a word by servers up to 1.4.0 and by some later ones.
    """
    parameters: dict[str, Any] = {
        "do_sample": False,
        "max_new_tokens": max_new_tokens,
        "return_full_text": False,
        "details": True,
        "decoder_input_details": prefill,
    }
    if top_n_tokens is not None:
        parameters["top_n_tokens"] = top_n_tokens
    if grammar is not None:
        parameters["grammar"] = {"type": "regex", "value": grammar}
    return encode({"inputs": prompt, "parameters": parameters})


def parse_details(response: Response) -> Details:
    """The outcome of a request with details.

    Raises:
        NoDetailsError: The server shows none.
        StormtrooperError: As `tgi.parse_generate`; what is no answer of TGI's is a `ResponseFormatError`.
    """
    if response.status == 422 and not response.is_json:
        # Said before any handler read the request: nothing of what was asked for is judged by that.
        raise ResponseFormatError("The server refused the request as invalid (422).", status=422)
    if response.status != 200:
        raise parse_error(response)
    answer = unwrapped(response.json())
    details = answer.get("details") if isinstance(answer, dict) else None
    text = answer.get("generated_text") if isinstance(answer, dict) else None
    if isinstance(text, str) and details is None:
        raise NoDetailsError("The server's answer has no `details`.", status=200)
    if not isinstance(details, dict) or not isinstance(text, str):
        raise ResponseFormatError("The server's answer has no text or no `details`.", status=200)
    return Details(
        text=text,
        tokens=_tokens(details.get("tokens")),
        top_tokens=tuple(_tokens(step) for step in _sequence(details.get("top_tokens"))),
        prefill=_tokens(details.get("prefill")),
        prompt_tokens=as_count(response.headers.get("x-prompt-tokens")),
    )


def _sequence(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ResponseFormatError("The server's details hold something else than a list of tokens.", status=200)
    return value


def _tokens(value: Any) -> tuple[Token, ...]:
    return tuple(_token(item) for item in _sequence(value))


def _token(item: Any) -> Token:
    if isinstance(item, Mapping):
        number, text, logprob = item.get("id"), item.get("text"), item.get("logprob")
        is_score = logprob is None or (isinstance(logprob, int | float) and not isinstance(logprob, bool))
        if isinstance(number, int) and not isinstance(number, bool) and isinstance(text, str) and is_score:
            # A score must be a number to compute with; JSON's NaN and Infinity, which Python reads, are none.
            finite = logprob if logprob is not None and abs(logprob) < 1e300 else None
            return Token(number, text, None if finite is None else float(finite), item.get("special") is True)
    raise ResponseFormatError("The server's details hold something else than tokens.", status=200)
