"""`Constraining`: one generation that a grammar keeps within the labels."""

from __future__ import annotations

from langchain_core.callbacks import Callbacks
from langchain_core.outputs import Generation
from typing_extensions import override

from langchain_stormtrooper.answering.base import spell_answers
from langchain_stormtrooper.answering.observing import observed
from langchain_stormtrooper.answering.weighing import Weighing
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, MatchKind, Method, Reason


class Constraining(Weighing):
    """One generation that a grammar keeps within the labels.

    Where the server shows the probabilities of all labels, the label is the most probable one, after the calibration if
    there is one; it need not be the one that was generated.
    """

    method = Method.CONSTRAIN

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        answers = spell_answers(prompt, self.prompt.answers)
        constrained = await observed(
            self._llm, prompt, callbacks, lambda: self._llm.aconstrain_row(prompt, answers), _tell
        )
        generated, scores = constrained.generated, constrained.scores
        # Some servers take a grammar and ignore it.
        spelled = zip(self._labels, self.prompt.answers, strict=True)
        label = next((name for name, answer in spelled if answer.strip() == generated.text.strip()), None)
        probabilities = None if scores is None else dict(zip(self._labels, scores.probabilities, strict=True))
        match = None if label is None else MatchKind.EXACT
        confidence = constrained.confidence
        if label is not None and self._calibration is not None:
            if probabilities is None:
                raise ConfigurationError(
                    "A calibration needs the probability of every label, which this server does not show beside a "
                    "constrained answer: use method='score'."
                )
            calibrated = self._calibration.apply(tuple(probabilities.values()))
            probabilities = dict(zip(self._labels, calibrated, strict=True))
        if label is not None and scores is not None and probabilities is not None:
            # Token by token, a generation can miss the label that is the most probable as a whole.
            best = self._labels[self._best(tuple(probabilities.values()), scores.probabilities)]
            label, match = best, match if best == label else None
            confidence = min(1.0, probabilities[best])
        reason = Reason.UNMATCHED if label is None else None
        if reason is None and self._demands:
            reason = self._demands.refusal(confidence, None if probabilities is None else probabilities.values(), None)
        return Classification(
            label=label if reason is None else None,
            reason=reason,
            method=self.method,
            match=match,
            confidence=None if label is None else confidence,
            probabilities=probabilities,
            covered_mass=None if scores is None else scores.covered_mass,
            prompt_tokens=generated.prompt_tokens,
            generated_tokens=generated.generated_tokens,
            generation=generated.text,
        )


def _tell(constrained: Constrained) -> Generation:
    generated = constrained.generated
    counts = {"prompt_tokens": generated.prompt_tokens, "generated_tokens": generated.generated_tokens}
    return Generation(text=generated.text, generation_info={"confidence": constrained.confidence, **counts})
