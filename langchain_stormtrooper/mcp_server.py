"""A classifier's tools over the Model Context Protocol, for programs that are not written with LangChain.

Names, descriptions, arguments and wording are `ClassifierTool`'s: here they only take the protocol's form. The low
level of the `mcp` SDK (extra `mcp`) is used, 1.x and 2.x alike; where they differ is in `_register`. `mcp_transports`
serves what is made here; `cli_mcp` does both, as may whoever makes tools of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from pydantic import BaseModel

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.tools import ClassifierTool

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

_SHOWN = ("label", "reason", "confidence", "probabilities", "truncated", "method", "error")
"""What of a `Classification` is in the structured output; hosts show it to models, so that it has to be short."""

_log = logging.getLogger(__name__)


def make_server(tools: Sequence[ClassifierTool]) -> Server[Any, Any]:
    """An MCP server of the SDK that offers classifiers' tools.

    A text without a label is a result like any other; wrong arguments and a classifier that cannot be used are results
    with `isError`. No message shows a text.

    Args:
        tools: The tools; their names differ.

    Raises:
        MissingExtraError: The extra `mcp` is not installed.
        ConfigurationError: There is no tool, or two have the same name.
    """
    by_name = {tool.name: tool for tool in tools}
    if not tools or len(by_name) < len(tools):
        raise ConfigurationError("An MCP server needs tools whose names differ: give `name=` to each ClassifierTool.")
    types = _sdk().types
    described = types.ListToolsResult.model_validate({"tools": [describe(tool) for tool in tools]})

    async def list_tools() -> Any:
        return described

    async def call_tool(params: Any) -> Any:
        return types.CallToolResult.model_validate(await answer_call(by_name, params.name, params.arguments or {}))

    server: Server[Any, Any] = _register(list_tools, call_tool)
    return server


def describe(tool: ClassifierTool) -> dict[str, Any]:
    """A tool as the protocol describes it."""
    schema = tool.args_schema
    assert isinstance(schema, type) and issubclass(schema, BaseModel)  # noqa: S101, PT018  # ClassifierTool sees to it
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": schema.model_json_schema(),
        "outputSchema": output_schema(tool),
        "annotations": {"readOnlyHint": True, "idempotentHint": True},
    }


def output_schema(tool: ClassifierTool) -> dict[str, Any]:
    """The schema of the structured output: a label or null, why, and how sure; for many texts, a list of these."""
    properties = {name: Classification.model_json_schema()["properties"][name] for name in _SHOWN}
    # Enums stand where they are used: some hosts do not follow references.
    properties["label"] = {"enum": [*tool.classifier.labels.names, None], "description": "null: see `reason`."}
    properties["reason"] = {"enum": [*(reason.value for reason in Reason), None]}
    properties["method"] = {"enum": [*(method.value for method in Method), None]}
    answer = {"type": "object", "properties": properties, "required": list(_SHOWN), "additionalProperties": False}
    if tool.many:
        rows = {"type": "array", "items": answer, "description": "One for each text, in order."}
        answer = {"type": "object", "properties": {"rows": rows}, "required": ["rows"], "additionalProperties": False}
    return answer


async def answer_call(tools: dict[str, ClassifierTool], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The result of a call in the protocol's form.

    Args:
        tools: The tools by name.
        name: The one that is called.
        arguments: What the client gives.
    """
    tool = tools.get(name)
    if tool is None:
        return _failed(f"There is no such tool: there is {', '.join(tools)}.")
    try:
        message = await tool.ainvoke({"type": "tool_call", "id": "mcp", "name": name, "args": arguments})
    except Exception as error:  # noqa: BLE001  # the SDK would send its message, which may show a text
        _log.error("%s raised %s", name, type(error).__name__)
        return _failed(f"The tool failed unexpectedly ({type(error).__name__}): go on without it.")
    assert isinstance(message, ToolMessage)  # noqa: S101  # for whatever is called with an id
    if message.status == "error":
        return _failed(str(message.content))
    shown: Any = _structured(message.artifact)
    return {"content": [{"type": "text", "text": message.content}], "structuredContent": shown, "isError": False}


def _structured(artifact: Classification | list[Classification]) -> dict[str, Any]:
    if isinstance(artifact, list):
        return {"rows": [_structured(answer) for answer in artifact]}
    return artifact.model_dump(mode="json", include=set(_SHOWN))


def _failed(sentence: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


def _sdk() -> Any:
    """The SDK, whose annotations differ between 1.x and 2.x."""
    try:
        import mcp
    except ImportError:
        raise MissingExtraError("The MCP server", "mcp") from None
    return mcp


def _register(list_tools: Callable[[], Awaitable[Any]], call_tool: Callable[[Any], Awaitable[Any]]) -> Any:
    """A server that answers with these: the one place where the SDK's versions differ."""
    from importlib.metadata import version

    from mcp.server import lowlevel

    server_class: Any = lowlevel.Server
    types = _sdk().types
    identity = {"name": "langchain-stormtrooper", "version": version("langchain-stormtrooper")}
    if not hasattr(server_class, "list_tools"):  # 2.x

        async def on_list_tools(_context: Any, _params: Any) -> Any:
            return await list_tools()

        async def on_call_tool(_context: Any, params: Any) -> Any:
            return await call_tool(params)

        return server_class(**identity, on_list_tools=on_list_tools, on_call_tool=on_call_tool)

    async def list_request(_request: Any) -> Any:
        return types.ServerResult(await list_tools())

    async def call_request(request: Any) -> Any:
        return types.ServerResult(await call_tool(request.params))

    server = server_class(**identity)
    # Not its decorators: they would check the arguments a second time, and quote them.
    server.request_handlers[types.ListToolsRequest] = list_request
    server.request_handlers[types.CallToolRequest] = call_request
    return server
