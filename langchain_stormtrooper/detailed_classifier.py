"""`DetailedClassifier`: a classifier that tells all it knows of a row; what `with_details()` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict
from typing_extensions import override

from langchain_stormtrooper.drawing import Graph
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_classifier import RowClassifier
from langchain_stormtrooper.rows import RowAnswering, RowRunnable
from langchain_stormtrooper.settable import Settable

if TYPE_CHECKING:
    from langchain_stormtrooper.tools import ClassifierTool

DetailsT = TypeVar("DetailsT")


class Detailed(RowRunnable[DetailsT], Generic[DetailsT]):
    """Another face of a classifier, which has the settings and answers. Not for use by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    classifier: Settable[Any]

    def with_details(self) -> Self:
        """Itself: there are no more details."""
        return self

    @property
    @override
    def _settable(self) -> Settable[Any]:
        return self.classifier

    @override
    def _varied(self, settings: dict[str, Any]) -> Self:
        return self.model_copy(update={"classifier": self.classifier._under(settings)})

    @override
    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """As that of the classifier."""
        return self.classifier._graph_of(self, config)

    @override
    async def _aprepare(self) -> RowAnswering:
        return await self.classifier._aprepare()

    @property
    @override
    def _concurrency(self) -> int:
        return self.classifier._concurrency


class DetailedClassifier(Detailed[Classification]):
    """A classifier that returns everything known about a row; made by `with_details()`.

    Args:
        classifier: The classifier that answers.
    """

    classifier: RowClassifier

    @override
    def as_tool(self, *args: Any, **kwargs: Any) -> ClassifierTool:
        """Like the classifier's: the tool's artifact has the details anyway."""
        return self.classifier.as_tool(*args, **kwargs)

    @property
    @override
    def OutputType(self) -> Any:
        """`Classification`."""
        return Classification

    @override
    def _face(self, classification: Classification) -> Classification:
        return classification
