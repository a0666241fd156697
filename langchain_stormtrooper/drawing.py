"""A classifier's parts as a LangChain graph, for `get_graph().draw_mermaid()`.

It shows what is known without asking a server: a preset by its name, and as the last part what the method makes of the
LLM's answer. Called by `text_classifier`, `multi_label`, `cascade` and `hierarchy`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from langchain_core.prompts import StringPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnablePassthrough
from langchain_core.runnables.graph import Graph as Graph

from langchain_stormtrooper.results import Method

if TYPE_CHECKING:
    from langchain_stormtrooper.hierarchy.tree import Node
    from langchain_stormtrooper.rows import RowRunnable


def classifier_graph(runnable: RowRunnable[Any], method: str, config: RunnableConfig | None) -> Graph:
    """The parts of a classifier in a row.

    Args:
        runnable: The classifier.
        method: Its method, "auto" where that is not known yet.
        config: As in LangChain.
    """
    settings: Any = runnable._settable
    prompt: Runnable[Any, Any]
    if isinstance(settings.prompt, StringPromptTemplate):
        prompt = settings.prompt
    else:
        prompt = RunnablePassthrough(name="Prompt" if settings.prompt is None else f"Prompt {settings.prompt}")
    ends: dict[str, Runnable[Any, Any] | None] = {
        Method.SCORE: RunnablePassthrough(name="LabelProbabilities"),
        Method.CONSTRAIN: RunnablePassthrough(name="ConstrainedLabel"),
        Method.GENERATE: getattr(settings, "parser", None),
    }
    end = ends.get(method) or RunnablePassthrough(name="LabelProbabilitiesOrParser")
    graph = Graph()
    metadata = config.get("metadata") if config else None
    nodes = [graph.add_node(runnable.get_input_schema(config))]
    nodes += [graph.add_node(part, metadata=metadata) for part in (prompt, settings.llm, end)]
    nodes.append(graph.add_node(Runnable.get_output_schema(runnable, config)))
    for source, target in pairwise(nodes):
        graph.add_edge(source, target)
    return graph


def cascade_graph(runnable: RowRunnable[Any], cheap: Any, strong: Any, config: RunnableConfig | None) -> Graph:
    """The stages of a cascade: what the first is not sure of goes on to the second.

    Args:
        runnable: The cascade.
        cheap: What answers first.
        strong: What answers the rest.
        config: As in LangChain.
    """
    graph = Graph()
    metadata = config.get("metadata") if config else None
    start = graph.add_node(runnable.get_input_schema(config))
    first, second = (
        graph.add_node(
            stage if isinstance(stage, Runnable) else RunnablePassthrough(name=type(stage).__name__), metadata=metadata
        )
        for stage in (cheap, strong)
    )
    end = graph.add_node(Runnable.get_output_schema(runnable, config))
    graph.add_edge(start, first)
    graph.add_edge(first, end, "sure", conditional=True)
    graph.add_edge(first, second, "not sure", conditional=True)
    graph.add_edge(second, end)
    return graph


def hierarchy_graph(runnable: RowRunnable[Any], top: Node, separator: str, config: RunnableConfig | None) -> Graph:
    """The questions of a tree of labels: each node that is asked about, and what leads from one to the next.

    Args:
        runnable: The classifier.
        top: The node where there is something to decide first.
        separator: What stands between the names of a path.
        config: As in LangChain.
    """
    graph = Graph()
    metadata = config.get("metadata") if config else None
    start = graph.add_node(runnable.get_input_schema(config))
    asked = {
        node.path: graph.add_node(
            RunnablePassthrough(name=separator.join(node.path) or type(runnable._settable).__name__), metadata=metadata
        )
        for node in top.deciding()
    }
    end = graph.add_node(Runnable.get_output_schema(runnable, config))
    graph.add_edge(start, asked[top.path])
    for node in top.deciding():
        for child in node.children:
            graph.add_edge(asked[node.path], asked.get(child.settled().path, end), child.path[-1], conditional=True)
    return graph
