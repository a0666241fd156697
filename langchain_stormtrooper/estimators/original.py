"""What the arguments of stormtrooper 0.x mean here: addresses with /generate, and templates with {X} and {classes}.

Pure; `base` is the only caller.
"""

from __future__ import annotations

from string import Formatter
from typing import Any

from langchain_core.prompts import PromptTemplate

from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.labels import LabelSet

_GENERATE = "/generate"
_RENAMED = {"X": "text"}


def server_address(endpoint: str | None, base_url: str | None) -> str | None:
    """The address of the server, None if neither argument names one.

    Args:
        endpoint: An address that may end in /generate.
        base_url: An address.

    Raises:
        ConfigurationError: They name different servers, or one is no text.
    """
    for name, value in (("endpoint", endpoint), ("base_url", base_url)):
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"`{name}` must be an address such as http://127.0.0.1:8080.")
    given = None if endpoint is None else endpoint.rstrip("/").removesuffix(_GENERATE)
    if given is not None and base_url is not None and given.rstrip("/") != base_url.rstrip("/"):
        raise ConfigurationError("`endpoint` and `base_url` name different servers: leave one out.")
    return base_url if given is None else given


def translate_prompt(prompt: Any, labels: LabelSet) -> Any:
    """A template of stormtrooper as one of ours; anything else as it is.

    Args:
        prompt: A preset's name, a template as text, or a LangChain template.
        labels: What stands for {classes}: the names in quotes.

    Raises:
        PromptError: The template has both {X} and {text}.
    """
    if not isinstance(prompt, str):
        return prompt
    try:
        parts = list(Formatter().parse(prompt))
    except ValueError:
        return prompt  # the classifier says what is wrong with it
    fields = {field for _, field, _, _ in parts}
    if not fields & {"X", "classes"}:
        return prompt
    if {"X", "text"} <= fields:
        raise PromptError("The prompt template has both {X} and {text}: leave one out.")
    template = "".join(
        literal.replace("{", "{{").replace("}", "}}") + ("" if field is None else _field(field, spec, conversion))
        for literal, field, spec, conversion in parts
    )
    made = PromptTemplate.from_template(template)
    # Filled in as a value, so that braces in labels stay what they are.
    return made.partial(classes=", ".join(map(repr, labels.names))) if "classes" in fields else made


def _field(name: str, spec: str | None, conversion: str | None) -> str:
    how = (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    return f"{{{_RENAMED.get(name, name)}{how}}}"
