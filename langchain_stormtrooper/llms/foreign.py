"""What is known of LangChain's LLMs and chat models that are not ours: how to make them greedy, how many rows at once.

It goes by the names of fields and classes and imports no other package, changes only copies, and never calls a model.
`answering.foreign` asks it once per classifier; what foreign errors and log-probabilities mean is in `foreign_errors`
and `foreign_logprobs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLanguageModel

CONCURRENCY = 16
"""Rows at once for LLMs that do not say: their clients have pools of connections, sync ones get threads."""

STOP = "stop"

_IN_PROCESS = {
    "CTransformers",
    "ChatLlamaCpp",
    "ChatMLX",
    "ExLlamaV2",
    "GPT4All",
    "HuggingFacePipeline",
    "LlamaCpp",
    "MLXPipeline",
    "OpenVINOLLM",
    "VLLM",
    "WeightOnlyQuantPipeline",
}
"""LLMs that compute in the process: two calls at once bring nothing, and break tokenizers and models."""

_LENGTHS = ("max_new_tokens", "max_tokens", "max_output_tokens", "num_predict")
_NARROWING = ("top_p", "top_k", "typical_p", "min_p")
_SAMPLING = {"temperature", "do_sample", "seed", "best_of", "n", *_NARROWING}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a classifier changes on a foreign LLM.

    Attributes:
        fields: Fields of a copy, by name.
        keywords: What is passed with every call, for LLMs that look nowhere else.
        stop: Texts at which generation ends.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()

    def without(self, names: Sequence[str]) -> Settings:
        """These settings without some that a server refuses."""
        return Settings(
            {name: value for name, value in self.fields.items() if name not in names},
            self.keywords,
            () if STOP in names else self.stop,
        )


def is_a(llm: object, names: set[str]) -> bool:
    """Whether an object's class, or one that it inherits, has one of some names."""
    return not names.isdisjoint(kind.__name__ for kind in type(llm).__mro__)


def wrapped(llm: BaseLanguageModel[Any]) -> Any:
    """The LLM that a chat model such as `ChatHuggingFace` wraps; the LLM itself if it wraps none."""
    inner = getattr(llm, "llm", None)
    return inner if isinstance(llm, BaseChatModel) and isinstance(inner, BaseLanguageModel) else llm


def rows_at_once(llm: BaseLanguageModel[Any]) -> int:
    """How many rows are worked on at once where the caller does not say."""
    if is_a(wrapped(llm), _IN_PROCESS):
        return 1
    own = getattr(llm, "max_concurrency", None)
    return own if isinstance(own, int) and not isinstance(own, bool) and own > 0 else CONCURRENCY


def tells_logprobs(llm: BaseLanguageModel[Any]) -> bool:
    """Whether the user has asked an LLM for log-probabilities, as with `ChatOpenAI(logprobs=True)`."""
    given = getattr(llm, "model_kwargs", None)
    return bool(getattr(llm, "logprobs", None)) or (isinstance(given, Mapping) and bool(given.get("logprobs")))


def greedy(
    llm: BaseLanguageModel[Any], *, stop: Sequence[str], max_new_tokens: int | None, enough_tokens: int
) -> Settings:
    """What makes an LLM answer a classifier's prompts as it should: the likeliest answer, of some length.

    The length is set where the classifier was told one. Else a text LLM whose length the user left at its default gets
    one that is enough for any label, since base models go on until they are stopped; chat models end by themselves and
    may think first.

    Args:
        llm: The LLM.
        stop: Where the prompt's preset says that an answer ends. Chat models do not get it: they may begin with a
            thought or an empty line.
        max_new_tokens: Tokens to generate at most, as the classifier was told.
        enough_tokens: Tokens that are enough for any label.
    """
    is_chat = isinstance(llm, BaseChatModel)
    fields = _sampling_off(llm)
    keywords = {}
    length = max_new_tokens
    if is_a(wrapped(llm), {"HuggingFacePipeline"}):
        # It takes settings with the call only, and those of `pipeline_kwargs` are in the pipeline already.
        pipeline = wrapped(llm)
        keywords["pipeline_kwargs"] = _pipeline_settings(pipeline, length, enough_tokens)
    elif name := next((name for name in _LENGTHS if name in _fields(llm)), None):
        if length is None and not is_chat and name not in llm.model_fields_set:
            length = enough_tokens
        if length is not None:
            fields[name] = length
    # Setting what is there already would leave out the user's own object for nothing.
    changed = {name: value for name, value in fields.items() if getattr(llm, name) != value}
    return Settings(changed, keywords, () if is_chat else tuple(stop))


def _fields(llm: BaseLanguageModel[Any]) -> Mapping[str, Any]:
    return type(llm).model_fields


def _sampling_off(llm: BaseLanguageModel[Any]) -> dict[str, Any]:
    there = _fields(llm)
    fields: dict[str, Any] = {}
    if "do_sample" in there:
        # TGI's way: with any of these set it samples, whatever `do_sample` says, and it refuses a temperature of 0.
        fields |= {"do_sample": False, **dict.fromkeys(("temperature", *_NARROWING))}
        fields |= {"watermark": False, "return_full_text": False}
        fields = {name: value for name, value in fields.items() if name in there}
    elif "temperature" in there:
        fields["temperature"] = 0.0
        # Without a temperature they say nothing any more, and some servers refuse both together.
        fields |= {name: None for name in _NARROWING if name in there and there[name].default is None}
    for name in ("n", "best_of"):
        if isinstance(number := getattr(llm, name, None), int) and name in there and number > 1:
            fields[name] = 1
    given = getattr(llm, "model_kwargs", None)
    if "model_kwargs" in there and isinstance(given, Mapping) and not _SAMPLING.isdisjoint(given):
        fields["model_kwargs"] = {name: value for name, value in given.items() if name not in _SAMPLING}
    return fields


def _pipeline_settings(pipeline: Any, max_new_tokens: int | None, enough_tokens: int) -> dict[str, Any]:
    own = pipeline.pipeline_kwargs or {}
    settings: dict[str, Any] = {"do_sample": False}
    if max_new_tokens is not None or not {"max_new_tokens", "max_length"} & set(own):
        settings["max_new_tokens"] = max_new_tokens or enough_tokens
    if getattr(pipeline.pipeline, "task", None) == "text-generation":
        # Else the answer begins with the prompt, which names every label.
        settings["return_full_text"] = False
    return settings


_REFUSED = (
    r"(?:unsupported|not support|does not support|deprecated|not (?:be )?allowed|not permitted|unexpected|unrecognized|"
    r"unknown|cannot both|only the default|must be strictly positive)"
)
_SHORT = 600
"""Characters up to which a message can be about a setting; longer ones quote what was sent."""


def refused_settings(message: str, settings: Settings) -> tuple[str, ...]:
    """The settings that an error says the model does not take, as reasoning models take no temperature.

    Args:
        message: What the error says.
        settings: What was set.

    Returns:
        Their names; none if the error is about something else.
    """
    if len(message) > _SHORT:
        return ()
    names = (*settings.fields, *([STOP] if settings.stop else []))
    return tuple(
        name
        for name in names
        if re.search(
            rf"\b{name}\b.{{0,80}}{_REFUSED}|{_REFUSED}.{{0,80}}\b{name}\b", message, re.IGNORECASE | re.DOTALL
        )
    )
