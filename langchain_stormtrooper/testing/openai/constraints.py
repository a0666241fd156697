"""What constrains an answer, as a regular expression: choices, patterns, schemas and grammars of each flavour.

Knows which field each flavour listens to and turns it into one pattern, which `generating` compiles. Of grammars it
reads what has no recursion. Called by `bodies`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.grammars import grammar_pattern
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import invalid
from langchain_stormtrooper.testing.schema import SchemaError, to_regex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_stormtrooper.testing.openai.options import Options

_FIELD = "structured_outputs"
_KINDS = frozenset({"json", "regex", "choice", "grammar", "json_object", "structural_tag"})
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_CONTROL = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def pattern_of(raw: Mapping[str, Any], options: Options) -> str | None:
    """Return the pattern that a body asks for, in the fields that this server listens to.

    Raises:
        ApiError: If there is more than one constraint, or one that cannot be used.
    """
    flavour = options.flavour
    found: dict[str, Any] = {}
    if flavour is Flavour.VLLM and options.guided:
        found = {
            kind: raw[f"guided_{kind}"] for kind in ("choice", "regex", "json", "grammar") if f"guided_{kind}" in raw
        }
    elif flavour is Flavour.VLLM:
        found = _structured(raw.get("structured_outputs"))
    elif flavour is Flavour.SGLANG:
        names = {"regex": "regex", "ebnf": "grammar", "json_schema": "json"}
        found = {kind: raw[name] for name, kind in names.items() if name in raw}
    elif flavour is Flavour.LLAMA_CPP:
        names = {"grammar": "grammar", "json_schema": "json"}
        found = {kind: raw[name] for name, kind in names.items() if name in raw}
    formatted = raw.get("response_format")
    if isinstance(formatted, dict) and formatted.get("type") == "json_schema":
        schema = formatted.get("json_schema")
        found["json"] = schema.get("schema") if isinstance(schema, dict) else None
    patterns = [_pattern(kind, value) for kind, value in found.items() if kind in _PATTERNS]
    if len(patterns) > 1:
        raise invalid(
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
            _FIELD if flavour is Flavour.VLLM else None,
        )
    return patterns[0] if patterns else None


def _structured(given: Any) -> dict[str, Any]:
    """Read vLLM's own field, which wants a constraint of a kind that it knows."""
    if given is None:
        return {}
    found = {kind: value for kind, value in given.items() if value is not None} if isinstance(given, dict) else {}
    if not found.keys() & _KINDS:
        raise invalid("You must use one kind of structured outputs constraint but none are specified")
    return found


def _pattern(kind: str, value: Any) -> str:
    try:
        pattern: str = _PATTERNS[kind](value)
    except (SchemaError, TypeError, ValueError) as error:
        raise invalid(f"Invalid {kind} specification: {error}") from error
    return pattern


def _choice(value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"choice {value!r} is no list of texts, or an empty one")
    return "(" + "|".join(literal(item) for item in value) + ")"


def _regex(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a pattern is needed")
    return value.removeprefix("^").removesuffix("$")


def _json(value: Any) -> str:
    return to_regex(json.loads(value) if isinstance(value, str) else value)


_PATTERNS = {"choice": _choice, "regex": _regex, "json": _json, "grammar": grammar_pattern}


def literal(text: str) -> str:
    """Write a text as a pattern that matches it alone."""
    escaped = _PUNCTUATION.sub(lambda match: "\\" + match.group(), text)
    return "".join(_CONTROL.get(mark, mark) for mark in escaped)
