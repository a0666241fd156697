"""How one row is answered: by scoring the labels, by a constrained generation, or by free text and matching.

`arrange` settles once per classifier what depends on the server (the prompt's preset, the method, the prior); what it
returns answers rows, one at a time, without knowing of batches, warnings or LangChain's faces. `classifiers` is the
caller, and `multi_label` where it scores all labels at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.prompts import StringPromptTemplate

from langchain_stormtrooper.answering.base import Answering as Answering
from langchain_stormtrooper.answering.base import Overlong, spell_answers
from langchain_stormtrooper.answering.choosing import Choosing
from langchain_stormtrooper.answering.constrain import Constraining
from langchain_stormtrooper.answering.deciding import Demands as Demands
from langchain_stormtrooper.answering.foreign import ForeignGenerating
from langchain_stormtrooper.answering.generate import Generating
from langchain_stormtrooper.answering.score import Scoring
from langchain_stormtrooper.answering.settings import TaskSettings
from langchain_stormtrooper.answering.shortlisting import Shortlisting
from langchain_stormtrooper.calibration import PriorName
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.foreign import rows_at_once, tells_logprobs
from langchain_stormtrooper.presets import PRESETS, choose_preset
from langchain_stormtrooper.prompts import CHAT_MESSAGE, TaskPrompt, task_prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.selecting import Among, LabelRanking, Shortlist

_LONG = 400
"""Characters before the text from which on it pays to have them computed once."""


async def arrange(settings: TaskSettings) -> Answering:
    """Settle what depends on the server, and learn the prior.

    Raises:
        ConfigurationError: The LLM does not offer the method, or the prompt or another setting does not fit it.
        CalibrationError: The calibration was made for another task or model.
        ServerError: The server cannot be asked.
        RequestFailedError: It cannot be asked at the moment.
    """
    make_prompt, stop = await _choose_prompt(settings)
    at_once = settings.choices
    if settings.shortlist is not None:
        # Which of them does not matter for what the server can do, how many does.
        at_once = _shortlisted(settings, range(min(settings.shortlist.size, len(settings.in_scope))))
    # Without examples, since it is not known yet for how many there is room.
    prompt = make_prompt(at_once, ())
    method = await _choose_method(settings, prompt)
    if method is Method.GENERATE and prompt.answers != at_once.names:
        raise ConfigurationError(
            "prompt='codes' asks for codes, which are not looked for in generated text: use method='score' or "
            "'constrain' where the LLM offers it, or another prompt."
        )
    _check_method(settings, method)

    def make(labels: LabelSet, examples: tuple[Example, ...]) -> TaskPrompt:
        prompt = make_prompt(labels, examples)
        if settings.rotations == 1:
            return prompt
        others = _turned(labels, min(settings.rotations, len(labels)))
        return prompt.with_others([make_prompt(turned, examples) for turned in others])

    inner = _answering(settings, make(settings.choices, ()), method, stop)
    answering = (
        inner if settings.chooser is None else Choosing(inner, partial(make, settings.choices), settings.chooser)
    )
    if settings.shortlist is not None:
        if isinstance(inner, Scoring) and settings.prior is not None:
            await _learn_prior_of_many(settings, inner, answering)
        return _shortlisting(settings, settings.shortlist, inner, make)
    if settings.calibration is not None:
        assert isinstance(settings.llm, SelfHostedLLM)  # noqa: S101  # _check_method has seen to it
        names = settings.choices.names
        settings.calibration.check(names, answering.fingerprint(names), await settings.llm.amodel_id())
    elif isinstance(inner, Scoring) and settings.prior is not None:
        try:
            await _learn_prior(settings.prior, inner, answering)
        except OverlongInputError as refusal:
            # A few words do not fit, so that no text does: each row is told, as it would be without a prior.
            return Overlong(answering.prompt, method, refusal)
        return answering
    if isinstance(settings.llm, SelfHostedLLM) and settings.llm.shares_prefixes:
        answering.first_goes_alone = len(answering.common_start) >= _LONG
    return answering


async def _learn_prior(prior: PriorName, inner: Scoring, answering: Answering) -> None:
    around = answering.fitted if isinstance(answering, Choosing) else None
    await inner.learn_prior(answering.neutral_prompts(prior), around)


async def _learn_prior_of_many(settings: TaskSettings, inner: Scoring, answering: Answering) -> None:
    """Learn the lean towards all labels, once for all shortlists.

    Raises:
        ConfigurationError: It cannot be learnt.
    """
    assert settings.prior is not None  # noqa: S101  # the caller has looked
    if inner.prompt.answers != settings.choices.names:
        raise ConfigurationError(
            "With a shortlist, a code stands for another label in each row, so that a model's lean to it says nothing "
            "of labels: set prior=None with prompt='codes'."
        )
    try:
        await _learn_prior(settings.prior, inner, answering)
    except OverlongInputError:
        raise ConfigurationError(
            "The prior is learnt with all labels in the prompt, which is longer than the model takes: set prior=None, "
            "or a prompt that does not list them, such as prompt='kinds'."
        ) from None
    if inner.prior is not None and min(inner.prior) <= 0:
        raise ConfigurationError(
            f"The server does not show the probabilities of all {len(settings.choices)} labels, so that no prior can "
            "be learnt: set prior=None."
        )


def _shortlisting(
    settings: TaskSettings,
    shortlist: Shortlist,
    inner: Answering,
    make: Callable[[LabelSet, tuple[Example, ...]], TaskPrompt],
) -> Answering:
    """What answers rows with a few of the labels.

    Args:
        settings: The settings.
        shortlist: Which labels.
        inner: What answers with all, without examples.
        make: The prompt for some labels and examples.
    """
    chooser = settings.chooser

    def among(positions: tuple[int, ...]) -> Answering:
        labels = _shortlisted(settings, positions)
        one = inner.among(make(labels, ()), labels)
        return one if chooser is None else Choosing(one, partial(make, labels), Among(chooser, labels.names))

    labels = settings.in_scope
    ranking = LabelRanking(shortlist, labels, settings.examples)
    typical = among(tuple(range(min(shortlist.size, len(labels)))))
    return Shortlisting(typical, among, labels, shortlist, ranking, _demands(settings), settings.option)


def _shortlisted(settings: TaskSettings, positions: Iterable[int]) -> LabelSet:
    """Some of the labels and, if there is one, the option, which is always among the choices."""
    labels = settings.choices.labels
    option = () if settings.option is None else labels[-1:]
    return LabelSet([*(labels[position] for position in positions), *option])


def demanding(settings: TaskSettings, answering: Answering) -> Answering:
    """What answers rows of the same task with other demands on an answer, without asking the server anything.

    Args:
        settings: The settings, which differ from those of the other in the demands alone.
        answering: What `arrange` returned for the other.

    Raises:
        ConfigurationError: A demand does not fit the method.
    """
    _check_method(settings, answering.method)
    return answering.demanding(_demands(settings))


def _demands(settings: TaskSettings) -> Demands:
    calibration = settings.calibration
    return settings.demands.with_threshold(None if calibration is None else calibration.threshold)


def _answering(settings: TaskSettings, prompt: TaskPrompt, method: Method, stop: Sequence[str]) -> Answering:
    if method is not Method.GENERATE:
        assert isinstance(settings.llm, SelfHostedLLM)  # noqa: S101  # _choose_method has seen to it
        kind = Scoring if method is Method.SCORE else Constraining
        weighing = kind(prompt, settings.choices, settings.llm, settings.calibration, _demands(settings))
        if isinstance(weighing, Scoring):
            weighing.has_option = settings.option is not None
        return weighing
    arguments = (prompt, settings.choices, settings.llm, settings.parser)
    if isinstance(settings.llm, SelfHostedLLM):
        return Generating(*arguments, stop=stop, max_new_tokens=settings.max_new_tokens)
    return ForeignGenerating(
        *arguments,
        stop=stop,
        max_new_tokens=settings.max_new_tokens,
        min_confidence=settings.demands.confidence,
    )


def _check_method(settings: TaskSettings, method: Method) -> None:
    """Refuse settings that would do nothing with this method."""
    if method is not Method.SCORE and settings.rotations > 1:
        raise ConfigurationError(
            f"`rotations=` averages scores, and method={method.value!r} has none: use method='score', or leave it out."
        )
    if method is Method.CONSTRAIN and settings.demands.covered_mass is not None:
        raise ConfigurationError(
            "`min_covered_mass=` tells nothing with method='constrain', which never answers beside the labels: use "
            "method='score', or leave it out."
        )
    if method is not Method.GENERATE:
        return
    is_told = not isinstance(settings.llm, SelfHostedLLM) and tells_logprobs(settings.llm)
    given = {
        "calibration": settings.calibration is not None,
        "min_confidence": settings.demands.confidence is not None and not is_told,
        "min_margin": settings.demands.margin is not None,
        "min_covered_mass": settings.demands.covered_mass is not None,
    }
    if any(given.values()):
        names = ", ".join(f"`{name}=`" for name, there in given.items() if there)
        raise ConfigurationError(
            f"{names} cannot be used with method='generate', which gives no probabilities: set method='score', or "
            "leave it out."
        )


def _turned(labels: LabelSet, rotations: int) -> list[LabelSet]:
    """The labels in other orders: turned by even steps, so that each comes to stand in as many places."""
    given, total = labels.labels, len(labels)
    starts = [number * total // rotations for number in range(1, rotations)]
    return [LabelSet(given[start:] + given[:start]) for start in starts]


def fill_template(
    settings: TaskSettings, template: StringPromptTemplate, examples: Sequence[Example] = ()
) -> TaskPrompt:
    """The user's own template, filled in.

    Raises:
        PromptError: The template lacks a variable.
    """
    return TaskPrompt(
        template,
        settings.choices,
        examples=examples,
        takes_examples=settings.chooser is not None,
        text_kind=settings.text_kind,
        label_kind=settings.label_kind,
    )


def concurrency(llm: BaseLanguageModel[Any]) -> int:
    """How many rows are worked on at once where the caller does not say."""
    return llm.concurrency if isinstance(llm, SelfHostedLLM) else rows_at_once(llm)


async def offers(settings: TaskSettings, method: Method) -> bool:
    """Whether the LLM can answer rows of a task in a certain way.

    Args:
        settings: The settings; their own method does not matter.
        method: The way.

    Raises:
        ConfigurationError: The prompt does not fit the LLM.
        ServerError: The server cannot be asked.
        RequestFailedError: It cannot be asked at the moment.
    """
    if not isinstance(settings.llm, SelfHostedLLM):
        return method is Method.GENERATE
    make_prompt, _ = await _choose_prompt(settings)
    return method in await _offered(settings.llm, make_prompt(settings.choices, ()))


async def _offered(llm: SelfHostedLLM, prompt: TaskPrompt) -> tuple[Method, ...]:
    empty = prompt.blank()
    return await llm.amethods(empty, spell_answers(empty, prompt.answers))


async def _choose_method(settings: TaskSettings, prompt: TaskPrompt) -> Method:
    llm = settings.llm if isinstance(settings.llm, SelfHostedLLM) else None
    if settings.method == "generate" or (settings.method == "auto" and settings.expects_text):
        return Method.GENERATE
    offered = (Method.GENERATE,) if llm is None else await _offered(llm, prompt)
    if settings.method == "auto":
        return offered[0]
    method = Method(settings.method)
    if method not in offered:
        raise ConfigurationError(
            f"{type(settings.llm).__name__} does not offer method={settings.method!r} for this task: use "
            f"{' or '.join(repr(name.value) for name in offered)}, or leave it out."
        )
    return method


_MakePrompt: TypeAlias = Callable[[LabelSet, Sequence[Example]], TaskPrompt]


async def _choose_prompt(settings: TaskSettings) -> tuple[_MakePrompt, tuple[str, ...]]:
    """What makes the prompt for the labels in some order and some examples, and where a generated answer ends."""
    if isinstance(settings.prompt, StringPromptTemplate):
        template = settings.prompt
        return lambda labels, examples: fill_template(replace(settings, choices=labels), template, examples), ()
    llm = settings.llm if isinstance(settings.llm, SelfHostedLLM) else None
    rendered: str | None = None
    if settings.prompt is not None:
        preset = PRESETS[settings.prompt]
        if preset.chat and llm is not None and not llm.wraps_prompts:
            rendered = await llm.arender_chat(CHAT_MESSAGE)
            if rendered is None:
                raise ConfigurationError(
                    "The server cannot render its model's chat template: choose another `prompt=`."
                )
    elif llm is None or llm.wraps_prompts:
        # Chat models wrap the message themselves; of other LLMs nothing is known but that they follow instructions.
        preset = PRESETS["chat" if isinstance(settings.llm, BaseChatModel) else "task"]
    else:
        model_id = await llm.amodel_id()
        preset = choose_preset(model_id, renders_chat=True)
        if preset.chat:
            rendered = await llm.arender_chat(CHAT_MESSAGE)
            preset = choose_preset(model_id, renders_chat=rendered is not None)

    def make(labels: LabelSet, examples: Sequence[Example]) -> TaskPrompt:
        prompt = task_prompt(
            preset,
            labels,
            examples=examples,
            text_kind=settings.text_kind,
            label_kind=settings.label_kind,
        )
        return prompt if rendered is None else prompt.in_chat(rendered)

    return make, preset.stop
