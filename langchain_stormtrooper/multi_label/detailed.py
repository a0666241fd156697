"""`DetailedMultiLabelClassifier`: what `with_details()` makes of a classifier with several labels a text."""

from __future__ import annotations

from typing import Any, NoReturn

from typing_extensions import override

from langchain_stormtrooper.detailed_classifier import Detailed
from langchain_stormtrooper.multi_label.runnable import MultiLabelClassifier, as_multi
from langchain_stormtrooper.results import Classification, MultiLabelClassification


class DetailedMultiLabelClassifier(Detailed[MultiLabelClassification]):
    """A multi-label classifier that returns everything known about a row; made by `with_details()`.

    Args:
        classifier: The classifier that answers.
    """

    classifier: MultiLabelClassifier

    @override
    def as_tool(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As that of the classifier.

        Raises:
            ConfigurationError: Always.
        """
        self.classifier.as_tool()

    @property
    @override
    def OutputType(self) -> Any:
        """`MultiLabelClassification`."""
        return MultiLabelClassification

    @override
    def _face(self, classification: MultiLabelClassification | Classification) -> MultiLabelClassification:
        return as_multi(classification)
