"""LangChain's own tests of a tool, on both forms of ours."""

from __future__ import annotations

from typing import Any

from fakes import LABELS, FakeLLM
from langchain_core.tools import BaseTool
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_stormtrooper import ClassifierTool, ZeroShotClassifier


class TestOneText(ToolsUnitTests):
    """The tool that takes a text."""

    @property
    def tool_constructor(self) -> type[BaseTool] | BaseTool:
        """The class."""
        return ClassifierTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        """A classifier."""
        return {"classifier": ZeroShotClassifier(LABELS, llm=FakeLLM())}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """A text."""
        return {"text": "a text"}


class TestTexts(TestOneText):
    """The tool that takes a list."""

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        """A classifier, and that it takes a list."""
        return {**super().tool_constructor_params, "many": True}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Two texts."""
        return {"texts": ["a text", "another"]}
