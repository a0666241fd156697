"""`load`: what LangChain's `dumps` and `dumpd` made of a classifier, made into an equal classifier again.

It is LangChain's own `load` with an explicit list of classes, and errors that say which part is in the way. It opens
no connection, imports nothing that is not on the list, and takes from the environment only the secrets of this
package. The public `load` is this one.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core._api.beta_decorator import LangChainBetaWarning
from langchain_core.load import load as revive
from langchain_core.load.serializable import Serializable
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import (
    RunnableBinding,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
)

from langchain_stormtrooper.cascade import Cascade
from langchain_stormtrooper.classifiers import DetailedClassifier, FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, StormtrooperError
from langchain_stormtrooper.hierarchy import HierarchicalClassifier
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.llms.openai import OpenAICompletions
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.multi_label import DetailedMultiLabelClassifier, MultiLabelClassifier
from langchain_stormtrooper.parsers import LabelOutputParser

_OURS: tuple[type[Serializable], ...] = (
    ZeroShotClassifier,
    FewShotClassifier,
    DetailedClassifier,
    Cascade,
    HierarchicalClassifier,
    MultiLabelClassifier,
    DetailedMultiLabelClassifier,
    TextGenerationInference,
    OpenAICompletions,
    LlamaCpp,
    LabelOutputParser,
)
_CORE: tuple[type[Serializable], ...] = (
    PromptTemplate,
    RunnableSequence,
    RunnableParallel,
    RunnablePassthrough,
    RunnableBinding,
)
_SECRETS = ("TGI_API_KEY", "OPENAI_COMPATIBLE_API_KEY")
_ESCAPED = "__lc_escaped__"


def load(
    dump: str | bytes | Mapping[str, Any],
    *,
    secrets_map: Mapping[str, str] | None = None,
    allowed: Iterable[type[Serializable]] = (),
) -> Any:
    """A classifier, LLM, parser or chain of them from what LangChain's `dumps` or `dumpd` wrote.

    Nothing is connected or asked. A dump names servers and, for `LlamaCpp`, files that will be used at the first call:
    load only what you would also write yourself. Keys and headers are in no dump: a key comes from `secrets_map`
    or the variable that the LLM reads it from, headers have to be given again (`model_copy`).

    Args:
        dump: The text, or the dict.
        secrets_map: Secrets by the name that the dump has for them, such as `{"TGI_API_KEY": "..."}`.
        allowed: Further classes that may be made, such as that of another package's LLM.

    Returns:
        An object equal to the one that was dumped.

    Raises:
        ConfigurationError: It is no dump, a part of it could not be saved or may not be made, a secret is missing, or
            it holds settings that this release does not know.

    Examples:
        >>> from langchain_core.load import dumps
        >>> from langchain_stormtrooper import ZeroShotClassifier, load
        >>> text = dumps(ZeroShotClassifier(["politics", "science"]))
        >>> load(text).labels.names
        ('politics', 'science')
    """
    further = tuple(allowed)
    secrets = {name: os.environ[name] for name in _SECRETS if os.environ.get(name)} | dict(secrets_map or {})
    try:
        content = dict(dump) if isinstance(dump, Mapping) else json.loads(dump)
        classes = {tuple(kind.lc_id()) for kind in (*_OURS, *_CORE, *further)}
        found = [_check(part, classes, secrets) for part in _parts(content)]
    except (ValueError, RecursionError) as error:
        if isinstance(error, StormtrooperError):
            raise
        raise ConfigurationError("This is no dump: it is no JSON, was cut short, or is nested too deeply.") from None
    if not found or not isinstance(content, dict) or content.get("lc") != 1:
        raise ConfigurationError("This is no dump of a Runnable: pass what `langchain_core.load.dumps` returned.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LangChainBetaWarning)
            return revive(
                content,
                allowed_objects=[*_OURS, *_CORE, *further],
                secrets_map=secrets,
                valid_namespaces=sorted({"langchain_stormtrooper", *(kind.lc_id()[0] for kind in further)}),
                secrets_from_env=False,
            )
    except StormtrooperError:
        raise
    except Exception as error:  # noqa: BLE001  # a constructor may raise anything, and may quote a value
        raise ConfigurationError(
            f"The dump does not fit this release: one of its classes cannot be made from it ({type(error).__name__})."
        ) from None


def _parts(content: Any) -> Iterator[dict[str, Any]]:
    """The LangChain objects in a dump; what users had in dicts is marked by LangChain, and is not looked into."""
    if isinstance(content, list):
        for item in content:
            yield from _parts(item)
    elif isinstance(content, dict) and set(content) != {_ESCAPED}:
        if "lc" in content:
            yield content
        for item in content.values():
            yield from _parts(item)


def _check(part: dict[str, Any], classes: set[tuple[str, ...]], secrets: Mapping[str, str]) -> str:
    """Say what is wrong with a part before LangChain does; returns its name."""
    kind, identity = part.get("type"), part.get("id")
    if not isinstance(identity, list) or not identity or not all(isinstance(name, str) for name in identity):
        raise ConfigurationError("The dump has a part without a name: it was not written by `dumps`.")
    name = ".".join(identity)
    if part.get("lc") != 1 or kind not in ("constructor", "secret", "not_implemented"):
        raise ConfigurationError(f"The dump has {name} in a format that this release does not read: upgrade.")
    if kind == "not_implemented":
        raise ConfigurationError(
            f"The dump holds a {name}, of which LangChain saves only the name: save the classifier without it, or let "
            "its class say `is_lc_serializable()`."
        )
    if kind == "secret" and identity[-1] not in secrets:
        raise ConfigurationError(
            f"A secret is needed: set {identity[-1]}, or pass secrets_map={{{identity[-1]!r}: …}}."
        )
    if kind == "constructor":
        if tuple(identity) not in classes:
            raise ConfigurationError(
                f"The dump holds a {name}, which is not on the list: pass allowed=[{identity[-1]}]."
            )
        kwargs = part.get("kwargs")
        if isinstance(kwargs, dict) and kwargs.get("template_format") == "jinja2":
            raise ConfigurationError(
                "The dump holds a Jinja2 template, which could run code: use an f-string template."
            )
    return name
