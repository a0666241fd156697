"""`DetailedClassifier`: a classifier that tells all it knows of a row; what `with_details()` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict
from typing_extensions import override

from langchain_stormtrooper.drawing import Graph
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_classifier import RowClassifier
from langchain_stormtrooper.rows import RowAnswering, RowRunnable
from langchain_stormtrooper.variants import Variants

if TYPE_CHECKING:
    from langchain_stormtrooper.tools import ClassifierTool


class DetailedClassifier(RowRunnable[Classification]):
    """A classifier that returns everything known about a row; made by `with_details()`.

    Args:
        classifier: The classifier that answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    classifier: RowClassifier

    def with_details(self) -> DetailedClassifier:
        """Itself: there are no more details."""
        return self

    @override
    def as_tool(self, *args: Any, **kwargs: Any) -> ClassifierTool:
        """Like the classifier's: the tool's artifact has the details anyway."""
        return self.classifier.as_tool(*args, **kwargs)

    @property
    @override
    def _settable(self) -> RowClassifier:
        return self.classifier

    @override
    def _varied(self, settings: dict[str, Any]) -> Self:
        return self.model_copy(update={"classifier": self.classifier._under(settings)})

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._variants = Variants()
        return copied

    @override
    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """As that of the classifier."""
        return self.classifier._graph_of(self, config)

    @property
    @override
    def OutputType(self) -> Any:
        """`Classification`."""
        return Classification

    @override
    async def _aprepare(self) -> RowAnswering:
        return await self.classifier._aprepare()

    @override
    def _face(self, classification: Classification) -> Classification:
        return classification

    @property
    @override
    def _concurrency(self) -> int:
        return self.classifier._concurrency
