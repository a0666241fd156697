"""A language model that says what its script says, with known probabilities.

Tests and laptops use it behind `TGIServer`: for each prompt a rule gives one answer, or a distribution over answers, or
the next token step by step, and from that follow exact next-token probabilities after any text generated so far,
however it is cut into tokens. It is deterministic, needs no weights, and never looks at the clock or the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from langchain_stormtrooper.testing.engine import Background, Prediction
from langchain_stormtrooper.testing.tokenizer import BOS, EOS, PAD, ToyTokenizer

Answers = Mapping[str, float]
"""Probability of each whole answer; what is missing to 1 goes to `ScriptedEngine.other`."""

_OTHER: Answers = {" I think so": 0.5, "\n\n": 0.3, " The": 0.2}
_MEMO_LIMIT = 20_000


@dataclass(frozen=True)
class NextTokens:
    """A rule that gives the next token directly.

    Attributes:
        step: Called with the text generated so far; returns a probability for each possible next token, written as its
            text. The empty text stands for the end of the answer. The numbers are rescaled to add up to 1.
    """

    step: Callable[[str], Mapping[str, float]]


Rule = str | Answers | NextTokens
"""One answer for certain, a distribution over answers, or the next token step by step."""

Rules = Mapping[str, Rule] | Callable[[str], Rule]
"""Rules by exact prompt, or a function from prompt to rule."""


def when_contains(rules: Mapping[str, Rule], default: Rule = " ok") -> Callable[[str], Rule]:
    """Make rules that look for a word in the prompt.

    Args:
        rules: Rule by text to look for; the first that is found decides.
        default: The rule for all other prompts.
    """

    def choose(prompt: str) -> Rule:
        return next((rule for needle, rule in rules.items() if needle in prompt), default)

    return choose


class _Story:
    """The answers of one rule as bytes, with the predictions already made from them."""

    def __init__(self, written: Answers, bare: float, tokenizer: ToyTokenizer) -> None:
        self.written = written
        spelled: dict[str, float] = {}
        for text, weight in written.items():
            spaced = text.startswith(" ") and len(text) > 1
            spelled[text] = spelled.get(text, 0.0) + (weight * (1 - bare) if spaced else weight)
            if spaced:
                spelled[text[1:]] = spelled.get(text[1:], 0.0) + weight * bare
        self.answers = tuple((text.encode(), weight) for text, weight in spelled.items() if weight > 0)
        self._paths = [((*tokenizer.encode(text), EOS), weight) for text, weight in spelled.items() if weight > 0]
        self._tokenizer = tokenizer
        self.memo: dict[tuple[int, ...], Prediction] = {}

    def following(self, path: tuple[int, ...]) -> list[tuple[int, float]]:
        """Return what comes next in each answer that agrees with the tokens so far, with the answer's weight."""
        length = len(path)
        natural = [(tokens[length], weight) for tokens, weight in self._paths if tokens[:length] == path]
        if natural:
            return natural
        # An odd spelling, which a grammar may force: go on from the text, whatever it was made of.
        said = self._tokenizer.decode_bytes(path)
        rests = [(text[len(said) :], weight) for text, weight in self.answers if text.startswith(said)]
        return [(self._tokenizer.encode_bytes(rest)[0] if rest else EOS, weight) for rest, weight in rests]


class ScriptedEngine:
    """A deterministic model with a toy vocabulary and known probabilities.

    At every position the next token is, with probability 1 - `noise`, the next one of an answer that agrees with the
    tokens so far (each answer as likely as its share; if none was cut into these very tokens, those that agree with
    their text), and with probability `noise` drawn from fixed background weights that give every token of the
    vocabulary a chance, as a real model does. Once no answer agrees, all is background.

    Args:
        rules: Rule by exact prompt, a function from prompt to rule, or one text as the answer to everything.
        default: The rule for prompts that a mapping does not hold.
        words: Extra words that are to be single tokens.
        other: How the mass missing from `Answers` is spread, as shares of it.
        noise: The chance of leaving the script at each step; at the default, `distribution` is exact to 1e-6.
        bare: The share of each answer with a leading space that is spelled without it, as real models do now and then.
            It keeps answers in proportion where a grammar or a prompt leaves no room for the space.
        answer_after: The text that ends a prompt, such as "Answer:". What follows its last occurrence counts as
            generated already, which makes the scores of prompt tokens (`decoder_input_details`) those of an answer.
            With a mapping this is not needed: the longest known prompt that starts a text is found.
    """

    bos: int | None = BOS
    eos: int = EOS
    pad: int = PAD
    blocking = False

    def __init__(
        self,
        rules: Rules | str | None = None,
        *,
        default: Rule = " ok",
        words: Iterable[str] = (),
        other: Answers = _OTHER,
        noise: float = 1e-6,
        bare: float = 1e-4,
        answer_after: str | None = None,
    ) -> None:
        self.tokenizer = ToyTokenizer(words)
        if isinstance(rules, str):
            default, rules = rules, None
        self._rules: Rules = {} if rules is None else rules
        self._default = default
        self._other = other
        self._noise = noise
        self._bare = bare
        self._answer_after = answer_after
        ranked = [EOS, *range(3 + 256, len(self.tokenizer)), *range(3, 3 + 256), BOS, PAD]
        self._background = Background.zipf(ranked)
        self._lost = Prediction({}, 1.0, self._background)
        self._stories: dict[object, _Story] = {}
        self._last: tuple[str | None, Rule, str] = (None, "", "")

    @property
    def vocabulary(self) -> Sequence[bytes]:
        """The bytes of each token."""
        return self.tokenizer.vocabulary

    def encode(self, text: str) -> list[int]:
        """Cut a text into token ids, without special tokens."""
        return self.tokenizer.encode(text)

    def name(self, token: int) -> str:
        """Write one token as its vocabulary entry."""
        return self.tokenizer.name(token)

    def next_token(self, prompt: str, generated: Sequence[int]) -> Prediction:
        """Predict the token that follows a prompt and the tokens generated so far."""
        last = self._last
        if last[0] != prompt:
            # Every step of one generation asks for the same prompt.
            self._last = last = (prompt, *self._find(prompt))
        _, rule, said = last
        if EOS in generated:
            return self._lost
        path = (*self.encode(said), *generated) if said else tuple(generated)
        if isinstance(rule, NextTokens):
            steps = rule.step(self.tokenizer.decode(path))
            return self._predict((self.encode(text)[0] if text else EOS, p) for text, p in steps.items())
        story = self._story(rule)
        found = story.memo.get(path)
        if found is None:
            found = self._predict(story.following(path))
            if len(story.memo) < _MEMO_LIMIT:
                story.memo[path] = found
        return found

    def distribution(self, prompt: str, labels: Sequence[str] | None = None) -> dict[str, float]:
        """Return the true probabilities of a prompt's answers.

        Args:
            prompt: The prompt.
            labels: If given, only these answers, rescaled to add up to 1; a leading or trailing space makes no
                difference. If not, all answers as the rule has them, with `other` filled in.

        Raises:
            TypeError: If the prompt has a `NextTokens` rule, whose answers are not listed anywhere.
            ValueError: If the rule gives none of the labels any probability.
        """
        rule, said = self._find(prompt)
        if isinstance(rule, NextTokens):
            raise TypeError("the distribution over answers is not known for NextTokens rules")
        story = self._story(rule)
        if labels is None:
            return {text[len(said) :]: weight for text, weight in story.written.items() if text.startswith(said)}
        start = said.encode()
        answers = {text[len(start) :].decode(): weight for text, weight in story.answers if text.startswith(start)}
        bare: dict[str, float] = {}
        for text, weight in answers.items():
            bare[text.strip()] = bare.get(text.strip(), 0.0) + weight
        total = math.fsum(bare.get(label.strip(), 0.0) for label in labels)
        if total <= 0:
            raise ValueError(f"the rule for this prompt gives no probability to any of {list(labels)}")
        return {label: bare.get(label.strip(), 0.0) / total for label in labels}

    def logprob(self, prompt: str, answer: str, *, end: bool = True) -> float:
        """Return the exact log-probability of an answer along its natural token path.

        Args:
            prompt: The prompt.
            answer: The text to score.
            end: Whether the end of the text is part of it.
        """
        path = self.encode(answer) + ([EOS] if end else [])
        steps = (self.next_token(prompt, path[:index]).probability(token) for index, token in enumerate(path))
        return math.fsum(math.log(step) if step > 0 else -math.inf for step in steps)

    def text_of(self, tokens: int) -> str:
        """Make a prompt of exactly so many tokens, the one that starts every prompt included."""
        return " word" * (tokens - 1)

    def _find(self, prompt: str) -> tuple[Rule, str]:
        """Split a text into a known prompt and what was said after it, and find the prompt's rule."""
        rules = self._rules
        if not callable(rules) and (exact := rules.get(prompt)) is not None:
            return exact, ""
        said = ""
        if self._answer_after is not None and self._answer_after in prompt:
            cut = prompt.rindex(self._answer_after) + len(self._answer_after)
            prompt, said = prompt[:cut], prompt[cut:]
        if callable(rules):
            return rules(prompt), said
        known = rules.get(prompt)
        if known is not None:
            return known, said
        for key in sorted((key for key in rules if prompt.startswith(key)), key=len, reverse=True):
            rule, rest = rules[key], prompt[len(key) :] + said
            # A known prompt that merely happens to start this one is no reason to fall silent.
            if isinstance(rule, NextTokens) or any(
                text.startswith(rest.encode()) for text, _ in self._story(rule).answers
            ):
                return rule, rest
        return self._default, said

    def _story(self, rule: str | Answers) -> _Story:
        """Compile a rule; equal rules share what was computed for them."""
        key: object = rule if isinstance(rule, str) else tuple(rule.items())
        story = self._stories.get(key)
        if story is None:
            answers = {rule: 1.0} if isinstance(rule, str) else dict(rule)
            missing = 1.0 - math.fsum(answers.values())
            if missing < -1e-9 or any(weight < 0 for weight in answers.values()):
                raise ValueError(f"the probabilities of {answers} must be positive and add up to at most 1")
            if missing > 1e-9:
                shares = math.fsum(self._other.values())
                for text, share in self._other.items():
                    answers[text] = answers.get(text, 0.0) + missing * share / shares
            story = _Story(answers, self._bare, self.tokenizer)
            if len(self._stories) < _MEMO_LIMIT:
                self._stories[key] = story
        return story

    def _predict(self, script: Iterable[tuple[int, float]]) -> Prediction:
        """Mix what the script says next with the background."""
        said: dict[int, float] = {}
        for token, weight in script:
            said[token] = said.get(token, 0.0) + weight
        if not said:
            return self._lost
        weights = self._background.weights
        total = math.fsum(said.values())
        listed = {
            token: (1 - self._noise) * weight / total + self._noise * weights[token] for token, weight in said.items()
        }
        return Prediction(listed, self._noise, self._background)
