"""JSON grammars: which schemas a version accepts, and the pattern a schema stands for.

Turns a JSON-Schema into a regular expression, for the common keywords. What it cannot express, it refuses, where TGI's
converter might know more. Called by `validation` (is the grammar acceptable?) and by `shard` (what is its pattern?).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.replies import invalid

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.bodies import Grammar
    from langchain_stormtrooper.testing.versions import Release

_SPACE = "[ ]?"
_CHARACTER = r'(?:[^"\\\x00-\x1F\x7F-\x9F]|\\["\\/bfnrt])'
_INTEGER = r"(?:-)?(?:0|[1-9][0-9]*)"
_SIMPLE = {
    "string": f'"{_CHARACTER}*"',
    "integer": _INTEGER,
    "number": rf"(?:(?:{_INTEGER})(?:\.[0-9]+)?(?:[eE][+-][0-9]+)?)",
    "boolean": "(?:true|false)",
    "null": "null",
}
_ESCAPED = re.compile(r"[!-/:-@\[-`{-~]")
_DEPTH = 16


class SchemaError(Exception):
    """A schema that cannot be turned into a pattern."""


def check_grammar(grammar: Grammar, release: Release) -> Grammar | None:
    """Check a grammar as the router does, and return it as a regular expression where the router makes one.

    Returns:
        The grammar to enforce; None if there is nothing to enforce.

    Raises:
        RouterError: If the router refuses it.
    """
    if grammar.kind == "regex":
        return grammar if grammar.value else None
    if not release.checks_schemas:
        return grammar
    schema = _parsed(grammar)
    if release.wants_properties and "properties" not in schema:
        raise invalid("grammar is not valid: Grammar must have a 'properties' field")
    try:
        pattern = to_regex(schema)
    except SchemaError as error:
        if release.compiles_schemas_in_router:
            raise invalid(f"cannot compile regex from schema: {error}") from error
        # 2.3.0 to 2.4.1 forget about such a schema without a word; before, the model process chokes on it.
        return None if release.wants_properties else grammar
    return type(grammar)("regex", pattern)


def _parsed(grammar: Grammar) -> dict[str, Any]:
    value = grammar.value["schema"] if grammar.kind == "json_schema" else grammar.value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise invalid(f"grammar is not valid: {error}") from error
    if not isinstance(value, dict):
        raise invalid("grammar is not supported")
    kind = value.get("type")
    if kind is not None and not isinstance(kind, str | list):
        raise invalid(
            f'grammar is not valid: {json.dumps(kind)} is not valid under any of the given schemas for "type"'
        )
    return value


def to_regex(schema: Any, root: Any = None, depth: int = 0) -> str:
    """Write the pattern of the JSON texts that a schema describes.

    Raises:
        SchemaError: If the schema uses what is not supported here.
    """
    root = schema if root is None else root
    if depth > _DEPTH:
        raise SchemaError("the schema nests too deeply")
    if not isinstance(schema, dict):
        raise SchemaError("Unsupported JSON Schema structure")
    if "$ref" in schema:
        return to_regex(_resolve(schema["$ref"], root), root, depth + 1)
    kind = schema.get("type")
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices is None and isinstance(kind, list):
        choices = [{**schema, "type": item} for item in kind]
    if choices:
        return "(?:" + "|".join(to_regex(item, root, depth + 1) for item in choices) + ")"
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values:
        return "(?:" + "|".join(_literal(value) for value in values) + ")"
    if "properties" in schema:
        return _object(schema, root, depth)
    if kind == "string":
        return _string(schema)
    if kind == "array":
        return _array(schema, root, depth)
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    raise SchemaError(f"Unsupported JSON Schema structure {json.dumps(schema)}")


def _literal(value: Any) -> str:
    return _ESCAPED.sub(lambda match: "\\" + match.group(), json.dumps(value, ensure_ascii=False))


def _string(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        pattern = str(schema["pattern"]).removeprefix("^").removesuffix("$")
        return f'"(?:{pattern})"'
    low, high = schema.get("minLength"), schema.get("maxLength")
    if low is None and high is None:
        return _SIMPLE["string"]
    return f'"{_CHARACTER}{{{low or 0},{"" if high is None else high}}}"'


def _object(schema: dict[str, Any], root: Any, depth: int) -> str:
    """Write an object with its properties in the schema's order; those not required may be left out."""
    required = set(schema.get("required", ()))
    parts = [
        (f"{_literal(name)}{_SPACE}:{_SPACE}{to_regex(value, root, depth + 1)}", name in required)
        for name, value in schema["properties"].items()
    ]
    if not parts:
        return rf"\{{{_SPACE}\}}"
    comma = f"{_SPACE},{_SPACE}"
    # `first` matches the properties so far when none has been written yet, `later` when one has.
    first, later = "", ""
    for pattern, needed in reversed(parts):
        rest_later, rest_first = later, first
        if needed:
            first, later = pattern + rest_later, comma + pattern + rest_later
        else:
            first = f"(?:{pattern}{rest_later}|{rest_first})" if rest_first else f"(?:{pattern}{rest_later})?"
            later = f"(?:{comma}{pattern})?{rest_later}"
    return rf"\{{{_SPACE}{first}{_SPACE}\}}"


def _array(schema: dict[str, Any], root: Any, depth: int) -> str:
    item = to_regex(schema.get("items", {"type": "string"}), root, depth + 1)
    low, high = int(schema.get("minItems", 0)), schema.get("maxItems")
    more = f"(?:{_SPACE},{_SPACE}{item})"
    count = f"{{{max(low - 1, 0)},{'' if high is None else max(int(high) - 1, 0)}}}"
    inside = f"(?:{item}){more}{count}"
    return rf"\[{_SPACE}{inside if low else f'(?:{inside})?'}{_SPACE}\]"


def _resolve(reference: Any, root: Any) -> Any:
    """Find what a local reference points to."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise SchemaError(f"cannot follow the reference {reference!r}")
    found = root
    for part in reference[2:].split("/"):
        if not isinstance(found, dict) or part not in found:
            raise SchemaError(f"cannot follow the reference {reference!r}")
        found = found[part]
    return found
