"""The decision model behind `decisions`: each question is a classification whose labels are its possible answers.

    Choice → its labels        Noul → yes or no        Score → the numbers of its levels, the expected one is the score

It needs langchain-core 1.8 and is imported by `decisions` only. How labels are scored is `answering`'s business; what a
question looks like as a prompt is in `decision_questions`.
"""

from __future__ import annotations

from typing import Any

from langchain_core.decisions import (
    Answer,
    BaseDecisionModel,
    ChoiceAnswer,
    ClassifierResponse,
    NoulAnswer,
    Question,
    ScoreAnswer,
    State,
)
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages.ai import UsageMetadata
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.calibration import PriorName
from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.decision_questions import YES, Task, read_question, read_state
from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.tasks import run_all

_KEPT = 256
"""Questions whose prior is kept."""


class DecisionModel(BaseDecisionModel):
    """Answers typed questions about a text with the probabilities that a self-hosted LLM gives to the answers.

    A LangChain decision model (langchain-core 1.8 or later): `Choice`, `Noul` (yes or no) and `Score` (ordered levels)
    in one request of several questions, which are asked concurrently. Nothing is generated and parsed. All
    `confidence`s are the probability of the likeliest answer. Sync methods work inside a running event loop too.

    State is a text, messages, or JSON, which is shown as JSON; images and other media are refused. What was learnt of a
    question (how the model leans) is kept for later requests with the same one.

    Args:
        llm: What scores: `TextGenerationInference` (default) or `LlamaCpp`.
        prior: As in `ZeroShotClassifier`: "words" measures the model's lean with eight requests per new question and
            divides by it; None saves them and leaves probabilities as they are.
        model: The name to report until the server has told its model's.

    Raises:
        ConfigurationError: The LLM tells no probabilities, or a question or state is of a kind that is not understood.
        OverlongInputError: State and question are longer than the model accepts.
        ServerError: The server cannot be asked.
        RequestFailedError: A question could not be answered.

    Examples:
        >>> from langchain_core.decisions import Choice, Noul
        >>> from langchain_stormtrooper import DecisionModel, LlamaCpp
        >>> questions = {
        ...     "urgent": Noul(instructions="Does this message require an urgent response?"),
        ...     "team": Choice(instructions="Which team?", criteria={"billing": "invoices", "technical": "bugs"}),
        ... }
        >>> state = "Production is down since noon. Please help immediately."
        >>> response = DecisionModel(llm=LlamaCpp()).invoke({"state": state, "questions": questions})
        >>> 0 < response.nouls["urgent"].noul < 1  # the probability of yes
        True
        >>> sorted(response.choices["team"].probabilities)
        ['billing', 'technical']
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    model: str = ""
    llm: InstanceOf[BaseLanguageModel[Any]] = Field(default_factory=TextGenerationInference)
    prior: PriorName | None = "words"

    _tasks: dict[str, ZeroShotClassifier] = PrivateAttr(default_factory=dict)

    def __init__(self, **kwargs: Any) -> None:
        with checked("DecisionModel", type(self).model_fields):
            super().__init__(**kwargs)
        if not isinstance(self.llm, SelfHostedLLM):
            raise ConfigurationError(
                f"DecisionModel needs the probability of every answer, which {type(self.llm).__name__} does not tell: "
                "use TextGenerationInference or LlamaCpp."
            )
        if not self.model:
            self.model = self.llm._llm_type

    @property
    @override
    def _provider(self) -> str:
        return "langchain_stormtrooper"

    @override
    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        return bridge.run(self._aclassify, state, questions)

    @override
    async def _aclassify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        if not questions:
            raise ConfigurationError("There are no questions: ask at least one.")
        llm = self.llm
        assert isinstance(llm, SelfHostedLLM)  # noqa: S101  # the constructor has seen to it
        text = read_state(state)
        # All are read before the first is asked: what is wrong with one is wrong with the request.
        tasks = {name: read_question(name, question) for name, question in questions.items()}
        rows = await run_all(lambda task: self._ask(task, text), tasks.values(), llm.concurrency)
        answers = {
            name: _answer(questions[name], task, row) for (name, task), row in zip(tasks.items(), rows, strict=True)
        }
        return ClassifierResponse(model=await llm.amodel_id() or self.model, answers=answers, usage=_usage(rows))

    async def _ask(self, task: Task, text: str) -> Classification:
        if len(task.labels) == 1:
            return Classification(label=task.labels.names[0], probabilities={task.labels.names[0]: 1.0})
        classifier = self._tasks.get(task.key)
        # Copies share what was learnt, and may have another LLM or prior.
        if classifier is None or classifier.llm is not self.llm or classifier.prior != self.prior:
            if len(self._tasks) >= _KEPT:
                self._tasks.clear()
            classifier = self._tasks[task.key] = ZeroShotClassifier(
                task.labels, llm=self.llm, prompt=task.prompt, method="score", prior=self.prior
            )
        arranged = await classifier._aarranged()
        row = await arranged.answer(arranged.prompt.render(text), None)
        if row.label is None:
            raise RequestFailedError(f"The question {task.name!r} has no answer: {row.error}.")
        return row


def _answer(question: Question, task: Task, row: Classification) -> Answer:
    probabilities = row.probabilities or {}
    assert row.label is not None  # noqa: S101  # `_ask` has seen to it
    if question.type == "noul":
        return NoulAnswer(type="noul", noul=min(1.0, probabilities[YES]))
    confidence = min(1.0, probabilities[row.label])
    if question.type == "choice":
        return ChoiceAnswer(type="choice", choice=row.label, probabilities=probabilities, confidence=confidence)
    assert question.type == "score"  # noqa: S101  # `read_question` has refused others
    levels = {int(level): probability for level, probability in probabilities.items()}
    return ScoreAnswer(
        type="score",
        score=sum(level * probability for level, probability in levels.items()),
        legend=dict(enumerate(question.criteria)),
        probabilities=levels,
        confidence=confidence,
    )


def _usage(rows: list[Classification]) -> UsageMetadata | None:
    """Tokens of all questions; None where the server does not count them."""
    asked = [row for row in rows if row.method is not None]
    prompt_tokens = [row.prompt_tokens for row in asked if row.prompt_tokens is not None]
    if len(prompt_tokens) < len(asked) or not asked:
        return None
    taken, made = sum(prompt_tokens), sum(row.generated_tokens or 0 for row in asked)
    return UsageMetadata(input_tokens=taken, output_tokens=made, total_tokens=taken + made)
