"""Log-probabilities that foreign generations carry, and what they say of a label. Pure.

Only what the LLM was asked for by its user is there to be read (`ChatOpenAI(logprobs=True, top_logprobs=5)`); nothing
is guessed where something is missing. `answering.foreign` is the only caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.outputs import Generation

from langchain_stormtrooper.normalizing import normalize

_MOST = 4_096
"""Tokens that are looked at."""


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token.

    Attributes:
        text: Its text.
        logprob: Natural logarithm of its probability.
        alternatives: The likeliest tokens in its place, with theirs.
    """

    text: str
    logprob: float
    alternatives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sureness:
    """How sure a model was of a label that it generated.

    Attributes:
        confidence: Probability of the label: among the labels if all are known, else of the tokens that spell it.
        probabilities: Probabilities of all labels, in their order, summing to 1; None if one is not known.
        covered_mass: What the labels had of the model's probability; None if one is not known.
    """

    confidence: float
    probabilities: dict[str, float] | None = None
    covered_mass: float | None = None


def read_tokens(generation: Generation) -> list[Token]:
    """The tokens of a generation with their log-probabilities; none if it carries none that can be read."""
    places: list[Any] = [generation.generation_info]
    message = getattr(generation, "message", None)
    places.append(getattr(message, "response_metadata", None))
    for place in places:
        if not isinstance(place, Mapping):
            continue
        found: Any = place.get("logprobs") or place.get("details")
        if tokens := _read(found):
            return tokens
    return []


def _read(found: Any) -> list[Token]:
    """The shapes there are: OpenAI's chats (and lists without the dict around them), its completions, TGI's details."""
    rows: Any = found
    if isinstance(found, Mapping):
        rows = found.get("content")
        if texts := _list(found.get("tokens")):
            scores = [*_list(found.get("token_logprobs")), *[None] * len(texts)]
            tops = [*_list(found.get("top_logprobs") or found.get("top_tokens")), *[None] * len(texts)]
            rows = [
                {**(text if isinstance(text, Mapping) else {"token": text, "logprob": score}), "top_logprobs": top}
                for text, score, top in zip(texts, scores, tops, strict=False)
            ]
    tokens = [_token(row) for row in _list(rows)[:_MOST]]
    return [token for token in tokens if token is not None] if all(tokens) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _token(row: Any) -> Token | None:
    named = _named(row)
    if named is None:
        return None
    top = row.get("top_logprobs")
    if isinstance(top, Mapping):
        pairs = [_named({"token": text, "logprob": logprob}) for text, logprob in top.items()]
    else:
        pairs = [_named(one) for one in top] if isinstance(top, list) else []
    return Token(*named, dict(pair for pair in pairs if pair is not None))


def _named(row: Any) -> tuple[str, float] | None:
    if not isinstance(row, Mapping):
        return None
    text, logprob = row.get("token", row.get("text")), row.get("logprob")
    is_number = isinstance(logprob, int | float) and not isinstance(logprob, bool) and not math.isnan(logprob)
    return (text, min(0.0, float(logprob))) if isinstance(text, str) and is_number else None  # type: ignore[arg-type]


def sureness(tokens: Sequence[Token], label: str, names: Sequence[str]) -> Sureness | None:
    """How sure the model was of the label that was found in its answer.

    Args:
        tokens: The generated tokens.
        label: The label.
        names: All labels.

    Returns:
        None where the answer does not begin with the label: what it says instead has no probability that is the
        label's.
    """
    answer = _after_thinking(tokens)
    wanted, text = normalize(label), ""
    for number, token in enumerate(answer, 1):
        text += token.text
        # A label that goes on, such as "sport news" after "sport", is another.
        if normalize(text) == wanted and not _goes_on(answer[number:], text, label, names):
            path = math.exp(math.fsum(one.logprob for one in answer[:number]))
            return _among_labels(answer, label, names) or Sureness(path)
    return None


def _goes_on(rest: Sequence[Token], text: str, label: str, names: Sequence[str]) -> bool:
    longer = [normalize(name) for name in names if name != label and normalize(name).startswith(normalize(label))]
    whole = normalize(text + "".join(token.text for token in rest))
    return any(whole.startswith(name) for name in longer)


def _after_thinking(tokens: Sequence[Token]) -> list[Token]:
    """The tokens from the first that is no white space on, after what the model thought."""
    text, start = "", 0
    for number, token in enumerate(tokens, 1):
        text = (text + token.text)[-40:]
        if text.rstrip().endswith("</think>"):
            start = number
    while start < len(tokens) and not tokens[start].text.strip():
        start += 1
    return list(tokens[start:])


def _among_labels(answer: Sequence[Token], label: str, names: Sequence[str]) -> Sureness | None:
    """Probabilities of all labels, where each has first tokens of its own among the alternatives."""
    first = answer[0]
    # Some servers show alternatives without the space before them: the generated one is among them, spelled otherwise.
    others = {
        text: logprob
        for text, logprob in first.alternatives.items()
        if text.strip() != first.text.strip() or not math.isclose(logprob, first.logprob, abs_tol=1e-6)
    }
    listed = {**others, first.text: first.logprob}
    mass = dict.fromkeys(names, 0.0)
    for text, logprob in listed.items():
        start = text.strip().casefold()
        fitting = [name for name in names if start and name.casefold().startswith(start)]
        if len(fitting) > 1:
            return None
        for name in fitting:
            mass[name] += math.exp(logprob)
    covered = math.fsum(mass.values())
    if not all(mass.values()) or not math.isfinite(covered):
        return None
    probabilities = {name: value / covered for name, value in mass.items()}
    return Sureness(min(1.0, probabilities[label]), probabilities, min(1.0, covered))
