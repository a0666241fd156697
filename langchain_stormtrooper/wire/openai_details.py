"""What OpenAI-compatible servers tell of tokens: log-probabilities, chosen tokens, and answers within given ones.

Sans-IO, see the package docstring. Completions list tokens and alternatives by text, vLLM on demand by id
(`return_tokens_as_token_ids`); chats list them as objects. What a server has dropped without a word is found out by
reading what it did.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_stormtrooper.errors import ResponseFormatError
from langchain_stormtrooper.wire import Response, as_count, encode
from langchain_stormtrooper.wire.details import Details, NoDetailsError, Token
from langchain_stormtrooper.wire.openai import (
    CHAT,
    chat_body,
    completion_body,
    parse_completion,
    read_answer,
    read_choices,
)

Constraint: TypeAlias = Literal["structured_outputs", "regex", "guided_regex"]
"""The field that holds a pattern for the answer: of vLLM, of SGLang, and of vLLM before 0.12."""

SCORE = "/v1/score"

END_TEXTS = (
    *("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<eos>", "<|end|>"),
    *("<|return|>", "<turn|>", "[EOS]"),
)
"""How models write the token that ends an answer."""

_ID = "token_id:"
_FIRST_MADE_UP = 10**9


class Vocabulary:
    """Numbers for tokens of which a server shows the text alone."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, token: str) -> int:
        """The token's id where the server shows it, else a number that stands for its text."""
        if token.startswith(_ID) and token[len(_ID) :].isdecimal():
            return int(token[len(_ID) :])
        return self._numbers.setdefault(token, _FIRST_MADE_UP + len(self._numbers))

    def learn(self, token: str, number: int) -> None:
        """Take note of the id that a token has by its server's word."""
        self._numbers[token] = number


def shows_ids(details: Details) -> bool:
    """Whether tokens came with their ids."""
    return bool(details.tokens) and all(token.text.startswith(_ID) for token in details.tokens)


def details_body(
    path: str,
    model: str,
    prompt: str,
    *,
    max_new_tokens: int,
    top_n_tokens: int | None = None,
    prefill: bool = False,
    grammar: str | None = None,
    constraint: Constraint | None = None,
    ids: bool = False,
) -> bytes:
    """The body of a greedy request with log-probabilities.

    Args:
        path: The route, `COMPLETIONS` or `CHAT`.
        model: The model's name.
        prompt: The prompt.
        max_new_tokens: Tokens to generate at most.
        top_n_tokens: Alternatives wanted per step.
        prefill: Whether scores of the prompt are wanted (completions only).
        grammar: A pattern of `grammar.pattern` that the answer must match.
        constraint: The field in which the server takes it.
        ids: Whether tokens are to be shown by id (vLLM).
    """
    extra: dict[str, Any] = {}
    if grammar is not None and constraint is not None:
        extra[constraint] = {"regex": grammar} if constraint == "structured_outputs" else grammar
    if ids:
        extra["return_tokens_as_token_ids"] = True
    if path == CHAT:
        extra |= {"logprobs": True, "top_logprobs": top_n_tokens or 0}
        return chat_body(model, prompt, max_new_tokens=max_new_tokens, **extra)
    if prefill:
        extra["echo"] = True
    return completion_body(model, prompt, max_new_tokens=max_new_tokens, logprobs=top_n_tokens or 0, **extra)


def parse_details(response: Response, vocabulary: Vocabulary, ends: Collection[int] = ()) -> Details:
    """The outcome of a request with log-probabilities.

    Args:
        response: The answer.
        vocabulary: Numbers the tokens.
        ends: Tokens that end an answer.

    Raises:
        NoDetailsError: The server shows no log-probabilities.
        StormtrooperError: As `openai.parse_completion`.
    """
    generated = parse_completion(response)
    logprobs = read_choices(read_answer(response))[0].get("logprobs")
    if not isinstance(logprobs, dict):
        raise NoDetailsError("The server's answer has no `logprobs`.", status=200)
    steps = _chat_steps(logprobs) if "content" in logprobs else _completion_steps(logprobs)
    tokens = [_token(token, logprob, vocabulary, ends) for token, logprob, _ in steps]
    top = [tuple(_token(token, p, vocabulary, ends) for token, p in listed.items()) for _, _, listed in steps]
    # With `echo`, the prompt's tokens come first.
    own = len(tokens) if generated.generated_tokens is None else min(len(tokens), generated.generated_tokens)
    before = len(tokens) - own
    return Details(
        text=generated.text,
        tokens=tuple(tokens[before:]),
        top_tokens=tuple(step for step in top[before:] if step),
        prefill=tuple(tokens[:before]),
        prompt_tokens=generated.prompt_tokens,
    )


_Step: TypeAlias = tuple[str, float | None, Mapping[str, float | None]]
"""A token, its log-probability, and the likeliest tokens in its place."""


def _completion_steps(logprobs: Mapping[str, Any]) -> list[_Step]:
    tokens, chosen = logprobs.get("tokens"), logprobs.get("token_logprobs")
    top = logprobs.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(chosen, list) or len(chosen) != len(tokens):
        raise ResponseFormatError("The server's `logprobs` hold no tokens with their scores.", status=200)
    listed = top if isinstance(top, list) and len(top) == len(tokens) else [None] * len(tokens)
    return [
        (_is_text(token), _score(score), {_is_text(key): _score(value) for key, value in (step or {}).items()})
        for token, score, step in zip(tokens, chosen, listed, strict=True)
        if step is None or isinstance(step, dict) or _refuse()
    ]


def _chat_steps(logprobs: Mapping[str, Any]) -> list[_Step]:
    def read(entry: Any) -> tuple[str, float | None]:
        return (_is_text(entry.get("token")), _score(entry.get("logprob"))) if isinstance(entry, dict) else _refuse()

    content = logprobs.get("content")
    steps: list[_Step] = []
    for entry in content if isinstance(content, list) else ():
        token, score = read(entry)
        top = entry.get("top_logprobs")
        steps.append((token, score, dict(map(read, top if isinstance(top, list) else ()))))
    return steps


def _refuse() -> Any:
    raise ResponseFormatError("The server's `logprobs` hold something else than tokens.", status=200)


def _is_text(value: Any) -> str:
    return value if isinstance(value, str) else _refuse()


def _score(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        _refuse()
    # JSON's NaN and Infinity, which Python reads, are no numbers to compute with; -9999 stands for minus infinity.
    return float(value) if value is not None and abs(value) < 9000 else None


def _token(token: str, logprob: float | None, vocabulary: Vocabulary, ends: Collection[int]) -> Token:
    number = vocabulary.number(token)
    return Token(number, token, logprob, special=number in ends or token in END_TEXTS)


def chosen_body(model: str, prompts: Sequence[str | Sequence[int]], tokens: Sequence[int]) -> bytes:
    """The body of a `/v1/completions` request for the log-probabilities of some next tokens (vLLM).

    Args:
        model: The model's name.
        prompts: The prompts, as texts or as token ids.
        tokens: The tokens, the same for all prompts.
    """
    return completion_body(
        model,
        list(prompts),
        max_new_tokens=1,
        logprobs=len(tokens),  # refused unless it is their number
        logprob_token_ids=list(tokens),
        return_tokens_as_token_ids=True,
    )


def parse_chosen(response: Response, prompts: int, tokens: Sequence[int]) -> tuple[list[dict[int, float]], int | None]:
    """Probabilities of the chosen next tokens after each prompt, and the tokens of all prompts together.

    Raises:
        ResponseFormatError: The answer does not hold them: the server has dropped a field.
    """
    answer = read_answer(response)
    choices = read_choices(answer)
    vocabulary = Vocabulary()
    shares: list[dict[int, float]] = []
    for choice in choices:
        logprobs = choice.get("logprobs")
        steps = _completion_steps(logprobs) if isinstance(logprobs, dict) else []
        listed = {vocabulary.number(token): score for token, score in steps[0][2].items()} if steps else {}
        if not set(tokens) <= set(listed):
            raise ResponseFormatError("The server does not show the tokens that were asked for.", status=200)
        shares.append({token: _probability(listed[token]) for token in tokens})
    if len(shares) != prompts:
        raise ResponseFormatError("The server did not answer every prompt of the request.", status=200)
    usage = answer.get("usage")
    return shares, as_count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None


def score_body(model: str, prompt: Sequence[int], branches: Sequence[Sequence[int]], tokens: Sequence[int]) -> bytes:
    """The body of a `/v1/score` request for the probabilities of some next tokens (SGLang).

    Args:
        model: The model's name.
        prompt: Token ids of the prompt, at least one.
        branches: Token ids that follow it, one list for each answer wanted.
        tokens: The tokens, the same for all.
    """
    # No item may be empty, so each starts with the prompt's last token.
    *query, last = prompt
    return encode(
        {
            "model": model,
            "query": query,
            "items": [[last, *branch] for branch in branches],
            "label_token_ids": list(tokens),
            "apply_softmax": False,
            "item_first": False,
        }
    )


def parse_score(response: Response, branches: int, tokens: Sequence[int]) -> list[dict[int, float]]:
    """Probabilities from a `/v1/score` answer, for each branch.

    Raises:
        ResponseFormatError: The answer does not hold them.
    """
    scores = read_answer(response).get("scores")
    rows = scores if isinstance(scores, list) else []
    if len(rows) != branches or not all(isinstance(row, list) and len(row) == len(tokens) for row in rows):
        raise ResponseFormatError("The server's /v1/score answer has no score for every token.", status=200)
    found = [{token: _score(score) for token, score in zip(tokens, row, strict=True)} for row in rows]
    if any(score is None or not 0 <= score <= 1 for row in found for score in row.values()):
        raise ResponseFormatError("The server's /v1/score answer has scores that are no probabilities.", status=200)
    return [{token: score or 0.0 for token, score in row.items()} for row in found]


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(min(0.0, logprob))
