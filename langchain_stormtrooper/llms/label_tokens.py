"""How a server's tokenizer cuts the labels of a task, learnt from the server itself.

Labels are cut where they will stand, after the end of the prompt: a label by itself may be cut otherwise. Used by
`label_scoring`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from langchain_stormtrooper.scoring import END, end_where_needed
from langchain_stormtrooper.tasks import run_all

IdsOf = Callable[[str], Awaitable[tuple[int, ...] | None]]
"""Ids of the tokens of a text as a prompt, special ones included; None if the server does not tell."""


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The labels as this server's tokens.

    Attributes:
        sequences: One per label, in the order given; one that starts another ends with `END`.
        lengths: How many tokens each label has, `END` not counted.
        aliases: First tokens of the labels spelled with or without a leading space, the other way round, and the first
            token that each stands for, where that is only one.
        appendable: Starts of sequences that a prompt may be continued with, and their text: the server cuts the
            continued prompt in the same way.
    """

    sequences: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    aliases: dict[int, int] = field(default_factory=dict)
    appendable: dict[tuple[int, ...], str] = field(default_factory=dict)

    @property
    def first(self) -> tuple[int, ...]:
        """The labels' first tokens."""
        return tuple(sequence[0] for sequence in self.sequences)

    @property
    def ids(self) -> frozenset[int]:
        """All tokens of the labels."""
        return frozenset(token for sequence in self.sequences for token in sequence)

    @property
    def are_distinct(self) -> bool:
        """Whether the labels differ in their first token."""
        return len(set(self.first)) == len(self.first)


async def learn_tokens(ids_of: IdsOf, context: str, answers: Sequence[str], *, seq2seq: bool) -> LabelTokens | None:
    """Find out how the server cuts the labels.

    Args:
        ids_of: Asks the server.
        context: The end of the prompt, after which answers stand.
        answers: The labels as they follow the prompt.
        seq2seq: Whether answers begin afresh, apart from the prompt.

    Returns:
        None if the server does not tell, or cuts labels in a way that joins them with the prompt.

    Raises:
        LabelError: Two labels are the same tokens to this model.
    """

    async def ids(text: str) -> tuple[int, ...]:
        found = await ids_of(text)
        if found is None:
            raise _Untold
        return found

    async def own(answer: str) -> tuple[int, ...]:
        if seq2seq:
            return (await ids(answer))[:-1]  # the last one ends the text
        whole = await ids(context + answer)
        if whole[: len(before)] != before or len(whole) == len(before):
            raise _Untold
        return whole[len(before) :]

    try:
        before = () if seq2seq else await ids(context)
        cut = await run_all(own, answers)
        other = await run_all(own, [a[1:] if a.startswith(" ") else f" {a}" for a in answers])
        if not all(cut):
            return None
        aliases = _aliases(cut, other)
        appendable = {} if seq2seq else await _appendable(ids, context, before, cut, answers)
    except _Untold:
        return None
    sequences = end_where_needed(cut, END)
    if not seq2seq:  # cut with the prompt before it, as it will be when others go on from it
        appendable |= {
            sequence[:-1]: answer for sequence, answer in zip(sequences, answers, strict=True) if sequence[-1] == END
        }
    return LabelTokens(tuple(sequences), tuple(map(len, cut)), aliases, appendable)


class _Untold(Exception):  # noqa: N818  # a signal within this module, never an error to anyone
    """The server does not tell, or tells something that cannot be used."""


def _aliases(cut: Sequence[tuple[int, ...]], other: Sequence[tuple[int, ...]]) -> dict[int, int]:
    first = {sequence[0] for sequence in cut}
    aliases: dict[int, set[int]] = {}
    for sequence, spelled in zip(cut, other, strict=True):
        if spelled and spelled[0] not in first:
            aliases.setdefault(spelled[0], set()).add(sequence[0])
    return {alias: meant.pop() for alias, meant in aliases.items() if len(meant) == 1}


async def _appendable(
    ids: Callable[[str], Awaitable[tuple[int, ...]]],
    context: str,
    before: tuple[int, ...],
    cut: Sequence[tuple[int, ...]],
    answers: Sequence[str],
) -> dict[tuple[int, ...], str]:
    """Texts of starts that several labels share, up to a space: there the tokens after them stay as they are."""
    texts = {
        answer[:place]
        for answer in answers
        for place in range(1, len(answer))
        if answer[place] == " " and sum(other.startswith(answer[:place]) for other in answers) > 1
    }
    found: dict[tuple[int, ...], str] = {}
    for text in sorted(texts):
        start = (await ids(context + text))[len(before) :]
        whole = [sequence for sequence, answer in zip(cut, answers, strict=True) if answer.startswith(text)]
        if start and all(sequence[: len(start)] == start for sequence in whole):
            found[start] = text
    return found
