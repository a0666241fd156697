"""`DetailedMultiLabelClassifier`: what `with_details()` makes of a classifier with several labels a text."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict
from typing_extensions import override

from langchain_stormtrooper.drawing import Graph, classifier_graph
from langchain_stormtrooper.multi_label.runnable import MultiLabelClassifier, as_multi
from langchain_stormtrooper.results import Classification, Method, MultiLabelClassification
from langchain_stormtrooper.rows import RowAnswering, RowRunnable
from langchain_stormtrooper.variants import Variants


class DetailedMultiLabelClassifier(RowRunnable[MultiLabelClassification]):
    """A multi-label classifier that returns everything known about a row; made by `with_details()`.

    Args:
        classifier: The classifier that answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    classifier: MultiLabelClassifier

    def with_details(self) -> DetailedMultiLabelClassifier:
        """Itself: there are no more details."""
        return self

    @override
    def as_tool(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As that of the classifier.

        Raises:
            ConfigurationError: Always.
        """
        self.classifier.as_tool()

    @property
    @override
    def _settable(self) -> MultiLabelClassifier:
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
        return classifier_graph(self, Method.SCORE, config)

    @property
    @override
    def OutputType(self) -> Any:
        """`MultiLabelClassification`."""
        return MultiLabelClassification

    @override
    async def _aprepare(self) -> RowAnswering:
        return await self.classifier._aprepare()

    @override
    def _face(self, classification: MultiLabelClassification | Classification) -> MultiLabelClassification:
        return as_multi(classification)

    @property
    @override
    def _concurrency(self) -> int:
        return self.classifier._concurrency
