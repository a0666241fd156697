"""How one row is answered: by scoring the labels, or by generating text and matching it.

`arrange` settles once per classifier what depends on the server (the prompt's preset, the method, the prior); what it
returns answers rows, one at a time, without knowing of batches, warnings or LangChain's faces. `classifiers` is the
only caller.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAuthenticationError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    OutputParserException,
)
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import StringPromptTemplate
from typing_extensions import override

from langchain_stormtrooper import budget
from langchain_stormtrooper.calibration import divide_by_prior, mean_distribution, word_bags
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError, RequestFailedError, StormtrooperError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import RenderedPrompt, SelfHostedLLM, is_overlong
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.prompts import CHAT_MESSAGE, PRESETS, Prompt, TaskPrompt, choose_preset, task_prompt
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.wire import Generated, as_count

PresetName: TypeAlias = Literal["stable-beluga", "flan-t5", "task", "kinds", "chat"]
MethodName: TypeAlias = Literal["auto", "score", "constrain", "generate"]

_FOREIGN_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What a classifier was given, as far as answering a row depends on it; see `classifiers`."""

    labels: LabelSet
    llm: BaseLanguageModel[Any]
    prompt: StringPromptTemplate | PresetName | None
    parser: BaseOutputParser[str | None]
    examples: Sequence[Example]
    method: MethodName
    prior: Literal["words"] | None
    text_kind: str
    label_kind: str
    max_new_tokens: int | None


class Answering(ABC):
    """Answers rows of one task.

    Attributes:
        prompt: The prompt with everything filled in but the text.
        method: How rows are answered.
    """

    method: Method

    def __init__(self, prompt: TaskPrompt) -> None:
        self.prompt = prompt

    @abstractmethod
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Answer one row.

        Args:
            prompt: The rendered prompt.
            callbacks: For the LLM's own run; None if nobody listens.

        Raises:
            RowError: This row cannot be answered.
            ServerError: No row can be answered.
        """

    async def answer_shortened(
        self, prompt: Prompt, refusal: OverlongInputError, callbacks: Callbacks
    ) -> Classification:
        """Answer a row that was refused for its length with as much of its text as fits.

        Args:
            prompt: The refused prompt.
            refusal: Why it was refused.
            callbacks: As in `answer`.

        Raises:
            OverlongInputError: Not even the prompt without its text fits.
        """
        constant = await self._count(replace(prompt, text=""))
        for number in range(budget.ROUNDS):
            text = prompt.text
            if refusal.tokens is None or refusal.limit is None or number > budget.ROUNDS / 2:
                text = text[: len(text) // 2]
            else:
                # Without a count, the instruction is taken to be as dense as the text.
                share = (len(str(prompt)) - len(text)) / max(1, len(str(prompt)))
                known = refusal.tokens * share if constant is None else constant
                text = budget.shorten(text, tokens=refusal.tokens, limit=refusal.limit, constant=math.ceil(known))
            if not text:
                break
            prompt = replace(prompt, text=text)
            try:
                answer = await self.answer(prompt, callbacks)
            except OverlongInputError as error:
                refusal = error
            else:
                return answer.model_copy(update={"truncated": True})
        raise refusal

    async def _count(self, prompt: Prompt) -> int | None:
        """Tokens of a prompt, None where that cannot be told."""
        return None


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
        scores = await run_all(self._score, prompts, self._llm.concurrency)
        self.prior = mean_distribution([score.probabilities for score in scores])

    async def _score(self, prompt: Prompt) -> LabelScores:
        # Running text has a space before the label, unless the prompt ends with white space or an opening quote.
        last = str(prompt)[-1:]
        joined = "" if last.isspace() or last in "\"'([{<“‘«" else " "
        return await self._llm.ascore_row(prompt, tuple(joined + name for name in self._labels))

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        scores = await self._score(prompt)
        probabilities = scores.probabilities
        if self.prior is not None:
            probabilities = divide_by_prior(probabilities, self.prior)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return Classification(
            label=self._labels[best],
            method=self.method,
            confidence=min(1.0, probabilities[best]),
            probabilities=dict(zip(self._labels, probabilities, strict=True)),
            covered_mass=scores.covered_mass,
            prompt_tokens=scores.prompt_tokens,
            generated_tokens=scores.generated_tokens,
        )


class Generating(Answering):
    """Free text, matched to the nearest label."""

    method = Method.GENERATE

    def __init__(
        self,
        prompt: TaskPrompt,
        labels: LabelSet,
        llm: BaseLanguageModel[Any],
        parser: BaseOutputParser[str | None],
        *,
        stop: Sequence[str],
        max_new_tokens: int | None,
    ) -> None:
        super().__init__(prompt)
        self._labels = labels
        self._llm = llm
        self._parser = parser
        self._stop = [*stop] or None
        # Room for the longest label with some words around it, whatever the tokenizer: a token is a byte at least.
        self._max_new_tokens = max_new_tokens or 16 + 2 * max(len(name.encode()) for name in labels)

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        generated = await self._generate(prompt, callbacks)
        label, match = self._match(generated.text)
        return Classification(
            label=label,
            reason=Reason.UNMATCHED if label is None else None,
            method=self.method,
            match=match,
            prompt_tokens=generated.prompt_tokens,
            generated_tokens=generated.generated_tokens,
            generation=generated.text,
        )

    @override
    async def _count(self, prompt: Prompt) -> int | None:
        return await self._llm.acount_tokens(prompt) if isinstance(self._llm, SelfHostedLLM) else None

    def _match(self, text: str) -> tuple[str | None, Any]:
        # A subclass with a parse of its own has more to say than the matcher.
        if isinstance(self._parser, LabelOutputParser) and type(self._parser).parse is LabelOutputParser.parse:
            return self._parser.match(text)
        try:
            label = self._parser.parse(text)
        except OutputParserException:
            return None, None
        return (label, None) if label in self._labels else (None, None)

    async def _generate(self, prompt: Prompt, callbacks: Callbacks) -> Generated:
        if isinstance(self._llm, SelfHostedLLM):
            if callbacks is None and not _has_cache(self._llm):
                return await self._llm.agenerate_row(prompt, stop=self._stop, max_new_tokens=self._max_new_tokens)
            return _outcome(
                await self._llm.agenerate(
                    [RenderedPrompt(prompt)],
                    stop=self._stop,
                    callbacks=callbacks,
                    max_new_tokens=self._max_new_tokens,
                )
            )
        try:
            value = StringPromptValue(text=str(prompt))
            return _outcome(await self._llm.agenerate_prompt([value], stop=self._stop, callbacks=callbacks))
        except (StormtrooperError, ModelAuthenticationError, ModelPermissionDeniedError, ModelNotFoundError):
            raise
        except ContextOverflowError:
            raise OverlongInputError("The prompt is longer than the model accepts: shorten the text.") from None
        except Exception as error:  # noqa: BLE001  # a foreign LLM may raise anything, and it concerns one row
            # Its message may quote the prompt.
            raise RequestFailedError(f"The LLM raised {type(error).__name__}.") from None


def _outcome(result: LLMResult) -> Generated:
    """What LangChain brought back for one prompt."""
    generation = result.generations[0][0]
    info = generation.generation_info or {}
    if is_overlong(generation):
        raise OverlongInputError("The prompt is longer than the server accepts.", tokens=info.get("prompt_tokens"))
    return Generated(
        generation.text,
        prompt_tokens=as_count(info.get("prompt_tokens")),
        generated_tokens=as_count(info.get("generated_tokens")),
    )


async def arrange(settings: TaskSettings) -> Answering:
    """Settle what depends on the server, and learn the prior.

    Raises:
        ConfigurationError: The LLM does not offer the method, or the prompt does not fit it.
        ServerError: The server cannot be asked.
    """
    method = _choose_method(settings)
    prompt, stop = await _choose_prompt(settings)
    if method is Method.SCORE:
        assert isinstance(settings.llm, SelfHostedLLM)  # noqa: S101  # _choose_method has seen to it
        scoring = Scoring(prompt, settings.labels, settings.llm)
        if settings.prior is not None:
            await scoring.learn_prior()
        return scoring
    return Generating(
        prompt,
        settings.labels,
        settings.llm,
        settings.parser,
        stop=stop,
        max_new_tokens=settings.max_new_tokens,
    )


def fill_template(settings: TaskSettings, template: StringPromptTemplate) -> TaskPrompt:
    """The user's own template, filled in.

    Raises:
        PromptError: The template lacks a variable.
    """
    return TaskPrompt(
        template,
        settings.labels,
        examples=settings.examples,
        text_kind=settings.text_kind,
        label_kind=settings.label_kind,
    )


def concurrency(llm: BaseLanguageModel[Any]) -> int:
    """How many rows are worked on at once where the caller does not say."""
    return llm.concurrency if isinstance(llm, SelfHostedLLM) else _FOREIGN_CONCURRENCY


def _choose_method(settings: TaskSettings) -> Method:
    offered = settings.llm.methods if isinstance(settings.llm, SelfHostedLLM) else (Method.GENERATE,)
    if settings.method == "auto":
        return offered[0]
    method = Method(settings.method)
    if method not in offered:
        raise ConfigurationError(
            f"{type(settings.llm).__name__} does not offer method={settings.method!r}: use "
            f"{' or '.join(repr(name.value) for name in offered)}, or leave it out."
        )
    return method


async def _choose_prompt(settings: TaskSettings) -> tuple[TaskPrompt, tuple[str, ...]]:
    """The prompt, and where a generated answer ends."""
    if isinstance(settings.prompt, StringPromptTemplate):
        return fill_template(settings, settings.prompt), ()
    llm = settings.llm if isinstance(settings.llm, SelfHostedLLM) else None
    rendered: str | None = None
    if settings.prompt is not None:
        preset = PRESETS[settings.prompt]
        if preset.chat and llm is not None:
            rendered = await llm.arender_chat(CHAT_MESSAGE)
            if rendered is None:
                raise ConfigurationError(
                    "The server cannot render its model's chat template: choose another `prompt=`."
                )
    elif llm is None:
        # Chat models wrap the message themselves; of other LLMs nothing is known but that they follow instructions.
        preset = PRESETS["task"]
    else:
        model_id = await llm.amodel_id()
        preset = choose_preset(model_id, renders_chat=True)
        if preset.chat:
            rendered = await llm.arender_chat(CHAT_MESSAGE)
            preset = choose_preset(model_id, renders_chat=rendered is not None)
    prompt = task_prompt(
        preset,
        settings.labels,
        examples=settings.examples,
        text_kind=settings.text_kind,
        label_kind=settings.label_kind,
    )
    return (prompt if rendered is None else prompt.in_chat(rendered)), preset.stop


def _has_cache(llm: SelfHostedLLM) -> bool:
    return llm.cache is not False and (llm.cache is not None or get_llm_cache() is not None)
