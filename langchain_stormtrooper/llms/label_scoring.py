"""Probabilities of a task's labels on a server, by the cheapest way that the server allows.

Four ways (names as in the field `scoring` of the LLMs):

- masked: a grammar leaves only the labels, so the likeliest next tokens are theirs, renormalized over them. One token
  for up to five labels that differ in their first token; anchored groups for more, the first of which fills the
  server's prefix cache for the others; one more request per branch where labels share tokens.
- raw: the likeliest next tokens without a grammar, on every version and kind of model; a label that is not among them
  gets half of what it can have at most, and the covered mass says how much was seen.
- chosen: the probabilities of just the tokens with which labels go on, named by id: exact, in one request, or for
  many labels one per depth of their trie (vLLM, SGLang).
- prefill: one request per label, whose tokens the server scores as part of the prompt; exact for labels of any length.

Each gives the same: a label has the product of the shares of its tokens, each renormalized over the tokens with which
labels go on there. A label that starts another ("play", "play music") ends with a line break or the end of the
generation, which together count as one of these tokens.

The arithmetic is `scoring`'s, the protocol is behind `Ask` and `AskChosen`; `task_labels` is the only caller.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from langchain_stormtrooper.llms.abilities import Abilities, Ask, AskChosen, GrammarSupport
from langchain_stormtrooper.llms.label_tokens import LabelTokens
from langchain_stormtrooper.scoring import (
    END,
    Branch,
    Chained,
    LabelScores,
    anchored_groups,
    chain_groups,
    prefill_scores,
    read_shares,
    starting_pairs,
    walk,
)
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.wire import grammar
from langchain_stormtrooper.wire.details import Details, Token

_NEGLIGIBLE = 1e-4
"""Branches with less probability are not asked; no label can be off by more than that."""

_COVERED_ENOUGH = 0.5
"""Raw alternatives that cover less are asked for again by prefill, where the server has it."""


_AT_ONCE = 8
"""Branches of the labels' trie that are asked for in one request, before any is known to matter."""

_LINE_BREAKS = ("\n", "<0x0A>")
"""How servers write a line break's token."""


class Way(StrEnum):
    """How labels are scored."""

    CHOSEN = "chosen"
    MASKED = "masked"
    RAW = "raw"
    PREFILL = "prefill"


def choose_way(abilities: Abilities, tokens: LabelTokens | None, labels: int) -> Way | None:
    """The cheapest way to score labels on a server; None if there is none.

    Args:
        abilities: What the server was seen to do.
        tokens: The labels as its tokens; None if it does not tell.
        labels: Their number.
    """
    few = labels <= abilities.top_tokens and (tokens is None or tokens.are_distinct)
    if tokens is not None and abilities.chooses:
        return Way.CHOSEN
    if tokens is not None and abilities.masks and abilities.grammar is GrammarSupport.ENFORCED:
        return Way.MASKED
    if abilities.prefill and tokens is not None and not few:
        return Way.PREFILL
    if abilities.top_tokens >= 2 and (tokens is None or tokens.are_distinct):
        return Way.RAW
    return None


def requests_per_row(way: Way, tokens: LabelTokens | None, labels: int, top_tokens: int) -> int:
    """Requests for one text at most, branches of negligible probability included.

    Args:
        way: How labels are scored.
        tokens: The labels as the server's tokens; None if it does not tell.
        labels: Their number.
        top_tokens: Alternatives per step that the server returns.
    """
    if way is Way.RAW:
        return 1
    if way is Way.PREFILL or tokens is None:
        return labels
    if way is Way.CHOSEN:
        branches = _branches(tokens.sequences)
        return 1 if len(branches) <= _AT_ONCE else len({len(branch.prefix) for branch in branches})
    return sum(len(anchored_groups(branch.children, top_tokens)) for branch in _branches(tokens.sequences))


def _branches(sequences: Sequence[tuple[int, ...]]) -> list[Branch]:
    """All branches of the labels' trie."""
    steps, found = walk(sequences), list[Branch]()
    try:
        level = next(steps)
        while True:
            found += level
            level = steps.send([dict.fromkeys(branch.children, 1.0) for branch in level])
    except StopIteration:
        return found


@dataclass(slots=True)
class _Tally:
    """What the requests for one text have brought besides probabilities."""

    prompt_tokens: int | None = None
    generated_tokens: int = 0
    covered: dict[tuple[int, ...], float] = field(default_factory=dict)

    def add(self, details: Details) -> Details:
        if self.prompt_tokens is None:
            self.prompt_tokens = details.prompt_tokens
        self.generated_tokens += len(details.tokens)
        return details


class LabelScorer:
    """Scores the labels of one task on one server.

    Args:
        ask: Asks for a generation with details.
        way: How.
        abilities: What the server was seen to do.
        answers: The labels as they follow the prompt.
        tokens: The labels as the server's tokens; None if it does not tell (`Way.RAW` only).
        ask_chosen: Asks for chosen tokens (`Way.CHOSEN` only).
    """

    def __init__(
        self,
        ask: Ask,
        way: Way,
        abilities: Abilities,
        answers: Sequence[str],
        tokens: LabelTokens | None,
        ask_chosen: AskChosen | None = None,
    ) -> None:
        self.way = way
        self._ask = ask
        self._ask_chosen = ask_chosen
        self._abilities = abilities
        self._answers = answers
        self._tokens = tokens
        self._ended = {short for short, _ in starting_pairs(answers)}

    async def score(self, prompt: str) -> LabelScores:
        """Probabilities of the labels after a prompt.

        Raises:
            RowError: This prompt cannot be answered.
            ServerError: None can.
        """
        tally = _Tally()
        if self.way is Way.MASKED and self._tokens is not None:
            return await self._score_masked(prompt, self._tokens, tally)
        if self.way is Way.CHOSEN and self._tokens is not None and self._ask_chosen is not None:
            return await self._score_chosen(prompt, self._tokens, self._ask_chosen, tally)
        if self.way is Way.PREFILL and self._tokens is not None:
            return await self._score_prefill(prompt, self._tokens, tally)
        scores = await self._score_raw(prompt, tally)
        if (scores.covered_mass or 0) < _COVERED_ENOUGH and self._abilities.prefill and self._tokens is not None:
            return await self._score_prefill(prompt, self._tokens, tally)
        return scores

    async def _score_raw(self, prompt: str, tally: _Tally) -> LabelScores:
        details = tally.add(await self._ask(prompt, max_new_tokens=1, top_n_tokens=self._abilities.top_tokens))
        alternatives = details.top_tokens[0] if details.top_tokens else ()
        if self._tokens is None:
            children: Sequence[int] = [-2 - index for index in range(len(self._answers))]
            aliases = _read_by_text(alternatives, self._answers, children)
        else:
            children, aliases = self._tokens.first, self._tokens.aliases
        shares = read_shares(listed(alternatives, children), children, aliases)
        masses = [shares.probabilities[child] for child in children]
        return _normalized(masses, shares.covered, tally)

    async def _score_prefill(self, prompt: str, tokens: LabelTokens, tally: _Tally) -> LabelScores:
        async def ask(number: int) -> Details:
            # The token that is generated anyway shows how likely the label's end is, where that matters.
            ends = tokens.sequences[number][-1] == END and self._abilities.top_tokens > 0
            return await self._ask(
                prompt + self._answers[number],
                max_new_tokens=1,
                prefill=True,
                top_n_tokens=self._abilities.top_tokens if ends else None,
            )

        answers = await run_all(ask, range(len(self._answers)))
        for details in answers:
            tally.add(details)
        scores = prefill_scores(
            [[(token.id, token.logprob if n else 0.0) for n, token in enumerate(a.prefill)] for a in answers],
            tokens.lengths,
            [listed(a.top_tokens[0], tokens.ids) if a.top_tokens else {} for a in answers],
        )
        tally.prompt_tokens = len(answers[0].prefill) - tokens.lengths[0]
        return _normalized(scores.probabilities, scores.covered, tally)

    async def _score_masked(self, prompt: str, tokens: LabelTokens, tally: _Tally) -> LabelScores:
        async def ask(branches: Sequence[Branch]) -> Sequence[Mapping[int, float]]:
            return await run_all(lambda branch: self._ask_branch(prompt, tokens, branch, tally), branches)

        return replace(await self._walk(tokens, ask, tally), masked=True)

    async def _score_chosen(
        self, prompt: str, tokens: LabelTokens, ask_chosen: AskChosen, tally: _Tally
    ) -> LabelScores:
        known: dict[tuple[int, ...], Mapping[int, float]] = {}
        every = _branches(tokens.sequences)

        async def ask(branches: Sequence[Branch]) -> Sequence[Mapping[int, float]]:
            # A few branches more cost less than one more turn.
            missing = every if not known and len(every) <= _AT_ONCE else [b for b in branches if b.prefix not in known]
            if missing:
                chosen = await ask_chosen(prompt, missing)
                if tally.prompt_tokens is None:
                    tally.prompt_tokens = chosen.prompt_tokens
                tally.generated_tokens += chosen.generated_tokens
                known.update((branch.prefix, shares) for branch, shares in zip(missing, chosen.shares, strict=True))
            for branch in branches:
                tally.covered[branch.prefix] = math.fsum(known[branch.prefix].values())
            return [known[branch.prefix] for branch in branches]

        return await self._walk(tokens, ask, tally)

    async def _walk(
        self,
        tokens: LabelTokens,
        ask: Callable[[Sequence[Branch]], Awaitable[Sequence[Mapping[int, float]]]],
        tally: _Tally,
    ) -> LabelScores:
        """Ask for one depth of the labels' trie after the other."""
        steps = walk(tokens.sequences, _NEGLIGIBLE)
        try:
            branches = next(steps)
            while True:
                branches = steps.send(await ask(branches))
        except StopIteration as end:
            probabilities: list[float] = end.value
        covered = math.fsum(
            probability
            * math.prod(share for prefix, share in tally.covered.items() if sequence[: len(prefix)] == prefix)
            for probability, sequence in zip(probabilities, tokens.sequences, strict=True)
        )
        return _normalized(probabilities, covered, tally)

    async def _ask_branch(self, prompt: str, tokens: LabelTokens, branch: Branch, tally: _Tally) -> Mapping[int, float]:
        """The distribution over a branch's children, renormalized over what the grammar allows."""

        async def ask(group: Sequence[int]) -> Mapping[int, float]:
            return await self._ask_group(prompt, tokens, branch, group, tally)

        # The first goes alone and fills the prefix cache: fired at once, all would compute the prompt anew.
        steps = chain_groups(branch.children, self._abilities.top_tokens, self._families(tokens, branch))
        try:
            groups = next(steps)
            while True:
                groups = steps.send(await run_all(ask, groups))
        except StopIteration as end:
            chained: Chained = end.value
        tally.covered[branch.prefix] = chained.covered
        return chained.probabilities

    def _families(self, tokens: LabelTokens, branch: Branch) -> list[set[int]]:
        """Children with answers that start one another: a grammar that allows the longer lists the shorter as well."""
        depth = len(branch.prefix)
        child_of = {
            answer: sequence[depth]
            for sequence, answer in zip(tokens.sequences, self._answers, strict=True)
            if sequence[:depth] == branch.prefix
        }
        families: list[set[int]] = []
        for pair in starting_pairs(list(child_of)):
            joined = {child_of[answer] for answer in pair}
            apart = [family for family in families if not family & joined]
            families = [*apart, joined.union(*(family for family in families if family & joined))]
        return [family for family in families if len(family) > 1]

    async def _ask_group(
        self, prompt: str, tokens: LabelTokens, branch: Branch, group: Sequence[int], tally: _Tally
    ) -> Mapping[int, float]:
        # One label stands for all under the same child. Sorted, patterns are the same in any order of labels, and so
        # are compiled once.
        prefix = branch.prefix
        answers = sorted(
            next(
                answer
                for sequence, answer in sorted(zip(tokens.sequences, self._answers, strict=True))
                if sequence[: len(prefix) + 1] == (*prefix, child)
            )
            for child in group
        )
        # Where it can, the prompt takes up the tokens that all share; else the grammar forces them.
        text = tokens.appendable.get(prefix, "")
        skipped = 0 if text else len(prefix)
        details = tally.add(
            await self._ask(
                prompt + text,
                max_new_tokens=skipped + 1,
                top_n_tokens=self._abilities.top_tokens,
                grammar=grammar.pattern(
                    [answer[len(text) :] for answer in answers],
                    {answer[len(text) :] for answer in answers if answer in self._ended},
                ),
            )
        )
        path = tuple(token.id for token in details.tokens[:skipped])
        if path != prefix[:skipped] or len(details.top_tokens) <= skipped:
            return {}  # an odd way through the vocabulary, which tells the labels apart no further
        return listed(details.top_tokens[skipped], tokens.ids)


def listed(alternatives: Sequence[Token], own: Collection[int]) -> dict[int, float]:
    """Log-probability by token; those that end an answer count as `END` together.

    Args:
        alternatives: The likeliest tokens at a step.
        own: Tokens of labels, which end nothing even if they are line breaks.
    """
    found: dict[int, float] = {}
    for token in alternatives:
        if token.logprob is not None:
            number = END if ends_answer(token, own) else token.id
            found[number] = _either(found[number], token.logprob) if number in found else token.logprob
    return found


def _either(one: float, other: float) -> float:
    """Log-probability of one or the other of two tokens; a sum without loss, however unlikely both are."""
    return max(one, other) + math.log1p(math.exp(-abs(one - other)))


def ends_answer(token: Token, own: Collection[int]) -> bool:
    """Whether a token is a line break or special, such as the one that ends a generation; `own` as in `listed`."""
    return token.special or (token.text in _LINE_BREAKS and token.id not in own)


def _read_by_text(alternatives: Sequence[Token], answers: Sequence[str], children: Sequence[int]) -> dict[int, int]:
    """Which label a token starts, judged by its text; tokens that start several labels, or none, are left out."""
    meant: dict[int, int] = {}
    for token in alternatives:
        piece = token.text.strip()
        starts = [child for answer, child in zip(answers, children, strict=True) if answer.strip().startswith(piece)]
        if piece and len(starts) == 1:
            meant[token.id] = starts[0]
    return meant


def _normalized(masses: Sequence[float], covered: float, tally: _Tally) -> LabelScores:
    total = math.fsum(masses)
    return LabelScores(
        tuple(mass / total if total > 0 else 1 / len(masses) for mass in masses),
        covered_mass=min(1.0, max(0.0, covered)),
        prompt_tokens=tally.prompt_tokens,
        generated_tokens=tally.generated_tokens,
    )
