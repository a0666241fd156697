"""`Scoring`: the probability of every label, divided by the model's prior for it."""

from __future__ import annotations

from langchain_core.callbacks import Callbacks
from langchain_core.outputs import Generation
from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering, spell_answers
from langchain_stormtrooper.answering.observing import observed
from langchain_stormtrooper.calibration import divide_by_prior, mean_distribution, word_bags
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import run_all


class Scoring(Answering):
    """The probability of every label, divided by the model's prior for it."""

    method = Method.SCORE

    def __init__(self, prompt: TaskPrompt, labels: LabelSet, llm: SelfHostedLLM) -> None:
        super().__init__(prompt)
        self._labels = labels.names
        self._llm = llm
        self.prior: tuple[float, ...] | None = None

    @override
    async def _count(self, prompt: Prompt) -> int | None:
        return await self._llm.acount_tokens(prompt)

    async def learn_prior(self) -> None:
        """Ask for the labels' mean probability over bags of common words."""
        variables = dict.fromkeys(self.prompt.input_variables, "")
        prompts = [self.prompt.render(bag, variables) for bag in word_bags()]
        # The first fills the server's prefix cache for all that follow.
        scores = [await self._score(prompts[0]), *await run_all(self._score, prompts[1:], self._llm.concurrency)]
        self.prior = mean_distribution([score.probabilities for score in scores])

    async def _score(self, prompt: Prompt) -> LabelScores:
        return await self._llm.ascore_row(prompt, spell_answers(prompt, self.prompt.answers))

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
        probabilities = scores.probabilities
        if self.prior is not None:
            probabilities = divide_by_prior(probabilities, self.prior)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        # Where none of the labels was among what the server showed, nothing speaks for any of them.
        seen = scores.covered_mass is None or scores.covered_mass > 0
        return Classification(
            label=self._labels[best] if seen else None,
            reason=None if seen else Reason.UNMATCHED,
            method=self.method,
            confidence=min(1.0, probabilities[best]),
            probabilities=dict(zip(self._labels, probabilities, strict=True)),
            covered_mass=scores.covered_mass,
            prompt_tokens=scores.prompt_tokens,
            generated_tokens=scores.generated_tokens,
        )
