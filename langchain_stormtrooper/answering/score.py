"""`Scoring`: the probability of every label, corrected by a calibration or by the model's prior for it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.outputs import Generation
from typing_extensions import override

from langchain_stormtrooper.answering.base import spell_answers
from langchain_stormtrooper.answering.observing import observed
from langchain_stormtrooper.answering.weighing import Weighing
from langchain_stormtrooper.calibration import (
    divide_by_prior,
    geometric_mean,
    mean_distribution,
    prior_beside_option,
)
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import run_all

Asking: TypeAlias = Callable[[Prompt, Callable[[Prompt], Awaitable[LabelScores]]], Awaitable[tuple[LabelScores, int]]]

_BESIDE = "too little of the model's probability falls on the labels"


class Scoring(Weighing):
    """The probability of every label, corrected by a calibration or by the model's prior for it."""

    method = Method.SCORE

    prior: tuple[float, ...] | None = None
    """How the model leans; None as long as that is not known."""

    has_option = False
    """Whether the last of the labels is the option that none of the others fits."""

    @override
    def details(self) -> dict[str, Any]:
        # The prompt is the same with a label of this name, and what is learnt is not.
        return {"out_of_scope": self._labels[-1]} if self.has_option else {}

    async def learn_prior(self, prompts: Sequence[Prompt], around: Asking | None = None) -> None:
        """Ask for the labels' mean probability over texts without content.

        Args:
            prompts: The prompts of these texts.
            around: What fits a prompt to what the LLM takes before it is asked about; None to ask about it as it is.
        """

        async def score(prompt: Prompt) -> LabelScores:
            return await self._score(prompt) if around is None else (await around(prompt, self._score))[0]

        async def ask(prompt: Prompt) -> LabelScores:
            return await ask_again(lambda: score(prompt))

        # The first fills the server's prefix cache for all that follow.

        scores = [await ask(prompts[0]), *await run_all(ask, prompts[1:], self._llm.concurrency)]
        self.prior = self._lean(mean_distribution([score.probabilities for score in scores]))

    def _lean(self, prior: tuple[float, ...]) -> tuple[float, ...]:
        return prior_beside_option(prior) if self.has_option else prior

    @override
    def among(self, prompt: TaskPrompt, labels: LabelSet) -> Self:
        other = super().among(prompt, labels)
        if self.prior is not None:
            # Divided by and normalized, only the ratios count.
            lean = dict(zip(self._labels, self.prior, strict=True))
            other.prior = other._lean(tuple(lean[name] for name in labels.names))
        return other

    async def _score(self, prompt: Prompt) -> LabelScores:
        # In turn: rows are what is asked at once, and no more than the LLM has places for.
        return _joined(
            [
                await self._llm.ascore_row(one, spell_answers(one, answers))
                for one, answers in zip(prompt.in_all_orders(), self.prompt.answers_in_all_orders(), strict=True)
            ]
        )

    def _correct(self, probabilities: tuple[float, ...]) -> tuple[float, ...]:
        if self._calibration is not None:
            return self._calibration.apply(probabilities)
        return probabilities if self.prior is None else divide_by_prior(probabilities, self.prior)

    def _tell(self, scores: LabelScores) -> Generation:
        best = max(zip(scores.probabilities, self._labels, strict=True))[1]
        return Generation(
            text=best,
            generation_info={
                "probabilities": dict(zip(self._labels, scores.probabilities, strict=True)),
                "prompt_tokens": scores.prompt_tokens,
                "generated_tokens": scores.generated_tokens,
            },
        )

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        scores = await observed(self._llm, prompt, callbacks, lambda: self._score(prompt), self._tell)
        probabilities = self._correct(scores.probabilities)
        best = self._best(probabilities, scores.probabilities)
        confidence = min(1.0, probabilities[best])
        # Where none of the labels was among what the server showed, nothing speaks for any of them.
        reason = Reason.UNMATCHED if scores.covered_mass == 0 else None
        if reason is None and self._demands:
            covered_mass = None if scores.masked else scores.covered_mass
            reason = self._demands.refusal(confidence, probabilities, covered_mass)
        return Classification(
            label=self._labels[best] if reason is None else None,
            reason=reason,
            method=self.method,
            confidence=confidence,
            probabilities=dict(zip(self._labels, probabilities, strict=True)),
            covered_mass=scores.covered_mass,
            prompt_tokens=scores.prompt_tokens,
            generated_tokens=scores.generated_tokens,
            error=_BESIDE if reason is Reason.UNMATCHED else None,
        )


def _joined(scores: Sequence[LabelScores]) -> LabelScores:
    """The scores of one text with the labels listed in several orders, as one."""
    if len(scores) == 1:
        return scores[0]
    covered = [score.covered_mass for score in scores if score.covered_mass is not None]
    return LabelScores(
        geometric_mean([score.probabilities for score in scores]),
        covered_mass=math.fsum(covered) / len(covered) if len(covered) == len(scores) else None,
        prompt_tokens=total([score.prompt_tokens for score in scores]),
        generated_tokens=total([score.generated_tokens for score in scores]),
        masked=any(score.masked for score in scores),
    )


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of counts; None where one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
