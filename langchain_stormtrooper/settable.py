"""`Settable`: a Runnable for rows whose settings are its own fields, and whose copies are checked as new ones are.

What flat classifiers, trees, cascades and those with several labels share of `model_copy`, `bind` and configs. A copy
that is asked in the same way goes on with what the original has learnt from its server. `row_faces` has the faces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self

from langchain_core.runnables import RunnableConfig
from typing_extensions import override

from langchain_stormtrooper.drawing import Graph
from langchain_stormtrooper.row_faces import OutputT
from langchain_stormtrooper.rows import RowRunnable


class Settable(RowRunnable[OutputT], Generic[OutputT]):
    """A Runnable for rows with settings. Not for use by itself."""

    _deciding: ClassVar[frozenset[str]] = frozenset()
    """Settings that change nothing of what is asked of the LLM."""

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other settings, which are checked as those of a new classifier are.

        Args:
            update: The settings to change. A `LabelOutputParser` follows the labels, one of your own class does not; a
                tree's labels and examples follow its separator.
            deep: Whether the LLM and other parts are copied, too.
        """
        copied = super().model_copy(deep=deep)
        if not update:
            return copied
        kept = {name: getattr(copied, name) for name in copied.model_fields_set}
        return type(self)(**{**kept, **copied._following(update), **update})

    def _following(self, update: Mapping[str, Any]) -> Mapping[str, Any]:
        """Other settings that change with those of an update."""
        return {}

    @property
    @override
    def _settable(self) -> Self:
        return self

    @override
    def _varied(self, settings: dict[str, Any]) -> Self:
        variant = self.model_copy(update=settings)
        if settings.keys() <= self._deciding:
            variant._learn_with(self)
        return variant

    def _learn_with(self, other: Self) -> None:
        """Take over what another has learnt, and will, that is asked in the same way."""

    @abstractmethod
    def _graph_of(self, runnable: RowRunnable[Any], config: RunnableConfig | None) -> Graph:
        """The parts, as those of a Runnable that is this one, or this one with details."""

    @override
    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The parts, from the text to the answer. Asks no server."""
        return self._graph_of(self, config)
