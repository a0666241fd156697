"""Generate answers and score prompts, with log-probabilities as each flavour reports them.

vLLM reports what the model and the grammar say, whatever `logit_bias` and `allowed_token_ids` do to the choice; SGLang
and gateways report what is left after the bias (and SGLang after the temperature). Everything about HTTP and JSON is
elsewhere (`front`, `shapes`). It models no batches, no cache and no penalties.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.choosing import rounded
from langchain_stormtrooper.testing.decoding import REPLACEMENT, prompt_predictions
from langchain_stormtrooper.testing.guides import GrammarError, Guides
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_stormtrooper.testing.engine import Prediction
    from langchain_stormtrooper.testing.guides import RegexGuide
    from langchain_stormtrooper.testing.openai.asks import Ask, Prompt
    from langchain_stormtrooper.testing.openai.options import Options


@dataclass(frozen=True, slots=True)
class Shown:
    """One token with its log-probability and its rank, 1 for the likeliest."""

    token: int
    logprob: float
    rank: int


@dataclass(slots=True)
class Step:
    """One token of an answer or a prompt.

    Attributes:
        token: Its id.
        text: What it adds to the text; empty inside a character and for special tokens.
        chosen: Its own log-probability; None for the first token of a prompt.
        top: The alternatives to show, likeliest first, or in the order in which they were asked for.
        pending: The bytes before it of a character that is not complete yet.
    """

    token: int
    text: str = ""
    chosen: Shown | None = None
    top: list[Shown] = field(default_factory=list)
    pending: bytes = b""


@dataclass(slots=True)
class Generation:
    """One answer, filled while its steps are made.

    Attributes:
        steps: Its tokens, the last one that ends it included.
        text: What was said, without the stop sequence.
        finish_reason: "stop" or "length".
        matched: The stop sequence or stop token that ended it, if one did.
        ended: Whether the end of the text did.
    """

    steps: list[Step] = field(default_factory=list)
    text: str = ""
    finish_reason: str = "length"
    matched: str | int | None = None
    ended: bool = False


class Generator:
    """Runs requests on an engine.

    Args:
        options: The server's settings.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._engine = options.engine
        self._vocabulary = options.engine.vocabulary
        self._guides = Guides(self._vocabulary, options.engine.eos)

    def guide(self, ask: Ask) -> RegexGuide | None:
        """Compile the constraint of a request.

        Raises:
            ApiError: If the grammar engine refuses it.
        """
        if ask.pattern is None:
            return None
        try:
            return self._guides.regex(ask.pattern)
        except GrammarError as error:
            raise invalid(f"Grammar error: {error}") from error

    def run(self, ask: Ask, prompt: Prompt, into: Generation, draw: int = 0) -> Iterator[Step]:
        """Generate one answer, yielding each token as soon as it is chosen.

        Args:
            ask: The request.
            prompt: The prompt, one of the request's.
            into: Where to put the tokens, the text and the reason for stopping.
            draw: Which of the answers to the same prompt this is.
        """
        seed = None if ask.seed is None else ask.seed + draw
        rng = None if ask.greedy else random.Random(seed)  # noqa: S311 - repeatable draws, not secrets
        guide, eos = self.guide(ask), self._engine.eos
        state = guide.start() if guide else None
        generated: list[int] = []
        pending = b""
        limit = min(ask.max_tokens, self._options.max_model_len - len(prompt.ids))
        while len(generated) < limit:
            prediction = self._engine.next_token(prompt.text, generated)
            allowed = guide.allowed(state) if guide and state else None
            step = self._step(ask, prediction, allowed, rng, keeps_on=len(generated) < ask.min_tokens)
            generated.append(step.token)
            into.steps.append(step)
            step.pending = pending
            pending += self._vocabulary[step.token]
            said = pending.decode("utf-8", "replace")
            if said and not said.endswith(REPLACEMENT):
                step.text, pending = said, b""
                into.text += said
            if step.token == eos and not ask.ignore_eos:
                into.finish_reason, into.ended = "stop", True
            elif step.token in ask.stop_ids:
                into.finish_reason, into.matched = "stop", step.token
                into.text = into.text if ask.keep_stop else into.text.removesuffix(step.text)
            else:
                self._stop(ask, into)
            if guide and state:
                state = guide.advance(state, step.token)
            yield step
            if into.finish_reason == "stop":
                return

    @staticmethod
    def _stop(ask: Ask, into: Generation) -> None:
        """End the answer at the first stop sequence, which is no part of it unless it is to be kept."""
        places = [(place, stop) for stop in ask.stop if stop and (place := into.text.find(stop)) >= 0]
        if places:
            place, stop = min(places)
            into.matched, into.finish_reason = stop, "stop"
            into.text = into.text[: place + len(stop) if ask.keep_stop else place]

    def _step(
        self,
        ask: Ask,
        prediction: Prediction,
        allowed: frozenset[int] | None,
        rng: random.Random | None,
        *,
        keeps_on: bool,
    ) -> Step:
        """Choose one token and note what is to be shown of it."""
        options = self._options
        said = Distribution(prediction, allowed, options)
        chosen = said
        if ask.bias or ask.allowed is not None or keeps_on:
            chosen = said.changed(ask.bias, ask.allowed, without=options.engine.eos if keeps_on else None)
            if options.bias_shows:
                said = chosen
        if rng is None:
            token = chosen.best()
        else:
            warmed = chosen.warmed(ask.temperature)
            token = warmed.draw(rng)
            if options.flavour is Flavour.SGLANG:
                said = warmed
        step = Step(token)
        if ask.logprobs is not None:
            step.chosen = said.shown(token)
            if ask.logprob_token_ids is not None:
                step.top = [said.shown(wanted) for wanted in ask.logprob_token_ids]
            else:
                step.top = said.top(len(self._vocabulary) if ask.logprobs < 0 else ask.logprobs)
        return step

    def score(self, prompt: Prompt, count: int) -> list[Step]:
        """Score the tokens of a prompt, showing so many alternatives for each; the first has no score."""
        steps: list[Step] = []
        pending = b""
        for token, prediction in zip(prompt.ids, prompt_predictions(self._engine, prompt.ids), strict=True):
            step = Step(token, self.piece(token), pending=pending)
            pending += self._vocabulary[token]
            if not pending.decode("utf-8", "replace").endswith(REPLACEMENT):
                pending = b""
            if prediction is not None:
                said = Distribution(prediction, None, self._options)
                step.chosen = said.shown(token)
                step.top = said.top(len(self._vocabulary) if count < 0 else count)
            steps.append(step)
        return steps

    def following(self, prompt: Prompt) -> Distribution:
        """Return the distribution of the token after a prompt."""
        return Distribution(self._engine.next_token(prompt.text, ()), None, self._options)

    def piece(self, token: int) -> str:
        """Return the text of a token on its own; special tokens have their name."""
        text = self._vocabulary[token]
        return text.decode("utf-8", "replace") if text else self._engine.name(token)


class Distribution:
    """The probabilities of the next token, after masks and biases.

    Args:
        prediction: What the model says.
        allowed: The only tokens possible, whose probabilities are rescaled to add up to 1; None for all.
        options: The server's settings.
    """

    def __init__(self, prediction: Prediction, allowed: frozenset[int] | None, options: Options) -> None:
        self._prediction = prediction
        self._options = options
        self._size = len(options.engine.vocabulary)
        self._masked: dict[int, float] | None = None
        if allowed is not None:
            weights = {token: prediction.probability(token) for token in allowed}
            self._masked = (
                _scaled(weights) if math.fsum(weights.values()) > 0 else dict.fromkeys(weights, 1 / len(weights))
            )

    def probability(self, token: int) -> float:
        """Return the probability of a token."""
        return self._prediction.probability(token) if self._masked is None else self._masked.get(token, 0.0)

    def logprob(self, token: int) -> float:
        """Return the rounded log-probability of a token; the floor if it is impossible."""
        value, floor = self.probability(token), self._options.floor
        return max(rounded(math.log(value), self._options.precision), floor) if value > 0 else floor

    def changed(self, bias: dict[int, float], only: frozenset[int] | None, without: int | None = None) -> Distribution:
        """Return the distribution with scores raised or lowered, or with only some of its tokens."""
        weights = {
            token: self.probability(token) * math.exp(bias.get(token, 0.0))
            for token in (range(self._size) if only is None else only)
            if token != without
        }
        return self._of(weights)

    def warmed(self, temperature: float) -> Distribution:
        """Return the distribution at a temperature."""
        logs = {token: math.log(p) / temperature for token in range(self._size) if (p := self.probability(token)) > 0}
        highest = max(logs.values())
        return self._of({token: math.exp(value - highest) for token, value in logs.items()})

    def _of(self, weights: dict[int, float]) -> Distribution:
        result = Distribution(self._prediction, None, self._options)
        result._masked = _scaled(weights)
        return result

    def best(self) -> int:
        """Return the likeliest token."""
        return self._ranked(1)[0]

    def draw(self, rng: random.Random) -> int:
        """Draw a token."""
        tokens = range(self._size)
        return rng.choices(tokens, [self.probability(token) for token in tokens])[0]

    def top(self, count: int) -> list[Shown]:
        """Return the likeliest tokens; where a mask leaves fewer, impossible ones fill the list, as in vLLM."""
        ranked = self._ranked(count)
        return [Shown(token, self.logprob(token), rank) for rank, token in enumerate(ranked, 1)]

    def shown(self, token: int) -> Shown:
        """Return one token with its rank among all."""
        own = self.probability(token)
        if self._masked is not None:
            return Shown(token, self.logprob(token), 1 + sum(value > own for value in self._masked.values()))
        key = ("rank", token)
        rank = self._prediction.memo.get(key)
        if rank is None:
            rank = 1 + sum(self.probability(other) > own for other in range(self._size))
            self._prediction.memo[key] = rank
        return Shown(token, self.logprob(token), rank)

    def _ranked(self, count: int) -> list[int]:
        """Return the likeliest tokens, equal ones by id."""
        if self._masked is None:
            key = ("likeliest", count)
            found: list[int] | None = self._prediction.memo.get(key)
            if found is None:
                found = self._prediction.memo[key] = self._sorted(range(self._size))[:count]
            return found
        ranked = self._sorted(self._masked)
        if len(ranked) < count:
            ranked += [token for token in range(self._size) if token not in self._masked][: count - len(ranked)]
        return ranked[:count]

    def _sorted(self, tokens: range | dict[int, float]) -> list[int]:
        return sorted(tokens, key=lambda token: (-self.probability(token), token))


def _scaled(weights: dict[int, float]) -> dict[int, float]:
    total = math.fsum(weights.values())
    return {token: value / total for token, value in weights.items()} if total > 0 else weights
