"""The labels of one task on one server: how they are scored there, and how an answer is kept to them.

What depends on server and labels alone is settled here once (`settle`), so that a row costs its own requests only.
Called by the LLMs of servers, whatever their protocol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.llms.abilities import Abilities, Ask, AskChosen, GrammarSupport
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.llms.label_scoring import (
    LabelScorer,
    Way,
    choose_way,
    ends_answer,
    listed,
    requests_per_row,
)
from langchain_stormtrooper.llms.label_tokens import IdsOf, LabelTokens, learn_tokens
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import END, LabelScores, path_scores, starting_pairs
from langchain_stormtrooper.wire import Generated, grammar
from langchain_stormtrooper.wire.details import Details

MOST_REQUESTS = 8
"""Requests per row up to which `method="auto"` scores labels rather than taking one constrained generation."""


@dataclass(frozen=True, slots=True)
class TaskLabels:
    """The labels of a task on a server.

    Attributes:
        ask: Asks the server for a generation with details.
        abilities: What the server was seen to do.
        answers: The labels as they follow the prompt.
        tokens: The labels as the server's tokens; None if it does not tell.
        way: How they are scored; None if they cannot be.
        ask_chosen: Asks the server for tokens chosen by id, where it shows them.
    """

    ask: Ask
    abilities: Abilities
    answers: tuple[str, ...]
    tokens: LabelTokens | None
    way: Way | None
    ask_chosen: AskChosen | None = None

    @property
    def requests(self) -> int:
        """Requests that scoring one row takes at most."""
        return (
            0
            if self.way is None
            else requests_per_row(self.way, self.tokens, len(self.answers), self.abilities.top_tokens)
        )

    @property
    def methods(self) -> tuple[Method, ...]:
        """What can be done, the best first."""
        scores = self.way is not None
        constrains = self.abilities.grammar is GrammarSupport.ENFORCED
        # Of more labels than there are alternatives, the raw ones would leave some unseen.
        seen = self.way is not Way.RAW or len(self.answers) <= self.abilities.top_tokens
        cheap = scores and seen and self.requests <= MOST_REQUESTS
        ranked = [
            (Method.SCORE, cheap),
            (Method.CONSTRAIN, constrains),
            (Method.GENERATE, True),
            (Method.SCORE, scores and not cheap),
        ]
        return tuple(method for method, offered in ranked if offered)

    async def score(self, prompt: str) -> LabelScores:
        """Probabilities of the labels after a prompt."""
        if self.way is None:
            raise ConfigurationError(
                "This server cannot score these labels: `langchain-stormtrooper probe` says what it can do; use "
                "method='generate'."
            )
        scorer = LabelScorer(self.ask, self.way, self.abilities, self.answers, self.tokens, self.ask_chosen)
        return await scorer.score(prompt)

    async def constrain(self, prompt: str) -> Constrained:
        """One generation that a grammar keeps within the labels, and what it shows of the others."""
        answers = sorted(self.answers)  # the same pattern in any order of labels: it is compiled once
        details = await self.ask(
            prompt,
            max_new_tokens=grammar.tokens_needed(answers),
            grammar=grammar.pattern(answers, {short for short, _ in starting_pairs(answers)}),
            top_n_tokens=self.abilities.top_tokens or None,
        )
        logprobs = [token.logprob for token in details.tokens]
        confidence = None
        if logprobs and None not in logprobs:
            confidence = math.exp(min(0.0, math.fsum(logprob for logprob in logprobs if logprob is not None)))
        return Constrained(
            Generated(details.text, prompt_tokens=details.prompt_tokens, generated_tokens=len(details.tokens)),
            confidence,
            self._read_path(details),
        )

    def _read_path(self, details: Details) -> LabelScores | None:
        # Padded models list alternatives that the grammar forbids, so theirs say nothing of a path.
        if self.tokens is None or not self.abilities.masks or not details.top_tokens:
            return None
        own = self.tokens.ids
        scores = path_scores(
            self.tokens.sequences,
            [END if ends_answer(token, own) else token.id for token in details.tokens],
            [listed(step, own) for step in details.top_tokens],
        )
        return LabelScores(scores.probabilities, covered_mass=scores.resolved)


async def settle(
    ask: Ask,
    ids_of: IdsOf,
    abilities: Abilities,
    context: str,
    answers: Sequence[str],
    way: Way | None,
    ask_chosen: AskChosen | None = None,
) -> TaskLabels:
    """Settle how a server scores and constrains labels.

    Args:
        ask: Asks for a generation with details.
        ids_of: Asks for the token ids of a text.
        abilities: What the server was seen to do.
        context: The end of the prompt, after which answers stand.
        answers: The labels as they follow the prompt.
        way: How to score; None for the cheapest way.
        ask_chosen: As in `TaskLabels`.

    Raises:
        ConfigurationError: The server does not allow the way that was asked for.
        LabelError: Two labels are the same tokens to this model.
    """
    if abilities.seq2seq:
        answers = [answer.strip() for answer in answers]  # the decoder begins afresh: no space is natural
    tokens = await learn_tokens(ids_of, context, answers, seq2seq=abilities.seq2seq)
    cheapest = choose_way(abilities, tokens, len(answers))
    if way is not None and not _allows(way, abilities, tokens):
        raise ConfigurationError(
            f"This server does not allow scoring={way.value!r} for these labels: leave it at 'auto', or see "
            "`langchain-stormtrooper probe` for what to change on the server."
        )
    return TaskLabels(ask, abilities, tuple(answers), tokens, way or cheapest, ask_chosen)


def _allows(way: Way, abilities: Abilities, tokens: LabelTokens | None) -> bool:
    if way is Way.CHOSEN:
        return abilities.chooses and tokens is not None
    if way is Way.MASKED:
        return abilities.masks and tokens is not None
    if way is Way.PREFILL:
        return abilities.prefill and tokens is not None
    return abilities.top_tokens >= 2 and (tokens is None or tokens.are_distinct)
