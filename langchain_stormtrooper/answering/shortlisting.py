"""`Shortlisting`: of many labels only those that are like the text are asked about, by another way of answering.

The choice is `selecting.LabelRanking`'s. Where a prompt is refused for its length, fewer labels are asked about before
anybody cuts the text. An answer is made one about all labels again: those left out share what the measured recall
leaves to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from functools import lru_cache
from itertools import tee
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering
from langchain_stormtrooper.answering.choosing import Choosing
from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.answering.scoping import recall_beside
from langchain_stormtrooper.errors import OverlongInputError
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Method
from langchain_stormtrooper.selecting import Ahead, LabelRanking, Shortlist

FEWEST = 2
"""Labels that a shortlist has at least: fewer are no choice."""

_TASKS_KEPT = 64


class Shortlisting(Answering):
    """Answers rows with a few of the labels.

    Args:
        typical: What answers with as many labels as a shortlist has, whichever; its prompt stands for those of rows.
        among: What answers with some of the labels, from their positions in the order given.
        labels: All labels.
        shortlist: The user's setting.
        ranking: Puts the labels in order for each text.
        demands: What an answer must have to count.
        option: The name of what is asked about beside any labels, that none of them fits; None if nothing is.
    """

    def __init__(
        self,
        typical: Answering,
        among: Callable[[tuple[int, ...]], Answering],
        labels: LabelSet,
        shortlist: Shortlist,
        ranking: LabelRanking,
        demands: Demands,
        option: str | None = None,
    ) -> None:
        super().__init__(typical.prompt)
        self._option = option
        self.method = typical.method
        self._typical = typical
        self._make = among
        self._labels = labels
        self._shortlist = shortlist
        self._ranking = ranking
        self._demands = demands
        self._task = lru_cache(_TASKS_KEPT)(self._make_task)
        self._ahead = Ahead()
        self._examples_ahead = Ahead()

    @property
    @override
    def common_start(self) -> str:
        # Hardly two rows have the same labels.
        return ""

    @override
    def for_call(self) -> Shortlisting:
        one = copy(self)
        one._ahead, one._examples_ahead = Ahead(), Ahead()
        return one

    @override
    def announce(self, prompts: Iterable[Prompt]) -> None:
        for_labels, for_examples = tee(prompt.text for prompt in prompts)
        if self._ranking.looks_ahead:
            self._ahead.announce(for_labels)
        if isinstance(self._typical, Choosing) and self._typical.looks_ahead:
            self._examples_ahead.announce(for_examples)

    @override
    def demanding(self, demands: Demands) -> Self:
        other = self._twin()
        other._demands = demands
        other._task = lru_cache(_TASKS_KEPT)(other._make_task)
        return other

    @override
    def details(self) -> dict[str, Any]:
        return {**self._typical.details(), **self._ranking.details()}

    def _make_task(self, positions: tuple[int, ...]) -> Answering:
        # Confidence and margin are judged when the answer is one about all labels; generated text without a confidence
        # must be refused at once.
        confidence = self._demands.confidence if self.method is Method.GENERATE else None
        return self._make(positions).demanding(Demands(confidence, covered_mass=self._demands.covered_mass))

    def _task_of(self, positions: tuple[int, ...]) -> Answering:
        task = self._task(positions)
        return task.for_call(self._examples_ahead) if isinstance(task, Choosing) else task

    def _shortlisted(self, ranks: Sequence[int], size: int) -> tuple[int, ...]:
        """The nearest labels in the order given, so that a prompt depends on which they are, not on their ranks."""
        return tuple(sorted(ranks[:size]))

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        return await self._with_fewer(prompt, lambda task, rendered: task.answer(rendered, callbacks))

    @override
    async def answer_shortened(
        self, prompt: Prompt, refusal: OverlongInputError, callbacks: Callbacks
    ) -> Classification:
        # However few the labels, the text is too long: as many as leave room for any of it are better than the fewest.
        async def shortened(task: Answering, rendered: Prompt) -> Classification:
            try:
                # Refused it was with other labels.
                return await task.answer(rendered, callbacks)
            except OverlongInputError as own:
                return await task.answer_shortened(rendered, own, callbacks)

        return await self._with_fewer(prompt, shortened)

    async def _with_fewer(
        self, prompt: Prompt, ask: Callable[[Answering, Prompt], Awaitable[Classification]]
    ) -> Classification:
        """Ask about a text with as many labels as there may be, and with half as many as long as that is too long."""
        ranks = await self._ranking.arank(prompt.text, self._ahead)
        size = min(self._shortlist.size, len(ranks))
        while True:
            positions = self._shortlisted(ranks, size)
            task = self._task_of(positions)
            try:
                answer = await ask(task, task.render(prompt.text, prompt.variables))
            except OverlongInputError:
                fewer = max(FEWEST, size // 2)
                if fewer == size or not self._is_shorter(task, ranks, fewer):
                    raise
                size = fewer
            else:
                return self._about_all(answer, positions)

    def _is_shorter(self, task: Answering, ranks: Sequence[int], size: int) -> bool:
        """Whether a prompt with fewer labels is shorter at all: some do not list them."""
        fewer = self._task_of(self._shortlisted(ranks, size))
        own, other = (len(str(one.without_examples.blank())) for one in (task, fewer))
        return other < own

    def _about_all(self, answer: Classification, positions: tuple[int, ...]) -> Classification:
        """An answer about some labels as one about all."""
        names = self._labels.names
        considered = tuple(names[position] for position in positions)
        recall = self._shortlist.recall_of(len(positions), len(names))
        known = 1.0 if recall is None else recall
        changes: dict[str, Any] = {"shortlist": considered}
        probabilities = None
        if answer.probabilities is not None:
            on_it = answer.probabilities
            if self._option is not None:
                known = recall_beside(min(1.0, on_it[self._option]), known)
                names = (*names, self._option)
            left_out = (1.0 - known) / max(1, len(names) - len(on_it))
            probabilities = {name: on_it[name] * known if name in on_it else left_out for name in names}
            changes["probabilities"] = probabilities
        confidence = None if answer.confidence is None else answer.confidence * known
        changes["confidence"] = confidence
        if answer.label is not None and self._demands:
            rest = Demands(self._demands.confidence, self._demands.margin)
            reason = rest.refusal(confidence, None if probabilities is None else probabilities.values(), None)
            if reason is not None:
                changes |= {"label": None, "reason": reason}
        return answer.model_copy(update=changes)
