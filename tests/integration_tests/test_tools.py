"""Agents and graphs that call a classifier for real: LangChain's agent, LangGraph's ToolNode and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from typing_extensions import override

from langchain_stormtrooper import (
    Classification,
    ClassifierTool,
    MatchKind,
    Method,
    OverlongInputWarning,
    Reason,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

LABELS = ["billing", "bug"]
ENGINE = ScriptedEngine(when_contains({"invoice": " billing", "crash": " bug"}))
OVERLONG = "crash " * 2000

Starts = Callable[..., TGIServer]


class ScriptedChat(GenericFakeChatModel):
    """A chat model that says what was written for it, and keeps what it was shown."""

    seen: list[list[Any]] = []
    offered: list[BaseTool] = []

    @override
    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        self.offered[:] = tools
        return self

    @override
    def _generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> Any:
        self.seen.append(list(messages))
        return super()._generate(messages, *args, **kwargs)


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    """A message that calls tools."""
    return AIMessage(
        "",
        tool_calls=[
            {"type": "tool_call", "id": f"call-{number}", "name": name, "args": args}
            for number, (name, args) in enumerate(wanted)
        ],
    )


def say(*messages: AIMessage) -> ScriptedChat:
    """A chat model that says these."""
    return ScriptedChat(messages=iter(messages), seen=[], offered=[])


def tool_messages(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """The answers of tools."""
    return [message for message in messages if isinstance(message, ToolMessage)]


def make_tools(url: str) -> list[BaseTool]:
    """Both tools of a classifier at a server."""
    classifier = ZeroShotClassifier(
        LABELS, llm=TextGenerationInference(base_url=url, max_downtime=0), text_kind="ticket", label_kind="department"
    )
    return [classifier.as_tool(), classifier.as_tool(many=True)]


async def run(agent: Any, face: str, **config: Any) -> list[AnyMessage]:
    """The messages of an agent's run."""
    asked = {"messages": [("user", "Sort my tickets.")]}
    state = await agent.ainvoke(asked, config) if face == "async" else agent.invoke(asked, config)
    messages: list[AnyMessage] = state["messages"]
    return messages


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_an_agent_calls_it(tgi_server: Starts, face: str) -> None:
    """An agent is offered the tools, calls both at once, reads the labels, and has the classifications."""
    one, many = make_tools(tgi_server("3.3.7", ENGINE).url)
    chat = say(
        calls((one.name, {"text": "A crash."}), (many.name, {"texts": ["The invoice.", "A crash again."]})),
        AIMessage("Done."),
    )
    messages = await run(create_agent(chat, [one, many]), face)
    assert [tool.name for tool in chat.offered] == ["classify_ticket_department", "classify_ticket_department_list"]
    assert messages[-1].content == "Done."
    single, several = tool_messages(messages)
    assert (single.content, several.content) == ("bug", "1. billing\n2. bug")
    assert isinstance(single.artifact, Classification)
    assert (single.artifact.label, [answer.label for answer in several.artifact]) == ("bug", ["billing", "bug"])
    assert tool_messages(chat.seen[-1]) == [single, several]


async def test_an_agent_reads_why_there_is_no_label(tgi_server: Starts) -> None:
    """An overlong text, alone and among others, is told in words; called again with less, the tool has a label."""
    one, many = make_tools(tgi_server("3.3.7", ENGINE, max_input_tokens=400).url)
    chat = say(
        calls((one.name, {"text": OVERLONG})),
        calls((one.name, {"text": OVERLONG[:60]})),
        calls((many.name, {"texts": ["The invoice.", OVERLONG]})),
        AIMessage("Done."),
    )
    with pytest.warns(OverlongInputWarning):
        overlong, shorter, several = tool_messages(await run(create_agent(chat, [one, many]), "async"))
    assert "shorter part" in overlong.content
    assert overlong.artifact.reason is Reason.OVERLONG
    assert shorter.content == "bug"
    assert str(several.content).startswith("1. billing\n2. (no label: overlong)")
    assert [answer.label for answer in several.artifact] == ["billing", None]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("key", [None, "key-18"])
async def test_an_agent_survives_a_classifier_that_cannot_be_used(
    tgi_server: Starts, monkeypatch: pytest.MonkeyPatch, many: bool, key: str | None
) -> None:
    """A dead server or a wrong key is a message that says what is wrong, and the agent goes on to its end."""
    server = tgi_server("3.3.7", ENGINE, api_key="key-17")
    if key is None:
        server.close()
    else:
        monkeypatch.setenv("TGI_API_KEY", key)
    tool = make_tools(server.url)[many]
    arguments: dict[str, Any] = {"texts": ["A crash.", "The invoice."]} if many else {"text": "A crash."}
    chat = say(calls((tool.name, arguments)), AIMessage("Nobody knows."))
    messages = await run(create_agent(chat, [tool]), "async")
    (answer,) = tool_messages(messages)
    assert messages[-1].content == "Nobody knows."
    assert answer.status == "error"
    assert "go on without it" in answer.content
    assert ("refused or dropped the connection" if key is None else "TGI_API_KEY") in answer.content
    assert "key-18" not in answer.content
    assert "crash" not in answer.content


async def test_wrong_arguments_do_not_end_an_agent(tgi_server: Starts) -> None:
    """A model that calls the tool wrongly reads what is wrong, and may call it rightly."""
    one, _ = make_tools(tgi_server("3.3.7", ENGINE).url)
    chat = say(calls((one.name, {"ticket": "A crash."})), calls((one.name, {"text": "A crash."})), AIMessage("Done."))
    wrong, right = tool_messages(await run(create_agent(chat, [one]), "async"))
    assert (wrong.status, right.content) == ("error", "bug")
    assert "`text`: field required" in wrong.content


def graph(tools: list[BaseTool], **settings: Any) -> Any:
    """A graph of nothing but a ToolNode."""
    built = StateGraph(MessagesState)
    built.add_node("tools", ToolNode(tools))
    built.add_edge(START, "tools")
    built.add_edge("tools", END)
    return built.compile(**settings)


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_a_tool_node_calls_it(tgi_server: Starts, face: str) -> None:
    """LangGraph's ToolNode runs calls of both tools and answers each with label and artifact."""
    one, many = make_tools(tgi_server("3.3.7", ENGINE).url)
    asked = {"messages": [calls((one.name, {"text": "A crash."}), (many.name, {"texts": ["The invoice."]}))]}
    node = graph([one, many])
    state = await node.ainvoke(asked) if face == "async" else node.invoke(asked)
    single, several = tool_messages(state["messages"])
    assert (single.content, single.artifact.label) == ("bug", "bug")
    assert (several.content, several.artifact[0].label) == ("1. billing", "billing")


async def test_calls_of_one_step_run_together(tgi_server: Starts) -> None:
    """Several calls in one message are in flight at once: the tool blocks nothing."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.05)
    one, _ = make_tools(server.url)
    asked = {"messages": [calls(*((one.name, {"text": f"A crash, number {number}."}) for number in range(8)))]}
    await graph([one]).ainvoke(asked)
    assert server.peak_permits >= 4


@pytest.mark.parametrize(("allowed", "is_quiet"), [([Reason, Method, MatchKind], True), (True, False), (None, False)])
async def test_checkpoints_keep_the_artifact(
    tgi_server: Starts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    allowed: Any,
    is_quiet: bool,
) -> None:
    """A checkpoint holds the artifact as a dict that gives the classification back, also where a saver is strict.

    Nothing is logged if the saver's list has our enums.
    """
    for told in ("_warned_unregistered_types", "_warned_blocked_types"):  # once for a process otherwise
        monkeypatch.setattr(f"langgraph.checkpoint.serde.jsonplus.{told}", set())
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=allowed))
    one, many = make_tools(tgi_server("3.3.7", ENGINE).url)
    config: Any = {"configurable": {"thread_id": "1"}}
    asked = {"messages": [calls((one.name, {"text": "A crash."}), (many.name, {"texts": ["The invoice."]}))]}
    made = graph([one, many], checkpointer=saver)
    with caplog.at_level(logging.WARNING):
        before = tool_messages((await made.ainvoke(asked, config))["messages"])
        after = tool_messages((await made.aget_state(config)).values["messages"])
    assert Classification.model_validate(after[0].artifact) == before[0].artifact
    assert [Classification.model_validate(row) for row in after[1].artifact] == before[1].artifact
    assert ("langchain_stormtrooper.results" not in caplog.text) == is_quiet


class TestStandard(ToolsIntegrationTests):
    """LangChain's own tests, against a TGI server."""

    url: str

    @pytest.fixture(autouse=True)
    def _server(self, tgi_server: Starts) -> None:
        """Start the server that the tool asks."""
        self.url = tgi_server("3.3.7", ENGINE).url

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        """The class."""
        return ClassifierTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        """A classifier at the server."""
        return {"classifier": ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=self.url))}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """A text."""
        return {"text": "A crash."}


class TestStandardForMany(TestStandard):
    """The same for the tool that takes a list."""

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        """A classifier at the server, and that it takes a list."""
        return {**super().tool_constructor_params, "many": True}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Two texts."""
        return {"texts": ["A crash.", "The invoice."]}
