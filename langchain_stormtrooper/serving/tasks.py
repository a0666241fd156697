"""Classifiers for requests that bring labels of their own, a few of which are kept with what they have learnt.

A classifier finds out once what the server can do for its labels and what the model leans to; with one made for every
request, each would pay for that. Called by `app` only.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.labels import LabelSet

_KEPT = 32


class Tasks:
    """The classifiers of one app.

    Args:
        classifier: What answers where a request brings nothing of its own.
        kept: How many others are kept, those that were used last.
    """

    def __init__(self, classifier: TextClassifier, kept: int = _KEPT) -> None:
        # An overlong text is a row without a label here, and no error of its request.
        self.own = classifier.model_copy(update={"on_overlong": "none"}) if _raises(classifier) else classifier
        self._kept = kept
        self._others: OrderedDict[tuple[LabelSet, str, str], TextClassifier] = OrderedDict()

    def classifier_for(self, changes: dict[str, Any]) -> TextClassifier:
        """The classifier with other labels or kinds.

        Args:
            changes: `labels`, `text_kind` and `label_kind`, as far as they are given.

        Raises:
            ConfigurationError: There can be no such classifier.
        """
        own = self.own
        key = tuple(changes.get(name, getattr(own, name)) for name in ("labels", "text_kind", "label_kind"))
        if key == (own.labels, own.text_kind, own.label_kind):
            return own
        other = self._others.pop(key, None)
        if other is None:
            # A calibration is of one task, and this is another.
            other = own.model_copy(update={**changes, "calibration": None})
        self._others[key] = other
        if len(self._others) > self._kept:
            self._others.popitem(last=False)
        return other


def _raises(classifier: TextClassifier) -> bool:
    return classifier.on_overlong == "raise"
