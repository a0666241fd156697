"""The parts that users give a classifier, a prompt and an LLM: read, or refused with what to do instead. Pure."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.prompts import BasePromptTemplate, PromptTemplate, StringPromptTemplate
from langchain_core.runnables import Runnable

from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.presets import PRESETS


def read_prompt(prompt: Any) -> Any:
    """A prompt as users give it, with a template's text made into a template.

    Raises:
        PromptError: A text is neither a preset's name nor a template.
        ConfigurationError: It is a template of messages.
    """
    if isinstance(prompt, str) and prompt not in PRESETS:
        if "{" not in prompt:
            raise PromptError(
                f"prompt={prompt!r} is neither a preset ({', '.join(PRESETS)}) nor a template with {{text}}."
            )
        try:
            return PromptTemplate.from_template(prompt)
        except ValueError as error:
            raise PromptError(f"The prompt is no template: {error}; write other braces twice.") from None
    if isinstance(prompt, BasePromptTemplate) and not isinstance(prompt, StringPromptTemplate):
        raise ConfigurationError(
            f"`prompt` must be a PromptTemplate, not a {type(prompt).__name__}: chat models get it as one message, and "
            "prompt='chat' uses the model's own chat template."
        )
    return prompt


def check_llm(llm: Any) -> None:
    """Say what to do about what LangChain users may well try.

    Raises:
        ConfigurationError: It is a Runnable around a language model.
    """
    if isinstance(llm, Runnable) and not isinstance(llm, BaseLanguageModel):
        raise ConfigurationError(
            f"`llm` must be a language model, not a {type(llm).__name__} around one: put `with_fallbacks` and the like "
            "on the classifier."
        )
