"""Tool calls in chat: the grammar that makes the model call one, and the call in its answer.

Covers what TGI does with `tools` and `tool_choice` up to the grammar; the tool prompt and the second generation of
later versions are left out. Called by `openai_bodies` and `openai_shapes`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.replies import RouterError, mistyped

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.bodies import Json
    from langchain_stormtrooper.testing.versions import Release


def choose_tools(tools: Json, choice: Json) -> dict[str, Any]:
    """Write the schema that lets the model call the tools it may choose from.

    Raises:
        RejectionError: If the tools are of the wrong shape.
        RouterError: If the chosen tool is not among them.
    """
    functions = {}
    for index, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise mistyped(f"tools[{index}]: missing field `function` at line 1 column 1")
        functions[function["name"]] = function.get("parameters", function.get("arguments", {}))
    wanted = _wanted(choice)
    if wanted is not None:
        if wanted not in functions:
            raise RouterError(422, f"Tool error: Tool with name {wanted} not found", "tool_error")
        functions = {wanted: functions[wanted]}
    return {
        "$functions": {name: _call_schema(name, parameters) for name, parameters in functions.items()},
        "properties": {"function": {"anyOf": [{"$ref": f"#/$functions/{name}"} for name in functions]}},
        "required": ["function"],
    }


def _wanted(choice: Json) -> str | None:
    """Return the tool that must be called, None if the model may choose."""
    if isinstance(choice, dict):
        function = choice.get("function", choice)
        return str(function.get("name"))
    return choice if isinstance(choice, str) and choice not in ("auto", "required") else None


def _call_schema(name: str, parameters: Json) -> dict[str, Any]:
    properties = parameters.get("properties", {}) if isinstance(parameters, dict) else {}
    required = parameters.get("required", []) if isinstance(parameters, dict) else []
    return {
        "type": "object",
        "properties": {"_name": {"type": "string", "const": name}, **properties},
        "required": ["_name", *required],
    }


def tool_calls(text: str, release: Release) -> list[dict[str, Any]]:
    """Read the tool call in an answer.

    Raises:
        RouterError: If the answer is not one, because it was cut short, say.
    """
    try:
        function = dict(json.loads(text)["function"])
        name = function.pop("_name")
    except (ValueError, KeyError, TypeError) as error:
        message = f"Tool error: Failed to parse generated text: {error} {json.dumps(text)}"
        raise RouterError(422, message, "tool_error") from error
    arguments = json.dumps(function, separators=(",", ":")) if release.since("3.2.0") else function
    return [
        {
            "id": "0" if release.since("2.0.4") else 0,
            "type": "function",
            "function": {"description": None, "name": name, "arguments": arguments},
        }
    ]
