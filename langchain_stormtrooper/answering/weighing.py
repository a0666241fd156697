"""`Weighing`: what the ways of answering share that ask the LLM for probabilities, `score` and `constrain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering
from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.calibration import Calibration
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt, TaskPrompt

_ROUNDING = 1e-9


class Weighing(Answering):
    """Answers rows with the probabilities that an LLM gives to labels.

    Args:
        prompt: The prompt of the task.
        labels: The labels.
        llm: What tells their probabilities.
        calibration: Corrects them; None for none.
        demands: What an answer must have to count.
    """

    def __init__(
        self,
        prompt: TaskPrompt,
        labels: LabelSet,
        llm: SelfHostedLLM,
        calibration: Calibration | None = None,
        demands: Demands = Demands(),  # noqa: B008  # a value
    ) -> None:
        super().__init__(prompt)
        self._labels = labels.names
        self._llm = llm
        self._calibration = calibration
        self._demands = demands

    @override
    def demanding(self, demands: Demands) -> Self:
        other = self._twin()
        other._demands = demands
        return other

    @override
    def among(self, prompt: TaskPrompt, labels: LabelSet) -> Self:
        other = super().among(prompt, labels)
        other._labels = labels.names
        return other

    def _best(self, probabilities: Sequence[float], raw: Sequence[float]) -> int:
        """The most probable label; where a correction leaves several alike, the one that the model itself prefers.

        A model that says the same of every text is levelled by a prior learnt from it, but for rounding.
        """
        highest = max(probabilities)
        alike = [index for index, value in enumerate(probabilities) if highest - value <= _ROUNDING]
        return max(alike, key=raw.__getitem__)

    @override
    async def count(self, prompt: Prompt) -> int | None:
        return await self._llm.acount_tokens(prompt)
