"""LangChain's questions and states as our labels, prompts and texts. Pure; `decision_model` is the only caller.

Instructions, criteria and states are put in as they are: braces in them are never read as a template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.decisions import Question, State
from langchain_core.messages import BaseMessage, get_buffer_string
from langchain_core.prompts import PromptTemplate

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labels import Label, LabelSet

YES, NO = "yes", "no"

_MEDIA = {"image", "image_url", "audio", "input_audio", "video", "file"}
_TEMPLATE = "{question}\nAnswer with exactly one of: {labels}\n\nText: {text}\nAnswer:"


@dataclass(frozen=True, slots=True)
class Task:
    """A question as a classification.

    Attributes:
        name: The question's ID.
        key: The same for equal questions only.
        labels: The possible answers.
        prompt: The prompt, with the text and the labels open.
    """

    name: str
    key: str
    labels: LabelSet | Single
    prompt: PromptTemplate


@dataclass(frozen=True, slots=True)
class Single:
    """The one answer of a question that leaves no choice; a `LabelSet` has at least two."""

    names: tuple[str]

    def __len__(self) -> int:
        return 1


def read_question(name: str, question: Question) -> Task:
    """The classification that a question stands for.

    Args:
        name: Its ID.
        question: The question.

    Raises:
        ConfigurationError: It asks for something that no text model has, or shows it an image.
        LabelError: Its answers cannot be told apart.
    """
    if question.type == "box":
        raise ConfigurationError(f"The question {name!r} is a Box: DecisionModel reads texts and finds no images.")
    if question.type == "choice":
        given = [Label(label, _shown(what)) for label, what in question.criteria.items()]
    elif question.type == "score":
        given = [Label(str(level), _shown(what)) for level, what in enumerate(question.criteria)]
    else:
        criteria = question.criteria
        given = [
            Label(YES, None if criteria is None else _shown(criteria.true)),
            Label(NO, None if criteria is None else _shown(criteria.false)),
        ]
    labels = Single((given[0].name,)) if len(given) == 1 else LabelSet.of(given)
    prompt = PromptTemplate(
        template=_TEMPLATE,
        input_variables=["labels", "text"],
        partial_variables={"question": _shown(question.instructions) or ""},
    )
    return Task(name, question.model_dump_json(), labels, prompt)


def read_state(state: State) -> str:
    """A state as a text.

    Raises:
        ConfigurationError: It holds an image or other media.
    """
    _refuse_media(state)
    if isinstance(state, BaseMessage):
        return str(state.text)
    if isinstance(state, Sequence) and state and all(isinstance(part, BaseMessage) for part in state):
        return get_buffer_string([part for part in state if isinstance(part, BaseMessage)])
    return _shown(state) or ""


def _shown(value: Any) -> str | None:
    _refuse_media(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_message)


def _message(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return {"role": value.type, "content": str(value.text)}
    raise ConfigurationError(f"A state or question holds a {type(value).__name__}: give texts, numbers or messages.")


def _refuse_media(value: Any) -> None:
    if isinstance(value, BaseMessage):
        value = value.content
    if isinstance(value, Mapping):
        if value.get("type") in _MEDIA:
            raise ConfigurationError(f"A state or question holds media ({value['type']}): DecisionModel reads texts.")
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            _refuse_media(part)
