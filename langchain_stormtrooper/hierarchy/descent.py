"""A row's way down the tree: which nodes are asked, and what their answers are together.

By the chain rule, the probability of a label is the product of those along its path, each among the children of its
node. `descend` knows nothing of models: it is told what answers at a node. `HierarchyAnswering` has the classifiers of
the nodes answer, each made ready when the first row gets there. Called by `runnable`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from langchain_core.callbacks import Callbacks

from langchain_stormtrooper.answering import Demands
from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError
from langchain_stormtrooper.hierarchy.tree import Node
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, MatchKind, Reason
from langchain_stormtrooper.rows import RowAnswering, RowInput
from langchain_stormtrooper.tasks import Once

UNTOLD = (
    "`beam=` above 1 compares probabilities, and this LLM does not tell those of all labels: use method='score', or "
    "beam=1."
)

_DIGITS = 9
"""Probabilities that differ in later digits are the same but for rounding."""

_WEAKER = list(MatchKind)


class _Reached(NamedTuple):
    node: Node
    probability: float | None
    is_answer: bool

    @property
    def rank(self) -> tuple[float, bool, int]:
        """The lower, the better; of equals, what a node itself has answered."""
        return -round(self.probability or 0.0, _DIGITS), not self.is_answer, self.node.position


async def descend(
    top: Node, beam: int, demands: Demands, ask: Callable[[Node], Awaitable[Classification]]
) -> Classification:
    """The answer to one row.

    On each level the labels that were reached so far compete with the inner nodes below those that were just asked. The
    `beam` most probable stay, and the inner nodes among them are asked next; it ends where there is none. The answer is
    the most probable label of all that were reached. Where a node does not tell probabilities, its answer is followed.

    Args:
        top: Where to begin; has something to decide.
        beam: How many nodes stay on a level.
        demands: What the answer must have to count.
        ask: Answers at a node, with the name of one of its children. No other call is made before it returns, so that
            a row is never more than one request.

    Raises:
        ConfigurationError: A probability is needed and not told.
    """
    asked: list[Classification] = []
    leaves: list[_Reached] = []
    going = [_Reached(top, 1.0, True)]
    tells = True
    while going:
        inner: list[_Reached] = []
        for at in going:
            answer = await ask(at.node)
            asked.append(answer)
            if answer.label is None:
                return _joined(asked, Classification(reason=answer.reason, error=answer.error))
            if answer.probabilities is None:
                if beam > 1:
                    raise ConfigurationError(UNTOLD)
                # What others have is not comparable with what is not known.
                tells, leaves = False, []
            for one in _below(at, answer, answer.probabilities if tells else None):
                (inner if one.node.children else leaves).append(one)
        going = [one for one in sorted(leaves + inner, key=_rank)[:beam] if one.node.children]
    best = min(leaves, key=_rank)
    confidence = None if best.probability is None else min(1.0, best.probability)
    reason = demands.refusal(confidence, None, None)
    told = {cast("str", one.node.label): one.probability for one in sorted(leaves, key=lambda one: one.node.position)}
    return _joined(
        asked,
        Classification(
            label=best.node.label if reason is None else None,
            path=best.node.path if reason is None else None,
            reason=reason,
            confidence=confidence,
            probabilities=cast("dict[str, float]", told) if tells else None,
        ),
    )


def _rank(one: _Reached) -> tuple[float, bool, int]:
    return one.rank


def _below(at: _Reached, answer: Classification, shares: dict[str, float] | None) -> list[_Reached]:
    """What is reached from a node: all children, or the one that it has answered if it does not tell of others."""
    name = cast("str", answer.label)
    if shares is not None and at.probability is not None:
        return [
            _Reached(child.settled(), at.probability * shares[child.path[-1]], child.path[-1] == name)
            for child in at.node.children
        ]
    known = None not in (at.probability, answer.confidence)
    share = cast("float", at.probability) * cast("float", answer.confidence) if known else None
    return [_Reached(at.node.child(name).settled(), share, True)]


def _joined(asked: Sequence[Classification], result: Classification) -> Classification:
    """A result with what the questions that led to it have together."""
    matches = [answer.match for answer in asked if answer.match is not None]
    said = [answer.generation for answer in asked if answer.generation is not None]
    examples = [answer.n_examples for answer in asked if answer.n_examples is not None]
    return result.model_copy(
        update={
            "method": asked[-1].method,
            "match": max(matches, key=_WEAKER.index) if matches else None,
            "truncated": any(answer.truncated for answer in asked),
            "n_examples": sum(examples) if examples else None,
            "prompt_tokens": _sum([answer.prompt_tokens for answer in asked]),
            "generated_tokens": _sum([answer.generated_tokens for answer in asked]),
            "generation": "\n".join(said) if said else None,
        }
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


@dataclass(frozen=True, slots=True)
class HierarchyPrompt(Prompt):
    """What a row is to all nodes: rows that are the same to the first of them share their answers.

    Attributes:
        top: What the first node is asked.
        row: The row.
    """

    top: Prompt = field(default_factory=Prompt, repr=False)
    row: RowInput = field(default="", repr=False, compare=False)


class HierarchyAnswering:
    """Answers the rows of one call.

    Args:
        top: The first node.
        ready: What answers there.
        prepare: Gets what answers at another.
        beam: How many nodes stay on a level.
        demands: What an answer must have to count.
    """

    def __init__(
        self,
        top: Node,
        ready: RowAnswering,
        prepare: Callable[[Node], Awaitable[RowAnswering]],
        beam: int,
        demands: Demands,
    ) -> None:
        self._top, self._first, self._prepare = top, ready, prepare
        self._beam, self._demands = beam, demands
        self._ready: dict[tuple[str, ...], Once[RowAnswering]] = {}

    def render(self, row: RowInput) -> HierarchyPrompt:
        """What a row is to all nodes.

        Raises:
            PromptError: It has no text.
        """
        top = self._first.render(row)
        return HierarchyPrompt(text=top.text, top=top, row=row)

    def announce(self, prompts: Iterable[Prompt]) -> None:
        """Tell the first node what it will be asked; which rows get to another is not known yet."""
        self._first.announce(cast("HierarchyPrompt", prompt).top for prompt in prompts)

    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Answer one row."""
        whole = cast("HierarchyPrompt", prompt)

        async def ask(node: Node) -> Classification:
            if node is self._top:
                top: Classification = await self._first.answer(whole.top, callbacks)
                return top
            once = self._ready.setdefault(node.path, Once())
            try:
                ready = await once.get(lambda: self._prepare(node))
            except RequestFailedError as error:
                # The next row that gets here tries again.
                return Classification(reason=Reason.FAILED, error=str(error))
            answer: Classification = await ready.answer(ready.render(whole.row), callbacks)
            return answer

        return await descend(self._top, self._beam, self._demands, ask)
