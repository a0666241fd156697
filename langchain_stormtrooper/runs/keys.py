"""Which task and which row a kept answer belongs to: hashes that are the same in every process and tell no text.

A task is everything that changes answers but the row: labels and descriptions, prompt and examples, method, prior,
calibration, demands, parser, model. A row is what it puts into the prompt. Called by `stream`; asks the server for its
model only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseLanguageModel
from pydantic import BaseModel, SecretStr

from langchain_stormtrooper.llms.base import SelfHostedLLM

if TYPE_CHECKING:
    from langchain_stormtrooper.answering import Answering
    from langchain_stormtrooper.prompts import Prompt
    from langchain_stormtrooper.text_classifier import TextClassifier

FORMAT = 1
"""Raised when a release answers the same row of the same task otherwise, so that older answers are not taken."""

_SETTINGS = ("prior", "rotations", "min_confidence", "min_margin", "min_covered_mass", "on_overlong", "max_new_tokens")
_OF_LLMS = ("scoring", "api", "stop", "max_new_tokens", "max_body_bytes", "neutralize_images", "n_ctx")
"""Fields of our LLMs that change answers; the others say where and how fast."""


async def task_key(classifier: TextClassifier, arranged: Answering) -> str:
    """The SHA-256 of everything that rows of a task have in common, the model included, as hexadecimal digits.

    Args:
        classifier: The classifier.
        arranged: What answers its rows.

    Raises:
        ServerError: The server cannot be asked for its model.
    """
    calibration = classifier.calibration
    content = {
        "format": FORMAT,
        "task": arranged.fingerprint(classifier._choices.names),
        "labels": classifier.labels.to_list(),
        # Not there where it says nothing: ledgers of tasks without it hold.
        **({} if classifier.out_of_scope is None else {"out_of_scope": asdict(classifier.out_of_scope)}),
        "settings": {name: getattr(classifier, name) for name in _SETTINGS},
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "parser": _plain(classifier.parser),
        "llm": await _llm(classifier.llm),
    }
    return _digest(content)


async def _llm(llm: BaseLanguageModel[Any]) -> dict[str, Any]:
    """What is known of the model, and of how it is asked."""
    kind = f"{type(llm).__module__}.{type(llm).__qualname__}"
    if not isinstance(llm, SelfHostedLLM):
        # LangChain's own name for what its cache tells LLMs apart by.
        return {"kind": kind, "parameters": getattr(llm, "_identifying_params", None) or _plain(llm)}
    model = await llm.amodel_id()
    return {
        "kind": kind,
        "model": model,
        "revision": await llm.amodel_revision(),
        # A model without a name is the one that is served there.
        "address": getattr(llm, "base_url", None) if model is None else None,
        "settings": {name: getattr(llm, name) for name in _OF_LLMS if hasattr(llm, name)},
    }


def row_key(prompt: Prompt, *, constant: bool) -> bytes:
    """What a row puts into its prompt, unambiguously, to be hashed.

    Args:
        prompt: The row's prompt.
        constant: Whether all but the text is the same for all rows, and so in the task's key.
    """
    if constant:
        return prompt.text.encode("utf-8", "surrogatepass")
    # What the chat template wrote is left out: it may hold today's date, and is in the task's key without it.
    given = (prompt.text, prompt.head, prompt.tail, *(part for other in prompt.others for part in other))
    parts = [part.encode("utf-8", "surrogatepass") for part in given]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _plain(value: Any) -> Any:
    """Settings of a foreign part as plain data, the same in every process."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, SecretStr):
        return kind
    if isinstance(value, BaseModel):
        return {"kind": kind, "fields": dict(value)}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "to_list"):
        return value.to_list()
    # Not its repr, which may hold an address in memory.
    return kind


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode("ascii")).hexdigest()
