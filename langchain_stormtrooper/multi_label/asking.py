"""A label's question: does it apply to this text, yes or no.

The text comes before the label, and next to nothing after it. What a row's questions share is everything up to the
label, which a server that keeps the starts of prompts reads once; then a label costs some seven tokens, where a
question after the text would cost twenty. Hence a row's first question goes alone. Called by `runnable`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.prompts import PromptTemplate, StringPromptTemplate

from langchain_stormtrooper.answering import Answering, Demands
from langchain_stormtrooper.answering.base import Overlong, spell_answers
from langchain_stormtrooper.answering.score import Scoring
from langchain_stormtrooper.calibration import PRIOR_TEXTS, PriorName, mean_distribution
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError, PromptError
from langchain_stormtrooper.labels import Label, LabelSet
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.presets import choose_preset
from langchain_stormtrooper.prompts import CHAT_MESSAGE, Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Method
from langchain_stormtrooper.tasks import run_all

YES, NO = "yes", "no"
ANSWERS = LabelSet.of([YES, NO])

LABEL, DESCRIPTION = "label", "description"

_MESSAGE = (
    "Does the {label_kind} apply to the {text_kind}? Answer with yes or no.\n\n"
    "{Text_kind}: {text}\n{Label_kind}: {label}{meaning}"
)
_QUESTION = PromptTemplate.from_template(_MESSAGE + "\nAnswer:")
_IN_CHAT = PromptTemplate.from_template(_MESSAGE)


@dataclass(slots=True)
class Room:
    """How many of a row's questions are asked at once: one after another where there are rows enough."""

    at_once: int = 1

    def spread(self, requests: int) -> None:
        """Take down how many requests a row may make at once."""
        self.at_once = requests


class Question(Scoring):
    """One label's question."""

    async def lean(self, prompt: Prompt) -> tuple[float, ...]:
        """The probabilities of yes and no, as the model gives them."""
        return (await ask_again(lambda: self._score(prompt))).probabilities


class Questions:
    """The questions of all labels, in order.

    Args:
        each: The questions.
        task: What they are, as a hash.

    Attributes:
        beside: What went wrong where a model gave none of the answers that a question has; None where the question
            itself says it.
    """

    beside: str | None = "too little of the model's probability falls on yes and no"

    def __init__(self, each: Sequence[Answering], task: str) -> None:
        self.each = tuple(each)
        self.task = task

    def demanding(self, demands: Demands) -> Self:
        """The same with other demands on each answer."""
        other = copy(self)
        other.each = tuple(question.demanding(demands) for question in self.each)
        return other

    def weigh(self, answers: Sequence[Classification]) -> list[float]:
        """The probability of each label, in [0, 1].

        Args:
            answers: What `ask` returned, none of them without an answer.
        """
        return [min(1.0, (answer.probabilities or {})[YES]) for answer in answers]

    def render(self, text: str, variables: Any = None) -> Prompt:
        """The first question about a text, which stands for all: they differ in the label alone."""
        return self.each[0].render(text, variables)

    async def ask(self, prompt: Prompt, callbacks: Callbacks, *, at_once: int, truncate: bool) -> list[Classification]:
        """The answers to all questions.

        Args:
            prompt: What `render` made of the row.
            callbacks: For the LLM's own runs; None if nobody listens.
            at_once: How many may be asked at once.
            truncate: Whether a text that is too long is cut.

        Raises:
            RowError: One cannot be answered; the others are not asked any more.
            ServerError: No row can be answered.
        """

        async def ask(question: Answering) -> Classification:
            asked = question.render(prompt.text, prompt.variables)
            return await question.answer_fitting(asked, callbacks, truncate=truncate)

        return [await ask(self.each[0]), *await run_all(ask, self.each[1:], at_once)]


def question_prompt(
    template: StringPromptTemplate, label: Label, labels: LabelSet, *, text_kind: str, label_kind: str
) -> TaskPrompt:
    """A label's question as a prompt in which only the text (and variables of inputs) is open.

    Raises:
        PromptError: The template lacks the text, or what tells a label from others.
    """
    open_variables = set(template.input_variables)
    if not open_variables & {LABEL, DESCRIPTION}:
        raise PromptError(
            f"The prompt template has neither {{{LABEL}}} nor {{{DESCRIPTION}}}, and would ask the same of every "
            "label: put one where the label belongs."
        )
    values = {
        LABEL: label.name,
        DESCRIPTION: label.description or label.name,
        "meaning": f" ({label.description})" if label.description else "",
        "labels": ", ".join(labels.names),
    }
    filled: Any = template.partial(**{name: value for name, value in values.items() if name in open_variables})
    return TaskPrompt(filled, ANSWERS, text_kind=text_kind, label_kind=label_kind)


async def arrange(
    labels: LabelSet,
    llm: SelfHostedLLM,
    template: StringPromptTemplate | None,
    prior: PriorName | None,
    *,
    text_kind: str,
    label_kind: str,
) -> Questions:
    """Settle what depends on the server, and learn how the model leans on each question.

    Args:
        labels: The labels.
        llm: What is asked.
        template: The user's own template; None for one that suits the model.
        prior: As in `ZeroShotClassifier`.
        text_kind: What the texts are.
        label_kind: What the labels are.

    Raises:
        ConfigurationError: The LLM tells no probabilities.
        ServerError: The server cannot be asked.
        RequestFailedError: It cannot be asked at the moment.
    """
    rendered = await _chat(llm) if template is None else None
    given = template or (_QUESTION if rendered is None else _IN_CHAT)
    prompts = [
        question_prompt(given, label, labels, text_kind=text_kind, label_kind=label_kind) for label in labels.labels
    ]
    if rendered is not None:
        prompts = [prompt.in_chat(rendered) for prompt in prompts]
    blank = prompts[0].blank()
    if Method.SCORE not in await llm.amethods(blank, spell_answers(blank, ANSWERS.names)):
        raise ConfigurationError(
            f"A MultiLabelClassifier needs the probability of yes and no, which this {type(llm).__name__} does not "
            "tell: use LlamaCpp, or a server that shows the likeliest next tokens."
        )
    questions = [Question(prompt, ANSWERS, llm) for prompt in prompts]
    tasks = [question.fingerprint(ANSWERS.names) for question in questions]
    task = hashlib.sha256(json.dumps([tasks, prior]).encode("ascii")).hexdigest()
    if prior is not None:
        try:
            await _learn_priors(questions, prior, llm.concurrency)
        except OverlongInputError as refusal:
            # A few words do not fit, so that no text does: each row is told, as it would be without a prior.
            return Questions([Overlong(prompt, Method.SCORE, refusal) for prompt in prompts], task)
    return Questions(questions, task)


async def _chat(llm: SelfHostedLLM) -> str | None:
    """The model's chat template around a message; None where the model is better asked without."""
    if llm.wraps_prompts or not choose_preset(await llm.amodel_id(), renders_chat=True).chat:
        return None
    return await llm.arender_chat(CHAT_MESSAGE)


async def _learn_priors(questions: Sequence[Question], prior: PriorName, at_once: int) -> None:
    """Ask all questions about texts without content, one text after another, so that each is read once."""
    leans: list[list[tuple[float, ...]]] = []
    for text in PRIOR_TEXTS[prior]():

        async def lean(question: Question, text: str = text) -> tuple[float, ...]:
            return await question.lean(question.render(text, dict.fromkeys(question.prompt.input_variables, "")))

        leans.append([await lean(questions[0]), *await run_all(lean, questions[1:], at_once)])
    for question, of_texts in zip(questions, zip(*leans, strict=True), strict=True):
        question.prior = mean_distribution(of_texts)
